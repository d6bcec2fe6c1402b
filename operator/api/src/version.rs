//! The version of a Dataset's data: a digest of path, size and modification time of every file.
//!
//! Agents report it, and whoever copies a version finds it by the same rule, so the rule stands where both see it. It
//! is part of the wire: another one would make every node's version another.

use aws_lc_rs::digest::{Context, SHA256};

/// Folds files into a version. They come in the order of their paths, each path once.
#[derive(Clone)]
pub struct VersionDigest(Context);

impl std::fmt::Debug for VersionDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VersionDigest")
    }
}

impl Default for VersionDigest {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl VersionDigest {
    /// `path` lies below the Dataset's root, without a slash at its beginning; `modified` are nanoseconds since 1970.
    pub fn file(&mut self, path: &[u8], size: u64, modified: i64) {
        self.0.update(&(path.len() as u64).to_le_bytes());
        self.0.update(path);
        self.0.update(&size.to_le_bytes());
        self.0.update(&modified.to_le_bytes());
    }

    /// The first 128 bits of the digest. Zero means none on the wire, so it is none.
    pub fn finish(self) -> u128 {
        let digest = self.0.finish();
        digest.as_ref().first_chunk().copied().map_or(1, u128::from_be_bytes).max(1)
    }
}

/// A version as status, tasks and people write it.
pub fn written(version: u128) -> String {
    format!("{version:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_stays_what_it_is() {
        let mut digest = VersionDigest::default();
        digest.file(b"a/b", 7, 1_700_000_000_000_000_001);
        digest.file("ü".as_bytes(), 0, -1);
        // Python: sha256 of struct.pack('<Q3sQq', 3, b'a/b', 7, …) and of the second, first 16 bytes.
        assert_eq!(written(digest.finish()), "ba54c0dfc54ecb987e607700382b59e6");
        assert_ne!(VersionDigest::default().finish(), 0);
    }
}
