//! A set of chunks as sorted, disjoint spans that do not touch.
//!
//! A node holds a Dataset in a few long runs, so spans of two `u32` take bytes where a bitmap takes
//! kilobytes; a bound keeps one that does not from taking the operator's memory.

use std::cmp::Ordering;

use super::units::{CHUNK, Chunks};

/// Spans one set may hold: 8,192 of them are 64 KiB. What does not fit counts as absent, which costs a
/// fetch that was not needed, never a wrong byte.
pub const MAX_SPANS: usize = 8_192;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ChunkSet {
    spans: Vec<(u32, u32)>,
    /// Chunks in all spans, kept so that asking costs nothing.
    chunks: u32,
}

impl ChunkSet {
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Chunks in the set.
    pub fn len(&self) -> u32 {
        self.chunks
    }

    /// Runs the set is made of.
    pub fn spans(&self) -> usize {
        self.spans.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = Chunks> + '_ {
        self.spans.iter().map(|&(start, end)| start..end)
    }

    pub fn contains(&self, chunk: u32) -> bool {
        let at = self.spans.partition_point(|&(_, end)| end <= chunk);
        self.spans.get(at).is_some_and(|&(start, _)| start <= chunk)
    }

    /// Adds a run; false when the set is full and it was left out.
    pub fn insert(&mut self, run: &Chunks) -> bool {
        if run.start >= run.end {
            return true;
        }
        let first = self.spans.partition_point(|&(_, end)| end < run.start);
        let last = self.spans.partition_point(|&(start, _)| start <= run.end);
        let Some(touched) = self.spans.get(first..last).filter(|t| !t.is_empty()) else {
            if self.spans.len() >= MAX_SPANS {
                return false;
            }
            self.spans.insert(first, (run.start, run.end));
            self.chunks += run.end - run.start;
            return true;
        };
        let known: u32 = touched.iter().map(|&(start, end)| end - start).sum();
        let start = touched.first().map_or(run.start, |&(s, _)| s.min(run.start));
        let end = touched.last().map_or(run.end, |&(_, e)| e.max(run.end));
        self.spans.splice(first..last, [(start, end)]);
        self.chunks = self.chunks - known + (end - start);
        true
    }

    /// Takes a run out; false when that would split a span of a full set and it was left in.
    pub fn remove(&mut self, run: &Chunks) -> bool {
        if run.start >= run.end {
            return true;
        }
        let first = self.spans.partition_point(|&(_, end)| end <= run.start);
        let last = self.spans.partition_point(|&(start, _)| start < run.end);
        let Some(touched) = self.spans.get(first..last).filter(|t| !t.is_empty()) else {
            return true;
        };
        let known: u32 = touched.iter().map(|&(start, end)| end - start).sum();
        let left = touched.first().map(|&(s, _)| (s, run.start)).filter(|(s, e)| s < e);
        let right = touched.last().map(|&(_, e)| (run.end, e)).filter(|(s, e)| s < e);
        if left.is_some() && right.is_some() && touched.len() == 1 && self.spans.len() >= MAX_SPANS {
            return false;
        }
        let kept: u32 = left.iter().chain(&right).map(|(s, e)| e - s).sum();
        self.spans.splice(first..last, left.into_iter().chain(right));
        self.chunks = self.chunks - known + kept;
        true
    }

    /// Forgets what lies at `end` and beyond.
    pub fn truncate(&mut self, end: u32) {
        self.remove(&(end..u32::MAX));
    }

    /// Chunks that are in both.
    pub fn shared(&self, other: &Self) -> u32 {
        let (mut mine, mut theirs) = (self.spans.iter().peekable(), other.spans.iter().peekable());
        let mut shared = 0;
        while let (Some(&&(a, b)), Some(&&(c, d))) = (mine.peek(), theirs.peek()) {
            shared += b.min(d).saturating_sub(a.max(c));
            match b.cmp(&d) {
                Ordering::Less => mine.next(),
                _ => theirs.next(),
            };
        }
        shared
    }

    /// Chunks of `run` that are in the set.
    pub fn shared_with(&self, run: &Chunks) -> u32 {
        let first = self.spans.partition_point(|&(_, end)| end <= run.start);
        let spans = self.spans.iter().skip(first).take_while(|&&(start, _)| start < run.end);
        spans.map(|&(start, end)| end.min(run.end) - start.max(run.start)).sum()
    }

    /// Adds all of another set, as far as it fits.
    pub fn unite(&mut self, other: &Self) {
        if self.spans.is_empty() {
            self.clone_from(other);
            return;
        }
        for run in other.iter() {
            self.insert(&run);
        }
    }

    /// Takes all of another set out, as far as the bound allows.
    pub fn subtract(&mut self, other: &Self) {
        for run in other.iter() {
            self.remove(&run);
        }
    }

    /// Bytes of the set in a version of `total` bytes, whose last chunk may be short.
    pub fn bytes(&self, total: Option<u64>) -> u64 {
        let short = total.filter(|&t| t > 0).and_then(|total| {
            let last = u32::try_from((total - 1) / CHUNK).ok()?;
            self.contains(last).then(|| CHUNK - (total - u64::from(last) * CHUNK))
        });
        u64::from(self.chunks) * CHUNK - short.unwrap_or(0)
    }
}

impl FromIterator<Chunks> for ChunkSet {
    fn from_iter<I: IntoIterator<Item = Chunks>>(runs: I) -> Self {
        let mut set = Self::default();
        for run in runs {
            set.insert(&run);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn whole(set: &ChunkSet) -> BTreeSet<u32> {
        set.iter().flatten().collect()
    }

    proptest! {
        #[test]
        fn it_is_a_set(steps in prop::collection::vec((any::<bool>(), 0u32..60, 0u32..12), 0..40)) {
            let (mut set, mut model) = (ChunkSet::default(), BTreeSet::new());
            for (add, start, length) in steps {
                let run = start..start + length;
                if add {
                    prop_assert!(set.insert(&run));
                    model.extend(run);
                } else {
                    prop_assert!(set.remove(&run));
                    model.retain(|c| !run.contains(c));
                }
                prop_assert_eq!(&whole(&set), &model);
                prop_assert_eq!(set.len() as usize, model.len());
                let runs: Vec<Chunks> = set.iter().collect();
                prop_assert!(runs.windows(2).all(|w| w[0].end < w[1].start));
            }
            let even: ChunkSet = (0..40u32).map(|i| i * 2..i * 2 + 1).collect();
            prop_assert_eq!(set.shared(&even) as usize, model.iter().filter(|c| *c % 2 == 0).count());
            prop_assert_eq!(set.shared_with(&(10..30)) as usize, model.range(10..30).count());
            prop_assert!((0..80).all(|c| set.contains(c) == model.contains(&c)));
            let mut other = even.clone();
            other.unite(&set);
            other.subtract(&even);
            prop_assert_eq!(other.len(), set.len() - set.shared(&even));
        }
    }

    #[test]
    fn the_last_chunk_is_short() {
        let set: ChunkSet = [0..1, 2..3].into_iter().collect();
        assert_eq!(set.bytes(None), 2 * CHUNK);
        assert_eq!(set.bytes(Some(2 * CHUNK + 5)), CHUNK + 5);
        assert_eq!(set.bytes(Some(9 * CHUNK)), 2 * CHUNK);
        assert_eq!(set.bytes(Some(0)), 2 * CHUNK);
    }

    #[test]
    fn a_full_set_stays_bounded() {
        let mut set: ChunkSet = (0..MAX_SPANS as u32).map(|i| i * 4..i * 4 + 3).collect();
        assert!(!set.insert(&(MAX_SPANS as u32 * 4..MAX_SPANS as u32 * 4 + 1)));
        assert!(!set.remove(&(1..2)) && set.remove(&(0..1)));
        assert_eq!(set.spans(), MAX_SPANS);
        set.truncate(8);
        assert_eq!(set.iter().collect::<Vec<_>>(), [1..3, 4..7]);
        assert!(set.insert(&(0..u32::MAX)) && set.len() == u32::MAX);
    }
}
