//! A set of pages, kept as ranges that neither touch nor overlap.

use std::collections::BTreeMap;

use crate::units::Pages;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    /// Start to end.
    ends: BTreeMap<u64, u64>,
}

impl Ranges {
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = Pages> {
        self.ends.iter().map(|(&start, &end)| start..end)
    }

    pub fn insert(&mut self, pages: Pages) {
        let Pages { mut start, mut end } = pages;
        if start >= end {
            return;
        }
        // Everything that touches, from the left neighbour on.
        while let Some((&other, &other_end)) = self.ends.range(..=end).next_back()
            && other_end >= start
        {
            self.ends.remove(&other);
            start = start.min(other);
            end = end.max(other_end);
        }
        self.ends.insert(start, end);
    }

    pub fn remove(&mut self, pages: &Pages) {
        for cut in self.overlap(pages) {
            if let Some((&start, &end)) = self.ends.range(..=cut.start).next_back() {
                self.ends.remove(&start);
                if start < cut.start {
                    self.ends.insert(start, cut.start);
                }
                if cut.end < end {
                    self.ends.insert(cut.end, end);
                }
            }
        }
    }

    /// What of `pages` is in the set.
    pub fn overlap(&self, pages: &Pages) -> Vec<Pages> {
        if pages.start >= pages.end {
            return Vec::new();
        }
        let before = self.ends.range(..pages.start).next_back();
        before
            .into_iter()
            .chain(self.ends.range(pages.clone()))
            .map(|(&start, &end)| start.max(pages.start)..end.min(pages.end))
            .filter(|cut| cut.start < cut.end)
            .collect()
    }

    /// What of `pages` is not in the set.
    pub fn missing(&self, pages: &Pages) -> Vec<Pages> {
        let mut from = pages.start;
        let mut missing = Vec::new();
        for cut in self.overlap(pages) {
            if from < cut.start {
                missing.push(from..cut.start);
            }
            from = cut.end;
        }
        if from < pages.end {
            missing.push(from..pages.end);
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn pages(ranges: &[Pages]) -> BTreeSet<u64> {
        ranges.iter().cloned().flatten().collect()
    }

    proptest! {
        #[test]
        fn as_a_set_of_pages(steps in proptest::collection::vec((any::<bool>(), 0..64u64, 0..16u64), 0..40), at in 0..64u64, len in 0..32u64) {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for (insert, start, len) in steps {
                if insert {
                    ranges.insert(start..start + len);
                    model.extend(start..start + len);
                } else {
                    ranges.remove(&(start..start + len));
                    model.retain(|page| !(start..start + len).contains(page));
                }
            }
            let all: Vec<_> = ranges.iter().collect();
            prop_assert_eq!(&pages(&all), &model);
            prop_assert!(all.windows(2).all(|pair| pair[0].end < pair[1].start));
            let asked = at..at + len;
            let (inside, outside) = asked.clone().partition(|page| model.contains(page));
            prop_assert_eq!(pages(&ranges.overlap(&asked)), inside);
            prop_assert_eq!(pages(&ranges.missing(&asked)), outside);
        }
    }

    #[test]
    fn the_largest_numbers() {
        let mut ranges = Ranges::default();
        ranges.insert(0..u64::MAX);
        ranges.remove(&(5..6));
        assert_eq!(ranges.missing(&(0..u64::MAX)), vec![Pages { start: 5, end: 6 }]);
        ranges.insert(Pages { start: 9, end: 3 });
        ranges.remove(&Pages { start: 9, end: 3 });
        assert_eq!(ranges.missing(&Pages { start: 9, end: 3 }), []);
    }
}
