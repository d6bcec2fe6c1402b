//! Which file systems are worth watching, by their type.
//!
//! Watched without being asked: those whose data comes over a network or from a user-space server. The
//! rest can be asked for with `--watch`, if it has a page cache of its own.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Network or FUSE with data behind it: watched by default.
    Remote,
    /// A disk's: watched when asked for.
    Local,
    /// Keeps its pages in the file systems beneath it.
    Stacked,
    /// Lives in memory or has no data; there is nothing to prefetch.
    Memory,
}

/// Network and cluster file systems, and those of virtual machines' hosts.
const REMOTE: [&str; 32] = [
    "9p",
    "acfs",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "curvefs",
    "dingofs",
    "fhgfs",
    "fuse",
    "fuseblk",
    "gfs",
    "gfs2",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "orangefs",
    "panfs",
    "pvfs2",
    "smb3",
    "smbfs",
    "vboxsf",
    "virtiofs",
    "vmhgfs",
    "wekafs",
    "pohmelfs",
    "quobyte",
];

/// FUSE file systems that show settings or devices, or another file system's files a second time.
const FUSE_WITHOUT_DATA: [&str; 12] = [
    "fuse.archivemount",
    "fuse.cgmfs",
    "fuse.fuse-overlayfs",
    "fuse.gvfs-fuse-daemon",
    "fuse.gvfsd-fuse",
    "fuse.kio-fuse",
    "fuse.lxcfs",
    "fuse.portal",
    "fuse.snapfuse",
    "fuse.squashfuse",
    "fuse.vmware-vmblock",
    "fuse.xdg-document-portal",
];

/// Without a page cache of data: in memory, or made up by the kernel.
const MEMORY: [&str; 27] = [
    "autofs",
    "bdev",
    "binder",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nfsd",
    "nsfs",
    "pipefs",
    "proc",
    "pstore",
    "ramfs",
    "rootfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "sysfs",
    "tmpfs",
];

const STACKED: [&str; 5] = ["aufs", "ecryptfs", "overlay", "overlayfs", "unionfs"];

pub fn kind(fstype: &str) -> Kind {
    let is = |list: &[&str]| list.contains(&fstype);
    if is(&STACKED) || fstype == "fuse.fuse-overlayfs" {
        Kind::Stacked
    } else if is(&MEMORY) || fstype == "tracefs" {
        Kind::Memory
    } else if is(&FUSE_WITHOUT_DATA) || fstype.ends_with(".AppImage") {
        Kind::Local
    } else if is(&REMOTE) || fstype.starts_with("fuse.") || fstype.starts_with("fuseblk.") {
        Kind::Remote
    } else {
        Kind::Local
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let table = [
            ("nfs4", Kind::Remote),
            ("ceph", Kind::Remote),
            ("lustre", Kind::Remote),
            ("fuse", Kind::Remote),
            ("fuse.juicefs", Kind::Remote),
            ("fuse.sshfs", Kind::Remote),
            ("fuse.mount-s3", Kind::Remote),
            ("virtiofs", Kind::Remote),
            ("smb3", Kind::Remote),
            ("fuse.lxcfs", Kind::Local),
            ("fuse.gvfsd-fuse", Kind::Local),
            ("fuse.portal", Kind::Local),
            ("fuse.Krita.AppImage", Kind::Local),
            ("fusectl", Kind::Memory),
            ("tmpfs", Kind::Memory),
            ("overlay", Kind::Stacked),
            ("ext4", Kind::Local),
            ("btrfs", Kind::Local),
            ("something-new", Kind::Local),
        ];
        for (fstype, expected) in table {
            assert_eq!(kind(fstype), expected, "{fstype}");
        }
    }
}
