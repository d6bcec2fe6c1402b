//! How much one read-ahead call may bring in: the device's `read_ahead_kb`.
//!
//! readahead(2) and POSIX_FADV_WILLNEED are cut to it silently, so whoever calls them must know it.

use std::fs;
use std::path::Path;

use super::mountinfo::Mount;

/// VM_READAHEAD_PAGES, the kernel's default (include/linux/pagemap.h).
pub const DEFAULT_READ_AHEAD: u64 = 128 << 10;

/// `sys` is /sys. FUSE and NFS name their backing device by the device number, block devices keep theirs
/// at the disk; ceph, cifs and 9p number them in a way that cannot be told from outside, and say it in an
/// option if at all.
pub fn read_ahead_bytes(sys: &Path, mount: &Mount) -> u64 {
    let number = format!("{}:{}", mount.major(), mount.minor());
    let places = [
        format!("class/bdi/{number}/read_ahead_kb"),
        format!("class/bdi/{number}-fuseblk/read_ahead_kb"),
        format!("dev/block/{number}/queue/read_ahead_kb"),
        // A partition: the link leads to its folder within the disk's.
        format!("dev/block/{number}/../queue/read_ahead_kb"),
    ];
    let from_device = || {
        places.iter().find_map(|place| {
            let kib: u64 = fs::read_to_string(sys.join(place)).ok()?.trim().parse().ok()?;
            kib.checked_mul(1024)
        })
    };
    let from_option = || str::from_utf8(mount.option("rasize")?).ok()?.parse().ok();
    from_option().or_else(from_device).unwrap_or(DEFAULT_READ_AHEAD)
}

#[cfg(test)]
mod tests {
    use super::super::mountinfo::parse;
    use super::*;

    fn mount(line: &str) -> Mount {
        parse(line.as_bytes()).0.remove(0)
    }

    #[test]
    fn found_absent_and_by_option() {
        let sys = tempfile::tempdir().unwrap();
        let bdi = sys.path().join("class/bdi/0:50");
        fs::create_dir_all(&bdi).unwrap();
        fs::write(bdi.join("read_ahead_kb"), "4096\n").unwrap();
        let nfs = mount("1 0 0:50 / /a rw - nfs4 a rw");
        assert_eq!(read_ahead_bytes(sys.path(), &nfs), 4 << 20);
        let other = mount("1 0 0:51 / /a rw - nfs4 a rw");
        assert_eq!(read_ahead_bytes(sys.path(), &other), DEFAULT_READ_AHEAD);
        let ceph = mount("1 0 0:52 / /a rw - ceph a rw,rasize=8388608");
        assert_eq!(read_ahead_bytes(sys.path(), &ceph), 8 << 20);
        fs::write(bdi.join("read_ahead_kb"), "nonsense").unwrap();
        assert_eq!(read_ahead_bytes(sys.path(), &nfs), DEFAULT_READ_AHEAD);
    }
}
