//! What the core is told: the only way in, and what `headrace record` stores.
//!
//! The edges (probe, attribute, prefetch, pressure) turn what happens into one of these; the core's
//! state is a fold over them, so that a recording gives the same plan again.
//!
//! Paths are bytes relative to the root of the file system (not of the mount point), without a leading
//! slash, `/` between components: a name may hold any byte but `/` and NUL.

use crate::units::{FileKey, MountId, Nanos, Pages, Reader};

/// How a range was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// read, pread, readv, preadv2, io_uring, sendfile, splice: through the page cache.
    Read,
    /// A page fault on a mapping: the page that was touched.
    Fault,
    /// The window around a fault whose resident pages were mapped with it: not known to have been touched, and
    /// nothing is said of which were there.
    Mapped,
    /// O_DIRECT: the page cache was not asked.
    Direct,
}

/// On whose behalf pages entered or left the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// This agent's own process.
    Agent,
    /// A process, by the thread that ran.
    Thread(Reader),
    /// Reclaim: kswapd, or a thread in direct reclaim.
    Reclaim,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    File,
    Directory,
    /// Links, devices, sockets, and names whose type the file system does not tell.
    Other,
}

/// One name of a directory, in the order in which the file system lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: Box<[u8]>,
    pub kind: EntryKind,
    /// `d_ino`; creation order is guessed from it where inode numbers grow.
    pub ino: u64,
}

/// How an order ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Everything asked for is in the page cache now, as far as the file holds it.
    Done,
    /// The file, or its directory, is gone.
    Absent,
    /// Root may not open it here (FUSE without allow_other, NFS root_squash).
    Refused,
    /// Any other error of the store, or time out.
    Failed,
    /// Cancelled, or turned away because the queue was full.
    Dropped,
}

/// Names an order until its outcome has come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(pub u64);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// A file system is being watched from now on. `source` (mountinfo's) keys what is learned of it.
    Mount { mount: MountId, dev: u32, source: Box<str>, fstype: Box<str>, read_ahead_bytes: u64 },
    /// It is watched no more (unmounted, or told so).
    Unmount { mount: MountId },
    /// Who a process is: `workload` keys its profile, `label` is what a person calls it.
    Process { tgid: u32, workload: Box<str>, label: Box<str> },
    /// What was learned of a workload on this source before, as `Core::changed_profiles` gave it out; comes
    /// before the workload's first access.
    Profile { workload: Box<str>, source: Box<str>, bytes: Box<[u8]> },
    /// The process has ended.
    Exit { tgid: u32 },
    /// First sight of an inode, always before its first access: its name as the kernel's dentry has it.
    Sight { file: FileKey, mount: MountId, path: Box<[u8]>, size: u64, mtime: i64 },
    /// Pages were read; consecutive accesses of one reader to one file come merged, `count` of them. An
    /// empty range: so many accesses somewhere in the file, which were only counted.
    Access { file: FileKey, reader: Reader, pages: Pages, via: Via, count: u32, size: u64 },
    /// Pages entered the page cache (not yet filled).
    Added { file: FileKey, pages: Pages, by: Actor },
    /// Pages left the page cache.
    Removed { file: FileKey, pages: Pages, by: Actor },
    /// Pages found in the page cache by cachestat and mincore, beside those known.
    Resident { file: FileKey, pages: Vec<Pages> },
    /// A miss of this long, from the first page added to the read's end.
    Miss { file: FileKey, latency: Nanos, bytes: u64 },
    /// Answer to `Order::List`: the first `entries` of the directory, in listing order.
    Listing {
        id: OrderId,
        mount: MountId,
        dir: Box<[u8]>,
        outcome: Outcome,
        complete: bool,
        entries: Vec<Entry>,
    },
    /// Answer to `Order::Fetch`. `file` and `size` are what the edge found when it opened the path (the
    /// order's own `file` in descriptor mode); `bytes` is what it asked the store for.
    Fetched { id: OrderId, outcome: Outcome, file: Option<FileKey>, size: u64, bytes: u64, took: Nanos },
    /// Memory, sampled once a second: MemAvailable and the `some avg10` of PSI memory in hundredths of a
    /// per cent (0 where PSI is off).
    Memory { available: u64, total: u64, psi: u32 },
    /// The kernel dropped records: what was learned since the last tick has holes.
    Lost { records: u64 },
    /// Time passes: sent every 100 ms while anything is under way.
    Tick,
}
