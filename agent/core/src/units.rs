//! The words every other module speaks: files, readers, mounts, pages and time.
//!
//! Time is nanoseconds of CLOCK_MONOTONIC, the clock that BPF's `bpf_ktime_get_ns` reads, and always
//! comes in as an argument. Ranges of a file are half-open and counted in 4 KiB pages.

use std::ops::Range;

/// Bytes in a page of the page cache as this crate counts them.
///
/// Kernels with larger base pages (arm64 with 64 KiB) are scaled to this by the probe.
pub const PAGE: u64 = 4096;

/// Nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// Time from `earlier` to `self`, zero when the clock seems to run backwards (events of two CPUs).
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

/// A file as the kernel names it: `super_block.s_dev` (major << 20 | minor) and `inode.i_ino`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileKey {
    pub dev: u32,
    pub ino: u64,
}

/// A watched file system, numbered by the edge in the order of discovery; one per `s_dev`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MountId(pub u32);

/// The thread that read: `tgid` is the process, `tid` the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reader {
    pub tgid: u32,
    pub tid: u32,
}

/// Half-open range of pages.
pub type Pages = Range<u64>;

/// The number of pages that hold `bytes`.
pub const fn pages_of(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE)
}

/// Bytes that pages hold of a file of `size` bytes: its last page is rarely full.
pub fn bytes_in(pages: &Pages, size: u64) -> u64 {
    (pages.end * PAGE).min(size).saturating_sub(pages.start * PAGE)
}
