//! How far a large file is, kept beside it at the target: whoever comes after goes on from there. Pure.
//!
//! It tells of parts of one size, each with the digest of what the source gave. It is a claim like the journal's:
//! what it tells of is read and compared before the file gets its name.

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::entry::Seen;
use crate::hex::{self, Digest};
use crate::name::{self, Name};
use crate::sealed::{Format, SealError};

pub const FORMAT: Format = Format { name: "headrace-parts", version: 1 };

/// Larger files go in parts of at least this size; S3 takes parts from 5 MiB on.
pub const LARGE: u64 = 8 << 20;

/// S3 takes 10,000 parts.
const MOST: u64 = 9_000;

/// Bytes of one document that are read: [`MOST`] parts have less than 2 MiB.
pub const MOST_BYTES: u64 = 8 << 20;

/// The folder in the journal's where they lie.
pub const FOLDER: &str = "parts";

/// What lies there: documents, and in a folder the bytes they tell of.
pub const LIST: &[u8] = b".parts";
pub const BYTES: &[u8] = b".bytes";

/// Bytes of each part of a file but the last.
pub fn part(size: u64) -> u64 {
    size.div_ceil(MOST).max(LARGE)
}

/// A part that is at the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Of what the source gave.
    pub digest: Digest,
    /// The store's own mark of it.
    pub tag: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// At the target.
    pub name: Name,
    /// As the source has it.
    pub source: Seen,
    /// Bytes of a part.
    pub part: u64,
    /// The store's name of the upload, where it has one.
    pub upload: Option<String>,
    pub done: Vec<Part>,
}

#[derive(Serialize, Deserialize)]
struct About {
    name: String,
    #[serde(flatten)]
    source: Seen,
    part: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upload: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
}

impl Parts {
    /// Of a file of which nothing is there.
    pub fn none(name: &Name, source: &Seen) -> Self {
        Self {
            name: name.clone(),
            source: source.clone(),
            part: part(source.size),
            upload: None,
            done: Vec::new(),
        }
    }

    /// Bytes of the source that need not be read again.
    pub fn bytes(&self) -> u64 {
        self.part.saturating_mul(self.done.len() as u64).min(self.source.size)
    }

    pub fn written(&self) -> Vec<u8> {
        let Self { name, source, part, upload, done } = self;
        let about =
            About { name: name::encoded(name), source: source.clone(), part: *part, upload: upload.clone() };
        let lines = done.iter().map(|Part { digest, tag }| {
            // Strings: their JSON cannot fail.
            serde_json::to_string(&Line { sha256: hex::written(digest), tag: tag.clone() })
                .unwrap_or_default()
        });
        FORMAT.seal(serde_json::to_value(about).unwrap_or_default(), &lines.collect::<Vec<_>>())
    }

    pub fn read(bytes: &[u8]) -> Result<Self, SealError> {
        let (about, lines) = FORMAT.open(bytes)?;
        let about: About = serde_json::from_value(about).map_err(|_| SealError::Altered)?;
        let About { name, source, part, upload } = about;
        let name = name::decoded(&name).ok_or(SealError::Altered)?;
        if part == 0 || lines.len() as u64 > source.size.div_ceil(part) {
            return Err(SealError::Altered);
        }
        let line = |line: &str| {
            let Line { sha256, tag } = serde_json::from_str(line).ok()?;
            Some(Part { digest: hex::read(&sha256)?, tag })
        };
        let done: Option<Vec<Part>> = lines.into_iter().map(line).collect();
        Ok(Self { name, source, part, upload, done: done.ok_or(SealError::Altered)? })
    }
}

/// What names a file's documents: another content of the source has others.
pub fn stem(name: &Name, source: &Seen) -> String {
    let Seen { size, modified, tag } = source;
    let mut context = Context::new(&SHA256);
    let tag = tag.as_deref().unwrap_or_default();
    for part in [name.bytes(), &size.to_le_bytes(), &modified.to_le_bytes(), tag.as_bytes()] {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    hex::written(context.finish().as_ref()).chars().take(32).collect()
}

/// The stem in the name of a document, or of the bytes it tells of; none where it is neither.
pub fn stem_of(name: &Name) -> Option<String> {
    let last = name.last();
    let stem = last.bytes().strip_suffix(LIST).or_else(|| last.bytes().strip_suffix(BYTES))?;
    let folder = name.folder()?;
    if folder.last().bytes() != FOLDER.as_bytes() {
        return None;
    }
    std::str::from_utf8(stem).ok().map(str::to_owned)
}

/// The name with which a stem's document or bytes lie in the journal's folder.
pub fn name(folder: &Name, stem: &str, end: &[u8]) -> Option<Name> {
    let end = std::str::from_utf8(end).ok()?;
    Name::parse(format!("{FOLDER}/{stem}{end}").as_bytes()).ok().map(|name| folder.below(&name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &[u8]) -> Name {
        Name::parse(text).unwrap()
    }

    fn parts(count: u8) -> Parts {
        let source = Seen { size: 100 << 20, modified: -1, tag: Some("e\"".into()) };
        let part = |number| Part { digest: [number; 32], tag: (number > 0).then(|| format!("t{number}")) };
        Parts {
            upload: Some("id".into()),
            done: (0..count).map(part).collect(),
            ..Parts::none(&name(b"a\n\xff"), &source)
        }
    }

    #[test]
    fn what_was_written_is_read_and_bounded() {
        let some = parts(3);
        assert_eq!(Parts::read(&some.written()).unwrap(), some);
        assert_eq!(some.bytes(), 3 * LARGE);
        assert_eq!(parts(13).bytes(), 100 << 20);
        assert_eq!(Parts::read(&parts(14).written()), Err(SealError::Altered), "more than it has");
        for size in [LARGE + 1, 100 << 30, 5 << 40] {
            assert!(size.div_ceil(part(size)) <= 10_000, "{size}");
        }
    }

    #[test]
    fn another_content_has_another_stem() {
        let Parts { name: at, source, .. } = parts(0);
        let same = stem(&at, &source);
        assert_ne!(stem(&name(b"b"), &source), same);
        assert_ne!(stem(&at, &Seen { size: 1, ..source.clone() }), same);
        assert_ne!(stem(&at, &Seen { modified: 0, ..source.clone() }), same);
        assert_ne!(stem(&at, &Seen { tag: None, ..source }), same);
        let folder = name(b".headrace-worker/x");
        let list = super::name(&folder, &same, LIST).unwrap();
        assert_eq!(stem_of(&list), Some(same));
        assert_eq!(stem_of(&name(b"x/1-2.journal")), None);
        assert_eq!(stem_of(&name(b"tmp/x.parts")), None);
    }

    proptest! {
        #[test]
        fn no_bytes_end_it(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Parts::read(&bytes);
        }
    }
}
