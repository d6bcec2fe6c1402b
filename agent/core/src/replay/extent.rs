//! Which pages an order means, once the file's size is known.
//!
//! What lies behind the end of the file is cut off: the store has nothing there.

use crate::order::{Anchored, Extent};
use crate::units::{PAGE, Pages, pages_of};

/// The pages that an extent means in a file of this size.
pub(super) fn resolve(extent: &Extent, size: u64) -> Vec<Pages> {
    let of_bytes = |start: u64, end: u64| start / PAGE..pages_of(end.min(size));
    match extent {
        Extent::Whole { limit } => vec![of_bytes(0, *limit)],
        Extent::Ranges(ranges) => {
            ranges.iter().map(|range| range.start..range.end.min(pages_of(size))).collect()
        }
        Extent::Shape(parts) => parts
            .iter()
            .map(|part| match *part {
                Anchored::Start { offset, len } => of_bytes(offset, offset.saturating_add(len)),
                Anchored::End { before_end, len } => {
                    let end = size.saturating_sub(before_end);
                    of_bytes(end.saturating_sub(len), end)
                }
                Anchored::Fraction { start, end } => {
                    let at = |millionths: u32| {
                        let bytes = u128::from(size) * u128::from(millionths) / 1_000_000;
                        u64::try_from(bytes).unwrap_or(u64::MAX)
                    };
                    of_bytes(at(start), at(end))
                }
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_end_with_the_file() {
        let size = 10 * PAGE + 1;
        let table = [
            (Extent::Whole { limit: u64::MAX }, 0..11),
            (Extent::Whole { limit: PAGE + 1 }, 0..2),
            (Extent::Ranges(vec![Pages { start: 9, end: 99 }]), 9..11),
            (Extent::Shape(vec![Anchored::Start { offset: PAGE, len: u64::MAX }]), 1..11),
            (Extent::Shape(vec![Anchored::End { before_end: 0, len: 1 }]), 10..11),
            (Extent::Shape(vec![Anchored::End { before_end: PAGE + 1, len: 2 * PAGE }]), 7..9),
            (Extent::Shape(vec![Anchored::End { before_end: 0, len: u64::MAX }]), 0..11),
            (Extent::Shape(vec![Anchored::Fraction { start: 500_000, end: 1_000_000 }]), 5..11),
        ];
        for (extent, expected) in table {
            assert_eq!(resolve(&extent, size), vec![expected], "{extent:?}");
        }
    }
}
