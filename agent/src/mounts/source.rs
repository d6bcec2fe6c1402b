//! Reading mountinfo, and being told when it changed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::mountinfo::Mount;
use super::table::MountTable;

/// A node with 100,000 mounts (fs.mount-max) has about 20 MB of it.
const MAX_MOUNTINFO: u64 = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("{}: cannot be read ({source}); is /proc mounted, and does the process still run?", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: larger than {MAX_MOUNTINFO} bytes; unmount what is not needed (see `findmnt`)", path.display())]
    TooLarge { path: PathBuf },
    #[error("{}: cannot be watched for changes ({source}); mounts made from now on are not seen until a restart", path.display())]
    Poll { path: PathBuf, source: io::Error },
}

pub fn read_table(path: &Path) -> Result<MountTable, MountError> {
    let failed = |source| MountError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_MOUNTINFO + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_MOUNTINFO {
        return Err(MountError::TooLarge { path: path.to_owned() });
    }
    Ok(MountTable::parse(&bytes))
}

/// The file system `dev` as the process sees it, and the process's root to reach it through
/// (`<root>/<mount point>`): mounts of a pod exist in its namespace only.
///
/// `None` where the process does not see it either; an error where it is gone.
pub fn mount_of_process(proc: &Path, tgid: u32, dev: u32) -> Result<Option<(PathBuf, Mount)>, MountError> {
    let process = proc.join(tgid.to_string());
    let table = read_table(&process.join("mountinfo"))?;
    let found = table.of_device(dev).cloned();
    Ok(found.map(|mount| (process.join("root"), mount)))
}

/// The mount table of this process's own namespace, and a descriptor that tells of changes (POLLPRI).
#[derive(Debug)]
pub struct MountWatch {
    path: PathBuf,
    file: File,
}

impl MountWatch {
    pub fn open() -> Result<Self, MountError> {
        // A thread may live in another namespace than its process: the table is that of the opener.
        let path = PathBuf::from("/proc/thread-self/mountinfo");
        let file = File::open(&path).map_err(|source| MountError::Poll { path: path.clone(), source })?;
        // Kept apart from /proc/thread-self, which another thread would resolve to itself.
        let path = fs::read_link("/proc/thread-self")
            .map_or(path, |link| Path::new("/proc").join(link).join("mountinfo"));
        Ok(Self { path, file })
    }

    /// Reads the table anew; again while it changes under the reading, three times at most (the next
    /// change is told anyway).
    pub fn read(&self) -> Result<MountTable, MountError> {
        let mut table = read_table(&self.path)?;
        for _ in 0..2 {
            if !self.changed(Duration::ZERO)? {
                break;
            }
            table = read_table(&self.path)?;
        }
        Ok(table)
    }

    /// Waits for a change since the last call that returned true.
    pub fn changed(&self, timeout: Duration) -> Result<bool, MountError> {
        let failed = |source: io::Error| MountError::Poll { path: self.path.clone(), source };
        let timeout = Timespec::try_from(timeout).map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
        let mut fds = [PollFd::new(&self.file, PollFlags::PRI)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(error) => return Err(failed(error.into())),
        }
        let [fd] = fds;
        Ok(fd.revents().intersects(PollFlags::PRI | PollFlags::ERR))
    }
}

/// For an event loop: ready for PRIORITY when the table has changed.
impl AsFd for MountWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
    use rustix::thread::{UnshareFlags, unshare_unsafe};

    use super::*;
    use crate::mounts::{Kind, changes, kind};

    /// Runs in a mount namespace of its own, which ends with the thread.
    fn in_own_namespace(test: impl FnOnce() + Send) {
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
    fn a_mount_and_its_end_are_told() {
        in_own_namespace(|| {
            let dir = tempfile::tempdir().unwrap();
            let watch = MountWatch::open().unwrap();
            let before = watch.read().unwrap();
            let source = "headrace-test";
            mount(source, dir.path(), "tmpfs", MountFlags::empty(), None::<&CStr>).unwrap();
            // Copies of others' mounts go from here too when the folder they are on is removed elsewhere.
            let next = || {
                assert!(watch.changed(Duration::from_secs(10)).unwrap());
                watch.read().unwrap()
            };
            let ours = |mounts: &[Mount]| mounts.iter().filter(|mount| &*mount.source == source).count();
            let mut after = next();
            while ours(&changes(&before, &after).arrived) == 0 {
                after = next();
            }
            let found = changes(&before, &after).arrived;
            assert_eq!(found.iter().map(|mount| kind(&mount.fstype)).collect::<Vec<_>>(), [Kind::Memory]);
            unmount(dir.path(), UnmountFlags::DETACH).unwrap();
            while ours(&changes(&after, &next()).gone) == 0 {}
        });
    }

    #[test]
    fn a_mount_of_another_namespace_is_found_through_its_process() {
        let table = read_table(Path::new("/proc/self/mountinfo")).unwrap();
        let dev = table.covering(b"/proc").unwrap().dev;
        let (root, mount) = mount_of_process(Path::new("/proc"), std::process::id(), dev).unwrap().unwrap();
        assert_eq!(root, Path::new("/proc").join(std::process::id().to_string()).join("root"));
        assert_eq!(&*mount.fstype, "proc");
        assert!(mount_of_process(Path::new("/proc"), std::process::id(), 0xfff_fffff).unwrap().is_none());
        assert!(mount_of_process(Path::new("/proc"), u32::MAX, dev).is_err());
    }
}
