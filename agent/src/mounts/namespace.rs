//! One mount namespace: its table, and the way to what is mounted in it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use super::fdinfo::{Fdinfo, device_of};
use super::source::{MountError, read_table};
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

    /// The directory mounted at `point`, which is on `dev` (`s_dev`, as mountinfo has it) or not given. No link is
    /// followed: it may lie in a container's tree, and that is somebody else's.
    pub fn mounted(self, point: &Path, dev: u32) -> Result<OwnedFd, Errno> {
        Ok(self.found(point, dev)?.0)
    }

    /// The same with the mount's number.
    pub fn found(self, point: &Path, dev: u32) -> Result<(OwnedFd, u64), Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let directory = self.reach(point, flags, resolve)?;
        // Not st_dev: btrfs invents one for each subvolume.
        let mask = StatxFlags::MNT_ID;
        let at = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let id = match rustix::fs::statx(&directory, c"", at, mask) {
            Ok(found) if found.stx_mask & mask.bits() != 0 => found.stx_mnt_id,
            // FUSE without allow_other answers no stat; fdinfo asks no file system.
            _ => Fdinfo::of_own(directory.as_fd()).ok_or(Errno::NOENT)?.mount,
        };
        let mounts = std::fs::read(self.mountinfo()).map_err(|_| Errno::NOENT)?;
        if device_of(&mounts, id) == Some(dev) { Ok((directory, id)) } else { Err(Errno::NODEV) }
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
