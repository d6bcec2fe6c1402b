//! What was copied, kept at the target: a worker that is started again goes on from it. Pure.
//!
//! The journal is a folder of small sealed documents, each written whole: the records since the one before. One that
//! is damaged costs what it told of, which is copied again, and nothing else. A record is a claim, not a proof: the
//! file it tells of is read and compared before it counts as there.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::entry::Seen;
use crate::hex::{self, Digest};
use crate::name::{self, Name};
use crate::sealed::{Format, SealError};

pub const FORMAT: Format = Format { name: "headrace-journal", version: 1 };

/// The worker's own folder at a target. It is copied from nowhere to nowhere.
pub const STATE: &str = ".headrace-worker";

/// Records of one document, so that it is read in one piece: some 2 MiB.
pub const MOST_RECORDS: usize = 10_000;

/// Bytes of one document that are read.
pub const MOST_BYTES: u64 = 64 << 20;

const END: &[u8] = b".journal";

/// A file that was copied and read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// At the target.
    pub name: Name,
    /// As the source had it.
    pub source: Seen,
    pub digest: Digest,
}

#[derive(Serialize, Deserialize)]
struct Line {
    name: String,
    #[serde(flatten)]
    source: Seen,
    sha256: String,
}

pub fn written(records: &[Record]) -> Vec<u8> {
    let lines = records.iter().map(|record| {
        let Record { name, source, digest } = record;
        let line = Line { name: name::encoded(name), source: source.clone(), sha256: hex::written(digest) };
        // Strings and numbers: their JSON cannot fail.
        serde_json::to_string(&line).unwrap_or_default()
    });
    FORMAT.seal(Value::Null, &lines.collect::<Vec<_>>())
}

pub fn read(bytes: &[u8]) -> Result<Vec<Record>, SealError> {
    let (_, lines) = FORMAT.open(bytes)?;
    let record = |line: &str| {
        let Line { name, source, sha256 } = serde_json::from_str(line).ok()?;
        Some(Record { name: name::decoded(&name)?, source, digest: hex::read(&sha256)? })
    };
    lines.into_iter().map(|line| record(line).ok_or(SealError::Altered)).collect()
}

/// The folder of a source's journal: two sources that are copied to one target know nothing of each other.
pub fn folder(source: &str) -> Option<Name> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, source.as_bytes());
    let id: String = hex::written(digest.as_ref()).chars().take(16).collect();
    Name::parse(format!("{STATE}/{id}").as_bytes()).ok()
}

/// The name of a document: documents lie in the order they were written, and no two processes write one.
pub fn document(folder: &Name, number: u64, process: u64) -> Option<Name> {
    Name::parse(format!("{number:08}-{process:016x}.journal").as_bytes()).ok().map(|name| folder.below(&name))
}

/// The number in a document's name; none where it is no document.
pub fn number(name: &Name) -> Option<u64> {
    let last = name.last();
    let stem = last.bytes().strip_suffix(END)?;
    std::str::from_utf8(stem).ok()?.split_once('-')?.0.parse().ok()
}

/// All records, the latest of each name.
#[derive(Clone, Debug, Default)]
pub struct Journal(HashMap<Name, Record>);

impl Journal {
    pub fn add(&mut self, records: Vec<Record>) {
        for record in records {
            self.0.insert(record.name.clone(), record);
        }
    }

    pub fn records(&self) -> Vec<Record> {
        self.0.values().cloned().collect()
    }

    pub fn take(&mut self, name: &Name) -> Option<Record> {
        self.0.remove(name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(name: &[u8], size: u64) -> Record {
        let source = Seen { size, modified: -5, tag: Some("\"e\"".into()) };
        Record { name: Name::parse(name).unwrap(), source, digest: [size as u8; 32] }
    }

    #[test]
    fn records_are_read_as_written() {
        let records = vec![record(b"a\n/\xff\"", 1), record(b"b", 2)];
        let bytes = written(&records);
        assert_eq!(read(&bytes).unwrap(), records);
        assert_eq!(read(&bytes[..bytes.len() - 3]).unwrap_err(), SealError::Cut);
        let mut journal = Journal::default();
        journal.add(records);
        journal.add(vec![record(b"b", 3)]);
        assert_eq!(journal.take(&Name::parse(b"b").unwrap()), Some(record(b"b", 3)));
    }

    #[test]
    fn a_sealed_lie_is_refused() {
        for name in ["../x", "/x", "%zz", ""] {
            let line = Line { name: name.into(), source: record(b"a", 1).source, sha256: "0".repeat(64) };
            let bytes = FORMAT.seal(Value::Null, &[serde_json::to_string(&line).unwrap()]);
            assert_eq!(read(&bytes).unwrap_err(), SealError::Altered, "{name}");
        }
    }

    #[test]
    fn documents_have_an_order() {
        let folder = folder("s3://a/b").unwrap();
        assert_ne!(Some(&folder), super::folder("s3://a/c").as_ref());
        let (first, tenth) = (document(&folder, 9, u64::MAX).unwrap(), document(&folder, 10, 0).unwrap());
        assert!(first < tenth);
        assert_eq!((number(&first), number(&folder)), (Some(9), None));
    }

    proptest! {
        #[test]
        fn no_bytes_end_it(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }
    }
}
