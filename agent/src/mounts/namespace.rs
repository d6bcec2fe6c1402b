//! One mount namespace: its table, and the way to what is mounted in it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use super::fdinfo::Fdinfo;
use super::mountinfo::numbered;
use super::source::{MountError, read_table};
use super::spot::Spot;
use super::table::MountTable;

/// The mounts as a process sees them; as this one does, by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespace(Option<u32>);

impl Namespace {
    /// As process `tgid` sees them. In a container that shares the host's processes, 1 is the host.
    pub fn of(tgid: u32) -> Self {
        Self(Some(tgid))
    }

    /// Whether it is another process's, and there is a way in: else nothing could be brought in, and each file would say so.
    pub fn check(self) -> Result<(), MountError> {
        let Some(tgid) = self.0 else { return Ok(()) };
        let refused = |why| Err(MountError::Namespace { tgid, why });
        if tgid == std::process::id() {
            return refused("that is the agent itself".to_owned());
        }
        match self.reach(Path::new("/"), OFlags::PATH | OFlags::CLOEXEC, ResolveFlags::IN_ROOT) {
            Ok(_) => Ok(()),
            Err(errno) => refused(format!("{} cannot be opened ({errno})", self.root().display())),
        }
    }

    pub fn table(self) -> Result<MountTable, MountError> {
        read_table(&self.mountinfo())
    }

    /// What is there at an absolute path, for its name only (O_PATH). Links lead within the process's root.
    pub fn open(self, path: &Path) -> Result<OwnedFd, Errno> {
        self.reach(path, OFlags::PATH | OFlags::CLOEXEC, ResolveFlags::IN_ROOT)
    }

    /// The directory that is mounted there; ENODEV where by now it is any other, another folder of the same file system
    /// too. No link is followed: it may lie in a container's tree, and that is somebody else's.
    pub fn mounted(self, spot: &Spot) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let directory = self.reach(Path::new(OsStr::from_bytes(&spot.point)), flags, resolve)?;
        // Not st_dev: btrfs invents one for each subvolume.
        let mask = StatxFlags::MNT_ID;
        let at = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let id = match rustix::fs::statx(&directory, c"", at, mask) {
            Ok(found) if found.stx_mask & mask.bits() != 0 => found.stx_mnt_id,
            // FUSE without allow_other answers no stat; fdinfo asks no file system.
            _ => Fdinfo::of_own(directory.as_fd()).ok_or(Errno::NOENT)?.mount,
        };
        let mounts = std::fs::read(self.mountinfo()).map_err(|_| Errno::NOENT)?;
        // While it is open its number is nobody else's.
        if numbered(&mounts, id).is_some_and(|mount| spot.is(&mount)) {
            Ok(directory)
        } else {
            Err(Errno::NODEV)
        }
    }

    fn reach(self, path: &Path, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
        let top = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::openat(CWD, self.root(), top, Mode::empty())?;
        rustix::fs::openat2(top, path, flags, Mode::empty(), resolve)
    }

    fn root(self) -> PathBuf {
        self.0.map_or_else(|| "/".into(), |tgid| format!("/proc/{tgid}/root").into())
    }

    pub(super) fn mountinfo(self) -> PathBuf {
        self.0.map_or_else(|| "/proc/self/mountinfo".into(), |tgid| format!("/proc/{tgid}/mountinfo").into())
    }

    /// Whether it is this process's own.
    pub(super) fn is_own(self) -> bool {
        self.0.is_none()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::ffi::CStr;

    use rustix::mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
    };
    use rustix::thread::{UnshareFlags, gettid, unshare_unsafe};

    use super::*;

    /// Runs in a mount namespace of its own, which ends with the thread.
    pub fn in_own_namespace(test: impl FnOnce() + Send) {
        let body = || {
            // SAFETY: NEWNS and FS touch no memory and no descriptor; only this thread's view of the mounts.
            unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }
                .expect("unshare: this test needs root; run it with sudo");
            mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).unwrap();
            test();
        };
        std::thread::scope(|scope| scope.spawn(body).join().unwrap());
    }

    #[test]
    fn another_folder_that_is_mounted_at_the_same_point_is_not_taken_for_the_first() {
        in_own_namespace(|| {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            for name in ["store", "x"] {
                std::fs::create_dir(at(name)).unwrap();
            }
            mount("headrace-test", at("store"), "tmpfs", MountFlags::empty(), None::<&CStr>).unwrap();
            for name in ["store/a", "store/b"] {
                std::fs::create_dir(at(name)).unwrap();
            }
            let namespace = Namespace::of(gettid().as_raw_nonzero().get().unsigned_abs());
            let bound = |name: &str| {
                mount_bind(at(name), at("x")).unwrap();
                let table = namespace.table().unwrap();
                Spot::of(table.covering(at("x").as_os_str().as_encoded_bytes()).unwrap())
            };
            let first = bound("store/a");
            assert!(namespace.mounted(&first).is_ok());
            unmount(at("x"), UnmountFlags::empty()).unwrap();
            // Something else of the machine may take the number in between.
            let second = (0..100)
                .find_map(|_| {
                    let second = bound("store/b");
                    (second.id == first.id).then_some(second).or_else(|| {
                        unmount(at("x"), UnmountFlags::empty()).unwrap();
                        None
                    })
                })
                .unwrap_or_else(|| bound("store/b"));
            assert_eq!((first.dev, &first.point), (second.dev, &second.point));
            assert_eq!(namespace.mounted(&first).err(), Some(Errno::NODEV));
            assert!(namespace.mounted(&second).is_ok());
            unmount(at("x"), UnmountFlags::empty()).unwrap();
            assert_eq!(namespace.mounted(&second).err(), Some(Errno::NODEV), "the folder below it");
            unmount(at("store"), UnmountFlags::empty()).unwrap();
        });
    }
}
