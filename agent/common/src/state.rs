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
pub const BURST: u16 = 4096;
pub const REFILL_SHIFT: u32 = 18;
/// Accesses merged before the inode's allowance is looked at again: a look costs 70 ns.
pub const BATCH: u32 = 32;

/// Of so many reads of a thread one is timed, a power of two: two looks at the clock cost 30 ns, and a record
/// 100, of a read of 800.
pub const TIMED: u64 = 64;

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
    /// Which `Known::allowance` of `QUIET` the run has taken over, see `Bucket::epoch`.
    pub epoch: u32,
    /// `Head::flags`: `FLAG_SAMPLED`. These are words because the compiler of BPF programs fills what is left of one
    /// by a loop over bytes.
    pub flags: u32,
    /// 1 where only counters are wanted for this file.
    pub quiet: u32,
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
    pub how: u32,
}

/// Its head, each of its runs: a cache line each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadState {
    /// Whose state this is, tgid << 32 | tid; 0 when free. A thread's number is given again, so that alone does not say.
    pub id: u64,
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
    /// Where in its set the inode was found that was looked for last.
    pub way: u32,
    /// Low bits of `Layout::task_calls` at its last read of several pages.
    pub call: u32,
    pub runs: [Run; SLOTS],
    pub origins: [Origin; SLOTS],
    /// The kernel's tick in which the thread last looked at the clock, and what the clock said.
    pub tick: u64,
    pub ticked_at: u64,
    pub padding: [u64; 4],
}

impl ThreadState {
    pub const fn tid(&self) -> u32 {
        self.id as u32
    }

    pub const fn tgid(&self) -> u32 {
        (self.id >> 32) as u32
    }
}

/// States found by the low bits of the thread id alone: an array costs 3 ns to look into, a hash 70.
/// Thread ids are given out in sequence, so two readers rarely share a place; the later one is kept in
/// the hash.
pub const SEATS: u32 = 4096;

pub const fn seat_of(tid: u32) -> u32 {
    tid & (SEATS - 1)
}

/// An inode that has been named, and what it may still cause. A quarter of a cache line.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// `ident_of`; 0 in an empty place.
    pub ident: u64,
    /// Which life of the number, under which name, and since when its device is watched: half of a `digest_of`.
    pub stamp: u32,
    /// When its allowance was last filled up, in steps of 2^`REFILL_SHIFT` ns. After 17 s it begins anew: an inode
    /// that comes back just then is given less than it is due.
    pub refilled_at: u16,
    /// Records that it may cause at once, or `QUIET`.
    pub allowance: u16,
}

/// Steps from one moment of `Known::refilled_at` to another; none where that is before it, by 67 ms at most: threads look
/// at the clock once in a tick each, so another may have filled the allowance up after this one's moment.
pub const fn passed(since: u16, now: u16) -> u16 {
    let steps = now.wrapping_sub(since);
    if steps > u16::MAX - 256 { 0 } else { steps }
}

/// As an allowance: only counters are wanted.
pub const QUIET: u16 = u16::MAX;

/// Inodes that share their place.
pub const WAYS: usize = 8;

/// The places of those inodes whose number gives this set: two cache lines side by side, the second in use only
/// where the first is full, and found without a hash table's chains. Each miss of the processor's caches costs
/// 200 ns where the kernel's own memory is paged twice, in a virtual machine.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set {
    pub known: [Known; WAYS],
}

/// 8 MiB of places. Of 100,000 files whose numbers follow each other one in sixty finds all of its set taken and
/// pushes another out, which is named again when it is read again; of others fewer do.
pub const SETS: u32 = 65_536;

/// Where an inode's set is, of `sets`, a power of two. Four numbers that follow each other, as those of a folder's
/// files mostly do, share a set, which is one miss of the caches for four of them, and the next four have the next
/// set. Beyond 256, numbers are spread over all sets, whatever bits they differ in.
pub const fn set_of(dev: u32, ino: u64, sets: u32) -> u32 {
    // 2^64 over the golden ratio; once alone leaves numbers that are a power of two apart in few sets.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let once = ((ino >> 8) ^ (dev as u64) << 32).wrapping_mul(SPREAD);
    let block = (once ^ once >> 32).wrapping_mul(SPREAD) >> 40;
    (block as u32).wrapping_add(ino as u32 >> 2 & 63) & sets.wrapping_sub(1)
}

/// An inode in 8 bytes: no two of one device have the same, two of different devices by no more than chance. The
/// seed is the agent's own and secret, so that whoever makes up inode numbers (a FUSE server) cannot aim at another's.
pub const fn ident_of(dev: u32, ino: u64, seed: u64) -> u64 {
    ino.wrapping_mul(seed | 1) ^ (dev as u64).wrapping_mul(seed.rotate_left(32) | 1)
}

/// `value` spread over the upper half, for where half of it has to do.
pub const fn digest_of(value: u64, seed: u64) -> u32 {
    (value.wrapping_mul(seed | 1) >> 32) as u32
}

/// Watched devices, four to a bucket; 0 is no device. Half a cache line.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    pub devs: [u32; 4],
    /// Raised by the agent whenever it has made a file of these devices `QUIET`, or ended that.
    pub epoch: u32,
    /// Raised by the agent to have all their inodes named anew.
    pub life: u32,
    pub reserved: [u32; 2],
}

pub const BUCKETS: u32 = 256;

/// The bucket of a device: anonymous devices differ in the low bits, disks in the major number too.
pub const fn bucket_of(dev: u32) -> u32 {
    (dev ^ (dev >> 20)) & (BUCKETS - 1)
}

/// Under what no thread's measure is kept, because none has this number: who the agent is.
pub const OWN: u32 = 0;

/// The counters, one value per CPU each.
pub const COUNT_LOST: u32 = 0;
/// Recursions of the name buffer: a sight was put off to the next access.
pub const COUNT_PUT_OFF: u32 = 1;
pub const COUNTERS: u32 = 2;

// SAFETY: integers only; the sizes below prove that nothing is padded.
unsafe impl Plain for Run {}
// SAFETY: as above.
unsafe impl Plain for Origin {}
// SAFETY: as above.
unsafe impl Plain for ThreadState {}
// SAFETY: as above.
unsafe impl Plain for Known {}
// SAFETY: as above.
unsafe impl Plain for Set {}
// SAFETY: as above.
unsafe impl Plain for Bucket {}

const _: () = assert!(size_of::<Run>() == 64);
const _: () = assert!(size_of::<Origin>() == 24);
const _: () = assert!(size_of::<ThreadState>() == 64 + SLOTS * (64 + 24) + 48);
const _: () = assert!(size_of::<ThreadState>().is_multiple_of(64));
const _: () = assert!(size_of::<Known>() == 16);
const _: () = assert!(size_of::<Set>() == 128);
const _: () = assert!(size_of::<Bucket>() == 32);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Of so many numbers, `step` apart, those that find their set full.
    fn pushed_out(numbers: u64, step: u64) -> u64 {
        let mut held = vec![0; SETS as usize];
        (0..numbers).for_each(|n| held[set_of(0x0010_0005, n * step, SETS) as usize] += 1);
        held.into_iter().map(|held: u64| held.saturating_sub(WAYS as u64)).sum()
    }

    #[test]
    fn numbers_of_any_kind_find_places() {
        for step in [1, 2, 3, 7, 32, 64, 96, 128, 256, 1000, 4096, 1 << 16, 1 << 20, 1 << 32, (1 << 40) + 64]
        {
            let lost = pushed_out(100_000, step);
            assert!(lost < 2_500, "{lost} of 100,000 numbers {step} apart find no place");
        }
    }

    #[test]
    fn an_allowance_is_not_filled_up_by_a_clock_that_is_behind() {
        assert_eq!((passed(100, 100), passed(100, 140), passed(65_530, 4)), (0, 40, 10));
        assert_eq!((passed(140, 100), passed(4, 65_530)), (0, 0));
        assert_eq!(passed(140, 100 + 32_768), 32_728);
    }

    #[test]
    fn neighbours_are_neighbours() {
        let apart = |ino| set_of(7, ino + 4, SETS).wrapping_sub(set_of(7, ino, SETS)) & (SETS - 1);
        assert!((0..252).all(|ino| apart(256 * 12_345 + ino) == 1));
        assert!((0..256).all(|ino| set_of(7, ino, SETS) == set_of(7, ino & !3, SETS)));
    }

    #[test]
    fn an_inode_is_nobody_else() {
        for seed in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            let numbers = (0..1000).chain((0..64).map(|bit| 1 << bit)).collect::<BTreeSet<u64>>();
            let idents = numbers.iter().map(|ino| ident_of(7, *ino, seed)).collect::<BTreeSet<_>>();
            assert_eq!(idents.len(), numbers.len(), "seed {seed:x}");
        }
        let seed = 0x0123_4567_89ab_cdef;
        let devices = (0..100).flat_map(|dev| (0..100).map(move |ino| ident_of(dev, ino, seed)));
        assert_eq!(devices.collect::<BTreeSet<_>>().len(), 10_000);
    }
}
