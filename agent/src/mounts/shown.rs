//! What of one file system is mounted where: the mounts that together show most of it.
//!
//! Usually one, of the whole. Folders of an NFS export are mounts of one file system, side by side, and so are bind
//! mounts of its folders where the whole is mounted nowhere.

use std::collections::{HashMap, HashSet};

use super::mountinfo::{Mount, below, trim, upward};
use super::table::breadth;

/// Mounts kept of one file system, as many as the operator hears of: a node with more shows its folders to as many pods.
pub const MOST_MOUNTS: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    pub dev: u32,
    /// Names the store as a whole, whichever folder of it is mounted here.
    pub source: Box<str>,
    pub fstype: Box<str>,
    /// None shows what another does; their roots are known. Empty while all that are there are asked about.
    pub mounts: Vec<Mount>,
    /// Mounts that have gone while others are asked about that may show the same: nothing is to be opened there, and who is
    /// told of the folders here need not be told that they went and came back.
    pub left: Vec<Mount>,
    /// Folders beyond `MOST_MOUNTS`.
    pub left_out: usize,
}

impl FileSystem {
    /// Groups mounts whose roots are known, in the order in which the file systems come, those that were there `former`ly
    /// first. What a device's store was called before it is called for as long as a mount of that name is there, or one is
    /// `asked` about that may be of it: the file system and its pages live on.
    pub fn all<'a>(
        known: impl IntoIterator<Item = Mount>,
        asked: &[&Mount],
        former: impl Fn(u32) -> Option<&'a Self>,
    ) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        let mut places: HashMap<u32, usize> = HashMap::new();
        for mount in known {
            let place = *places.entry(mount.dev).or_insert(found.len());
            if place == found.len() {
                found.push(Self::of(&mount));
            }
            if let Some(system) = found.get_mut(place) {
                system.mounts.push(mount);
            }
        }
        let mut asked_of: HashMap<u32, HashSet<&str>> = HashMap::new();
        for mount in asked {
            let former = former(mount.dev).filter(|former| former.fstype == mount.fstype);
            if former.is_some_and(|former| may_be_of(&mount.source, &former.source)) {
                asked_of.entry(mount.dev).or_default().insert(&mount.source);
                if *places.entry(mount.dev).or_insert(found.len()) == found.len() {
                    found.push(Self::of(mount));
                }
            }
        }
        for system in &mut found {
            system.settle(former(system.dev), asked_of.get(&system.dev));
        }
        found.sort_by_key(|system| former(system.dev).is_none());
        found
    }

    fn of(mount: &Mount) -> Self {
        let (mounts, left) = (Vec::new(), Vec::new());
        Self { dev: mount.dev, source: "".into(), fstype: mount.fstype.clone(), mounts, left, left_out: 0 }
    }

    /// Finds the name and the mounts to be kept. Of the store that it was before, `asked` are sources of mounts about which
    /// nothing more is known.
    fn settle(&mut self, former: Option<&Self>, asked: Option<&HashSet<&str>>) {
        let named = |source: &str| self.mounts.iter().any(|mount| *whole(mount) == *source);
        let widest = self.mounts.iter().min_by_key(|mount| trim(&mount.root).len());
        let former = former.filter(|former| asked.is_some() || named(&former.source));
        self.source = match former {
            Some(former) => former.source.clone(),
            None => widest.map(whole).unwrap_or_default(),
        };
        // Two stores that the kernel takes for one file system (NFSv3) have the same names: one of them is known.
        let source = &self.source;
        self.mounts.retain(|mount| !mount.hides_root() || whole(mount) == *source);
        // A kubelet mounts an NFS volume for each pod: that of the pod which came last stays longest, and whoever is
        // open below another would keep it from being unmounted when its pod ends.
        self.mounts.reverse();
        self.mounts.sort_by_key(|mount| {
            let (root, point) = breadth(mount);
            (root, if mount.hides_root() { 0 } else { point })
        });
        let mut shown: HashSet<Box<[u8]>> = HashSet::new();
        self.mounts.retain(|mount| {
            let root = trim(&mount.root);
            !is_shown(&shown, root) && shown.insert(root.into())
        });
        let before = || former.into_iter().flat_map(|former| former.mounts.iter().chain(&former.left));
        if self.mounts.len() > MOST_MOUNTS {
            // Who reads in a folder that was told of is not to lose it to one that comes.
            let before: HashSet<&[u8]> = before().map(|mount| trim(&mount.root)).collect();
            self.mounts.sort_by_key(|mount| !before.contains(trim(&mount.root)));
            self.left_out = self.mounts.len() - MOST_MOUNTS;
            self.mounts.truncate(MOST_MOUNTS);
        }
        if let Some(asked) = asked {
            let gone = |mount: &&Mount| !is_shown(&shown, trim(&mount.root));
            let again = |mount: &&Mount| self.mounts.is_empty() || asked.contains(&*mount.source);
            let room = MOST_MOUNTS - self.mounts.len();
            self.left = before().filter(gone).filter(again).take(room).cloned().collect();
        }
    }

    /// The mount that shows a path told from the root of the file system.
    pub fn showing(&self, path: &[u8]) -> Option<&Mount> {
        self.mounts.iter().find(|mount| below(&mount.root, path).is_some())
    }
}

fn is_shown(by: &HashSet<Box<[u8]>>, root: &[u8]) -> bool {
    upward(root).any(|folder| by.contains(folder))
}

/// Whether a mount of this source may be one of a store's folders.
fn may_be_of(source: &str, whole: &str) -> bool {
    source
        .strip_prefix(whole)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || whole.ends_with('/'))
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
            &[],
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
            let found = FileSystem::all(both, &[], |_| None);
            assert_eq!((found.len(), &*found[0].source, found[0].mounts.len()), (1, whole, 2));
        }
        let named = |source: &str, root: &str| {
            let line = format!("1 0 0:50 / /mnt rw - nfs4 {source} rw");
            FileSystem::all([rooted(&line, root)], &[], |_| None)[0].source.to_string()
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
            let former =
                former.map(|source| FileSystem { source: source.into(), ..FileSystem::of(&both()[0]) });
            let found = FileSystem::all(both(), &[], |_| former.as_ref());
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
        let found = FileSystem::all(mounts, &[], |_| None);
        assert_eq!((shown(&found[0]), &*found[0].source), (vec!["/longer".into()], "nas:/e"));
    }

    #[test]
    fn a_share_s_folders_are_one_share() {
        let found = FileSystem::all(
            mounts(&[
                "1 0 0:50 /one /a rw - cifs //srv/share/one rw",
                "2 0 0:50 /two /b rw - cifs //srv/share/two rw",
            ]),
            &[],
            |_| None,
        );
        assert_eq!((found.len(), &*found[0].source, found[0].mounts.len()), (1, "//srv/share", 2));
    }

    /// The second was asked about when the first went.
    #[test]
    fn a_file_system_outlives_its_known_mounts_while_others_of_it_are_asked_about() {
        let one = rooted("1 0 0:50 / /a rw - nfs4 nas:/e/pvc-1 rw", "/pvc-1");
        let other = rooted("2 0 0:50 / /b rw - nfs4 nas:/e/pvc-2 rw", "/pvc-2");
        let former = FileSystem::all([one.clone()], &[], |_| None).remove(0);
        let asked = |known: &[&Mount], source: &str| {
            let line = format!("3 0 0:50 / /c rw - nfs4 {source} rw");
            let asked = mounts(&[&line]).remove(0);
            FileSystem::all(known.iter().map(|mount| (*mount).clone()), &[&asked], |_| Some(&former))
        };
        let waits = FileSystem { mounts: vec![], left: vec![one.clone()], ..former.clone() };
        assert_eq!(asked(&[], "nas:/e/pvc-2"), std::slice::from_ref(&waits));
        assert_eq!(asked(&[], "nas:/other"), [], "another store's, under the same number");
        assert_eq!(asked(&[], "nas:/extra"), []);
        assert!(
            FileSystem::all([], &[&one], |_| None).is_empty(),
            "of one that was not there nothing is known"
        );
        let still = FileSystem::all([], &[&other], |_| Some(&waits));
        assert_eq!(still, std::slice::from_ref(&waits), "for as long as it takes");
        let found = FileSystem::all([other.clone()], &[], |_| Some(&waits)).remove(0);
        assert_eq!((&*found.source, shown(&found), found.left.len()), ("nas:/e", vec!["/b".into()], 0));
        // A folder goes while the rest is there: only a mount that may be of that folder is waited for.
        let both = asked(&[&other], "nas:/e/pvc-1").remove(0);
        assert_eq!((shown(&both), both.left), (vec!["/b".into()], vec![one.clone()]));
        assert!(asked(&[&other], "nas:/e/pvc-3")[0].left.is_empty());
        assert!(asked(&[&one], "nas:/e/pvc-1")[0].left.is_empty(), "it is there");
    }

    #[test]
    fn of_too_many_folders_those_that_were_there_stay_and_the_rest_are_counted() {
        let folder = |n: usize| {
            let line = format!("{n} 0 0:50 / /m/{n} rw - nfs4 nas:/e/pvc-{n:04} rw");
            rooted(&line, &format!("/pvc-{n:04}"))
        };
        let first = FileSystem::all((0..MOST_MOUNTS).map(folder), &[], |_| None).remove(0);
        assert_eq!((first.mounts.len(), first.left_out), (MOST_MOUNTS, 0));
        let more = FileSystem::all((0..MOST_MOUNTS + 3).map(folder), &[], |_| Some(&first)).remove(0);
        assert_eq!((more.mounts.len(), more.left_out), (MOST_MOUNTS, 3));
        assert!((0..MOST_MOUNTS).all(|n| more.showing(format!("pvc-{n:04}").as_bytes()).is_some()));
        let fewer = FileSystem::all((2..MOST_MOUNTS + 3).map(folder), &[], |_| Some(&more)).remove(0);
        assert_eq!((fewer.mounts.len(), fewer.left_out), (MOST_MOUNTS, 1));
        assert!((2..MOST_MOUNTS).all(|n| fewer.showing(format!("pvc-{n:04}").as_bytes()).is_some()));
    }
}
