//! All mounts of one namespace, and the questions asked of them.

use std::collections::{HashMap, HashSet};

use super::kind::{Kind, kind};
use super::mountinfo::{Mount, parse, trim, upward};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountTable {
    mounts: Vec<Mount>,
    /// Lines that could not be understood.
    pub skipped: usize,
}

impl MountTable {
    pub fn parse(mountinfo: &[u8]) -> Self {
        let (mounts, skipped) = parse(mountinfo);
        Self { mounts, skipped }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Mount> {
        self.mounts.iter()
    }

    /// All mounts of network and FUSE file systems.
    pub fn remote(&self) -> impl Iterator<Item = &Mount> {
        self.iter().filter(|mount| kind(&mount.fstype) == Kind::Remote)
    }

    /// The mounts of the file system `dev`, those that show most of it first.
    pub fn of_device(&self, dev: u32) -> Vec<&Mount> {
        let mut mounts: Vec<&Mount> = self.iter().filter(|mount| mount.dev == dev).collect();
        mounts.sort_by_key(|mount| breadth(mount));
        mounts
    }

    /// For more questions than one about what lies where.
    pub fn ways(&self) -> Ways<'_> {
        Ways::of(self)
    }

    /// The mount that an absolute path without links lies on: see `Ways`.
    pub fn covering(&self, path: &[u8]) -> Option<&Mount> {
        self.ways().covering(path)
    }

    /// A path as seen here, told from the root of its file system.
    pub fn inside(&self, path: &[u8]) -> Option<(&Mount, Vec<u8>)> {
        let mount = self.covering(path)?;
        Some((mount, mount.inside(path)?))
    }

    /// A path of the file system `dev` as it can be seen here; the shortest where there are several.
    pub fn outside(&self, dev: u32, path: &[u8]) -> Option<(&Mount, Vec<u8>)> {
        let ways = self.ways();
        self.iter()
            .filter(|mount| mount.dev == dev)
            .filter_map(|mount| Some((mount, mount.outside(path)?)))
            .filter(|(mount, seen)| ways.covering(seen).is_some_and(|top| top.id == mount.id))
            .min_by_key(|(_, seen)| seen.len())
    }
}

/// From each mount to what is mounted on it.
#[derive(Debug)]
pub struct Ways<'a> {
    root: Option<&'a Mount>,
    /// By the number of the mount below and the point, without slashes at either end.
    on: HashMap<(u64, &'a [u8]), &'a Mount>,
}

impl<'a> Ways<'a> {
    fn of(table: &'a MountTable) -> Self {
        let ids: HashSet<u64> = table.iter().map(|mount| mount.id).collect();
        let is_top = |mount: &&Mount| mount.parent == mount.id || !ids.contains(&mount.parent);
        let root = table.iter().filter(|mount| trim(&mount.point).is_empty()).find(is_top);
        let mut on = HashMap::with_capacity(table.mounts.len());
        for mount in table.iter().filter(|mount| mount.parent != mount.id) {
            on.entry((mount.parent, trim(&mount.point))).or_insert(mount);
        }
        Self { root, on }
    }

    /// The mount that an absolute path without links lies on, as the kernel would resolve it: from the
    /// root, at each mount point on to what is mounted there, so that hidden mounts are never taken.
    pub fn covering(&self, path: &[u8]) -> Option<&'a Mount> {
        let mut folders: Vec<&[u8]> = upward(trim(path)).collect();
        folders.reverse();
        let mut current = self.root?;
        // Each step goes to a child; more steps than mounts would be a cycle of a mangled table.
        for _ in 0..=self.on.len() {
            let deep = trim(&current.point).len();
            let child = folders
                .iter()
                .filter(|folder| folder.is_empty() || folder.len() >= deep)
                .find_map(|folder| self.on.get(&(current.id, *folder)));
            match child {
                Some(child) => current = child,
                None => break,
            }
        }
        Some(current)
    }

    /// Whether something is mounted over it, so that its point leads elsewhere.
    pub fn is_hidden(&self, mount: &Mount) -> bool {
        self.covering(&mount.point).is_none_or(|top| top.id != mount.id)
    }
}

/// Smaller shows more: the whole file system before a part of it, then the shorter mount point.
pub(super) fn breadth(mount: &Mount) -> (usize, usize) {
    (trim(&mount.root).len(), mount.point.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::mountinfo::below;
    use super::*;

    const TABLE: &[u8] = b"\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
22 27 0:21 / /proc rw - proc proc rw
40 27 0:50 / /mnt/data rw shared:7 - nfs4 nas:/export rw,vers=4.2
41 40 0:51 / /mnt/data/inner rw - fuse.juicefs JuiceFS:x rw,allow_other
42 27 0:50 /sub/dir /srv/bind rw - nfs4 nas:/export rw
43 27 0:60 / /over rw - nfs4 old:/ rw
44 43 0:61 / /over rw - nfs4 new:/ rw
45 27 0:70 / /hide/deep rw - nfs4 hidden:/ rw
46 27 0:71 / /hide rw - nfs4 hiding:/ rw
47 27 0:72 / /var/lib/lxcfs rw - fuse.lxcfs lxcfs rw
";

    fn source(table: &MountTable, path: &str) -> String {
        table.covering(path.as_bytes()).unwrap().source.to_string()
    }

    #[test]
    fn a_path_lies_on_what_the_kernel_would_find() {
        let table = MountTable::parse(TABLE);
        assert_eq!(source(&table, "/"), "/dev/vda");
        assert_eq!(source(&table, "/mnt"), "/dev/vda");
        assert_eq!(source(&table, "/mnt/data"), "nas:/export");
        assert_eq!(source(&table, "/mnt/data/a/b"), "nas:/export");
        assert_eq!(source(&table, "/mnt/database"), "/dev/vda");
        assert_eq!(source(&table, "/mnt/data/inner/x"), "JuiceFS:x");
        assert_eq!(source(&table, "/over/x"), "new:/");
        assert_eq!(source(&table, "/hide/deep/x"), "hiding:/", "what was mounted over hides it");
    }

    #[test]
    fn watched_by_default() {
        let table = MountTable::parse(TABLE);
        let points: Vec<_> = table.remote().map(|mount| mount.point.clone()).collect();
        let expected = ["/mnt/data", "/mnt/data/inner", "/srv/bind", "/over", "/over", "/hide/deep", "/hide"];
        assert_eq!(points, expected.map(|point| point.as_bytes().into()));
    }

    #[test]
    fn paths_through_bind_mounts() {
        let table = MountTable::parse(TABLE);
        let (mount, inside) = table.inside(b"/srv/bind/x").unwrap();
        assert_eq!((mount.dev, &inside[..]), (50, &b"sub/dir/x"[..]));
        assert_eq!(table.outside(50, b"sub/dir/x").unwrap().1, b"/srv/bind/x");
        assert_eq!(table.outside(50, b"other").unwrap().1, b"/mnt/data/other");
        assert_eq!(table.outside(50, b"inner/x"), None, "covered by another mount");
        assert_eq!(table.outside(99, b"x"), None);
    }

    #[test]
    fn mangled_tables_end() {
        let table =
            MountTable::parse(b"1 2 0:1 / / rw - a b rw\n2 1 0:2 / / rw - a b rw\n3 3 0:3 / / rw - a b rw\n");
        table.covering(b"/x");
        MountTable::parse(b"").covering(b"/");
    }

    /// The same by looking at every mount at each step.
    fn slowly<'a>(table: &'a MountTable, path: &[u8]) -> Option<&'a Mount> {
        let is_root = |mount: &&Mount| trim(&mount.point).is_empty();
        let has_parent =
            |mount: &Mount| table.iter().any(|other| other.id == mount.parent && other.id != mount.id);
        let mut current = table.iter().filter(is_root).find(|mount| !has_parent(mount))?;
        for _ in 0..table.mounts.len() {
            let child = table
                .iter()
                .filter(|mount| mount.parent == current.id && mount.id != current.id)
                .filter(|mount| mount.point.len() >= current.point.len() || is_root(mount))
                .filter(|mount| below(&mount.point, path).is_some())
                .min_by_key(|mount| mount.point.len());
            let Some(child) = child else { break };
            current = child;
        }
        Some(current)
    }

    proptest! {
        #[test]
        fn a_way_is_found_without_looking_at_every_mount(
            mounts in proptest::collection::vec((0..8u64, "(/[ab]){0,3}"), 0..10),
            path in "(/[ab]){0,4}",
        ) {
            let line = |(id, (parent, point)): (usize, &(u64, String))| {
                // Each is on one that came before it, as the kernel has them.
                let parent = parent.checked_rem(id as u64).unwrap_or(99);
                let point = if point.is_empty() { "/" } else { point };
                format!("{id} {parent} 0:{id} / {point} rw - a b rw\n")
            };
            let text: String = std::iter::once(&(0, String::new())).chain(&mounts).enumerate().map(line).collect();
            let table = MountTable::parse(text.as_bytes());
            prop_assert_eq!(table.covering(path.as_bytes()), slowly(&table, path.as_bytes()));
        }
    }
}
