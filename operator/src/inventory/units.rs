//! The words of everything else: names and the small ids that stand for them, chunks, tiers, versions, time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// A node's name, or a Dataset's as `namespace/name`, or a pod's uid, or a workload's as `namespace/Kind/name`.
pub type Name = Arc<str>;

/// Labels of a node, by key.
pub type Labels = BTreeMap<Name, Name>;

/// Stands for a node's name as long as the inventory knows anything about it. Never used again for another.
/// It depends on who came first: what must not (placement) sorts by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// Stands for a Dataset's name, as [`NodeId`] does for a node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatasetId(pub u32);

/// Stands for a workload's name as long as one of its pods is known, as [`NodeId`] does for a node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadId(pub u32);

/// What a version of a Dataset is known by: a digest of its manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u128);

impl Version {
    /// As objects name it.
    pub fn text(self) -> String {
        format!("{:032x}", self.0)
    }

    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 32 {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(Self)
    }
}

/// Milliseconds of whatever clock the caller keeps to; only differences count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// How long ago `earlier` was; nothing when it lies ahead.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Bytes of a chunk: the unit of residency and transfer until the data path says otherwise.
pub const CHUNK: u64 = 4 << 20;

/// Chunks of a version, half open. A version's files lie one behind the other, ordered by path.
pub type Chunks = Range<u32>;

/// Chunks that `bytes` fill; the last one may be short.
pub fn chunks_in(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(CHUNK)).unwrap_or(u32::MAX)
}

/// Where on a node bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// The kernel's page cache.
    Ram,
    /// The cache tier on the node's disk.
    Cache,
}
