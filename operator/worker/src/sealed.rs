//! Documents that prove to be whole: journals and backups.
//!
//! Lines of text: a head that says what it is, in which version and of how many lines; the lines; and a seal, the
//! SHA-256 of all before it. What was cut, altered or written by a newer program is told apart from what is whole.

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::hex;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    format: String,
    version: u32,
    lines: usize,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    about: Value,
}

#[derive(Debug, Serialize, Deserialize)]
struct Seal {
    sha256: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("it is no {format}")]
    Foreign { format: &'static str },
    #[error("it is a {format} of version {found}, and this program knows version {known}: use a newer image")]
    Newer { format: &'static str, found: u32, known: u32 },
    #[error("it ends before its seal: it was cut, or not written to its end")]
    Cut,
    #[error("its checksum is not the one of its content: it was altered")]
    Altered,
}

/// A kind of document.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    pub name: &'static str,
    pub version: u32,
}

impl Format {
    /// No line may hold a newline; JSON of one line does not.
    pub fn seal(self, about: Value, lines: &[String]) -> Vec<u8> {
        let head = Head { format: self.name.into(), version: self.version, lines: lines.len(), about };
        let mut text = line(&head);
        for one in lines {
            text.push_str(one);
            text.push('\n');
        }
        let sha256 = hex::written(digest(&SHA256, text.as_bytes()).as_ref());
        text.push_str(&line(&Seal { sha256 }));
        text.into_bytes()
    }

    /// What the head says beside, and the lines.
    pub fn open(self, bytes: &[u8]) -> Result<(Value, Vec<&str>), SealError> {
        let foreign = SealError::Foreign { format: self.name };
        let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let head: Head = match serde_json::from_slice(first) {
            Ok(head) => head,
            // The beginning of one of ours, or one that was altered there.
            Err(_) if first.len() == bytes.len() && first.starts_with(b"{\"format\"") => {
                return Err(SealError::Cut);
            }
            Err(_) if bytes.starts_with(b"{\"format\"") => return Err(SealError::Altered),
            Err(_) => return Err(foreign),
        };
        if head.format != self.name {
            return Err(foreign);
        }
        if head.version > self.version {
            let Self { name: format, version: known } = self;
            return Err(SealError::Newer { format, found: head.version, known });
        }
        let body = bytes.strip_suffix(b"\n").ok_or(SealError::Cut)?;
        let at = body.iter().rposition(|byte| *byte == b'\n').ok_or(SealError::Cut)?;
        let (content, seal) = bytes.split_at(at + 1);
        let seal: Seal = serde_json::from_slice(seal).map_err(|_| SealError::Cut)?;
        if seal.sha256 != hex::written(digest(&SHA256, content).as_ref()) {
            return Err(SealError::Altered);
        }
        let text = std::str::from_utf8(content).map_err(|_| SealError::Altered)?;
        let lines: Vec<&str> = text.lines().skip(1).collect();
        if lines.len() != head.lines {
            return Err(SealError::Altered);
        }
        Ok((head.about, lines))
    }
}

/// Values made of strings and numbers: their JSON cannot fail, and an empty line would be refused when read.
pub fn line(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const FORMAT: Format = Format { name: "headrace-test", version: 2 };

    #[test]
    fn what_was_written_is_read() {
        let lines = vec!["{\"a\":1}".to_owned(), String::new(), "ü".to_owned()];
        let bytes = FORMAT.seal(json!({"for": "x"}), &lines);
        let (about, read) = FORMAT.open(&bytes).unwrap();
        assert_eq!((about, read), (json!({"for": "x"}), vec!["{\"a\":1}", "", "ü"]));
        assert_eq!(FORMAT.open(&FORMAT.seal(Value::Null, &[])).unwrap(), (Value::Null, vec![]));
    }

    #[test]
    fn others_are_told_apart() {
        let newer = Format { version: 3, ..FORMAT }.seal(Value::Null, &[]);
        assert!(matches!(FORMAT.open(&newer), Err(SealError::Newer { found: 3, known: 2, .. })));
        let other = Format { name: "other", version: 1 }.seal(Value::Null, &[]);
        assert!(matches!(FORMAT.open(&other), Err(SealError::Foreign { .. })));
        assert!(FORMAT.open(b"").is_err() && FORMAT.open(b"\x7fELF").is_err());
        let older = Format { version: 1, ..FORMAT }.seal(Value::Null, &[]);
        assert!(FORMAT.open(&older).is_ok());
    }

    proptest! {
        #[test]
        fn no_cut_and_no_flipped_bit_is_taken_for_whole(
            lines in prop::collection::vec("[ -~]{0,20}", 0..5), at in any::<prop::sample::Index>(), bit in 0u8..8,
        ) {
            let whole = FORMAT.seal(json!({"k": "v"}), &lines);
            let at = at.index(whole.len());
            prop_assert!(FORMAT.open(&whole[..at]).is_err());
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            // A seal in capitals would be the same seal to no reader here, so every bit counts.
            prop_assert!(FORMAT.open(&flipped).is_err());
        }

        #[test]
        fn no_bytes_end_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = FORMAT.open(&bytes);
        }
    }
}
