//! Which part of a file a workload reads, relative to the file's ends and size.
//!
//! Parquet, zip and safetensors readers look at one end first and then at a few places that the end names.
//! The places are not parsed (host-mounted contents are no input of ours) but learned: where two files in
//! a row agree, seen from the start, from the end, or as a share of the size, the next will too.

use crate::order::Anchored;
use crate::ranges::RangeSet;
use crate::units::{PAGE, Pages, pages_of};

/// Places one shape may have; a file read in more pieces has no shape worth keeping.
pub const PIECES: usize = 64;

/// Share of the pages read that two files must agree on, in per cent.
const AGREE: u64 = 80;

/// Millionths of the size by which a place may be off and still be the same share of the file: 2 %, a
/// fifth of a column where there are ten.
const SAME_SHARE: u32 = 20_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// At least nine tenths of the file.
    Whole,
    Part {
        size: u64,
        ranges: Vec<Pages>,
    },
}

/// Whether so many pages are as good as all of a file.
pub fn is_whole(pages: u64, size: u64) -> bool {
    pages > 0 && pages.saturating_mul(10) >= pages_of(size).saturating_mul(9)
}

impl Shape {
    /// The shape of what was read of a file; `None` for nothing, or too many pieces.
    pub fn of(read: &RangeSet, size: u64) -> Option<Self> {
        let pages = read.pages();
        let all = pages_of(size);
        if pages == 0 || all == 0 {
            return None;
        }
        if is_whole(pages, size) {
            return Some(Self::Whole);
        }
        let ranges: Vec<Pages> = read.iter().take(PIECES + 1).collect();
        (ranges.len() <= PIECES).then_some(Self::Part { size, ranges })
    }

    /// What both files agree on, in the terms in which they agree. Where the rest of them differs, a header or a footer
    /// may be read of each all the same: places at a distance from an end count alone, shares of the size only together.
    pub fn common(&self, newer: &Self) -> Option<Vec<Anchored>> {
        let (Self::Part { size: old_size, ranges: old }, Self::Part { size, ranges }) = (self, newer) else {
            return None;
        };
        let total: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        let mut agreed = 0;
        let mut anchors = Vec::new();
        for range in ranges {
            let anchor =
                old.iter().find_map(|other| anchor(range, *size, other, *old_size).filter(|_| range.end > 0));
            if let Some(anchor) = anchor {
                agreed += range.end - range.start;
                anchors.push(anchor);
            }
        }
        if agreed * 100 < total * AGREE {
            anchors.retain(|anchor| !matches!(anchor, Anchored::Fraction { .. }));
        }
        (!anchors.is_empty()).then_some(anchors)
    }
}

/// How `range` of a file of `size` bytes lies where `other` lay in one of `other_size`.
fn anchor(range: &Pages, size: u64, other: &Pages, other_size: u64) -> Option<Anchored> {
    let near = |a: u64, b: u64| a.abs_diff(b) <= 1;
    let len = (range.end - range.start).max(other.end - other.start) * PAGE;
    let alike = near(range.end - range.start, other.end - other.start);
    let from_end = |range: &Pages, size: u64| pages_of(size).saturating_sub(range.end);
    // A range that touches the end belongs to the end, whatever the size.
    if alike && from_end(range, size) == 0 && from_end(other, other_size) == 0 {
        let start = (range.start * PAGE).min(size).min(size.saturating_sub(len.saturating_sub(PAGE)));
        return Some(Anchored::End { before_end: 0, len: size - start.min(size) });
    }
    if alike && near(range.start, other.start) {
        return Some(Anchored::Start { offset: range.start * PAGE, len });
    }
    if alike && near(from_end(range, size), from_end(other, other_size)) {
        let before_end = size.saturating_sub(range.end * PAGE);
        return Some(Anchored::End { before_end, len });
    }
    let share = |page: u64, size: u64| {
        u32::try_from((u128::from(page * PAGE) * 1_000_000 / u128::from(size.max(1))).min(1_000_000))
            .unwrap_or(1_000_000)
    };
    let (start, end) = (share(range.start, size), share(range.end, size));
    let (other_start, other_end) = (share(other.start, other_size), share(other.end, other_size));
    // Of a short piece so little that what covers both is not mostly what nobody reads.
    let off = share((range.end - range.start).div_ceil(2), size).min(SAME_SHARE);
    let close = |a: u32, b: u32| a.abs_diff(b) <= off;
    // Where both lay, so that the next, which will lie a little off again, is covered.
    (close(start, other_start) && close(end, other_end))
        .then_some(Anchored::Fraction { start: start.min(other_start), end: end.max(other_end) })
}

/// Pages that a learned shape means in a file of `size` bytes.
pub fn resolve(anchors: &[Anchored], size: u64) -> Vec<Pages> {
    let all = pages_of(size);
    let mut set = RangeSet::default();
    for anchor in anchors {
        let (start, end) = match *anchor {
            Anchored::Start { offset, len } => (offset, offset.saturating_add(len)),
            Anchored::End { before_end, len } => {
                let end = size.saturating_sub(before_end);
                (end.saturating_sub(len), end)
            }
            Anchored::Fraction { start, end } => {
                let at = |share: u32| (u128::from(size) * u128::from(share) / 1_000_000) as u64;
                (at(start), at(end))
            }
        };
        set.insert(&((start / PAGE).min(all)..pages_of(end).min(all)));
    }
    set.iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(ranges: &[Pages]) -> RangeSet {
        let mut set = RangeSet::default();
        for range in ranges {
            set.insert(range);
        }
        set
    }

    #[test]
    fn a_tail_and_a_body_move_with_the_size() {
        let mib = 1 << 20;
        let first = Shape::of(&read(&[64..128, 1270..1280]), 1280 * PAGE).unwrap();
        let second = Shape::of(&read(&[64..128, 1590..1600]), 1600 * PAGE).unwrap();
        let anchors = first.common(&second).unwrap();
        assert_eq!(resolve(&anchors, 8 * mib), [64..128, 2038..2048]);
    }

    #[test]
    fn a_share_of_the_size_is_found() {
        let first = Shape::of(&read(&[500..600]), 1000 * PAGE).unwrap();
        let second = Shape::of(&read(&[1000..1200]), 2000 * PAGE).unwrap();
        let anchors = first.common(&second).unwrap();
        assert_eq!(resolve(&anchors, 4000 * PAGE), [2000..2400]);
    }

    #[test]
    fn files_read_differently_have_no_common_shape() {
        let first = Shape::of(&read(&[10..20]), 1000 * PAGE).unwrap();
        let second = Shape::of(&read(&[500..600]), 1000 * PAGE).unwrap();
        assert_eq!(first.common(&second), None);
    }

    /// A page here and a page a hundredth of the file further are two places, not one with all that lies between.
    #[test]
    fn short_pieces_far_apart_are_not_the_same_place() {
        let size = 15_000 * PAGE;
        let first = Shape::of(&read(&[3_000..3_001, 9_000..9_001]), size).unwrap();
        let second = Shape::of(&read(&[3_150..3_151, 9_150..9_151]), size).unwrap();
        assert_eq!(first.common(&second), None);
    }
}
