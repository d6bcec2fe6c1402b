//! The maps that the programs share with the agent. Sizes here are the defaults; the agent raises the
//! ring's by the machine's memory.

use agent_common::record::{Asked, NameBuffer};
use agent_common::state::{BUCKETS, Bucket, COUNTERS, SEATS, SETS, Set, ThreadState};
use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};

#[map]
pub static RING: RingBuf = RingBuf::with_byte_size(4 << 20, 0);

/// Watched devices. Mappable for the alignment, as `SEATED`.
#[map]
pub static DEVICES: Array<Bucket> = Array::with_max_entries(BUCKETS, BPF_F_MMAPABLE);

/// Open runs of threads, by the low bits of their id. Mappable for the sake of the alignment alone: such
/// an array begins on a page, and each run is one cache line.
#[map]
pub static SEATED: Array<ThreadState> = Array::with_max_entries(SEATS, BPF_F_MMAPABLE);

/// Open runs of threads that found their seat taken. Least recently used: a flood of threads pushes out
/// idle ones, no more.
#[map]
pub static THREADS: LruHashMap<u32, ThreadState> = LruHashMap::with_max_entries(4096, 0);

/// What a new thread begins with: larger than the BPF stack, so it cannot be made there.
#[map]
pub static BLANK: Array<ThreadState> = Array::with_max_entries(1, 0);

/// Inodes that have been named. Mappable for the alignment, as `SEATED`.
#[map]
pub static KNOWN: Array<Set> = Array::with_max_entries(SETS, BPF_F_MMAPABLE);

/// Processes that have read a watched device and whose end is to be told.
#[map]
pub static READERS: LruHashMap<u32, u32> = LruHashMap::with_max_entries(16_384, 0);

/// One value: when a fast filling ring last woke the agent.
#[map]
pub static WOKEN: Array<u64> = Array::with_max_entries(1, 0);

#[map]
pub static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// Where names are gathered; `busy` guards against another program of this CPU in between.
#[map]
pub static NAMES: PerCpuArray<NameBuffer> = PerCpuArray::with_max_entries(1, 0);

/// The answer to what the agent has asked last.
#[map]
pub static ASKED: Array<Asked> = Array::with_max_entries(1, 0);

/// Calibration: tid → the last index reported for its one read; `OWN` → the agent's own id.
#[map]
pub static CALIBRATION: HashMap<u32, u64> = HashMap::with_max_entries(4, 0);

/// Parameters of the functions that a thread is in, for kretprobes: by thread id and function, because a
/// read whose buffer is itself a mapped file faults within. More than so many threads at once push each other out.
#[map]
pub static ENTRIES: LruHashMap<u64, Entry> = LruHashMap::with_max_entries(4096, 0);

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Entry {
    pub first: u64,
    pub second: u64,
    pub third: u64,
    /// Of reads: what they ask for, `bytes` from `position` on of the inode behind `mapping`, which is known by
    /// `number` and `generation`, for this process.
    pub mapping: u64,
    pub position: u64,
    pub bytes: u64,
    pub number: u64,
    pub generation: u32,
    pub tgid: u32,
}
