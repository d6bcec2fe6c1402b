//! A directory's entries in an order other than that of its listing: by name, by number, by creation.

use std::cmp::Ordering;

/// An order of the positions of a listing, and where each of them stands in it.
#[derive(Debug, Default)]
pub struct Ranking {
    order: Box<[u32]>,
    ranks: Box<[u32]>,
}

impl Ranking {
    /// The positions `0..count` by what is compared of them; equals stay in the order of the listing.
    pub fn by(count: usize, mut compare: impl FnMut(usize, usize) -> Ordering) -> Self {
        let mut order: Box<[u32]> = (0..u32::try_from(count).unwrap_or(u32::MAX)).collect();
        order.sort_by(|one, other| compare(*one as usize, *other as usize));
        let mut ranks = vec![0; order.len()].into_boxed_slice();
        for (rank, slot) in (0u32..).zip(&order) {
            if let Some(place) = ranks.get_mut(*slot as usize) {
                *place = rank;
            }
        }
        Self { order, ranks }
    }

    /// By name, where numbers in it count as what they say: `9.jpg` before `10.jpg`, as whoever counts from 0 to n
    /// opens them. `None` where all names are equally long, as numbers with leading zeros make them: then it is the
    /// order of bytes.
    pub fn by_number(names: &[&[u8]]) -> Option<Self> {
        let first = names.first()?.len();
        let uneven = names.iter().any(|name| name.len() != first);
        let name = |slot: usize| names.get(slot).copied().unwrap_or_default();
        uneven.then(|| Self::by(names.len(), |one, other| compare(name(one), name(other))))
    }

    pub fn nth(&self, at: usize) -> Option<usize> {
        self.order.get(at).map(|slot| *slot as usize)
    }

    pub fn rank(&self, slot: usize) -> Option<u32> {
        self.ranks.get(slot).copied()
    }
}

/// Byte by byte, but digits as the number that they make.
fn compare(one: &[u8], other: &[u8]) -> Ordering {
    let (mut rest, mut others) = (one, other);
    while let (Some(byte), Some(others_byte)) = (rest.first(), others.first()) {
        let step = if byte.is_ascii_digit() && others_byte.is_ascii_digit() {
            let (number, behind) = number(rest);
            let (others_number, others_behind) = self::number(others);
            (rest, others) = (behind, others_behind);
            number.len().cmp(&others_number.len()).then_with(|| number.cmp(others_number))
        } else {
            let step = byte.cmp(others_byte);
            (rest, others) = (rest.get(1..).unwrap_or_default(), others.get(1..).unwrap_or_default());
            step
        };
        if step.is_ne() {
            return step;
        }
    }
    rest.len().cmp(&others.len()).then_with(|| one.cmp(other))
}

/// The digits at the beginning, without leading zeros, and what is behind them.
fn number(name: &[u8]) -> (&[u8], &[u8]) {
    let digits = name.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(name.len());
    let zeros = name.iter().position(|byte| *byte != b'0').unwrap_or(name.len()).min(digits);
    let (number, behind) = name.split_at(digits);
    (number.get(zeros..).unwrap_or_default(), behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(names: &[&'static str]) -> Vec<&'static str> {
        let bytes: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
        let ranking = Ranking::by_number(&bytes).unwrap();
        for at in 0..names.len() {
            assert_eq!(ranking.rank(ranking.nth(at).unwrap()), Some(u32::try_from(at).unwrap()));
        }
        (0..names.len()).filter_map(|at| names.get(ranking.nth(at)?).copied()).collect()
    }

    #[test]
    fn numbers_count_as_what_they_say() {
        assert_eq!(sorted(&["10", "9", "1", "0", "100"]), ["0", "1", "9", "10", "100"]);
        assert_eq!(
            sorted(&["0.10.2", "0.2.11", "0.2.3", "b", "a12x", "a2y"]),
            ["0.2.3", "0.2.11", "0.10.2", "a2y", "a12x", "b"]
        );
        assert_eq!(sorted(&["a01", "a1", "a001", "a"]), ["a", "a001", "a01", "a1"], "of equals, by bytes");
        let long = "1".repeat(200);
        assert_eq!(compare(long.as_bytes(), b"2"), Ordering::Greater, "no number is too long");
    }

    #[test]
    fn equally_long_names_are_in_the_order_of_bytes_already() {
        assert!(Ranking::by_number(&[b"08", b"09", b"10"]).is_none());
        assert!(Ranking::by_number(&[]).is_none());
    }
}
