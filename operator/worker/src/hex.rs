//! Digests as text.

use std::fmt::Write;

/// SHA-256.
pub type Digest = [u8; 32];

pub fn written(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The reverse, for lower case alone: a digest has one spelling.
pub fn read(text: &str) -> Option<Digest> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        return None;
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let digest: Digest = std::array::from_fn(|at| at as u8 * 7);
        assert_eq!(read(&written(&digest)), Some(digest));
        assert_eq!((read("ab"), read(&"G".repeat(64)), read(&"ü".repeat(32))), (None, None, None));
    }
}
