//! What a workload reads first of a Dataset's version, in the order in which it comes to it.

use super::chunk_set::ChunkSet;
use super::units::{Chunks, Version};

/// Runs kept: those of some containers of a pod, 64 each.
const MOST: usize = 1_024;

/// Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct First {
    pub version: Version,
    runs: Vec<Chunks>,
    set: ChunkSet,
}

impl First {
    /// None where nothing is said.
    pub fn new(version: Version, runs: impl IntoIterator<Item = Chunks>) -> Option<Self> {
        let mut first = Self { version, runs: Vec::new(), set: ChunkSet::default() };
        first.add(runs);
        (!first.runs.is_empty()).then_some(first)
    }

    fn add(&mut self, runs: impl IntoIterator<Item = Chunks>) {
        for run in runs {
            if !run.is_empty() && self.runs.len() < MOST && self.set.insert(&run) {
                self.runs.push(run);
            }
        }
    }

    /// Another container of the same workload reads too; of another version it says nothing here.
    pub fn unite(&mut self, other: &Self) {
        if other.version == self.version {
            self.add(other.runs.iter().cloned());
        }
    }

    pub fn runs(&self) -> &[Chunks] {
        &self.runs
    }

    /// All of it, in no order.
    pub fn set(&self) -> &ChunkSet {
        &self.set
    }

    /// The chunks with which it begins, so many at most.
    pub fn beginning(&self, mut chunks: u32) -> ChunkSet {
        let mut set = ChunkSet::default();
        for run in &self.runs {
            let end = run.end.min(run.start.saturating_add(chunks));
            chunks -= end - run.start;
            set.insert(&(run.start..end));
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_with_what_is_read_first() {
        let mut first = First::new(Version(1), [40..60, 0..10, 5..5]).unwrap();
        let all = |set: ChunkSet| set.iter().collect::<Vec<_>>();
        assert_eq!(all(first.beginning(25)), [0..5, 40..60]);
        assert_eq!(all(first.beginning(7)), [40..47]);
        assert_eq!(all(first.beginning(0)), []);
        assert_eq!(all(first.beginning(u32::MAX)), [0..10, 40..60]);
        first.unite(&First::new(Version(1), [10..12]).unwrap());
        first.unite(&First::new(Version(2), [90..99]).unwrap());
        assert_eq!((first.runs().len(), all(first.set().clone())), (3, vec![0..12, 40..60]));
        assert_eq!(First::new(Version(1), []), None);
    }
}
