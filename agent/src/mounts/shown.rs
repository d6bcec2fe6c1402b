//! What of one file system is mounted where: the mounts that together show most of it.
//!
//! Usually one, of the whole. Folders of an NFS export are mounts of one file system, side by side, and so are bind
//! mounts of its folders where the whole is mounted nowhere.

use super::mountinfo::{Mount, below, trim};
use super::table::breadth;

/// Mounts kept of one file system: a node with more shows its folders to as many pods.
pub const MOST_MOUNTS: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    pub dev: u32,
    /// Names the store as a whole, whichever folder of it is mounted here.
    pub source: Box<str>,
    pub fstype: Box<str>,
    /// None shows what another does; their roots are known. Never empty.
    pub mounts: Vec<Mount>,
}

impl FileSystem {
    /// Groups mounts whose roots are known, in the order in which the file systems come. `former` is what a device's store
    /// was called before: it stays so for as long as a mount of that name is there.
    pub fn all(
        mounts: impl IntoIterator<Item = Mount>,
        former: impl Fn(u32) -> Option<Box<str>>,
    ) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        for mount in mounts {
            match found.iter_mut().find(|known| known.dev == mount.dev) {
                Some(known) => known.mounts.push(mount),
                None => {
                    let (dev, fstype) = (mount.dev, mount.fstype.clone());
                    found.push(Self { dev, source: "".into(), fstype, mounts: vec![mount] });
                }
            }
        }
        for known in &mut found {
            let named = |source: &str| known.mounts.iter().any(|mount| *whole(mount) == *source);
            let widest = known.mounts.iter().min_by_key(|mount| trim(&mount.root).len());
            known.source = former(known.dev)
                .filter(|former| named(former))
                .or_else(|| widest.map(whole))
                .unwrap_or_default();
            // Two stores that the kernel takes for one file system (NFSv3) have the same names: one of them is known.
            let source = &known.source;
            known.mounts.retain(|mount| !mount.hides_root() || whole(mount) == *source);
            // A kubelet mounts an NFS volume for each pod: that of the pod which came last stays longest, and whoever is
            // open below another would keep it from being unmounted when its pod ends.
            known.mounts.reverse();
            known.mounts.sort_by_key(|mount| {
                let (root, point) = breadth(mount);
                (root, if mount.hides_root() { 0 } else { point })
            });
            let mut kept: Vec<Mount> = Vec::new();
            for mount in known.mounts.drain(..) {
                if kept.len() < MOST_MOUNTS
                    && !kept.iter().any(|wide| below(&wide.root, &mount.root).is_some())
                {
                    kept.push(mount);
                }
            }
            known.mounts = kept;
        }
        found
    }

    /// The mount that shows a path told from the root of the file system.
    pub fn showing(&self, path: &[u8]) -> Option<&Mount> {
        self.mounts.iter().find(|mount| below(&mount.root, path).is_some())
    }
}

/// The source without the folder that is mounted: NFS and SMB name the folder in it, and two nodes that have mounted two
/// folders of one export are to know it by one name.
fn whole(mount: &Mount) -> Box<str> {
    let root = trim(&mount.root);
    let named = matches!(&*mount.fstype, "nfs" | "nfs4" | "cifs" | "smb3");
    if !named || root.is_empty() {
        return mount.source.clone();
    }
    let source = mount.source.trim_end_matches('/');
    // Escaped as the source is.
    let root = format!("/{}", super::escape(root));
    match source.strip_suffix(&*root) {
        Some(whole) if whole.ends_with(':') => format!("{whole}/").into(),
        Some(whole) => whole.into(),
        None => mount.source.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mounts::parse;

    fn mounts(lines: &[&str]) -> Vec<Mount> {
        parse(lines.join("\n").as_bytes()).0
    }

    fn rooted(line: &str, root: &str) -> Mount {
        Mount { root: root.as_bytes().into(), ..mounts(&[line]).remove(0) }
    }

    fn shown(system: &FileSystem) -> Vec<String> {
        system.mounts.iter().map(|mount| super::super::escape(&mount.point)).collect()
    }

    #[test]
    fn one_mount_shows_all_or_several_show_parts() {
        let found = FileSystem::all(
            mounts(&[
                "1 0 0:50 /a/b /deep rw - fuse.x store rw",
                "2 0 0:50 /a /a rw - fuse.x store rw",
                "3 0 0:51 / /other rw - fuse.x store rw",
                "4 0 0:50 /c /c rw - fuse.x store rw",
                "5 0 0:50 /ab /ab rw - fuse.x store rw",
                "6 0 0:50 /a /again rw - fuse.x store rw",
            ]),
            |_| None,
        );
        assert_eq!(found.len(), 2);
        assert_eq!(shown(&found[0]), ["/c", "/a", "/ab"]);
        let point =
            |path: &str| found[0].showing(path.as_bytes()).map(|mount| super::super::escape(&mount.point));
        assert_eq!(point("a/b/x").as_deref(), Some("/a"));
        assert_eq!(point("ab/x").as_deref(), Some("/ab"));
        assert_eq!((point("abc"), point("")), (None, None));
        assert_eq!(found[1].showing(b"").unwrap().id, 3);
    }

    #[test]
    fn two_folders_of_one_export_are_one_store_by_one_name() {
        for (one, two, whole) in [
            ("nas:/export/pvc-1", "nas:/export/team/pvc-2", "nas:/export"),
            ("[fd00::1]:/pvc-1", "[fd00::1]:/team/pvc-2", "[fd00::1]:/"),
        ] {
            let line = |source| format!("1 0 0:50 / /mnt rw - nfs4 {source} rw");
            let both = [rooted(&line(one), "/pvc-1"), rooted(&line(two), "/team/pvc-2")];
            let found = FileSystem::all(both, |_| None);
            assert_eq!((found.len(), &*found[0].source, found[0].mounts.len()), (1, whole, 2));
        }
        let named = |source: &str, root: &str| {
            let line = format!("1 0 0:50 / /mnt rw - nfs4 {source} rw");
            FileSystem::all([rooted(&line, root)], |_| None)[0].source.to_string()
        };
        assert_eq!(named("nas:/export/x", "/"), "nas:/export/x", "a file system of its own on the server");
        assert_eq!(named("nas:/export/", "/"), "nas:/export/");
        assert_eq!(named("nas:/elsewhere", "/x"), "nas:/elsewhere", "it does not end so");
        assert_eq!(named("nas:/e/a\\040b", "/a b"), "nas:/e");
    }

    #[test]
    fn what_the_kernel_takes_for_one_store_keeps_the_name_that_it_had() {
        let both =
            || mounts(&["1 0 0:50 / /b rw - nfs nas:/e/one rw", "2 0 0:50 / /a rw - nfs nas:/e/two rw"]);
        let named = |former: Option<&str>| {
            let found = FileSystem::all(both(), |_| former.map(Box::from));
            (found[0].source.to_string(), shown(&found[0]))
        };
        assert_eq!(named(None), ("nas:/e/one".into(), vec!["/b".into()]));
        assert_eq!(named(Some("nas:/e/two")), ("nas:/e/two".into(), vec!["/a".into()]));
        assert_eq!(named(Some("nas:/gone")), ("nas:/e/one".into(), vec!["/b".into()]));
    }

    #[test]
    fn of_a_volume_that_is_mounted_for_each_pod_the_last_is_kept() {
        let line = |id: u64, point: &str| format!("{id} 0 0:50 / {point} rw - nfs4 nas:/e/pvc-1 rw");
        let mounts = [rooted(&line(1, "/a"), "/pvc-1"), rooted(&line(2, "/longer"), "/pvc-1")];
        let found = FileSystem::all(mounts, |_| None);
        assert_eq!((shown(&found[0]), &*found[0].source), (vec!["/longer".into()], "nas:/e"));
    }

    #[test]
    fn a_share_s_folders_are_one_share() {
        let found = FileSystem::all(
            mounts(&[
                "1 0 0:50 /one /a rw - cifs //srv/share/one rw",
                "2 0 0:50 /two /b rw - cifs //srv/share/two rw",
            ]),
            |_| None,
        );
        assert_eq!((found.len(), &*found[0].source, found[0].mounts.len()), (1, "//srv/share", 2));
    }
}
