//! A mount's root directory as a descriptor: opened when first needed, closed when nothing needs it.
//!
//! A held descriptor makes umount(8) fail with "target is busy", so it is kept for two seconds after the last
//! order and no longer. The way to a mount may lead through the mount namespace of the process that uses it
//! (/proc/PID/root); what was opened there is believed only when it is the expected mount.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use agent_core::{FileKey, MountId, Nanos, Outcome, PAGE};
use rustix::io::Errno;

use super::outcome::outcome_of;
use super::pages::PIECE_MAX;
use crate::mounts::{Fdinfo, Namespace, Spot};

/// Where a mount can be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint {
    /// Which mount it is, as it is seen there.
    pub spot: Spot,
    /// The directory of the file system that is mounted there, unescaped, `/` but for bind mounts, subvolumes and folders
    /// of NFS exports. `None` where it is known only once that is open: then `MountResolver::root_of` is asked.
    pub root: Option<Box<[u8]>>,
    /// Whose mounts these are.
    pub namespace: Namespace,
}

/// Knows the mounts; given by whoever watches mountinfo.
pub trait MountResolver: Send + Sync {
    /// Where the agent itself sees `path` of `mount`, told from its root, or how an order for it ends that nobody else can
    /// help; answered at once.
    fn own(&self, mount: MountId, path: &[u8]) -> Result<MountPoint, Outcome>;

    /// Where process `via` may see it: mounts of the file system in its mount namespace, 8 at most, the likeliest first.
    /// Called on the prefetch threads; may read /proc.
    fn theirs(&self, mount: MountId, path: &[u8], via: u32) -> Vec<MountPoint>;

    /// Where an open directory lies in its file system.
    fn root_of(&self, directory: BorrowedFd<'_>) -> Option<Box<[u8]>>;
}

/// The open root of a mount.
#[derive(Debug)]
pub struct Root {
    pub directory: OwnedFd,
    pub dev: u32,
    /// Pages the kernel brings in at most for one call, from the device's read_ahead_kb.
    pub piece: u64,
    prefix: Box<[u8]>,
    numbering: AtomicU8,
    /// Where the agent itself saw it when this was opened.
    own: Option<Spot>,
}

/// Whether stat's inode numbers are the kernel's own; found out with the first file.
const UNKNOWN: u8 = 0;
const SAME: u8 = 1;
const OTHER: u8 = 2;

impl Root {
    /// The path below this root; `None` when the mount does not show that part of its file system.
    pub fn below<'a>(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        if self.prefix.is_empty() {
            return Some(path);
        }
        let rest = path.strip_prefix(&*self.prefix)?;
        if rest.is_empty() {
            return Some(rest);
        }
        rest.strip_prefix(b"/")
    }

    /// The kernel's name (s_dev, i_ino) of a file opened below this root, whose stat says `ino`.
    pub fn key(&self, file: &OwnedFd, ino: u64) -> FileKey {
        use std::os::fd::AsFd;
        let ino = match self.numbering.load(Ordering::Relaxed) {
            SAME => ino,
            // Overlay and some network file systems show other numbers than the inode has.
            _ => {
                let real = Fdinfo::of_own(file.as_fd()).and_then(|info| info.ino).unwrap_or(ino);
                self.numbering.store(if real == ino { SAME } else { OTHER }, Ordering::Relaxed);
                real
            }
        };
        FileKey { dev: self.dev, ino }
    }
}

#[derive(Default)]
struct Place {
    open: Mutex<Option<Arc<Root>>>,
    used: AtomicU64,
}

/// A mount, and what of it is shown.
type Shown = (MountId, Box<[u8]>);

/// Threads that close roots at a time; more than that are waiting for stores that are away.
const CLOSERS: usize = 8;

/// Closes roots where nobody waits for it: of a mount that was detached ours may be the last hold, and whoever lets go of
/// that tears the file system down, its cache and its connection too. One that takes long holds up no other.
#[derive(Clone, Debug, Default)]
struct Closer(Arc<Mutex<Closing>>);

#[derive(Debug, Default)]
struct Closing {
    waiting: Vec<Arc<Root>>,
    threads: usize,
}

impl Closer {
    /// Held to put a root in or take one out; nothing is closed under it.
    fn lock(&self) -> MutexGuard<'_, Closing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, roots: impl IntoIterator<Item = Arc<Root>>) {
        let mut closing = self.lock();
        closing.waiting.extend(roots);
        for _ in 0..closing.waiting.len().min(CLOSERS.saturating_sub(closing.threads)) {
            let own = self.clone();
            if std::thread::Builder::new().name("headrace-close".into()).spawn(move || own.work()).is_err() {
                // Out of threads: the next sweep tries again.
                return;
            }
            closing.threads += 1;
        }
    }

    fn work(&self) {
        while let Some(root) = self.next() {
            drop(root);
        }
    }

    /// None: the thread that asks is one less.
    fn next(&self) -> Option<Arc<Root>> {
        let mut closing = self.lock();
        let next = closing.waiting.pop();
        closing.threads -= usize::from(next.is_none());
        next
    }

    /// Waits until all are closed, or for so long.
    fn finish(&self, grace: Duration) {
        let begun = Instant::now();
        while self.lock().threads > 0 && begun.elapsed() < grace {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether some wait for a thread.
    fn is_behind(&self) -> bool {
        !self.lock().waiting.is_empty()
    }
}

/// All roots held at the moment.
pub struct Roots {
    resolver: Arc<dyn MountResolver>,
    places: Mutex<HashMap<Shown, Arc<Place>>>,
    closer: Closer,
}

impl std::fmt::Debug for Roots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roots").finish_non_exhaustive()
    }
}

impl Roots {
    pub fn new(resolver: Arc<dyn MountResolver>) -> Self {
        Self { resolver, places: Mutex::default(), closer: Closer::default() }
    }

    /// The root below which a path of a mount is seen, opened now if need be. May block on a dead store; only that
    /// mount's tasks wait.
    pub fn get(&self, mount: MountId, path: &[u8], via: u32, now: Nanos) -> Result<Arc<Root>, Outcome> {
        let own = self.resolver.own(mount, path);
        let place = {
            let shown = own.as_ref().ok().and_then(|point| point.root.clone()).unwrap_or_default();
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(places.entry((mount, shown)).or_default())
        };
        place.used.store(now.0, Ordering::Relaxed);
        let mut open = place.open.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was reached through a process may show another part; one that is seen elsewhere by now would keep who
        // mounted it from unmounting.
        let spot = own.as_ref().ok().map(|point| &point.spot);
        let good = |root: &&Arc<Root>| root.below(path).is_some() && root.own.as_ref() == spot;
        if let Some(root) = open.as_ref().filter(good) {
            return Ok(Arc::clone(root));
        }
        let root = Arc::new(self.open(own, mount, path, via)?);
        *open = Some(Arc::clone(&root));
        Ok(root)
    }

    fn open(
        &self,
        own: Result<MountPoint, Outcome>,
        mount: MountId,
        path: &[u8],
        via: u32,
    ) -> Result<Root, Outcome> {
        // Where the agent looks first: it does not depend on a process staying alive.
        let mut error = own.as_ref().err().copied().unwrap_or(Outcome::Absent);
        let theirs = || if via == 0 { Vec::new() } else { self.resolver.theirs(mount, path, via) };
        let spot = own.as_ref().ok().map(|point| point.spot.clone());
        for point in own.into_iter().chain(std::iter::once_with(theirs).flatten()) {
            match self.open_root(&point, spot.clone()) {
                Ok(root) if root.below(path).is_some() => return Ok(root),
                Ok(_) => {}
                // What is not to be found there may be found here again soon.
                Err(_) if error == Outcome::Failed => {}
                Err(errno) => error = outcome_of(errno),
            }
        }
        Err(error)
    }

    fn open_root(&self, point: &MountPoint, own: Option<Spot>) -> Result<Root, Errno> {
        let directory = point.namespace.mounted(&point.spot)?;
        let root = match &point.root {
            Some(root) => root.clone(),
            None => self.resolver.root_of(directory.as_fd()).ok_or(Errno::NOENT)?,
        };
        Ok(Root {
            directory,
            dev: point.spot.dev,
            piece: piece_of(point.spot.dev),
            prefix: root.strip_prefix(b"/").unwrap_or(&root).into(),
            numbering: AtomicU8::new(UNKNOWN),
            own,
        })
    }

    /// Closes what no task holds and none has used for `idle`; returns whether any is still open.
    pub fn sweep(&self, now: Nanos, idle: Nanos) -> bool {
        let mut held = false;
        let mut closed = Vec::new();
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|_, place| {
            let mut open = match place.open.try_lock() {
                Ok(open) => open,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    held = true;
                    return true;
                }
            };
            let unused = now.since(Nanos(place.used.load(Ordering::Relaxed))) >= idle;
            if unused && open.as_ref().is_none_or(|root| Arc::strong_count(root) == 1) {
                closed.extend(open.take());
                return false;
            }
            held = true;
            true
        });
        drop(places);
        self.closer.close(closed);
        held || self.closer.is_behind()
    }

    /// Lets go of a mount; a task under way keeps its own hold until it ends.
    pub fn forget(&self, mount: MountId) {
        self.let_go(|of| of == mount);
    }

    /// Lets go of all, and waits for as long as that may take.
    pub fn end(&self, grace: Duration) {
        self.let_go(|_| true);
        self.closer.finish(grace);
    }

    fn let_go(&self, of: impl Fn(MountId) -> bool) {
        let gone: Vec<Arc<Place>> = {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            places.extract_if(|(mount, _), _| of(*mount)).map(|(_, place)| place).collect()
        };
        // A place that is being opened is let go of by who opens it, on a prefetch thread.
        let open = |place: &Arc<Place>| match place.open.try_lock() {
            Ok(mut open) => open.take(),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().take(),
            Err(TryLockError::WouldBlock) => None,
        };
        self.closer.close(gone.iter().filter_map(open));
    }
}

/// Pages in a piece: the device's read_ahead_kb, to which the kernel cuts each call; 128 KiB, its default,
/// where it cannot be read.
pub fn piece_of(dev: u32) -> u64 {
    let path = format!("/sys/class/bdi/{}:{}/read_ahead_kb", dev >> 20, dev & 0xf_ffff);
    let kib = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let bytes = kib.unwrap_or(128).saturating_mul(1024);
    bytes.clamp(16 * 1024, PIECE_MAX) / PAGE
}
