//! All files of a Dataset, one behind the other: its version, and which of its chunks are in memory. Pure.
//!
//! The version is a digest of path, size and modification time of every file, so that each node that sees the
//! same store finds the same one. Files lie in order of their paths; a chunk is 4 MiB of that line, and counts as
//! resident when nothing of it is missing.

use std::ops::Range;

use agent_core::{MountId, PAGE, Pages};
use operator_api::version::VersionDigest;
use rustc_hash::FxHashMap;

pub const CHUNK: u64 = 4 << 20;

/// A file as a survey finds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Below the Dataset's root.
    pub path: Box<[u8]>,
    pub size: u64,
    /// Nanoseconds since 1970.
    pub modified: i64,
}

#[derive(Clone, Debug)]
struct Entry {
    path: Box<[u8]>,
    size: u64,
    /// Where it begins in the line of all files.
    start: u64,
}

#[derive(Clone, Debug)]
pub struct Manifest {
    files: Vec<Entry>,
    pub version: u128,
    pub bytes: u64,
    /// When the survey began, milliseconds since 1970.
    pub seen_ms: u64,
}

impl Manifest {
    pub fn new(mut found: Vec<Found>, seen_ms: u64) -> Self {
        found.sort_unstable();
        found.dedup_by(|a, b| a.path == b.path);
        let mut digest = VersionDigest::default();
        let mut files = Vec::with_capacity(found.len());
        let mut bytes = 0u64;
        for Found { path, size, modified } in found {
            digest.file(&path, size, modified);
            files.push(Entry { path, size, start: bytes });
            bytes = bytes.saturating_add(size);
        }
        Self { files, version: digest.finish(), bytes, seen_ms }
    }

    pub fn len(&self) -> usize {
        self.files.len()
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub fn find(&self, path: &[u8]) -> Option<usize> {
        self.files.binary_search_by(|entry| (*entry.path).cmp(path)).ok()
    }

    pub fn size(&self, file: usize) -> Option<u64> {
        self.files.get(file).map(|entry| entry.size)
    }

    pub fn path(&self, file: usize) -> Option<&[u8]> {
        self.files.get(file).map(|entry| &*entry.path)
    }

    /// The file itself, or all files of a folder; everything for the empty path.
    pub fn below(&self, path: &[u8]) -> Vec<usize> {
        let inside = |entry: &Entry| {
            path.is_empty()
                || entry
                    .path
                    .strip_prefix(path)
                    .is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'/'))
        };
        let all = self.files.iter().enumerate();
        all.filter(|(_, entry)| inside(entry)).map(|(at, _)| at).collect()
    }

    /// Which pages of which files these chunks are made of, each once, however often it is named.
    pub fn pages(&self, runs: &[Range<u32>]) -> Vec<(usize, Vec<Pages>)> {
        let mut parts: Vec<(usize, Vec<Pages>)> = Vec::new();
        for run in distinct(runs) {
            let (start, end) = (u64::from(run.start) * CHUNK, u64::from(run.end) * CHUNK);
            let first = self.files.partition_point(|entry| entry.start + entry.size <= start);
            for (at, entry) in self.files.iter().enumerate().skip(first).take_while(|(_, e)| e.start < end) {
                let (from, till) =
                    (start.max(entry.start) - entry.start, end.min(entry.start + entry.size) - entry.start);
                if from >= till {
                    continue;
                }
                let pages = from / PAGE..till.div_ceil(PAGE);
                match parts.last_mut() {
                    Some((last, ranges)) if *last == at => ranges.push(pages),
                    _ => parts.push((at, vec![pages])),
                }
            }
        }
        parts
    }

    /// The chunks in which these bytes of a file lie.
    pub fn chunks(&self, file: usize, bytes: Range<u64>) -> Range<u32> {
        let Some(entry) = self.files.get(file) else { return 0..0 };
        let (from, till) = (bytes.start.min(entry.size), bytes.end.min(entry.size));
        if from >= till {
            return 0..0;
        }
        let chunk = |at: u64| u32::try_from(at).unwrap_or(u32::MAX);
        chunk((entry.start + from) / CHUNK)..chunk((entry.start + till).div_ceil(CHUNK))
    }

    fn chunk_bytes(&self, chunk: u32) -> u64 {
        let start = u64::from(chunk) * CHUNK;
        (start + CHUNK).min(self.bytes).saturating_sub(start)
    }
}

/// The same chunks in ascending runs that do not overlap.
fn distinct(runs: &[Range<u32>]) -> Vec<Range<u32>> {
    let mut sorted: Vec<Range<u32>> = runs.iter().filter(|run| run.start < run.end).cloned().collect();
    sorted.sort_unstable_by_key(|run| run.start);
    let mut distinct: Vec<Range<u32>> = Vec::new();
    for run in sorted {
        match distinct.last_mut() {
            Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
            _ => distinct.push(run),
        }
    }
    distinct
}

/// Which bytes of a version are resident, by chunk.
#[derive(Debug, Default)]
pub struct Coverage {
    bytes: FxHashMap<u32, u64>,
    /// In all chunks together, and in those that are whole.
    total: u64,
    whole: u64,
    files: FxHashMap<usize, Vec<Pages>>,
    /// Of files that several file systems show, each with pages of its own in memory.
    apart: FxHashMap<(usize, MountId), Vec<Pages>>,
}

impl Coverage {
    /// The same of a file that all of `mounts` show, on one of them. Of it resident is what is so on each: a pod reads
    /// through one of them, and what another has in memory is no use to it.
    pub fn set_on(
        &mut self,
        manifest: &Manifest,
        file: usize,
        mount: MountId,
        mounts: &[MountId],
        pages: Vec<Pages>,
    ) -> Range<u32> {
        if mounts.len() < 2 {
            return self.set(manifest, file, pages);
        }
        if pages.is_empty() {
            self.apart.remove(&(file, mount));
        } else {
            self.apart.insert((file, mount), pages);
        }
        let on = |mount: &MountId| self.apart.get(&(file, *mount)).cloned().unwrap_or_default();
        let all = mounts.iter().map(on).reduce(|held, other| common(&held, &other)).unwrap_or_default();
        self.set(manifest, file, all)
    }

    /// A file's resident pages, in place of those before; gives the chunks whose state may have changed.
    pub fn set(&mut self, manifest: &Manifest, file: usize, pages: Vec<Pages>) -> Range<u32> {
        let Some(entry) = manifest.files.get(file) else { return 0..0 };
        let former =
            if pages.is_empty() { self.files.remove(&file) } else { self.files.insert(file, pages.clone()) };
        let (mut first, mut end_of_last) = (u32::MAX, 0);
        for (ranges, comes) in [(former.unwrap_or_default(), false), (pages, true)] {
            for range in ranges {
                let (mut at, end) =
                    ((range.start * PAGE).min(entry.size), (range.end * PAGE).min(entry.size));
                while at < end {
                    let position = entry.start + at;
                    let chunk = u32::try_from(position / CHUNK).unwrap_or(u32::MAX);
                    let part = (CHUNK - position % CHUNK).min(end - at);
                    let held = self.bytes.entry(chunk).or_default();
                    let all = manifest.chunk_bytes(chunk);
                    if *held >= all {
                        self.whole = self.whole.saturating_sub(all);
                    }
                    if comes {
                        *held += part;
                        self.total += part;
                    } else {
                        *held = held.saturating_sub(part);
                        self.total = self.total.saturating_sub(part);
                    }
                    if *held >= all {
                        self.whole += all;
                    }
                    if *held == 0 {
                        self.bytes.remove(&chunk);
                    }
                    first = first.min(chunk);
                    end_of_last = end_of_last.max(chunk.saturating_add(1));
                    at += part;
                }
            }
        }
        if first >= end_of_last { 0..0 } else { first..end_of_last }
    }

    /// Bytes resident in chunks that are not whole.
    pub fn partial(&self) -> u64 {
        self.total.saturating_sub(self.whole)
    }

    pub fn is_whole(&self, manifest: &Manifest, chunk: u32) -> bool {
        let whole = manifest.chunk_bytes(chunk);
        whole > 0 && self.bytes.get(&chunk).is_some_and(|held| *held >= whole)
    }

    /// Whether all of these pages are among the file's resident ones; of a file that several file systems show, on this one.
    pub fn holds(&self, file: usize, mount: MountId, wanted: &[Pages]) -> bool {
        let held = self.apart.get(&(file, mount)).or_else(|| self.files.get(&file));
        let held = held.map(Vec::as_slice).unwrap_or_default();
        wanted.iter().all(|w| held.iter().any(|h| h.start <= w.start && w.end <= h.end))
    }
}

/// What two ascending lists of ranges have in common.
fn common(one: &[Pages], other: &[Pages]) -> Vec<Pages> {
    let (mut ones, mut others) = (one.iter().peekable(), other.iter().peekable());
    let mut both = Vec::new();
    while let (Some(a), Some(b)) = (ones.peek(), others.peek()) {
        let (start, end) = (a.start.max(b.start), a.end.min(b.end));
        if start < end {
            both.push(start..end);
        }
        if a.end <= b.end {
            ones.next()
        } else {
            others.next()
        };
    }
    both
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(path: &str, size: u64, modified: i64) -> Found {
        Found { path: path.as_bytes().into(), size, modified }
    }

    #[test]
    #[expect(clippy::single_range_in_vec_init, reason = "one run of chunks is what comes of many")]
    fn chunks_that_are_named_often_are_taken_once() {
        assert_eq!(distinct(&[5..9, 0..2, 2..3, 6..7, 4..4, 8..8]), [0..3, 5..9]);
        let many = vec![0..u32::MAX; 1000];
        assert_eq!(distinct(&many), [0..u32::MAX]);
        let manifest = Manifest::new(vec![found("a", 7, 2), found("b", 9, 2)], 1);
        assert_eq!(manifest.pages(&many), [(0, vec![0..1]), (1, vec![0..1])]);
    }

    #[test]
    fn any_change_is_another_version() {
        let files = || vec![found("b", 5, 1), found("a", 7, 2)];
        let base = Manifest::new(files(), 1);
        let mut turned = files();
        turned.reverse();
        assert_eq!(base.version, Manifest::new(turned, 9).version, "order of finding and time do not count");
        let others = [
            vec![found("b", 5, 1)],
            vec![found("b", 6, 1), found("a", 7, 2)],
            vec![found("b", 5, 3), found("a", 7, 2)],
            vec![found("ba", 5, 1), found("a", 7, 2)],
            vec![],
        ];
        for other in others {
            assert_ne!(base.version, Manifest::new(other, 1).version);
        }
        assert_eq!((base.bytes, base.find(b"b"), base.find(b"c")), (12, Some(1), None));
    }

    #[test]
    fn of_what_two_file_systems_show_is_held_what_both_hold() {
        let manifest = Manifest::new(vec![found("a", 2 * CHUNK, 0)], 0);
        let both = [MountId(1), MountId(2)];
        let mut coverage = Coverage::default();
        let page = |chunk: u64| chunk * CHUNK / PAGE;
        let set = |coverage: &mut Coverage, mount: u32, pages: Vec<Pages>| {
            coverage.set_on(&manifest, 0, MountId(mount), &both, pages)
        };
        let _ = set(&mut coverage, 1, vec![0..page(2)]);
        assert!(!coverage.is_whole(&manifest, 0) && coverage.partial() == 0);
        assert!(coverage.holds(0, MountId(1), &[0..page(2)]) && !coverage.holds(0, MountId(2), &[0..1]));
        assert_eq!(set(&mut coverage, 2, vec![0..page(1), page(1) + 1..page(2)]), 0..2);
        assert!(coverage.is_whole(&manifest, 0) && !coverage.is_whole(&manifest, 1));
        assert_eq!(coverage.partial(), CHUNK - PAGE);
        // The first one's pages are reclaimed.
        assert_eq!(set(&mut coverage, 1, vec![]), 0..2);
        assert!(!coverage.is_whole(&manifest, 0) && coverage.partial() == 0);
    }

    #[test]
    fn common_ranges_are_those_of_both() {
        let ranges = [0..4, 6..9, 10..20];
        assert_eq!(common(&ranges, &[2..7, 8..8, 12..13, 15..30]), [2..4, 6..7, 12..13, 15..20]);
        assert_eq!(common(&ranges, &ranges), ranges);
        assert!(common(&ranges, &[]).is_empty() && common(&[], &ranges).is_empty());
    }

    #[test]
    fn folders_are_told_from_names_that_begin_alike() {
        let manifest = Manifest::new(vec![found("x/a", 1, 0), found("x", 1, 0), found("xy", 1, 0)], 0);
        assert_eq!(manifest.below(b"x"), [0, 1]);
        assert_eq!(manifest.below(b"").len(), 3);
        assert!(manifest.below(b"y").is_empty());
    }

    proptest! {
        /// Against a model of every page.
        #[test]
        fn chunks_are_whole_when_every_byte_is_there(
            sizes in prop::collection::vec(0u64..3 * CHUNK, 1..6),
            sets in prop::collection::vec((0usize..6, prop::collection::vec((0u64..3_000, 1u64..1_500), 0..4)), 1..12),
        ) {
            let files = sizes.iter().enumerate().map(|(n, size)| found(&n.to_string(), *size, 0)).collect();
            let manifest = Manifest::new(files, 0);
            let mut coverage = Coverage::default();
            let mut model: Vec<Vec<bool>> = sizes.iter().map(|size| vec![false; size.div_ceil(PAGE) as usize]).collect();
            let mut known = std::collections::BTreeSet::new();
            let chunks = manifest.bytes.div_ceil(CHUNK) as u32;
            for (file, spans) in sets {
                let file = file % sizes.len();
                let mut pages: Vec<Pages> = Vec::new();
                for (start, len) in spans {
                    let from = pages.last().map_or(0, |last| last.end + 1) + start;
                    pages.push(from..from + len);
                }
                for (page, cell) in model[file].iter_mut().enumerate() {
                    *cell = pages.iter().any(|range| range.contains(&(page as u64)));
                }
                for chunk in coverage.set(&manifest, file, pages) {
                    if coverage.is_whole(&manifest, chunk) { known.insert(chunk) } else { known.remove(&chunk) };
                }
                let pages: usize = model.iter().zip(&sizes).map(|(cells, size)| {
                    let held = |page: usize| (size - page as u64 * PAGE).min(PAGE) as usize;
                    cells.iter().enumerate().filter(|(_, there)| **there).map(|(page, _)| held(page)).sum::<usize>()
                }).sum();
                let whole: u64 = known.iter().map(|chunk| manifest.chunk_bytes(*chunk)).sum();
                prop_assert_eq!(coverage.partial(), pages as u64 - whole);
                for chunk in 0..chunks {
                    let parts = manifest.pages(&[chunk..chunk + 1]);
                    let whole = parts.iter().all(|(file, ranges)| {
                        ranges.iter().all(|range| range.clone().all(|page| model[*file][page as usize]))
                    });
                    prop_assert_eq!(known.contains(&chunk), whole, "chunk {} of {:?}", chunk, &sizes);
                }
            }
        }
    }
}
