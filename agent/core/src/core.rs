//! The fold: observations in, orders and happenings out.
//!
//! This file holds the state and says which part of the fold each observation goes to: `access` (what a
//! read means), `supply` and `fetch` (what to ask for next, and how), `settle` (what became of it), `memory`
//! (runs that end and the profiles they leave), `views` (what a person may ask).

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::catalog::{Catalog, DirId, FileId};
use crate::class::Lesson;
use crate::ledger::Ledger;
use crate::observation::{Actor, Observation, OrderId};
use crate::order::{Door, Order};
use crate::ranges::RangeSet;
use crate::residency::Owner;
use crate::run::Run;
use crate::store::Store;
use crate::streams::Streams;
use crate::taught::Taught;
use crate::units::{MountId, Nanos, Pages, Reader};
use crate::view::Happening;

/// Bounds on what the core keeps and asks for; limits, never tuning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Names known at most; beyond, the catalog is emptied and learned anew.
    pub files: usize,
    /// Share of MemAvailable, in per cent, that unread prefetched bytes may take.
    pub memory_percent: u8,
    /// Whether anything is fetched at all (`--observe-only`).
    pub prefetch: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { files: 1 << 18, memory_percent: 25, prefetch: true }
    }
}

/// Workloads told apart; the ones that come later share a row.
pub(crate) const WORKLOADS: usize = 4096;

/// Files whose streams are followed at once; those silent longest are let go.
pub(crate) const ACTIVE: usize = 4096;

/// Happenings kept for the next `happenings` call.
const HAPPENINGS: usize = 4096;

#[derive(Debug)]
pub(crate) struct Workload {
    pub key: Box<str>,
    pub label: Box<str>,
    pub runs: u32,
    /// Of all its runs.
    pub files_read: u64,
    pub read_bytes: u64,
    pub covered_bytes: u64,
}

impl Workload {
    pub fn new(key: &str, label: &str) -> Self {
        Self { key: key.into(), label: label.into(), runs: 0, files_read: 0, read_bytes: 0, covered_bytes: 0 }
    }

    /// Counts what another one did as its own.
    pub fn take_over(&mut self, other: &Self) {
        let Self { key: _, label: _, runs, files_read, read_bytes, covered_bytes } = other;
        self.runs = self.runs.saturating_add(*runs);
        self.files_read += files_read;
        self.read_bytes += read_bytes;
        self.covered_bytes += covered_bytes;
    }
}

/// A file that is being read.
#[derive(Debug, Default)]
pub(crate) struct Active {
    pub streams: Streams,
    /// Pages read during this visit, or this pass of it: who reads a file in no order reads it in passes.
    pub read: RangeSet,
    /// How many these are: to count them takes a look at each piece, and this is asked at each read.
    pub fresh: u64,
    pub tgid: u32,
    pub tid: u32,
    pub last: Nanos,
    /// Accesses in a row that found all they wanted.
    pub hits: u32,
    /// How far a sweep through the file has come, in pages.
    pub swept: u64,
    /// Pages read since it began.
    pub since_sweep: u64,
    /// What this visit has taught its kind already, for a thread that may come back.
    pub taught: Option<Lesson>,
    /// Its reader has closed the descriptor and reads a mapping.
    pub orphan: bool,
    /// An open of ours was refused: only its reader's descriptor leads to it.
    pub refused: bool,
}

/// An order under way.
#[derive(Debug)]
pub(crate) enum Flight {
    List { mount: MountId, dir: DirId },
    Fetch(FetchFlight),
}

impl Flight {
    /// Whether it is a fetch of this run: (workload, mount).
    pub fn is_of(&self, run: (u32, MountId)) -> bool {
        matches!(self, Self::Fetch(flight) if (flight.owner.workload, flight.mount) == run)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct FetchFlight {
    pub mount: MountId,
    pub file: FileId,
    pub owner: Owner,
    pub door: Door,
    /// Bytes expected to come, and the span of pages in which they lie.
    pub expected: u64,
    pub span: Pages,
    /// Requests it takes, where it reads ranges of an open file.
    pub requests: u64,
    /// Pages seen to enter the cache.
    pub added: u64,
    /// The second fetch of a file whose pages came before: do they survive an open?
    pub trial: bool,
    /// Drawn from its run's pool.
    pub drawn: bool,
    /// What else is wanted of a file whose size is not known, as far as it has that.
    pub rest: Option<Advance>,
}

/// A large file that is brought in before it is open, piece by piece.
#[derive(Clone, Debug)]
pub(crate) struct Advance {
    pub mount: MountId,
    pub file: FileId,
    pub owner: Owner,
    /// Pages that have not been asked for.
    pub left: Pages,
    pub deadline: Nanos,
    pub reason: &'static str,
    /// From its run's pool: its first piece says so.
    pub drawn: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub reads: u64,
    pub read_bytes: u64,
    pub covered_bytes: u64,
    pub fetched_bytes: u64,
    pub lost_records: u64,
    pub unnamed: u64,
}

#[derive(Debug)]
pub struct Core {
    pub(crate) limits: Limits,
    pub(crate) catalog: Catalog,
    pub(crate) stores: FxHashMap<MountId, Store>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) workload_ids: FxHashMap<Box<str>, u32>,
    /// Rows of `workloads` that are nobody's.
    pub(crate) spare: Vec<u32>,
    /// None could be made free, and that was looked for since the last tick: it costs a walk over all processes.
    pub(crate) crowded: bool,
    pub(crate) processes: FxHashMap<u32, u32>,
    pub(crate) runs: FxHashMap<(u32, MountId), Run>,
    /// Whether anybody asks what has stirred, what has since, and whether all that was told is void.
    pub(crate) stirring: bool,
    pub(crate) stirred: FxHashSet<FileId>,
    pub(crate) stir_void: bool,
    pub(crate) taught: Taught,
    pub(crate) changed: Vec<(Box<str>, Box<str>, Vec<u8>)>,
    pub(crate) saved: Nanos,
    pub(crate) active: FxHashMap<FileId, Active>,
    pub(crate) flights: FxHashMap<OrderId, Flight>,
    /// Fetches under way per file, with the owner of the last.
    pub(crate) in_flight: FxHashMap<FileId, (u32, Owner)>,
    /// Large files that are brought in before they are open.
    pub(crate) advances: Vec<Advance>,
    /// Files that hold claims.
    pub(crate) claimed: FxHashSet<FileId>,
    /// The file that a thread emptied last of pages it had not read: an open does that on some stores.
    pub(crate) emptied: FxHashMap<Reader, (FileId, Nanos)>,
    pub(crate) ledger: Ledger,
    pub(crate) available: u64,
    pub(crate) psi: u32,
    pub(crate) expected_bytes: u64,
    pub(crate) totals: Totals,
    next_order: u64,
    pub(crate) out: Vec<Order>,
    happenings: VecDeque<Happening>,
    listening: bool,
}

impl Core {
    pub fn new(limits: Limits) -> Self {
        let unknown = Workload::new("unknown", "unknown process");
        Self {
            limits,
            catalog: Catalog::default(),
            stores: FxHashMap::default(),
            workloads: vec![unknown],
            workload_ids: FxHashMap::default(),
            spare: Vec::new(),
            crowded: false,
            processes: FxHashMap::default(),
            runs: FxHashMap::default(),
            stirring: false,
            stirred: FxHashSet::default(),
            stir_void: false,
            taught: Taught::default(),
            changed: Vec::new(),
            saved: Nanos(0),
            active: FxHashMap::default(),
            flights: FxHashMap::default(),
            in_flight: FxHashMap::default(),
            advances: Vec::new(),
            claimed: FxHashSet::default(),
            emptied: FxHashMap::default(),
            ledger: Ledger::default(),
            // Until the first sample: little enough for the smallest node.
            available: 1 << 30,
            psi: 0,
            expected_bytes: 0,
            totals: Totals::default(),
            next_order: 0,
            out: Vec::new(),
            happenings: VecDeque::new(),
            listening: false,
        }
    }

    /// Folds one observation into the state. `now` never runs far backwards; equal stamps are fine.
    pub fn apply(&mut self, observation: &Observation, now: Nanos) {
        match observation {
            Observation::Mount { mount, dev, source, fstype, read_ahead_bytes } => {
                self.stores.insert(*mount, Store::new(*mount, *dev, source, fstype, *read_ahead_bytes));
            }
            Observation::Unmount { mount } => self.unmount(*mount),
            Observation::Process { tgid, workload, label } => self.identify(*tgid, workload, label),
            Observation::Profile { workload, source, bytes } => self.teach(workload, source, bytes),
            Observation::Exit { tgid } => self.exit(*tgid),
            Observation::Sight { file, mount, path, size, mtime: _ } => {
                if self.catalog.names() >= self.limits.files {
                    self.start_over();
                }
                let id = self.catalog.file_at(*mount, path);
                let lost = self.catalog.bind(id, *file, *size);
                self.waste(&lost);
                // Who is named anew has a full allowance with the probe, whatever was ordered of it.
                self.details_again(id, *file);
            }
            Observation::Access { file, reader, pages, via, count, size } => {
                self.access(*file, *reader, pages, *via, *count, *size, now);
            }
            Observation::Added { file, pages, by } => match by {
                Actor::Agent => self.added_by_agent(*file, pages),
                Actor::Thread(reader) => self.added_by_thread(*file, pages, Some(*reader), now),
                Actor::Reclaim => self.added_by_thread(*file, pages, None, now),
            },
            Observation::Removed { file, pages, by } => self.removed(*file, pages, *by, now),
            Observation::Resident { file, pages } => {
                if let Some(residency) = self.residency(*file) {
                    residency.counted(pages);
                }
            }
            Observation::Miss { file, latency, bytes } => {
                let mount = self.catalog.by_key(*file).and_then(|id| self.catalog.mount_of(id));
                if let Some(store) = mount.and_then(|mount| self.stores.get_mut(&mount)) {
                    store.missed(*latency, *bytes, now);
                }
            }
            Observation::Listing { id, mount: _, dir: _, outcome, complete: _, entries } => {
                self.listed(*id, *outcome, entries, now);
            }
            Observation::Fetched { id, outcome, file, size, bytes, took } => {
                self.fetched(*id, *outcome, *file, *size, *bytes, *took, now);
            }
            Observation::Memory { available, total: _, psi } => {
                self.available = *available;
                self.psi = *psi;
            }
            Observation::Lost { records } => {
                self.totals.lost_records += records;
                self.doubt();
                self.happen(Happening::Lost { records: *records });
            }
            Observation::Tick => {
                self.reconsider(now);
                self.tick(now);
            }
        }
        self.stir(observation);
    }

    /// Takes the orders that have become due, in the order in which they should be carried out.
    pub fn orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.out)
    }

    /// Takes what is worth showing since the last call; bounded, the oldest are dropped.
    pub fn happenings(&mut self) -> Vec<Happening> {
        self.happenings.drain(..).collect()
    }

    /// Whether anyone wants happenings; none are made while nobody does.
    pub fn listen(&mut self, wanted: bool) {
        self.listening = wanted;
    }

    pub(crate) fn is_heard(&self) -> bool {
        self.listening
    }

    pub(crate) fn happen(&mut self, happening: Happening) {
        if !self.listening {
            return;
        }
        if self.happenings.len() == HAPPENINGS {
            self.happenings.pop_front();
        }
        self.happenings.push_back(happening);
    }

    pub(crate) fn order_id(&mut self) -> OrderId {
        self.next_order += 1;
        OrderId(self.next_order)
    }

    /// Bytes that may still be brought in and wait unread: a share of the memory that is available, less
    /// as memory gets scarce (PSI `some` of 10 % or more: nothing).
    pub(crate) fn room(&self) -> u64 {
        if !self.limits.prefetch {
            return 0;
        }
        let share = self.available / 100 * u64::from(self.limits.memory_percent);
        let calm = u64::from(1_000u32.saturating_sub(self.psi));
        (share / 1_000 * calm).saturating_sub(self.ledger.pending() + self.expected_bytes)
    }
}
