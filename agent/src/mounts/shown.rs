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
    /// Groups mounts whose roots are known, in the order in which the file systems come.
    pub fn all(mounts: impl IntoIterator<Item = Mount>) -> Vec<Self> {
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
            known.mounts.sort_by_key(breadth);
            let mut kept: Vec<Mount> = Vec::new();
            for mount in known.mounts.drain(..) {
                if kept.len() < MOST_MOUNTS
                    && !kept.iter().any(|wide| below(&wide.root, &mount.root).is_some())
                {
                    kept.push(mount);
                }
            }
            known.source = kept.first().map(whole).unwrap_or_default();
            known.mounts = kept;
        }
        found
    }

    /// The mount that shows a path told from the root of the file system.
    pub fn showing(&self, path: &[u8]) -> Option<&Mount> {
        self.mounts.iter().find(|mount| below(&mount.root, path).is_some())
    }
}

/// The source without the folder that is mounted: NFS names the folder in it, and two nodes that have mounted two
/// folders of one export are to know it by one name.
fn whole(mount: &Mount) -> Box<str> {
    let root = trim(&mount.root);
    if !mount.hides_root() || root.is_empty() {
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
        let found = FileSystem::all(mounts(&[
            "1 0 0:50 /a/b /deep rw - fuse.x store rw",
            "2 0 0:50 /a /a rw - fuse.x store rw",
            "3 0 0:51 / /other rw - fuse.x store rw",
            "4 0 0:50 /c /c rw - fuse.x store rw",
            "5 0 0:50 /ab /ab rw - fuse.x store rw",
            "6 0 0:50 /a /again rw - fuse.x store rw",
        ]));
        assert_eq!(found.len(), 2);
        assert_eq!(shown(&found[0]), ["/a", "/c", "/ab"]);
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
            ("[fd00::1]:/pvc-1", "", "[fd00::1]:/"),
        ] {
            let line = |source| format!("1 0 0:50 / /mnt rw - nfs4 {source} rw");
            let both = [rooted(&line(one), "/pvc-1"), rooted(&line(two), "/team/pvc-2")];
            let found = FileSystem::all(both);
            assert_eq!((found.len(), &*found[0].source, found[0].mounts.len()), (1, whole, 2));
        }
        let named = |source: &str, root: &str| {
            let line = format!("1 0 0:50 / /mnt rw - nfs4 {source} rw");
            FileSystem::all([rooted(&line, root)])[0].source.to_string()
        };
        assert_eq!(named("nas:/export/x", "/"), "nas:/export/x", "a file system of its own on the server");
        assert_eq!(named("nas:/export/", "/"), "nas:/export/");
        assert_eq!(named("nas:/elsewhere", "/x"), "nas:/elsewhere", "bound: the source does not say of it");
        assert_eq!(named("nas:/e/a\\040b", "/a b"), "nas:/e");
    }
}
