//! A set of pages as sorted, disjoint, half-open spans: residency, claims and what was read.
//!
//! Spans are `u32` pages (16 TiB of 4 KiB pages; positions beyond are clamped), because a node knows a
//! hundred thousand files and most hold one span.

use smallvec::SmallVec;

use crate::units::Pages;

/// Spans one set may hold. A file read in more scattered pieces than this is remembered only in part:
/// what does not fit is reported as absent, which costs a look at the page cache, never a wrong byte.
pub const MAX_SPANS: usize = 32_768;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// Two fit where a pointer and a length would be: most sets allocate nothing.
    spans: SmallVec<[(u32, u32); 2]>,
}

fn clamp(range: &Pages) -> (u32, u32) {
    let to = |page: u64| u32::try_from(page).unwrap_or(u32::MAX);
    (to(range.start), to(range.end))
}

impl RangeSet {
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Pages in the set.
    pub fn pages(&self) -> u64 {
        self.spans.iter().map(|(start, end)| u64::from(end - start)).sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = Pages> + '_ {
        self.spans.iter().map(|&(start, end)| u64::from(start)..u64::from(end))
    }

    /// Adds a range; returns how many of its pages are new.
    pub fn insert(&mut self, range: &Pages) -> u64 {
        let (mut start, mut end) = clamp(range);
        if start >= end {
            return 0;
        }
        // All spans that touch [start, end], neighbours included, become one.
        let first = self.spans.partition_point(|&(_, e)| e < start);
        let last = self.spans.partition_point(|&(s, _)| s <= end);
        let known: u64 = self.spans[first..last]
            .iter()
            .map(|&(s, e)| u64::from(e.min(end).saturating_sub(s.max(start))))
            .sum();
        let new = u64::from(end - start) - known;
        if first == last {
            if self.spans.len() < MAX_SPANS {
                self.spans.insert(first, (start, end));
                return new;
            }
            return 0;
        }
        start = start.min(self.spans[first].0);
        end = end.max(self.spans[last - 1].1);
        self.spans[first] = (start, end);
        self.spans.drain(first + 1..last);
        new
    }

    /// Takes a range out; returns how many pages were there.
    pub fn remove(&mut self, range: &Pages) -> u64 {
        let (start, end) = clamp(range);
        if start >= end {
            return 0;
        }
        let first = self.spans.partition_point(|&(_, e)| e <= start);
        let last = self.spans.partition_point(|&(s, _)| s < end);
        if first >= last {
            return 0;
        }
        let gone: u64 =
            self.spans[first..last].iter().map(|&(s, e)| u64::from(e.min(end) - s.max(start))).sum();
        let left = self.spans[first].0;
        let right = self.spans[last - 1].1;
        let keep_left = (left < start).then_some((left, start));
        let keep_right = (right > end).then_some((end, right));
        self.spans.drain(first..last);
        self.spans.insert_many(first, keep_left.into_iter().chain(keep_right));
        gone
    }

    /// Pages of `range` that are in the set.
    pub fn overlap(&self, range: &Pages) -> u64 {
        let (start, end) = clamp(range);
        let first = self.spans.partition_point(|&(_, e)| e <= start);
        self.spans[first..]
            .iter()
            .take_while(|&&(s, _)| s < end)
            .map(|&(s, e)| u64::from(e.min(end) - s.max(start)))
            .sum()
    }

    /// The parts of `range` that are not in the set.
    pub fn gaps(&self, range: &Pages) -> Vec<Pages> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        let (start, _) = clamp(range);
        let first = self.spans.partition_point(|&(_, e)| e <= start);
        for &(s, e) in &self.spans[first..] {
            let (s, e) = (u64::from(s), u64::from(e));
            if s >= range.end {
                break;
            }
            if s > at {
                gaps.push(at..s);
            }
            at = at.max(e);
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The set behaves as a bitmap does.
        #[test]
        fn is_a_bitmap(ops in prop::collection::vec((any::<bool>(), 0u64..64, 0u64..24), 0..64)) {
            let mut set = RangeSet::default();
            let mut model = [false; 128];
            for (add, start, len) in ops {
                let range = start..start + len;
                let mut changed = 0;
                for page in range.clone() {
                    let cell = &mut model[page as usize];
                    if *cell != add {
                        changed += 1;
                        *cell = add;
                    }
                }
                let told = if add { set.insert(&range) } else { set.remove(&range) };
                prop_assert_eq!(told, changed);
                let count = model.iter().filter(|cell| **cell).count() as u64;
                prop_assert_eq!(set.pages(), count);
                prop_assert_eq!(set.overlap(&(0..128)), count);
                let absent: u64 = set.gaps(&(0..128)).iter().map(|gap| gap.end - gap.start).sum();
                prop_assert_eq!(absent, 128 - count);
                let spans: Vec<_> = set.iter().collect();
                for pair in spans.windows(2) {
                    prop_assert!(pair[0].end < pair[1].start);
                }
            }
        }
    }
}
