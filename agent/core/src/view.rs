//! What a person may ask of the core: plain values, cut from its state at one moment.

use crate::units::{FileKey, MountId, Nanos, Pages};

/// Bytes by their fate; the ledger's columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// Brought in by the agent and read in time.
    pub hit: u64,
    /// Brought in by the agent, but the reader came while the fetch was under way.
    pub late: u64,
    /// Brought in by the agent and evicted, dropped or given up on unread.
    pub wasted: u64,
    /// Brought in by the agent, unread so far, still resident.
    pub pending: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    pub mounts: Vec<MountView>,
    pub files: u64,
    pub workloads: u64,
    pub reads: u64,
    pub read_bytes: u64,
    /// Read bytes that were in memory when they were read.
    pub covered_bytes: u64,
    pub fetched_bytes: u64,
    pub fate: Fate,
    pub lost_records: u64,
    pub in_flight: u64,
    pub queued: u64,
    pub memory_available: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Survival {
    /// No page of ours has met a reader's open yet.
    #[default]
    Unknown,
    /// Warmed pages are still there after the reader's open.
    Kept,
    /// The kernel drops a file's pages at each open here: only open files are prefetched, through the
    /// reader's descriptor.
    Dropped,
    /// Root may not open files here: only open files are prefetched.
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountView {
    pub mount: MountId,
    pub dev: u32,
    pub source: Box<str>,
    pub fstype: Box<str>,
    pub survival: Survival,
    pub depth: u32,
    /// Median, in nanoseconds; 0 while none was seen.
    pub miss_latency: Nanos,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadView {
    pub workload: Box<str>,
    pub label: Box<str>,
    pub tgids: Vec<u32>,
    pub runs: u32,
    pub files_read: u64,
    pub read_bytes: u64,
    pub covered_bytes: u64,
    pub fetched_bytes: u64,
    pub fate: Fate,
    /// The pattern that leads, in words ("shuffled epoch"), and why.
    pub pattern: Box<str>,
    pub reason: Box<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileView {
    pub file: FileKey,
    pub mount: MountId,
    pub path: Box<[u8]>,
    pub size: u64,
    pub reads: u64,
    pub read_bytes: u64,
    pub covered_bytes: u64,
    pub resident_pages: u64,
    pub resident_by_reader: u64,
    pub resident_by_readahead: u64,
    pub resident_by_agent: u64,
    pub pattern: Box<str>,
}

/// Answer to `headrace explain PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub file: FileView,
    pub resident: Vec<Pages>,
    /// What was recognised in the file and among files, with the evidence, one sentence each.
    pub patterns: Vec<Box<str>>,
    /// What is expected next (path or byte range) and why, soonest first.
    pub next: Vec<Expectation>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    pub what: Box<str>,
    pub predictor: Predictor,
    pub reason: Box<str>,
}

/// Who made a prediction: the ledger's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Predictor {
    Sequential,
    Strided,
    Reverse,
    /// The rest of a small file.
    WholeFile,
    /// The next names of a directory.
    Directory,
    /// An earlier order, repeated.
    Repetition,
    /// Every file once, in no order.
    Epoch,
    /// The relative shape of earlier files (tail, then body).
    Shape,
}

impl Predictor {
    pub const ALL: [Self; 8] = [
        Self::Sequential,
        Self::Strided,
        Self::Reverse,
        Self::WholeFile,
        Self::Directory,
        Self::Repetition,
        Self::Epoch,
        Self::Shape,
    ];

    /// Whether it predicts files that are not open yet, as opposed to ranges of one that is.
    pub const fn is_among_files(self) -> bool {
        match self {
            Self::Directory | Self::Repetition | Self::Epoch | Self::Shape => true,
            Self::Sequential | Self::Strided | Self::Reverse | Self::WholeFile => false,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Strided => "strided",
            Self::Reverse => "reverse",
            Self::WholeFile => "whole-file",
            Self::Directory => "directory",
            Self::Repetition => "repetition",
            Self::Epoch => "epoch",
            Self::Shape => "shape",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerRow {
    pub workload: Box<str>,
    pub predictor: Predictor,
    pub predictions: u64,
    pub fetched_bytes: u64,
    pub fate: Fate,
}

/// What the live event stream shows (`headrace events`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    Read {
        file: FileKey,
        mount: MountId,
        path: Box<[u8]>,
        tgid: u32,
        pages: Pages,
        count: u32,
        covered: bool,
    },
    Fetch {
        file: Option<FileKey>,
        mount: MountId,
        path: Box<[u8]>,
        predictor: Predictor,
        reason: Box<str>,
        bytes: u64,
    },
    Pattern {
        mount: MountId,
        path: Box<[u8]>,
        tgid: u32,
        pattern: Box<str>,
    },
    Mount {
        source: Box<str>,
        survival: Survival,
    },
    Lost {
        records: u64,
    },
}
