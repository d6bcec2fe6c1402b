//! What one order asks, and how it ended: the words of this module's threads among themselves.
//!
//! An order becomes a `Task` when it is taken in and an `Observation` when it is answered; nothing else here
//! knows the shape of either.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use agent_core::{Door, Entry, Extent, FileKey, MountId, Nanos, Observation, OrderId, Outcome, Pages};

/// A `List` or a `Fetch` without its number: several orders may share one task.
#[derive(Debug, PartialEq, Eq)]
pub struct Task {
    pub mount: MountId,
    /// Relative to the root of the file system, as the order has it.
    pub path: Box<[u8]>,
    pub via: u32,
    pub what: What,
}

#[derive(Debug, PartialEq, Eq)]
pub enum What {
    List {
        limit: usize,
    },
    Fetch {
        file: Option<FileKey>,
        door: Door,
        extent: Extent,
    },
    /// Pages that nobody needs any more leave the page cache.
    LetGo {
        pages: Vec<Pages>,
    },
}

/// Between a task's thread and the queue: the one tells that it goes on, the other that nobody wants it any more.
#[derive(Debug, Default)]
pub struct Leash {
    stop: AtomicBool,
    steps: AtomicU64,
}

impl Leash {
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// A piece was looked at or has come in, an entry was listed. Each task has a bounded number of these, so that
    /// none lives for ever.
    pub fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }
}

/// How a task ended.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    pub outcome: Option<Outcome>,
    pub file: Option<FileKey>,
    pub size: u64,
    pub bytes: u64,
    pub took: Nanos,
    pub complete: bool,
    pub entries: Vec<Entry>,
}

impl Ending {
    pub fn of(outcome: Outcome) -> Self {
        Self { outcome: Some(outcome), ..Self::default() }
    }

    pub fn outcome(&self) -> Outcome {
        self.outcome.unwrap_or(Outcome::Failed)
    }
}

impl Task {
    pub fn is_list(&self) -> bool {
        matches!(self.what, What::List { .. })
    }

    /// Whether one piece of work answers both.
    pub fn same(&self, other: &Self) -> bool {
        // `via` is only a way to the mount: two ways lead to the same pages.
        self.mount == other.mount && self.path == other.path && self.what == other.what
    }

    /// The answer to order `id`.
    pub fn answer(&self, id: OrderId, ending: Ending) -> Observation {
        let outcome = ending.outcome();
        match &self.what {
            What::List { .. } => Observation::Listing {
                id,
                mount: self.mount,
                dir: self.path.clone(),
                outcome,
                complete: ending.complete,
                entries: ending.entries,
            },
            What::Fetch { .. } | What::LetGo { .. } => Observation::Fetched {
                id,
                outcome,
                file: ending.file,
                size: ending.size,
                bytes: ending.bytes,
                took: ending.took,
            },
        }
    }
}
