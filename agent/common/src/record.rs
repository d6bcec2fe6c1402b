//! What the ring buffer carries: one fixed record for everything that is a run of pages, a miss or an
//! exit, and one of variable length for the first sight of an inode, with the run that it was met by.
//!
//! A run is told more than once while it grows. Each telling carries the whole run so far (`seq` names
//! it within its slot), so that telling it twice, or reading it from the map, does no harm: the agent
//! passes on the difference.

use crate::plain::Plain;

/// `Head::kind`.
pub const KIND_ACCESS: u8 = 1;
pub const KIND_ADDED: u8 = 2;
pub const KIND_REMOVED: u8 = 3;
pub const KIND_MISS: u8 = 4;
pub const KIND_SIGHT: u8 = 5;
pub const KIND_EXIT: u8 = 6;
pub const KIND_HIT: u8 = 7;

/// `Head::how` of an access.
pub const VIA_READ: u8 = 1;
pub const VIA_FAULT: u8 = 2;
pub const VIA_MAPPED: u8 = 3;
pub const VIA_DIRECT: u8 = 4;

/// `Head::how` of pages that came or went.
pub const BY_THREAD: u8 = 1;
pub const BY_AGENT: u8 = 2;
pub const BY_RECLAIM: u8 = 3;

/// `Head::flags`: the run has ended; nothing more is told of it.
pub const FLAG_CLOSED: u8 = 1;
/// `start..end` is the span of `count` accesses that were merged without being adjacent.
pub const FLAG_SAMPLED: u8 = 2;
/// The path is cut: too deep, too long, or a name could not be read.
pub const FLAG_TRUNCATED: u8 = 4;
/// No name was found: no dentry leads to the inode (opened by handle), or its dentry hangs below none. What was
/// unlinked keeps its last name.
pub const FLAG_UNNAMED: u8 = 8;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub kind: u8,
    pub how: u8,
    pub slot: u8,
    pub flags: u8,
    pub tid: u32,
    pub tgid: u32,
    pub dev: u32,
    pub ino: u64,
    /// CLOCK_MONOTONIC, nanoseconds. Of runs, whose records measure nothing, as it was at the thread's last look in the
    /// same tick of the kernel, 1 to 10 ms before at most, and more where a host holds up the CPU that counts ticks.
    pub at: u64,
}

/// `KIND_ACCESS`, `KIND_ADDED`, `KIND_REMOVED`, `KIND_MISS`, `KIND_HIT`, `KIND_EXIT`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub head: Head,
    /// First page; for a miss or a hit its latency in nanoseconds.
    pub start: u64,
    /// Page after the last; for a miss or a hit its bytes.
    pub end: u64,
    /// The file's size in bytes, 0 for pages that came or went.
    pub size: u64,
    /// Pages touched by all accesses of the run together; may wrap.
    pub touched: u32,
    pub reserved: u32,
    pub seq: u32,
    pub count: u32,
}

/// `KIND_SIGHT`: an inode is met by an access or by pages that came (`run.head.slot` says which), followed by `len`
/// bytes of names, each ended by one NUL to eight, the file's own first, then its folder's, up to but without the root.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    pub run: Record,
    /// Seconds since the epoch.
    pub mtime: i64,
    pub len: u32,
    pub generation: u32,
}

// SAFETY: integers only; sizes below prove that nothing is padded.
unsafe impl Plain for Head {}
// SAFETY: as above.
unsafe impl Plain for Record {}
// SAFETY: as above.
unsafe impl Plain for Sight {}

const _: () = assert!(size_of::<Head>() == 32);
const _: () = assert!(size_of::<Record>() == 32 + 4 * 8 + 8);
const _: () = assert!(size_of::<Sight>() == 72 + 8 + 8);

/// Longest path taken from the kernel, as PATH_MAX; each name is rounded up to eight bytes in it.
pub const PATH_BYTES: usize = 4096;
/// Longest name of one component with its NUL, as NAME_MAX + 1.
pub const NAME_BYTES: usize = 256;
/// Folders walked upwards before a path is cut.
pub const PATH_DEPTH: u32 = 32;

/// What the dentry walk fills before it is sent.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SightBuffer {
    pub sight: Sight,
    /// One component may begin just below `PATH_BYTES`.
    pub names: [u8; PATH_BYTES + NAME_BYTES],
}

// SAFETY: as above; 88 + 4352 bytes, a multiple of 8.
unsafe impl Plain for SightBuffer {}

const _: () = assert!(size_of::<SightBuffer>() == 88 + 4352);

/// Where the walk gathers names.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NameBuffer {
    pub busy: u64,
    /// The length of the name at hand.
    pub len: u64,
    /// The dentry at hand, from its parent on: the stack of two programs has no room for it before 6.12.
    pub dentry: [u64; 9],
    pub buffer: SightBuffer,
}

// SAFETY: as above; 88 + 4440 bytes, a multiple of 8.
unsafe impl Plain for NameBuffer {}

const _: () = assert!(size_of::<NameBuffer>() == 88 + 4440);

/// What `ask_path` found.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// `ASKED_FOUND` and its like; 0 before it has run.
    pub answer: u64,
    pub names: NameBuffer,
}

// SAFETY: as above.
unsafe impl Plain for Asked {}

const _: () = assert!(size_of::<Asked>() == 8 + size_of::<NameBuffer>());

/// The names are there, whole.
pub const ASKED_FOUND: u64 = 1;
/// They are more or longer than there is room for.
pub const ASKED_CUT: u64 = 2;
/// There is no such descriptor.
pub const ASKED_NOTHING: u64 = 3;
