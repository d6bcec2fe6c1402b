//! Sets of bytes of one file, as disjoint half-open ranges.

use std::collections::BTreeMap;
use std::ops::Range;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet(BTreeMap<u64, u64>);

impl RangeSet {
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let Range { mut start, mut end } = range;
        let touching: Vec<(u64, u64)> = self.touching(start, end).collect();
        for (from, to) in touching {
            start = start.min(from);
            end = end.max(to);
            self.0.remove(&from);
        }
        self.0.insert(start, end);
    }

    /// Bytes of `range` that are in the set.
    pub fn overlap(&self, range: Range<u64>) -> u64 {
        self.touching(range.start, range.end)
            .map(|(from, to)| to.min(range.end).saturating_sub(from.max(range.start)))
            .sum()
    }

    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|(from, to)| to - from).sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().map(|(from, to)| *from..*to)
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Members that overlap or adjoin `start..end`.
    fn touching(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> {
        self.0.range(..=end).rev().take_while(move |(_, to)| **to >= start).map(|(from, to)| (*from, *to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_merge_and_overlap() {
        let mut set = RangeSet::default();
        for range in [10..20, 30..40, 20..25, 5..5, 38..50] {
            set.insert(range);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [10..25, 30..50]);
        assert_eq!(set.bytes(), 35);
        assert_eq!(set.overlap(0..100), 35);
        assert_eq!(set.overlap(24..31), 2);
        assert_eq!(set.overlap(25..30), 0);
        set.insert(0..100);
        assert_eq!((set.iter().count(), set.bytes()), (1, 100));
    }
}
