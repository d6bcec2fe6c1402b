//! One task from its beginning to its end, on a thread that may block.

use std::os::fd::AsFd;

use agent_core::{Door as By, Extent, FileKey, Nanos, Outcome, PAGE, Pages};
use rustix::fs::{Advice, AtFlags, StatxFlags};
use rustix::time::{ClockId, clock_gettime};

use super::descriptor::copy_of;
use super::door::{Door, Opened};
use super::extent::{pieces, resolve};
use super::listing::list;
use super::outcome::outcome_of;
use super::pages::present;
use super::root::{Roots, piece_of};
use super::task::{Ending, Leash, Task, What};
use super::warm::{Warmed, by_asking, by_reading};

/// CLOCK_MONOTONIC, the clock of all observations.
pub fn now() -> Nanos {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(time.tv_nsec).unwrap_or_default();
    Nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// What every task needs.
#[derive(Debug)]
pub struct Bench {
    pub roots: Roots,
    pub door: Door,
    /// Bytes one fetch may have asked for and not yet seen.
    pub window: u64,
}

impl Bench {
    pub fn carry_out(&self, task: &Task, leash: &Leash) -> Ending {
        match &task.what {
            What::List { limit } => match self.roots.get(task.mount, &task.path, task.via, now()) {
                Ok(root) => list(&root, &task.path, *limit, leash),
                Err(outcome) => Ending::of(outcome),
            },
            What::Fetch { file, door: By::Open, extent } => self.open_and_read(task, *file, extent, leash),
            What::Fetch { file, door: By::Descriptor { tgid }, extent } => match file {
                Some(file) => self.borrow_and_ask(*tgid, *file, extent, leash),
                // A descriptor is found by its inode; a file nobody has seen is in nobody's hands.
                None => Ending::of(Outcome::Absent),
            },
            What::LetGo { pages } => self.let_go(task, pages),
        }
    }

    fn let_go(&self, task: &Task, pages: &[Pages]) -> Ending {
        let start = now();
        let root = match self.roots.get(task.mount, &task.path, task.via, now()) {
            Ok(root) => root,
            Err(outcome) => return Ending::of(outcome),
        };
        let Opened { descriptor, file, size } = match self.door.open(&root, &task.path, None) {
            Ok(opened) => opened,
            Err(closed) => return Ending { file: closed.file, ..Ending::of(closed.outcome) },
        };
        for range in pages {
            let length = range.end.saturating_sub(range.start).saturating_mul(PAGE);
            // Zero would mean: to the end of the file.
            let Some(length) = std::num::NonZeroU64::new(length) else { continue };
            let offset = range.start.saturating_mul(PAGE);
            if let Err(errno) = rustix::fs::fadvise(&descriptor, offset, Some(length), Advice::DontNeed) {
                return Ending { file: Some(file), ..Ending::of(outcome_of(errno)) };
            }
        }
        ending(Warmed { outcome: Outcome::Done, bytes: 0 }, file, size, start)
    }

    fn open_and_read(&self, task: &Task, file: Option<FileKey>, extent: &Extent, leash: &Leash) -> Ending {
        let root = match self.roots.get(task.mount, &task.path, task.via, now()) {
            Ok(root) => root,
            Err(outcome) => return Ending::of(outcome),
        };
        let start = now();
        if matches!(extent, Extent::Ranges(ranges) if ranges.is_empty()) {
            return match self.door.find(&root, &task.path, file) {
                Ok(named) => {
                    ending(Warmed { outcome: Outcome::Done, bytes: 0 }, named.file, named.size, start)
                }
                Err(closed) => Ending { file: closed.file, ..Ending::of(closed.outcome) },
            };
        }
        let Opened { descriptor, file, size } = match self.door.open(&root, &task.path, file) {
            Ok(opened) => opened,
            Err(closed) => {
                return Ending { file: closed.file, ..Ending::of(closed.outcome) };
            }
        };
        let ranges = resolve(extent, Some(size)).unwrap_or_default();
        let window = self.window_of(root.piece);
        let warmed = by_reading(descriptor.as_fd(), size, pieces(ranges, root.piece), window, leash);
        ending(warmed, file, size, start)
    }

    fn borrow_and_ask(&self, tgid: u32, file: FileKey, extent: &Extent, leash: &Leash) -> Ending {
        let start = now();
        let known = |outcome| Ending { file: Some(file), ..Ending::of(outcome) };
        let copy = match copy_of(tgid, file) {
            Ok(copy) => copy,
            Err(errno) => return known(outcome_of(errno)),
        };
        // FUSE without allow_other answers root no stat, even on the reader's descriptor.
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let size = rustix::fs::statx(&copy, c"", flags, StatxFlags::SIZE).ok().map(|found| found.stx_size);
        let Some(ranges) = resolve(extent, size) else {
            return known(Outcome::Refused);
        };
        // Without a size the end shows by pages that do not come, which only cachestat tells.
        let endless = size.is_none() && matches!(extent, Extent::Whole { .. });
        if endless && present(copy.as_fd(), &(0..1)).is_none() {
            return known(Outcome::Refused);
        }
        let piece = piece_of(file.dev);
        let window = self.window_of(piece);
        let warmed = by_asking(copy.as_fd(), size, pieces(ranges, piece), window, leash);
        ending(warmed, file, size.unwrap_or_default(), start)
    }

    fn window_of(&self, piece: u64) -> usize {
        usize::try_from(self.window / (piece * agent_core::PAGE).max(1)).unwrap_or(1).max(1)
    }
}

fn ending(warmed: Warmed, file: FileKey, size: u64, start: Nanos) -> Ending {
    Ending {
        outcome: Some(warmed.outcome),
        file: Some(file),
        size,
        bytes: warmed.bytes,
        took: now().since(start),
        ..Ending::default()
    }
}
