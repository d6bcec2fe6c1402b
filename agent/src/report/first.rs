//! Which chunks of a Dataset's version a workload reads, as its profile tells: the operator steers the next replica to
//! where they are. Pure.
//!
//! Told are the chunks in which the files of the last run lie, or the parts of them that are always read, in the order
//! in which that run came to them: few runs, or nothing.

use std::ops::Range;

use agent_core::{Extent, PAGE, Visited, resolve};

use super::chunks::ChunkSet;
use super::manifest::Manifest;

/// Runs of chunks told, as many as an AccessProfile has.
pub const MOST: usize = 64;

/// Where there are more, gaps are told with them: so long as they are no more than this share of what is read.
const GAPS: u64 = 4;

/// A Dataset of whose files that a profile names so many, in per cent, are not there or of another size is not the one
/// that it was learned on.
const FOREIGN: usize = 25;

/// Files of one Dataset in a profile: those that are there, with their place in the manifest, and how many are not.
#[derive(Debug, Default)]
pub struct Files<'a> {
    pub known: Vec<(usize, &'a Visited)>,
    pub foreign: usize,
}

/// Pairs of first chunk and number of chunks; nothing where it cannot be said in so few.
pub fn first(manifest: &Manifest, files: &Files<'_>) -> Vec<u32> {
    let Files { known, foreign } = files;
    if foreign * 100 > (known.len() + foreign) * FOREIGN {
        return Vec::new();
    }
    let parts = || known.iter().flat_map(|(file, visited)| parts(manifest, *file, visited));
    let mut read = ChunkSet::default();
    parts().for_each(|part| read.insert(part.start, part.end));
    if !close_gaps(&mut read) {
        return Vec::new();
    }
    let spans = read.spans();
    let mut told = vec![false; spans.len()];
    let mut pairs = Vec::with_capacity(2 * spans.len());
    for part in parts() {
        let at = spans.partition_point(|&(_, end)| end <= part.start);
        if let (Some(&(start, end)), Some(told)) = (spans.get(at), told.get_mut(at))
            && !std::mem::replace(told, true)
        {
            pairs.extend([start, end - start]);
            if pairs.len() == 2 * spans.len() {
                break;
            }
        }
    }
    pairs
}

/// The chunks in which what is read of a file lies. Where that is some part of it, nobody knows which: all of them.
fn parts(manifest: &Manifest, file: usize, visited: &Visited) -> Vec<Range<u32>> {
    let size = manifest.size(file).unwrap_or(0);
    let bytes = match &visited.extent {
        Some(Extent::Whole { limit }) => vec![0..size.min(*limit)],
        Some(Extent::Shape(anchors)) => {
            resolve(anchors, size).into_iter().map(|pages| pages.start * PAGE..pages.end * PAGE).collect()
        }
        Some(Extent::Ranges(_)) | None => vec![0..size],
    };
    let chunks = bytes.into_iter().map(|bytes| manifest.chunks(file, bytes));
    chunks.filter(|chunks| !chunks.is_empty()).collect()
}

/// Closes the smallest gaps until there are few enough runs; whether that is still what is read.
fn close_gaps(read: &mut ChunkSet) -> bool {
    let spans = read.spans();
    let total: u64 = spans.iter().map(|(start, end)| u64::from(end - start)).sum();
    let Some(excess) = spans.len().checked_sub(MOST).filter(|excess| *excess > 0) else { return true };
    let mut gaps: Vec<(u32, u32)> =
        spans.windows(2).filter_map(|pair| Some((pair.first()?.1, pair.last()?.0))).collect();
    gaps.sort_unstable_by_key(|(start, end)| (end - start, *start));
    gaps.truncate(excess);
    let added: u64 = gaps.iter().map(|(start, end)| u64::from(end - start)).sum();
    if added * GAPS > total {
        return false;
    }
    gaps.into_iter().for_each(|(start, end)| read.insert(start, end));
    true
}

#[cfg(test)]
mod tests {
    use agent_core::Anchored;
    use proptest::prelude::*;

    use super::super::manifest::{CHUNK, Found};
    use super::*;

    /// Files of two chunks each, so that number n has chunks 2n and 2n + 1.
    fn manifest(count: usize) -> Manifest {
        let found = |n: usize| Found { path: path(n), size: 2 * CHUNK, modified: 1 };
        Manifest::new((0..count).map(found).collect(), 0)
    }

    fn path(n: usize) -> Box<[u8]> {
        format!("{n:05}").into_bytes().into()
    }

    fn visits(order: &[usize], extent: &Option<Extent>) -> Vec<Visited> {
        let visit = |n: &usize| Visited { path: path(*n), size: 2 * CHUNK, extent: extent.clone() };
        order.iter().map(visit).collect()
    }

    fn told(count: usize, order: &[usize], extent: Option<Extent>) -> Vec<u32> {
        let visits = visits(order, &extent);
        let known = order.iter().copied().zip(&visits).collect();
        first(&manifest(count), &Files { known, foreign: 0 })
    }

    #[test]
    fn runs_come_in_the_order_of_reading() {
        let whole = Some(Extent::Whole { limit: u64::MAX });
        assert_eq!(told(20, &[7, 8, 2, 9, 7], whole.clone()), [14, 6, 4, 2]);
        assert!(told(20, &[], whole).is_empty());
        // A part that nobody knows: the file; the same part of each: that.
        assert_eq!(told(20, &[3], None), [6, 2]);
        let foot = Some(Extent::Shape(vec![Anchored::End { before_end: 0, len: 100 }]));
        assert_eq!(told(20, &[3, 1], foot), [7, 1, 3, 1]);
        assert_eq!(told(20, &[3], Some(Extent::Whole { limit: 5 })), [6, 1]);
        assert!(told(2, &[3], None).is_empty(), "no such file");
    }

    #[test]
    fn too_many_runs_are_joined_while_that_adds_little_and_not_told_otherwise() {
        let all: Vec<usize> = (0..400).filter(|n| n % 5 != 4).collect();
        let pairs = told(400, &all, None);
        assert_eq!(pairs.len(), 2 * MOST);
        let chunks: u32 = pairs.chunks_exact(2).map(|pair| pair[1]).sum();
        assert_eq!(chunks, 2 * 320 + 2 * 16, "of 80 runs 16 gaps were closed");
        let sparse: Vec<usize> = (0..400).step_by(5).collect();
        assert_eq!(told(400, &sparse, None).len(), 0);
    }

    #[test]
    fn a_profile_of_other_files_tells_nothing() {
        let visits = visits(&[1, 2, 3], &None);
        let known: Vec<_> = [1, 2, 3].into_iter().zip(&visits).collect();
        let tell = |foreign| first(&manifest(9), &Files { known: known.clone(), foreign });
        assert_eq!(tell(1), [2, 6]);
        assert!(tell(2).is_empty());
    }

    proptest! {
        #[test]
        fn all_that_is_read_is_told_and_little_else(order in prop::collection::vec(0usize..300, 0..300)) {
            let pairs = told(300, &order, None);
            prop_assert!(pairs.len() <= 2 * MOST);
            if !pairs.is_empty() {
                let told: std::collections::BTreeSet<u32> =
                    pairs.chunks_exact(2).flat_map(|pair| pair[0]..pair[0] + pair[1]).collect();
                let read: std::collections::BTreeSet<u32> =
                    order.iter().flat_map(|n| [2 * *n as u32, 2 * *n as u32 + 1]).collect();
                prop_assert!(told.is_superset(&read));
                prop_assert!((told.len() - read.len()) * 4 <= read.len());
                prop_assert_eq!(pairs[0..1].to_vec(), [*told.range(pairs[0]..).next().unwrap()]);
            }
        }
    }
}
