//! What the files hold: bytes that follow from seed, file and position alone.
//!
//! One ring of pseudo-random bytes of prime length; a file starts somewhere in the ring and runs around
//! it. The store answers a read with a slice of the ring, nothing is computed or kept per file, and a
//! reader can tell a byte that was served for another file or another page.

/// The smallest prime above 1 MiB: no shift by whole pages below 4 GiB maps the ring onto itself.
const RING: usize = 1_048_583;

/// The most that one slice may hold; FUSE asks for no more than 256 pages at a time.
pub const SLICE: usize = 1 << 20;

/// The mixing step of splitmix64 (Steele, Lea, Flood 2014): a bijection whose output bits all depend on
/// all input bits.
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// FNV-1a of a name, mixed: where a hash order or a salt is wanted.
pub fn hash(seed: u64, name: &[u8]) -> u64 {
    let fnv = |state: u64, byte: &u8| (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(seed ^ name.iter().fold(0xcbf2_9ce4_8422_2325, fnv))
}

/// Where in the ring a file starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt(u64);

impl Salt {
    pub fn of(seed: u64, path: &[u8]) -> Self {
        Self(hash(seed, path))
    }
}

pub struct Content {
    ring: Vec<u8>,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content").field("bytes", &self.ring.len()).finish()
    }
}

impl Content {
    pub fn new(seed: u64) -> Self {
        let words = RING.div_ceil(8) as u64;
        let mut ring: Vec<u8> = (0..words)
            .flat_map(|word| mix(seed.wrapping_mul(words).wrapping_add(word)).to_le_bytes())
            .take(RING)
            .collect();
        ring.extend_from_within(..SLICE);
        Self { ring }
    }

    /// The bytes of a file from `offset` on, `len` of them or `SLICE`, whichever is less.
    pub fn slice(&self, salt: Salt, offset: u64, len: usize) -> &[u8] {
        let start = ((salt.0 % RING as u64 + offset % RING as u64) % RING as u64) as usize;
        self.ring.get(start..start + len.min(SLICE)).unwrap_or_default()
    }

    /// Whether `bytes`, read at `offset`, are what the store holds there.
    pub fn holds(&self, salt: Salt, offset: u64, bytes: &[u8]) -> bool {
        bytes
            .chunks(SLICE)
            .zip((0u64..).map(|n| n * SLICE as u64))
            .all(|(chunk, at)| self.slice(salt, offset + at, chunk.len()) == chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_follow_position_and_file() {
        let content = Content::new(7);
        let (one, other) = (Salt::of(7, b"a/b"), Salt::of(7, b"a/c"));
        let whole: Vec<u8> = content.slice(one, 0, SLICE).to_vec();
        assert_eq!(whole.len(), SLICE);
        assert!(content.holds(one, 0, &whole));
        assert!(content.holds(one, 4096, &whole[4096..9000]));
        assert!(!content.holds(one, 4096, &whole[..4096]));
        assert!(!content.holds(other, 0, &whole[..64]));
        assert_eq!(content.slice(one, 5 << 30, SLICE).len(), SLICE);
        assert!(!Content::new(8).holds(one, 0, &whole[..64]));
    }
}
