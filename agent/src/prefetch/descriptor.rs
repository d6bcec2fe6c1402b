//! The door `Descriptor`: a copy of the descriptor through which a process reads the file already.
//!
//! No open is sent to the file system, which matters where an open drops the file's pages and where root is
//! refused. The copy shares the reader's open file description: its position, flags and read-ahead state are
//! the reader's and are never touched (no read, no lseek, no fadvise mode; only page ranges are asked for). A
//! lock taken through it (flock) ends with its last copy, so one that holds a lock is not copied. Of a FUSE server
//! that does the locks itself the kernel does not tell, and a lock there may outlive its reader by the order that
//! has the copy (docs/facts.md).

use std::os::fd::OwnedFd;

use agent_core::FileKey;
use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::mounts::{Fdinfo, device_of};

/// Descriptors looked at before giving up: a process with more of them is a server, not a dataset's reader.
const DESCRIPTORS: usize = 4096;

/// Flags of descriptors whose pages cannot be asked for, or whose closing does something: closing a copy has FUSE, NFS and
/// SMB send what was written through it (FLUSH), half done as it may be, and a server may publish that.
const UNFIT: u64 = (libc::O_WRONLY | libc::O_RDWR | libc::O_DIRECT | libc::O_PATH) as u64;

/// A copy of a descriptor of `tgid` open for reading on `file`. ENOENT: the process holds none. ESRCH: the
/// process is gone. EPERM: it may not be asked (no CAP_SYS_PTRACE).
pub fn copy_of(tgid: u32, file: FileKey) -> Result<OwnedFd, Errno> {
    let pid = i32::try_from(tgid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    // Opened first: should the number be given to a new process meanwhile, the copy fails.
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let mut mounts: Option<Vec<u8>> = None;
    let mut known: Option<u64> = None;
    let listing = std::fs::read_dir(format!("/proc/{tgid}/fdinfo")).map_err(|error| errno_of(&error))?;
    for entry in listing.take(DESCRIPTORS).flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(text) = std::fs::read(entry.path()) else {
            continue;
        };
        let info = Fdinfo::parse(&text);
        // Our copy would keep a lock that the reader gives up by closing.
        if info.flags & UNFIT != 0 || info.locked || inode(tgid, number, &info) != Some(file.ino) {
            continue;
        }
        if known != Some(info.mount) {
            let mounts = match &mut mounts {
                Some(mounts) => mounts,
                None => {
                    let path = format!("/proc/{tgid}/mountinfo");
                    mounts.insert(std::fs::read(path).map_err(|error| errno_of(&error))?)
                }
            };
            if device_of(mounts, info.mount) != Some(file.dev) {
                continue;
            }
            known = Some(info.mount);
        }
        let copy = match pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) {
            Ok(copy) => copy,
            // Closed meanwhile; another one may be open.
            Err(Errno::BADF) => continue,
            Err(errno) => return Err(errno),
        };
        // The number may have been closed and given to another file between the look and the copy.
        if is_still(&copy, &info) {
            return Ok(copy);
        }
    }
    Err(Errno::NOENT)
}

/// The inode behind a descriptor: from fdinfo, or (before Linux 5.14) from a stat that asks no store.
fn inode(tgid: u32, number: i32, info: &Fdinfo) -> Option<u64> {
    info.ino.or_else(|| {
        let path = format!("/proc/{tgid}/fd/{number}");
        let found = rustix::fs::statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::INO).ok()?;
        Some(found.stx_ino)
    })
}

fn is_still(copy: &OwnedFd, info: &Fdinfo) -> bool {
    use std::os::fd::AsFd;
    Fdinfo::of_own(copy.as_fd())
        .is_some_and(|own| own.mount == info.mount && own.ino == info.ino && !own.locked)
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
