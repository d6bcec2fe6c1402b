//! Which pages an extent means in a file of a given size, cut into pieces the kernel fetches in one go.
//!
//! Pure. readahead(2) cuts every call to the device's read_ahead_kb, so a large range is many pieces; each
//! starts where its range starts, because aligning the cuts would make one more request of most ranges.

use agent_core::{Anchored, Extent, PAGE, Pages, pages_of};

/// The page ranges an extent means, in the extent's own order, clamped to the file. `None` when it depends
/// on a size that is not known.
pub fn resolve(extent: &Extent, size: Option<u64>) -> Option<Vec<Pages>> {
    let last = size.map_or(u64::MAX / PAGE, pages_of);
    let clamp = |pages: Pages| pages.start.min(last)..pages.end.min(last);
    let ranges: Vec<Pages> = match extent {
        Extent::Whole { limit } => vec![clamp(0..pages_of(*limit))],
        Extent::Ranges(ranges) => ranges.iter().cloned().map(clamp).collect(),
        Extent::Shape(parts) => {
            let resolved: Option<Vec<Pages>> =
                parts.iter().map(|part| anchored(*part, size).map(clamp)).collect();
            resolved?
        }
    };
    Some(ranges.into_iter().filter(|pages| !pages.is_empty()).collect())
}

fn anchored(part: Anchored, size: Option<u64>) -> Option<Pages> {
    let (start, end) = match part {
        Anchored::Start { offset, len } => (offset, offset.saturating_add(len)),
        Anchored::End { before_end, len } => {
            let end = size?.saturating_sub(before_end);
            (end.saturating_sub(len), end)
        }
        Anchored::Fraction { start, end } => (share(size?, start), share(size?, end)),
    };
    Some(start / PAGE..pages_of(end))
}

fn share(size: u64, millionths: u32) -> u64 {
    let part = u128::from(size) * u128::from(millionths.min(1_000_000)) / 1_000_000;
    u64::try_from(part).unwrap_or(u64::MAX)
}

/// Cuts ranges into pieces of at most `piece` pages, lazily: an extent may be terabytes.
pub fn pieces(ranges: Vec<Pages>, piece: u64) -> impl Iterator<Item = Pages> {
    let piece = piece.max(1);
    ranges.into_iter().flat_map(move |range| {
        let mut at = range.start;
        std::iter::from_fn(move || {
            let start = at;
            at = at.saturating_add(piece).min(range.end);
            (start < range.end).then_some(start..at)
        })
    })
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "lists of one range are what is tested")]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_resolved_against_the_size() {
        let shape = Extent::Shape(vec![
            Anchored::End { before_end: 0, len: 8 },
            Anchored::Start { offset: 4, len: 4096 },
            Anchored::Fraction { start: 500_000, end: 600_000 },
            Anchored::End { before_end: 1 << 40, len: 8 },
        ]);
        assert_eq!(resolve(&shape, Some(100 * PAGE + 1)), Some(vec![99..101, 0..2, 50..60]));
        assert_eq!(resolve(&shape, None), None);
        let start = Extent::Shape(vec![Anchored::Start { offset: 0, len: 1 }]);
        assert_eq!(resolve(&start, None), Some(vec![0..1]));
        assert_eq!(resolve(&start, Some(0)), Some(vec![]));
    }

    #[test]
    fn nothing_reaches_beyond_the_end_of_the_file() {
        let whole = Extent::Whole { limit: u64::MAX };
        assert_eq!(resolve(&whole, Some(5 * PAGE - 1)), Some(vec![0..5]));
        #[expect(clippy::reversed_empty_ranges, reason = "bad input is the point")]
        let odd = Extent::Ranges(vec![3..9, 9..20, 5..2, u64::MAX - 1..u64::MAX]);
        assert_eq!(resolve(&odd, Some(5 * PAGE)), Some(vec![3..5]));
    }

    #[test]
    fn pieces_start_where_their_range_starts() {
        let cut: Vec<Pages> = pieces(vec![5..70, 1..2], 32).collect();
        assert_eq!(cut, vec![5..37, 37..69, 69..70, 1..2]);
        assert_eq!(pieces(vec![0..u64::MAX / PAGE], 32).take(2).count(), 2);
        assert_eq!(pieces(vec![], 0).count(), 0);
    }
}
