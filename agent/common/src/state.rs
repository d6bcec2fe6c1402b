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

/// Of so many reads of a thread one is timed, a power of two: two looks at the clock cost 30 ns, and a record
/// 100, of a read of 800.
pub const TIMED: u64 = 64;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InodeKey {
    pub ino: u64,
    pub dev: u32,
    pub reserved: u32,
}

/// Consecutive accesses of one thread to one file, or pages that it brought in or dropped: what every
/// access looks at, one cache line long. `Origin` holds the rest.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Tells by one comparison whether an access is of this run: inode, device, way, and which life of
    /// the inode number, mixed. 0 is no run.
    pub ident: u64,
    pub start: u64,
    pub end: u64,
    /// Bytes of the file.
    pub size: u64,
    /// Low bits of the first page and end of the latest event: a long read comes in several.
    pub last_start: u32,
    pub last_end: u32,
    /// Low bits of `end` when it was last told.
    pub told_end: u32,
    /// Pages touched by all accesses together; may wrap.
    pub touched: u32,
    pub count: u32,
    /// Which `Known::quiet` the run has taken over, see `Bucket::epoch`.
    pub epoch: u32,
    /// `Head::flags`: `FLAG_SAMPLED`.
    pub flags: u8,
    /// Only counters are wanted for this file.
    pub quiet: u8,
    pub reserved: [u8; 6],
}

/// What is needed of a run only when it is told.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub ino: u64,
    pub dev: u32,
    pub seq: u32,
    /// `count` when it was last told.
    pub told: u32,
    /// `Head::how`.
    pub how: u8,
    pub reserved: [u8; 3],
}

/// Its head, each of its runs: a cache line each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadState {
    /// Whose state this is; 0 when free.
    pub tid: u32,
    pub tgid: u32,
    /// The access slot used last.
    pub current: u32,
    /// Numbers the runs of this thread.
    pub seq: u32,
    /// When the first page that the thread is waiting for was added; 0 when it waits for none.
    pub waiting_since: u64,
    /// That page.
    pub waiting_start: u64,
    /// When it last woke the agent.
    pub woke_at: u64,
    /// When the read under way began, where it is one of those that are timed; 0 otherwise.
    pub entered_at: u64,
    /// Reads that the thread has begun.
    pub entries: u64,
    pub reserved: u64,
    pub runs: [Run; SLOTS],
    pub origins: [Origin; SLOTS],
    pub padding: [u64; 6],
}

/// States found by the low bits of the thread id alone: an array costs 3 ns to look into, a hash 70.
/// Thread ids are given out in sequence, so two readers rarely share a place; the later one is kept in
/// the hash.
pub const SEATS: u32 = 4096;

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

/// What is known of an inode of which a run began lately, in a place that its name alone gives. Looked at before
/// `KNOWN`: of many small files each look into a hash table of all inodes misses the processor's caches three
/// times, one into this array once.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Familiar {
    /// `familiar_name`; 0 in an empty place.
    pub name: u64,
    pub known: Known,
}

/// 4 MiB of places: of 20,000 files read in turns one in seven shares its place, of 100,000 every second.
pub const FAMILIARS: u32 = 131_072;

/// Inode and device, mixed with the epoch of the device's bucket: whatever the agent changes takes all places of
/// that bucket out of use.
pub const fn familiar_name(dev: u32, ino: u64, epoch: u32) -> u64 {
    spread(dev, ino) ^ epoch as u64 | 1 << 63
}

/// Where the inode's place is.
pub const fn familiar_place(dev: u32, ino: u64) -> u32 {
    (spread(dev, ino) >> 40) as u32 & (FAMILIARS - 1)
}

/// 2^64 over the golden ratio spreads inode numbers over all bits.
const fn spread(dev: u32, ino: u64) -> u64 {
    (ino ^ (dev as u64) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Watched devices, four to a bucket; 0 is no device. Half a cache line.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    pub devs: [u32; 4],
    /// Raised by the agent whenever it has changed a `Known::quiet` of these devices.
    pub epoch: u32,
    pub reserved: [u32; 3],
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
unsafe impl Plain for Origin {}
// SAFETY: as above.
unsafe impl Plain for ThreadState {}
// SAFETY: as above.
unsafe impl Plain for Known {}
// SAFETY: as above.
unsafe impl Plain for Familiar {}
// SAFETY: as above.
unsafe impl Plain for Bucket {}

const _: () = assert!(size_of::<InodeKey>() == 16);
const _: () = assert!(size_of::<Run>() == 64);
const _: () = assert!(size_of::<Origin>() == 24);
const _: () = assert!(size_of::<ThreadState>() == 64 + SLOTS * (64 + 24) + 48);
const _: () = assert!(size_of::<ThreadState>().is_multiple_of(64));
const _: () = assert!(size_of::<Known>() == 24);
const _: () = assert!(size_of::<Familiar>() == 32);
const _: () = assert!(size_of::<Bucket>() == 32);
