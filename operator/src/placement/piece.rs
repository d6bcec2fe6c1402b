//! Pieces: the runs of chunks that are placed as one.
//!
//! A Dataset has at most 64 of them, whatever its size, so that deciding costs the same for a terabyte as
//! for a gigabyte. Their borders depend on the size alone: they do not move while a version lives.

use crate::inventory::{CHUNK, Chunks};

/// Pieces a Dataset has at most.
pub const MAX_PIECES: u32 = 64;

/// Chunks of a piece at least: 16 MiB take a store longer to send than to find.
const MIN_PIECE: u32 = 4;

/// How a version of a given size is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pieces {
    bytes: u64,
    chunks: u32,
    each: u32,
}

impl Pieces {
    pub fn of(bytes: u64) -> Self {
        let chunks = crate::inventory::chunks_in(bytes);
        let each = chunks.div_ceil(MAX_PIECES).max(MIN_PIECE);
        Self { bytes, chunks, each: each.checked_next_power_of_two().unwrap_or(each) }
    }

    pub fn count(&self) -> u16 {
        u16::try_from(self.chunks.div_ceil(self.each)).unwrap_or(u16::MAX)
    }

    pub fn chunks(&self, piece: u16) -> Chunks {
        let start = u32::from(piece).saturating_mul(self.each).min(self.chunks);
        start..start.saturating_add(self.each).min(self.chunks)
    }

    /// Bytes of some chunks; the version's last one may be short.
    pub fn bytes(&self, chunks: &Chunks) -> u64 {
        let end = (u64::from(chunks.end) * CHUNK).min(self.bytes);
        end.saturating_sub(u64::from(chunks.start) * CHUNK)
    }

    pub fn total(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_few_and_make_up_the_whole() {
        for bytes in [0, 1, CHUNK, 255 * CHUNK + 1, 1 << 30, 1 << 40, 1 << 52, u64::MAX] {
            let pieces = Pieces::of(bytes);
            assert!(u32::from(pieces.count()) <= MAX_PIECES, "{bytes}");
            let sum: u64 = (0..pieces.count()).map(|p| pieces.bytes(&pieces.chunks(p))).sum();
            assert_eq!(sum, bytes.min(u64::from(u32::MAX) * CHUNK));
            assert!(pieces.chunks(pieces.count()).is_empty());
        }
        assert_eq!((Pieces::of(1 << 30).count(), Pieces::of(1 << 30).chunks(3)), (64, 12..16));
    }
}
