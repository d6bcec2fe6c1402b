//! What a reader reads, in which order: decided before it starts, from the tree's specification and a seed.
//!
//! Only the directory reader decides on the way, because its order is the listing's.

use std::ops::Range;

use clap::Subcommand;
use serde::{Deserialize, Serialize};

use crate::store::content::mix;
use crate::store::tree::{FOOTER, NodeId, Tree, TreeSpec};

/// Bytes asked of the kernel at a time where a file is read from its start to its end.
pub const BLOCK: usize = 128 << 10;

/// Columns a footer reader wants, of the twenty of the benchmark's files: neither first nor neighbours.
const COLUMNS: [u64; 3] = [2, 9, 16];

/// The access pattern; its name is the reader's first argument, so that each is a workload of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand, Serialize, Deserialize)]
pub enum Workload {
    /// Every file from its start to its end, 128 KiB a read, in creation order.
    Sequential,
    /// The same through a mapping.
    Mmap,
    /// 64 KiB every 1 MiB.
    Strided,
    /// Every folder as it is listed: open, read, close.
    Directory,
    /// Small files in a random order: open, read, close.
    Shuffled {
        /// How often, each time in the same order.
        #[arg(long, default_value_t = 1)]
        epochs: u32,
        /// Stop after this many files of the order.
        #[arg(long)]
        files: Option<usize>,
        /// Processes that share the order, file by file in turn.
        #[arg(long, default_value_t = 1)]
        workers: u32,
    },
    /// Parquet-like: the last eight bytes, the footer, then three columns.
    Footer,
    /// Reads of 4 KiB at random pages.
    Random {
        #[arg(long, default_value_t = 2_000)]
        reads: u32,
    },
}

/// One file's visit: opened, these byte ranges read one call each, closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    pub file: NodeId,
    pub ranges: Ranges,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// From the start to the end, `BLOCK` bytes a call.
    Whole,
    /// The same through a mapping.
    Mapped,
    Some(Vec<Range<u64>>),
}

/// Splitmix64 as a stream.
#[derive(Debug)]
pub struct Draws(u64);

impl Draws {
    pub fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// Uniform below `end` as far as a test needs it; 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0).checked_rem(end).unwrap_or(0)
    }

    /// Fisher and Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for left in (1..items.len()).rev() {
            let other = self.below(left as u64 + 1) as usize;
            items.swap(left, other);
        }
    }
}

impl Workload {
    /// The visits in order; none for `Directory`, which asks the mount.
    pub fn visits(&self, tree: &Tree, spec: &TreeSpec, order: u64) -> Option<Vec<Visit>> {
        let each = |ranges: fn(u64) -> Ranges| {
            tree.files().map(|(file, node)| Visit { file, ranges: ranges(node.size()) }).collect::<Vec<_>>()
        };
        Some(match self {
            Self::Directory => return None,
            Self::Sequential => each(|_| Ranges::Whole),
            Self::Mmap => each(|_| Ranges::Mapped),
            Self::Strided => each(|size| {
                Ranges::Some((0..size).step_by(1 << 20).map(|at| at..size.min(at + (64 << 10))).collect())
            }),
            Self::Shuffled { files, .. } => {
                let mut visits = each(|_| Ranges::Whole);
                Draws::new(order).shuffle(&mut visits);
                visits.truncate(files.unwrap_or(usize::MAX));
                visits
            }
            Self::Footer => {
                let column = match spec {
                    TreeSpec::Parquet { column, .. } => *column,
                    TreeSpec::Small { .. } | TreeSpec::Large { .. } | TreeSpec::Local(_) => 0,
                };
                tree.files()
                    .map(|(file, node)| Visit {
                        file,
                        ranges: Ranges::Some(footer_first(node.size(), column)),
                    })
                    .collect()
            }
            Self::Random { reads } => {
                let mut draws = Draws::new(order);
                tree.files()
                    .map(|(file, node)| {
                        let pages = node.size() / 4096;
                        let page = |_| draws.below(pages) * 4096;
                        let ranges = (0..*reads).map(page).map(|at| at..at + 4096).collect();
                        Visit { file, ranges: Ranges::Some(ranges) }
                    })
                    .collect()
            }
        })
    }

    pub fn epochs(&self) -> u32 {
        match self {
            Self::Shuffled { epochs, .. } => (*epochs).max(1),
            _ => 1,
        }
    }

    pub fn workers(&self) -> u32 {
        match self {
            Self::Shuffled { workers, .. } => (*workers).max(1),
            _ => 1,
        }
    }
}

fn footer_first(size: u64, column: u64) -> Vec<Range<u64>> {
    let tail = size.saturating_sub(8);
    let footer = size.saturating_sub(FOOTER);
    let columns = COLUMNS.iter().map(|n| n * column..(n + 1) * column).filter(|range| range.end <= footer);
    [tail..size, footer..tail].into_iter().chain(columns).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visits(workload: Workload, spec: &str, order: u64) -> Vec<Visit> {
        let spec: TreeSpec = spec.parse().unwrap();
        workload.visits(&Tree::build(&spec, 1).unwrap(), &spec, order).unwrap()
    }

    #[test]
    fn a_shuffle_is_a_permutation_that_follows_its_seed() {
        let shuffled = Workload::Shuffled { epochs: 1, files: None, workers: 1 };
        let one = visits(shuffled, "small:4x25x4k", 1);
        assert_eq!(one, visits(shuffled, "small:4x25x4k", 1));
        assert_ne!(one, visits(shuffled, "small:4x25x4k", 2));
        let mut files: Vec<NodeId> = one.iter().map(|visit| visit.file).collect();
        files.sort();
        files.dedup();
        assert_eq!(files.len(), 100);
        let few = Workload::Shuffled { epochs: 1, files: Some(7), workers: 1 };
        assert_eq!(visits(few, "small:4x25x4k", 1), one[..7]);
    }

    #[test]
    fn ranges_are_those_of_the_issue() {
        let strided = visits(Workload::Strided, "large:4Gi", 0);
        let Ranges::Some(ranges) = &strided[0].ranges else { panic!("ranges") };
        assert_eq!((ranges.len(), ranges[1].clone()), (4096, 1 << 20..(1 << 20) + 65_536));
        let footer = visits(Workload::Footer, "parquet:200x20x256Ki", 0);
        let Ranges::Some(ranges) = &footer[7].ranges else { panic!("ranges") };
        let read: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        assert_eq!((footer.len(), ranges.len(), read), (200, 5, FOOTER + 3 * 262_144));
    }
}
