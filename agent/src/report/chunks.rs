//! A set of chunks as sorted spans, and how one set becomes another.

/// Half-open runs of chunks, sorted, none touching the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkSet {
    spans: Vec<(u32, u32)>,
}

impl ChunkSet {
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    pub fn spans(&self) -> &[(u32, u32)] {
        &self.spans
    }

    pub fn contains(&self, chunk: u32) -> bool {
        let at = self.spans.partition_point(|&(_, end)| end <= chunk);
        self.spans.get(at).is_some_and(|&(start, _)| start <= chunk)
    }

    pub fn insert(&mut self, start: u32, end: u32) {
        if start >= end {
            return;
        }
        let first = self.spans.partition_point(|&(_, e)| e < start);
        let last = self.spans.partition_point(|&(s, _)| s <= end);
        let touched = self.spans.get(first..last).unwrap_or_default();
        let from = touched.first().map_or(start, |&(s, _)| s.min(start));
        let till = touched.last().map_or(end, |&(_, e)| e.max(end));
        self.spans.splice(first..last, [(from, till)]);
    }

    pub fn remove(&mut self, start: u32, end: u32) {
        if start >= end {
            return;
        }
        let first = self.spans.partition_point(|&(_, e)| e <= start);
        let last = self.spans.partition_point(|&(s, _)| s < end);
        let touched = self.spans.get(first..last).unwrap_or_default();
        let left = touched.first().map(|&(s, _)| (s, start)).filter(|(s, e)| s < e);
        let right = touched.last().map(|&(_, e)| (end, e)).filter(|(s, e)| s < e);
        self.spans.splice(first..last, left.into_iter().chain(right));
    }

    /// Runs that are in `self` and not in `other`.
    pub fn without(&self, other: &Self) -> Vec<(u32, u32)> {
        let mut rest = Vec::new();
        let mut theirs = other.spans.iter().copied().peekable();
        for &(start, end) in &self.spans {
            let mut at = start;
            while let Some(&(s, e)) = theirs.peek() {
                if s >= end {
                    break;
                }
                if s > at {
                    rest.push((at, s));
                }
                at = at.max(e);
                if e > end {
                    break;
                }
                theirs.next();
            }
            if at < end {
                rest.push((at, end));
            }
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn model(set: &ChunkSet) -> BTreeSet<u32> {
        set.spans().iter().flat_map(|&(s, e)| s..e).collect()
    }

    proptest! {
        #[test]
        fn it_is_a_set(steps in prop::collection::vec((any::<bool>(), any::<bool>(), 0u32..50, 0u32..10), 0..60)) {
            let (mut a, mut b) = (ChunkSet::default(), ChunkSet::default());
            let (mut x, mut y) = (BTreeSet::new(), BTreeSet::new());
            for (first, add, start, len) in steps {
                let (set, model) = if first { (&mut a, &mut x) } else { (&mut b, &mut y) };
                if add {
                    set.insert(start, start + len);
                    model.extend(start..start + len);
                } else {
                    set.remove(start, start + len);
                    model.retain(|c| !(start..start + len).contains(c));
                }
            }
            prop_assert_eq!(&model(&a), &x);
            prop_assert!(a.spans().windows(2).all(|w| w[0].1 < w[1].0));
            prop_assert!((0..64).all(|c| a.contains(c) == x.contains(&c)));
            let rest: BTreeSet<u32> = a.without(&b).into_iter().flat_map(|(s, e)| s..e).collect();
            prop_assert_eq!(rest, x.difference(&y).copied().collect::<BTreeSet<_>>());
        }
    }
}
