//! What lives in maps: the open runs of each reading thread, what is known of each inode, the filter
//! of watched devices, and the counters.

use crate::plain::Plain;

/// Files that one thread can read in turns without each turn being told: merging k sorted files, or a
/// header and a body, stay runs.
pub const ACCESS_SLOTS: usize = 4;
pub const SLOT_ADDED: usize = 4;
pub const SLOT_REMOVED: usize = 5;
pub const SLOTS: usize = 6;

/// A run grows silently by this many pages (256 KiB) before it is told again.
pub const PROGRESS_PAGES: u64 = 64;
/// The same where only counters are wanted (1 MiB).
pub const QUIET_PAGES: u64 = 256;

/// Records that one inode may cause at once, and the nanoseconds (as a power of two: 2^18 ns is 3,815
/// a second) after which it may cause one more. Beyond that its accesses are merged in batches.
pub const BURST: u32 = 4096;
pub const REFILL_SHIFT: u32 = 18;
/// Accesses merged before the inode's allowance is looked at again: a look costs 70 ns.
pub const BATCH: u32 = 32;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InodeKey {
    pub ino: u64,
    pub dev: u32,
    pub reserved: u32,
}

/// Consecutive accesses of one thread to one file, or pages that it brought in or dropped.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    pub ino: u64,
    /// Tells one life of an inode number from the next: generation and ctime.
    pub stamp: u64,
    pub start: u64,
    pub end: u64,
    /// First page and end of the latest event: a long read comes in several.
    pub last_start: u64,
    pub last_end: u64,
    pub touched: u64,
    pub size: u64,
    /// `end` when it was last told.
    pub told_end: u64,
    pub dev: u32,
    pub seq: u32,
    pub count: u32,
    /// `count` when it was last told.
    pub told: u32,
    /// `Head::how`.
    pub how: u8,
    /// `Head::flags`: `FLAG_SAMPLED`.
    pub flags: u8,
    /// Only counters are wanted for this file.
    pub quiet: u8,
    pub reserved: [u8; 5],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadState {
    pub runs: [Run; SLOTS],
    /// When the first page that the thread is waiting for was added; 0 when it waits for none.
    pub waiting_since: u64,
    /// That page.
    pub waiting_start: u64,
    /// When it last woke the agent.
    pub woke_at: u64,
    pub tgid: u32,
    /// Numbers the runs of this thread.
    pub seq: u32,
    /// The access slot used last.
    pub current: u32,
    /// Which `quiet` switches the runs have taken over.
    pub epoch: u32,
    /// Whose state this is; 0 when free.
    pub tid: u32,
    pub reserved: u32,
}

/// States found by the low bits of the thread id alone: an array costs 3 ns to look into, a hash 70.
/// Thread ids are given out in sequence, so two readers rarely share a place; the later one is kept in
/// the hash.
pub const SEATS: u32 = 8192;

pub const fn seat_of(tid: u32) -> u32 {
    tid & (SEATS - 1)
}

/// An inode that has been named.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    pub stamp: u64,
    pub refilled_at: u64,
    pub allowance: u32,
    pub quiet: u32,
}

/// Watched devices, four to a bucket; 0 is no device.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    pub devs: [u32; 4],
}

pub const BUCKETS: u32 = 256;

/// The bucket of a device: anonymous devices differ in the low bits, disks in the major number too.
pub const fn bucket_of(dev: u32) -> u32 {
    (dev ^ (dev >> 20)) & (BUCKETS - 1)
}

/// The counters, one value per CPU each.
pub const COUNT_LOST: u32 = 0;
/// Recursions of the name buffer: a sight was put off to the next access.
pub const COUNT_PUT_OFF: u32 = 1;
pub const COUNTERS: u32 = 2;

// SAFETY: integers only; the sizes below prove that nothing is padded.
unsafe impl Plain for InodeKey {}
// SAFETY: as above.
unsafe impl Plain for Run {}
// SAFETY: as above.
unsafe impl Plain for ThreadState {}
// SAFETY: as above.
unsafe impl Plain for Known {}
// SAFETY: as above.
unsafe impl Plain for Bucket {}

const _: () = assert!(size_of::<InodeKey>() == 16);
const _: () = assert!(size_of::<Run>() == 9 * 8 + 4 * 4 + 8);
const _: () = assert!(size_of::<ThreadState>() == SLOTS * 96 + 3 * 8 + 6 * 4);
const _: () = assert!(size_of::<Known>() == 24);
const _: () = assert!(size_of::<Bucket>() == 16);
