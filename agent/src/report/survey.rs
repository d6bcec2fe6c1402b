//! Looks at all files of a Dataset, one after another, working half of the time at most. A store that does not answer holds up
//! its own Dataset's survey alone: its thread is left to wait, and the next one begins.
//!
//! Names, sizes and times only: nothing is opened but directories, no link is followed, no other file system is
//! entered. Directories stay open no longer than they are being listed.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, FileType, StatxFlags};
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::manifest::{Found, Manifest};
use crate::mounts::{Namespace, Spot};
use crate::prefetch::open_folder;

/// More files than this are not told apart: such a Dataset is reported without residency.
pub const MOST_FILES: usize = 200_000;

/// More bytes than this are no Dataset's: whoever owns a file says how large it is, and the operator takes no more (docs/wire.md).
const MOST_BYTES: u64 = 1 << 60;

/// Directories waiting to be listed; a tree of nothing but directories ends here.
const MOST_FOLDERS: usize = 100_000;

/// Surveys waiting for the thread.
const WAITING: usize = 64;

/// A survey that has not gone on for this long waits for a store that is away.
const STILL: Duration = Duration::from_secs(10);

/// Surveys that wait for their stores at a time.
const LEFT: usize = 32;

/// Names looked at between two pauses, each as long as the work before it.
const STRETCH: usize = 64;
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// A folder of a file system, and where it lies in the Dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// Where the agent looks: below a mount point that was left lies something else.
    pub spot: Spot,
    /// From the mount point on; whose files these are may be anybody, so no link in it is followed.
    pub inner: PathBuf,
    /// Below the Dataset's root; empty: it is the root.
    pub prefix: Box<[u8]>,
}

#[derive(Clone, Debug)]
pub struct Job {
    pub dataset: Arc<str>,
    /// No two are alike: a survey that was left to wait may end after a later one.
    pub number: u64,
    /// The parts it is made of, each by every mount that shows it: where the first cannot be looked at the next one is.
    pub parts: Vec<Vec<Root>>,
}

#[derive(Debug)]
pub struct Surveyed {
    pub dataset: Arc<str>,
    /// Its job's.
    pub number: u64,
    pub manifest: Result<Manifest, SurveyError>,
}

#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    #[error(
        "{}: cannot be looked at ({source}); what is resident of this Dataset is not reported until it can, which is tried \
         every minute",
        at.display()
    )]
    Look { at: PathBuf, source: rustix::io::Errno },
    #[error(
        "the Dataset has more than {MOST_FILES} files or {MOST_FOLDERS} folders; what is resident of it is not reported. \
         Divide it into Datasets by folder"
    )]
    TooLarge,
    #[error(
        "its files are {0} bytes by what the store says of them, more than there are anywhere; what is resident of the Dataset is \
         not reported. Look for a file that is far too large (`find -size +1000000G`)"
    )]
    TooManyBytes(u64),
    #[error(
        "the stores of {LEFT} other Datasets do not answer, and no more are waited for at a time; this one is looked at once one \
         of them answers or is unmounted"
    )]
    Waiting,
    #[error("the thread that looks at its files cannot start ({0}); raise ulimit -u. It is tried again")]
    Thread(std::io::Error),
}

/// The surveyor's desk; its thread ends when this is dropped.
#[derive(Debug)]
pub struct Surveyor {
    jobs: SyncSender<Job>,
}

impl Surveyor {
    pub fn start(namespace: Namespace) -> std::io::Result<(Self, mpsc::Receiver<Surveyed>)> {
        let (jobs, waiting) = sync_channel(WAITING);
        let (done, results) = mpsc::channel(4);
        std::thread::Builder::new()
            .name("headrace-survey".into())
            .spawn(move || work(namespace, &waiting, &done))?;
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

fn work(namespace: Namespace, jobs: &Receiver<Job>, done: &mpsc::Sender<Surveyed>) {
    let alive = Arc::new(());
    for job in jobs {
        let (dataset, number) = (job.dataset.clone(), job.number);
        let started = if Arc::strong_count(&alive) > LEFT {
            Err(SurveyError::Waiting)
        } else {
            start(namespace, job, done.clone(), alive.clone()).map_err(SurveyError::Thread)
        };
        let surveyed = match started {
            Ok((steps, end)) => attend(&steps, &end, STILL),
            Err(error) => Some(Surveyed { dataset, number, manifest: Err(error) }),
        };
        // While no operator is there this waits, and no survey counts as waiting for its store.
        if let Some(surveyed) = surveyed
            && done.blocking_send(surveyed).is_err()
        {
            return;
        }
    }
}

/// A survey on a thread of its own: how far it is, and where it hands over what it found. Where nobody takes that, it
/// tells it by itself.
fn start(
    namespace: Namespace,
    job: Job,
    done: mpsc::Sender<Surveyed>,
    alive: Arc<()>,
) -> std::io::Result<(Arc<AtomicU64>, Receiver<Surveyed>)> {
    let steps = Arc::new(AtomicU64::new(0));
    // Without room: what is not taken comes back to who sends it.
    let (ended, end) = sync_channel(0);
    let told = steps.clone();
    let survey = move || {
        let _alive = alive;
        let Job { dataset, number, parts } = job;
        let manifest = survey(namespace, &parts, &told);
        if let Err(SendError(surveyed)) = ended.send(Surveyed { dataset, number, manifest }) {
            // Nobody waits for it any more where this fails.
            let _ = done.blocking_send(surveyed);
        }
    };
    std::thread::Builder::new().name("headrace-survey".into()).spawn(survey)?;
    Ok((steps, end))
}

/// Waits for what a survey finds, or until it goes on no more.
fn attend(steps: &AtomicU64, end: &Receiver<Surveyed>, still: Duration) -> Option<Surveyed> {
    let mut before = None;
    loop {
        match end.recv_timeout(still) {
            Ok(surveyed) => return Some(surveyed),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {
                let now = Some(steps.load(Ordering::Relaxed));
                if now == before {
                    return None;
                }
                before = now;
            }
        }
    }
}

/// The clock of surveys: milliseconds since 1970 as this node has it, right or wrong.
pub fn clock_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Walks one root of each part, counting steps.
fn survey(namespace: Namespace, parts: &[Vec<Root>], steps: &AtomicU64) -> Result<Manifest, SurveyError> {
    let seen_ms = clock_ms();
    let mut found = Vec::new();
    let mut pace = Pace { steps, names: 0, since: Instant::now() };
    for roots in parts {
        walk_one(namespace, roots, &mut found, &mut pace)?;
    }
    let manifest = Manifest::new(found, seen_ms);
    if manifest.bytes > MOST_BYTES {
        return Err(SurveyError::TooManyBytes(manifest.bytes));
    }
    Ok(manifest)
}

/// Walks the first of the roots that can be looked at to its end; what stops it on all of them is the first one's trouble.
fn walk_one(
    namespace: Namespace,
    roots: &[Root],
    found: &mut Vec<Found>,
    pace: &mut Pace<'_>,
) -> Result<(), SurveyError> {
    let before = found.len();
    let mut trouble = None;
    for root in roots {
        match walk(namespace, root, found, pace) {
            Ok(()) => return Ok(()),
            Err(error @ SurveyError::Look { .. }) => {
                found.truncate(before);
                trouble.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    trouble.map_or(Ok(()), Err)
}

fn walk(
    namespace: Namespace,
    root: &Root,
    found: &mut Vec<Found>,
    pace: &mut Pace<'_>,
) -> Result<(), SurveyError> {
    let failed = |inner: &[u8], source| SurveyError::Look {
        at: Path::new(OsStr::from_bytes(&root.spot.point)).join(&root.inner).join(OsStr::from_bytes(inner)),
        source,
    };
    let top = top(namespace, root).map_err(|errno| failed(b"", errno))?;
    let mut folders: VecDeque<Vec<u8>> = VecDeque::from([Vec::new()]);
    while let Some(folder) = folders.pop_back() {
        let opened = open_folder(&top, &folder).and_then(|opened| Ok((Dir::read_from(&opened)?, opened)));
        let (entries, opened): (Dir, OwnedFd) = match opened {
            Ok(opened) => opened,
            Err(errno) if !folder.is_empty() && is_no_part(errno) => continue,
            Err(errno) => return Err(failed(&folder, errno)),
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) if !folder.is_empty() && is_no_part(errno) => break,
                Err(errno) => return Err(failed(&folder, errno)),
            };
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
                let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
                let stat = rustix::fs::statx(&opened, entry.file_name(), flags, mask);
                let stat = match stat {
                    Ok(stat) => stat,
                    Err(errno) if is_no_part(errno) => continue,
                    Err(errno) => return Err(failed(&inner, errno)),
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

/// Gone since it was listed, a link, another file system, not ours to see, deeper than a path can say: no part of the
/// Dataset. Anything else is its store's trouble or ours, and what was left out for it would make another version.
fn is_no_part(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::NOENT
            | Errno::NOTDIR
            | Errno::STALE
            | Errno::LOOP
            | Errno::XDEV
            | Errno::ACCESS
            | Errno::PERM
            | Errno::NAMETOOLONG
    )
}

/// The folder at the root's top.
fn top(namespace: Namespace, root: &Root) -> Result<OwnedFd, Errno> {
    open_folder(namespace.mounted(&root.spot)?, root.inner.as_os_str().as_bytes())
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

struct Pace<'a> {
    steps: &'a AtomicU64,
    names: usize,
    since: Instant,
}

impl Pace<'_> {
    fn keep(&mut self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
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

    /// A folder as a root: its mount point may be far above.
    fn root(at: &Path, prefix: &[u8]) -> Root {
        let table = Namespace::default().table().unwrap();
        let mount = table.covering(at.as_os_str().as_bytes()).unwrap();
        let inner = at.strip_prefix(OsStr::from_bytes(&mount.point)).unwrap().to_owned();
        Root { spot: Spot::of(mount), inner, prefix: prefix.into() }
    }

    fn surveyed(roots: &[Root]) -> Result<Manifest, SurveyError> {
        survey(Namespace::default(), &[roots.to_vec()], &AtomicU64::new(0))
    }

    #[test]
    fn a_tree_is_surveyed_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        std::fs::create_dir_all(at.join("train/deep")).unwrap();
        std::fs::write(at.join("train/deep/b"), [0; 5]).unwrap();
        std::fs::write(at.join("a"), [0; 7]).unwrap();
        std::os::unix::fs::symlink("/etc", at.join("outside")).unwrap();
        std::os::unix::fs::symlink(at.join("a"), at.join("link")).unwrap();
        let roots = [root(at, b"")];
        let manifest = surveyed(&roots).unwrap();
        assert_eq!((manifest.len(), manifest.bytes), (2, 12));
        assert_eq!(manifest.path(1), Some(&b"train/deep/b"[..]));
        let again = surveyed(&roots).unwrap();
        assert_eq!(manifest.version, again.version);
        let moved = surveyed(&[root(at, b"in")]).unwrap();
        assert_eq!(moved.path(0), Some(&b"in/a"[..]));
        std::fs::write(at.join("a"), [1; 8]).unwrap();
        assert_ne!(surveyed(&roots).unwrap().version, manifest.version);
        assert!(surveyed(&[root(&at.join("none"), b"")]).is_err());
    }

    #[test]
    fn of_two_mounts_that_show_the_same_one_may_be_dead() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        std::fs::write(at.join("a"), [1; 7]).unwrap();
        let (dead, alive) = (root(&at.join("none"), b"in"), root(at, b"in"));
        let whole = surveyed(std::slice::from_ref(&alive)).unwrap();
        for roots in [[dead.clone(), alive.clone()], [alive.clone(), dead.clone()], [alive.clone(), alive]] {
            let manifest = surveyed(&roots).unwrap();
            assert_eq!((manifest.version, manifest.len()), (whole.version, 1));
        }
        let later = root(&at.join("later"), b"in");
        let error = surveyed(&[dead, later]).unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
    }

    #[test]
    fn no_way_to_the_top_leads_out_of_the_file_system() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        std::fs::create_dir_all(at.join("team/data")).unwrap();
        std::os::unix::fs::symlink(at.join("team"), at.join("swapped")).unwrap();
        assert!(surveyed(&[root(&at.join("team/data"), b"")]).is_ok());
        assert!(surveyed(&[root(&at.join("swapped/data"), b"")]).is_err(), "a link on the way");
        for inner in ["/etc", "../../../../../../../../etc"] {
            let out = Root { inner: inner.into(), ..root(at, b"") };
            assert!(surveyed(&[out]).is_err(), "{inner}");
        }
        let mut left = root(at, b"");
        left.spot.dev = u32::MAX;
        assert!(surveyed(&[left]).is_err(), "what was mounted there has gone");
    }

    #[test]
    fn a_survey_that_does_not_go_on_is_left_and_any_other_waited_for() {
        let found = || Surveyed { dataset: "a/b".into(), number: 1, manifest: Err(SurveyError::TooLarge) };
        let steps = AtomicU64::new(7);
        let (ended, end) = sync_channel(0);
        assert!(attend(&steps, &end, Duration::from_millis(20)).is_none(), "it is still at it");
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            ended.send(found()).is_ok()
        });
        assert!(attend(&steps, &end, Duration::from_secs(60)).is_some());
        assert!(thread.join().unwrap());
    }

    #[test]
    fn a_survey_ends_while_nobody_takes_what_others_found() {
        let dir = tempfile::tempdir().unwrap();
        let (done, mut results) = mpsc::channel(1);
        let alive = Arc::new(());
        let start = |number| {
            let job = Job { dataset: "a/b".into(), number, parts: vec![vec![root(dir.path(), b"")]] };
            start(Namespace::default(), job, done.clone(), alive.clone()).unwrap()
        };
        done.try_send(Surveyed { dataset: "c".into(), number: 9, manifest: Err(SurveyError::TooLarge) })
            .unwrap();
        let (steps, end) = start(1);
        let surveyed = attend(&steps, &end, Duration::from_secs(20)).unwrap();
        assert!(surveyed.number == 1 && surveyed.manifest.is_ok());
        let (_, left) = start(2);
        drop(left);
        let told = |results: &mut mpsc::Receiver<Surveyed>| results.blocking_recv().unwrap().number;
        assert_eq!(
            (told(&mut results), told(&mut results)),
            (9, 2),
            "who was left behind tells it by itself"
        );
    }
}
