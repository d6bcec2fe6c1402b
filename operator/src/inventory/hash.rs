//! A hash that is the same in every process: for digests and for rendezvous hashing.
//!
//! Two lanes of multiply-and-shift (splitmix64's finaliser, by Sebastiano Vigna). Not against an
//! adversary: whoever can choose node and Dataset names may unbalance their own placement, nothing else.

use std::hash::{Hash, Hasher};

#[derive(Clone, Copy, Debug)]
pub struct Mix {
    low: u64,
    high: u64,
}

/// splitmix64's finaliser: every bit of the input changes half the bits of the output.
pub const fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

impl Mix {
    fn word(&mut self, word: u64) {
        self.low = mix(self.low.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ word);
        self.high = mix(self.high.rotate_left(23).wrapping_add(word) ^ 0xd1b5_4a32_d192_ed03);
    }

    /// 128 bits of what was written.
    pub fn wide(&self) -> u128 {
        u128::from(mix(self.high)) << 64 | u128::from(mix(self.low))
    }
}

impl Default for Mix {
    fn default() -> Self {
        Self { low: 0x243f_6a88_85a3_08d3, high: 0x1319_8a2e_0370_7344 }
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
            self.word(u64::from_le_bytes(word));
        }
        self.word(bytes.len() as u64);
    }

    fn write_u8(&mut self, value: u8) {
        self.word(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.word(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.word(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.word(value as u64);
    }

    fn finish(&self) -> u64 {
        mix(self.low ^ self.high)
    }
}

/// 64 bits of a value, the same in every process.
pub fn hash64(value: &(impl Hash + ?Sized)) -> u64 {
    let mut mix = Mix::default();
    value.hash(&mut mix);
    mix.finish()
}

/// 128 bits of a value, the same in every process.
pub fn hash128(value: &(impl Hash + ?Sized)) -> u128 {
    let mut mix = Mix::default();
    value.hash(&mut mix);
    mix.wide()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_apart_and_stay_the_same() {
        assert_ne!(hash64("a"), hash64("b"));
        assert_ne!(hash64(&("ab", "c")), hash64(&("a", "bc")));
        assert_ne!(hash128(&[1u32, 2][..]), hash128(&[1u32, 2, 0][..]));
        // Pinned: a digest is compared across processes, and placement should not move at an upgrade.
        assert_eq!(hash64("node-1"), 3_232_564_962_747_846_190);
    }
}
