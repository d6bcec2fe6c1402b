//! What came and what went between two readings of the table.

use super::mountinfo::Mount;
use super::table::MountTable;

/// A mount that was unmounted and mounted again between the readings is in both lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub appeared: Vec<Mount>,
    pub vanished: Vec<Mount>,
    /// File systems with no mount before, one mount of each.
    pub arrived: Vec<Mount>,
    /// File systems with no mount left here, one of the mounts each had.
    pub gone: Vec<Mount>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        let Self { appeared, vanished, arrived, gone } = self;
        appeared.is_empty() && vanished.is_empty() && arrived.is_empty() && gone.is_empty()
    }
}

pub fn changes(old: &MountTable, new: &MountTable) -> Changes {
    Changes {
        appeared: missing(new, old, same_mount),
        vanished: missing(old, new, same_mount),
        arrived: once(missing(new, old, same_file_system)),
        gone: once(missing(old, new, same_file_system)),
    }
}

fn missing(of: &MountTable, from: &MountTable, same: fn(&Mount, &Mount) -> bool) -> Vec<Mount> {
    of.iter().filter(|mount| !from.iter().any(|other| same(mount, other))).cloned().collect()
}

/// Options are left out: a remount changes them, and it is the same mount.
fn same_mount(one: &Mount, other: &Mount) -> bool {
    one.id == other.id && one.point == other.point && one.root == other.root && same_file_system(one, other)
}

/// Anonymous device numbers are given out again at once, so the number alone is not enough.
fn same_file_system(one: &Mount, other: &Mount) -> bool {
    one.dev == other.dev && one.fstype == other.fstype && one.source == other.source
}

fn once(mounts: Vec<Mount>) -> Vec<Mount> {
    let mut kept: Vec<Mount> = Vec::new();
    for mount in mounts {
        if !kept.iter().any(|other| same_file_system(other, &mount)) {
            kept.push(mount);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(lines: &[&str]) -> MountTable {
        MountTable::parse(lines.join("\n").as_bytes())
    }

    const ROOT: &str = "1 0 8:1 / / rw - ext4 /dev/sda1 rw";
    const DATA: &str = "2 1 0:50 / /data rw - nfs4 nas:/a rw";
    const BIND: &str = "3 1 0:50 /x /bind rw - nfs4 nas:/a rw";

    #[test]
    fn a_bind_mount_is_no_new_file_system() {
        let found = changes(&table(&[ROOT, DATA]), &table(&[ROOT, DATA, BIND]));
        assert_eq!((found.appeared.len(), found.arrived.len()), (1, 0));
        let found = changes(&table(&[ROOT, DATA, BIND]), &table(&[ROOT, BIND]));
        assert_eq!((found.vanished.len(), found.gone.len()), (1, 0));
        let found = changes(&table(&[ROOT, DATA, BIND]), &table(&[ROOT]));
        assert_eq!((found.vanished.len(), found.gone.len()), (2, 1));
    }

    #[test]
    fn another_store_under_the_same_number_is_another() {
        let other = "2 1 0:50 / /data rw - nfs4 nas:/b rw";
        let found = changes(&table(&[ROOT, DATA]), &table(&[ROOT, other]));
        assert_eq!((found.arrived.len(), found.gone.len()), (1, 1));
        let remounted = "2 1 0:50 / /data ro - nfs4 nas:/a ro";
        assert!(changes(&table(&[ROOT, DATA]), &table(&[ROOT, remounted])).is_empty());
    }
}
