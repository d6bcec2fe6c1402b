//! Looks at all files of a Dataset, on a thread of its own that works half of the time at most.
//!
//! Names, sizes and times only: nothing is opened but directories, no link is followed, no other file system is
//! entered. Directories stay open no longer than they are being listed.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use tokio::sync::mpsc;

use super::manifest::{Found, Manifest};

/// More files than this are not told apart: such a Dataset is reported without residency.
pub const MOST_FILES: usize = 200_000;

/// Directories waiting to be listed; a tree of nothing but directories ends here.
const MOST_FOLDERS: usize = 100_000;

/// Surveys waiting for the thread.
const WAITING: usize = 64;

/// Names looked at between two pauses, each as long as the work before it.
const STRETCH: usize = 64;
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// A folder of a file system, and where it lies in the Dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// As this process sees it.
    pub at: PathBuf,
    /// Below the Dataset's root; empty: it is the root.
    pub prefix: Box<[u8]>,
}

#[derive(Clone, Debug)]
pub struct Job {
    pub dataset: std::sync::Arc<str>,
    pub roots: Vec<Root>,
}

#[derive(Debug)]
pub struct Surveyed {
    pub dataset: std::sync::Arc<str>,
    pub manifest: Result<Manifest, SurveyError>,
}

#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    #[error("{}: cannot be looked at ({source}); what is resident of this Dataset is not reported until it can", at.display())]
    Look { at: PathBuf, source: rustix::io::Errno },
    #[error(
        "the Dataset has more than {MOST_FILES} files or {MOST_FOLDERS} folders; what is resident of it is not reported. \
         Divide it into Datasets by folder"
    )]
    TooLarge,
}

/// The surveyor's desk; its thread ends when this is dropped.
#[derive(Debug)]
pub struct Surveyor {
    jobs: SyncSender<Job>,
}

impl Surveyor {
    pub fn start() -> std::io::Result<(Self, mpsc::Receiver<Surveyed>)> {
        let (jobs, waiting) = sync_channel(WAITING);
        let (done, results) = mpsc::channel(4);
        std::thread::Builder::new().name("headrace-survey".into()).spawn(move || work(&waiting, &done))?;
        Ok((Self { jobs }, results))
    }

    /// Whether there was room for it.
    pub fn ask(&self, job: Job) -> bool {
        match self.jobs.try_send(job) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

fn work(jobs: &Receiver<Job>, done: &mpsc::Sender<Surveyed>) {
    for Job { dataset, roots } in jobs {
        let manifest = survey(&roots);
        if done.blocking_send(Surveyed { dataset, manifest }).is_err() {
            return;
        }
    }
}

/// The clock of surveys: milliseconds since 1970 as this node has it, right or wrong.
pub fn clock_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Walks the roots.
pub fn survey(roots: &[Root]) -> Result<Manifest, SurveyError> {
    let seen_ms = clock_ms();
    let mut found = Vec::new();
    let mut pace = Pace { names: 0, since: Instant::now() };
    for root in roots {
        walk(root, &mut found, &mut pace)?;
    }
    Ok(Manifest::new(found, seen_ms))
}

const INSIDE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_XDEV);

fn walk(root: &Root, found: &mut Vec<Found>, pace: &mut Pace) -> Result<(), SurveyError> {
    let failed = |source| SurveyError::Look { at: root.at.clone(), source };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let top = rustix::fs::openat(CWD, &root.at, flags, Mode::empty()).map_err(failed)?;
    let mut folders: VecDeque<Vec<u8>> = VecDeque::from([Vec::new()]);
    while let Some(folder) = folders.pop_back() {
        let path = if folder.is_empty() { b"." } else { &*folder };
        let opened = rustix::fs::openat2(&top, OsStr::from_bytes(path), flags, Mode::empty(), INSIDE);
        let opened: OwnedFd = match opened {
            Ok(opened) => opened,
            // Gone since it was listed, a link, another file system, not ours to see: it is no part of the Dataset.
            Err(_) if !folder.is_empty() => continue,
            Err(errno) => return Err(failed(errno)),
        };
        for entry in Dir::read_from(&opened).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            pace.keep();
            let inner = joined(&folder, name);
            if entry.file_type() == FileType::Directory {
                folders.push_back(inner);
            } else if matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown) {
                let mask = StatxFlags::TYPE | StatxFlags::SIZE | StatxFlags::MTIME;
                let Ok(stat) = rustix::fs::statx(&opened, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW, mask)
                else {
                    continue;
                };
                match FileType::from_raw_mode(stat.stx_mode.into()) {
                    FileType::Directory => folders.push_back(inner),
                    FileType::RegularFile => {
                        let modified = stat.stx_mtime.tv_sec.saturating_mul(1_000_000_000);
                        let modified = modified.saturating_add(stat.stx_mtime.tv_nsec.into());
                        let path = joined(&root.prefix, &inner).into();
                        found.push(Found { path, size: stat.stx_size, modified });
                    }
                    _ => {}
                }
            }
            if found.len() > MOST_FILES || folders.len() > MOST_FOLDERS {
                return Err(SurveyError::TooLarge);
            }
        }
    }
    Ok(())
}

pub fn joined(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() {
        return name.to_vec();
    }
    if name.is_empty() {
        return folder.to_vec();
    }
    [folder, b"/", name].concat()
}

struct Pace {
    names: usize,
    since: Instant,
}

impl Pace {
    fn keep(&mut self) {
        self.names += 1;
        if self.names.is_multiple_of(STRETCH) {
            std::thread::sleep(self.since.elapsed().min(LONGEST_PAUSE));
            self.since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_surveyed_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        std::fs::create_dir_all(at.join("train/deep")).unwrap();
        std::fs::write(at.join("train/deep/b"), [0; 5]).unwrap();
        std::fs::write(at.join("a"), [0; 7]).unwrap();
        std::os::unix::fs::symlink("/etc", at.join("outside")).unwrap();
        std::os::unix::fs::symlink(at.join("a"), at.join("link")).unwrap();
        let roots = [Root { at: at.to_owned(), prefix: Box::default() }];
        let manifest = survey(&roots).unwrap();
        assert_eq!((manifest.len(), manifest.bytes), (2, 12));
        assert_eq!(manifest.path(1), Some(&b"train/deep/b"[..]));
        let again = survey(&roots).unwrap();
        assert_eq!(manifest.version, again.version);
        let moved = survey(&[Root { at: at.to_owned(), prefix: b"in"[..].into() }]).unwrap();
        assert_eq!(moved.path(0), Some(&b"in/a"[..]));
        std::fs::write(at.join("a"), [1; 8]).unwrap();
        assert_ne!(survey(&roots).unwrap().version, manifest.version);
        assert!(survey(&[Root { at: at.join("none"), prefix: Box::default() }]).is_err());
    }
}
