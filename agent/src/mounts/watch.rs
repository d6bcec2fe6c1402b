//! Being told when a mount table has changed.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::namespace::Namespace;
use super::source::{MountError, read_table};
use super::table::MountTable;

/// The mount table of a namespace, and a descriptor that tells of changes (POLLPRI).
#[derive(Debug)]
pub struct MountWatch {
    path: PathBuf,
    file: File,
}

impl MountWatch {
    pub fn open(namespace: Namespace) -> Result<Self, MountError> {
        let open = |path: &Path| {
            File::open(path).map_err(|source| MountError::Poll { path: path.to_owned(), source })
        };
        if !namespace.is_own() {
            let path = namespace.mountinfo();
            let file = open(&path)?;
            return Ok(Self { path, file });
        }
        // A thread may live in another namespace than its process: the table is that of the opener.
        let path = PathBuf::from("/proc/thread-self/mountinfo");
        let file = open(&path)?;
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

    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

    use super::super::namespace::tests::in_own_namespace;
    use super::*;
    use crate::mounts::{Kind, Mount, changes, kind};

    #[test]
    fn a_mount_and_its_end_are_told() {
        in_own_namespace(|| {
            let dir = tempfile::tempdir().unwrap();
            let watch = MountWatch::open(Namespace::default()).unwrap();
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
}
