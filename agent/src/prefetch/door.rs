//! The door `Open`: a file below a mount's root, opened so that nothing but its pages can change.
//!
//! Two steps. O_PATH finds the name without opening it, so that a device node or a FIFO put there is never
//! opened (opening /dev/watchdog restarts a machine) and a file that has become another one costs no OPEN;
//! then that very inode is opened through /proc/self/fd. Costs 2 µs more than one open, and no race.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use agent_core::{FileKey, Outcome};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::outcome::outcome_of;
use super::root::Root;

/// A regular file open for prefetching.
#[derive(Debug)]
pub struct Opened {
    pub descriptor: OwnedFd,
    pub file: FileKey,
    pub size: u64,
}

/// A regular file that was found.
#[derive(Debug)]
pub struct Named {
    name: OwnedFd,
    pub file: FileKey,
    pub size: u64,
}

/// Why a file was not opened, and what was found out before.
#[derive(Debug)]
pub struct Closed {
    pub outcome: Outcome,
    pub file: Option<FileKey>,
}

impl From<Errno> for Closed {
    fn from(errno: Errno) -> Self {
        Self { outcome: outcome_of(errno), file: None }
    }
}

/// Resolves nothing outside the mount, follows no link.
pub const INSIDE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_XDEV);

/// openat2 says EAGAIN when a rename anywhere raced with its check of "beneath".
const RENAME_RACES: u32 = 8;

/// Opens own files by their O_PATH descriptor.
#[derive(Debug)]
pub struct Door {
    own: OwnedFd,
}

impl Door {
    pub fn new() -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own = rustix::fs::openat(CWD, c"/proc/self/fd", flags, Mode::empty())?;
        // Proves openat2 at the start: an old seccomp filter refuses it, and then nothing works.
        open_below(&own, b"", OFlags::PATH)?;
        Ok(Self { own })
    }

    /// Opens `path` below `root` when it is a regular file, and `expected` if that is known.
    pub fn open(&self, root: &Root, path: &[u8], expected: Option<FileKey>) -> Result<Opened, Closed> {
        let Named { name, file, size } = self.find(root, path, expected)?;
        let own = name.as_fd().as_raw_fd().to_string();
        // NOATIME is refused (EPERM) without CAP_FOWNER; reading without it would change the atime, so this
        // counts as a refusal and the reader's descriptor is the way.
        let flags = OFlags::RDONLY | OFlags::NOATIME | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let descriptor = rustix::fs::openat(&self.own, own, flags, Mode::empty())
            .map_err(|errno| Closed { outcome: outcome_of(errno), file: Some(file) })?;
        Ok(Opened { descriptor, file, size })
    }

    /// Looks the name up and opens nothing: what was asked of the store is remembered by the kernel.
    pub fn find(&self, root: &Root, path: &[u8], expected: Option<FileKey>) -> Result<Named, Closed> {
        let path = root.below(path).ok_or(Errno::NOENT)?;
        let name = open_below(&root.directory, path, OFlags::PATH)?;
        let mask = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::SIZE;
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let found = rustix::fs::statx(&name, c"", flags, mask)?;
        if FileType::from_raw_mode(found.stx_mode.into()) != FileType::RegularFile {
            return Err(Errno::NXIO.into());
        }
        let file = root.key(&name, found.stx_ino);
        let closed = |outcome| Closed { outcome, file: Some(file) };
        if expected.is_some_and(|expected| expected != file) {
            return Err(closed(Outcome::Absent));
        }
        Ok(Named { name, file, size: found.stx_size })
    }
}

/// Opens a folder below `directory` to be listed. EXDEV where entering it would mount another file system (a folder of an
/// NFS export that is an export of its own, a DFS link): before Linux 6.18 NO_XDEV is looked at only when that is mounted, and
/// a server that is away would be waited for. So the folder is found by name, which mounts nothing, and then opened itself.
pub fn open_folder(directory: impl AsFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let folder = open_below(directory, path, OFlags::PATH)?;
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let found = rustix::fs::statx(&folder, c"", flags, StatxFlags::TYPE)?;
    if found.stx_attributes.contains(StatxAttributes::AUTOMOUNT) {
        return Err(Errno::XDEV);
    }
    if FileType::from_raw_mode(found.stx_mode.into()) != FileType::Directory {
        return Err(Errno::NOTDIR);
    }
    open_below(&folder, b"", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOATIME | OFlags::NONBLOCK)
}

/// Opens a path that must stay below `directory`; the empty path is the directory itself.
pub fn open_below(directory: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let path = std::ffi::OsStr::from_bytes(path);
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut races = 0;
    loop {
        match rustix::fs::openat2(&directory, path, flags, Mode::empty(), INSIDE) {
            Err(Errno::AGAIN) if races < RENAME_RACES => races += 1,
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}
