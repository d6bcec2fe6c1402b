//! What instructions take of the memory that may be filled for the operator, so that they do not push out each
//! other's bytes. Pure.

use rustc_hash::FxHashMap;

use super::chunks::ChunkSet;

/// What one instruction brings in and keeps there while it is in hand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Number and version of the Dataset.
    pub of: (u32, u128),
    /// Where in it; a chunk of which it needs a part only counts as a whole.
    pub chunks: ChunkSet,
    /// Of whole pages.
    pub bytes: u64,
}

/// Claims together: bytes that several ask for count once.
#[derive(Debug, Default)]
pub struct Claims {
    chunks: FxHashMap<(u32, u128), ChunkSet>,
    bytes: u64,
}

impl Claims {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn add(&mut self, claim: &Claim) {
        self.bytes = self.bytes.saturating_add(self.beyond(claim));
        let all = self.chunks.entry(claim.of).or_default();
        for &(start, end) in claim.chunks.spans() {
            all.insert(start, end);
        }
    }

    /// Bytes of a claim that are in none of these: as large a share of it as of its chunks.
    pub fn beyond(&self, claim: &Claim) -> u64 {
        let count =
            |runs: &[(u32, u32)]| runs.iter().map(|(start, end)| u128::from(end - start)).sum::<u128>();
        let Some(known) = self.chunks.get(&claim.of) else { return claim.bytes };
        let (all, new) = (count(claim.chunks.spans()), count(&claim.chunks.without(known)));
        let share = (u128::from(claim.bytes) * new).checked_div(all).unwrap_or(0);
        u64::try_from(share).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(dataset: u32, start: u32, end: u32) -> Claim {
        let mut chunks = ChunkSet::default();
        chunks.insert(start, end);
        Claim { of: (dataset, 1), chunks, bytes: u64::from(end - start) * 100 }
    }

    #[test]
    fn what_two_ask_for_counts_once() {
        let mut claims = Claims::default();
        for (of, new, all) in [
            (claim(1, 0, 10), 1_000, 1_000),
            (claim(1, 5, 15), 500, 1_500),
            (claim(1, 0, 15), 0, 1_500),
            (claim(2, 0, 15), 1_500, 3_000),
            (Claim::default(), 0, 3_000),
        ] {
            assert_eq!(claims.beyond(&of), new);
            claims.add(&of);
            assert_eq!(claims.bytes(), all);
        }
    }
}
