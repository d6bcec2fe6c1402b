//! All mounts of one namespace, and the questions asked of them.

use super::kind::{Kind, kind};
use super::mountinfo::{Mount, parse, trim};

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

    /// Whether something is mounted over it, so that its point leads elsewhere.
    pub fn is_hidden(&self, mount: &Mount) -> bool {
        self.covering(&mount.point).is_none_or(|top| top.id != mount.id)
    }

    /// The mount that an absolute path without links lies on, as the kernel would resolve it: from the
    /// root, at each mount point on to what is mounted there, so that hidden mounts are never taken.
    pub fn covering(&self, path: &[u8]) -> Option<&Mount> {
        let is_root = |mount: &&Mount| trim(&mount.point).is_empty();
        let has_parent =
            |mount: &Mount| self.iter().any(|other| other.id == mount.parent && other.id != mount.id);
        let mut current = self.iter().filter(is_root).find(|mount| !has_parent(mount))?;
        // Each step goes to a child; more steps than mounts would be a cycle of a mangled table.
        for _ in 0..self.mounts.len() {
            let child = self
                .iter()
                .filter(|mount| mount.parent == current.id && mount.id != current.id)
                .filter(|mount| mount.point.len() >= current.point.len() || is_root(mount))
                .filter(|mount| super::mountinfo::below(&mount.point, path).is_some())
                .min_by_key(|mount| mount.point.len());
            match child {
                Some(child) => current = child,
                None => break,
            }
        }
        Some(current)
    }

    /// A path as seen here, told from the root of its file system.
    pub fn inside(&self, path: &[u8]) -> Option<(&Mount, Vec<u8>)> {
        let mount = self.covering(path)?;
        Some((mount, mount.inside(path)?))
    }

    /// A path of the file system `dev` as it can be seen here; the shortest where there are several.
    pub fn outside(&self, dev: u32, path: &[u8]) -> Option<(&Mount, Vec<u8>)> {
        self.iter()
            .filter(|mount| mount.dev == dev)
            .filter_map(|mount| Some((mount, mount.outside(path)?)))
            .filter(|(mount, seen)| self.covering(seen).is_some_and(|top| top.id == mount.id))
            .min_by_key(|(_, seen)| seen.len())
    }
}

/// Smaller shows more: the whole file system before a part of it, then the shorter mount point.
pub(super) fn breadth(mount: &Mount) -> (usize, usize) {
    (trim(&mount.root).len(), mount.point.len())
}

#[cfg(test)]
mod tests {
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
}
