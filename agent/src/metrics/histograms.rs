//! Latencies per mount, in HdrHistograms that merge without loss.
//!
//! All histograms share one set of bounds, so adding two gives bucket for bucket what recording into one
//! would have given; the client merges what the agent sends. The engine owns this value and records into
//! it between two steps, so there is no lock.

use std::collections::BTreeMap;

use agent_core::Nanos;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};

/// Values below this are told as this: 1 µs, less than any miss.
const LOWEST_NS: u64 = 1_000;

/// Values above this are told as this: two minutes, more than a store's timeouts.
const HIGHEST_NS: u64 = 120_000_000_000;

/// 1 % precision: 20 KiB a histogram instead of 160 KiB with three digits.
const DIGITS: u8 = 2;

/// Mounts told apart; the rest is counted together. 32 × 2 × 20 KiB is 1.3 MiB at the most.
const SOURCES: usize = 32;

/// Bytes of a V2 header.
const HEADER: usize = 40;

/// The row of the mounts beyond `SOURCES`.
const OTHER: &str = "other";

/// Whose latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Latency {
    /// From the first page added to the pages being ready.
    Miss,
    /// A sampled read that found its pages; only plans with fexit have it.
    Hit,
}

/// One histogram as it goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub source: Box<str>,
    pub latency: Latency,
    /// HdrHistogram V2, not deflated: a reader needs no bound on what it inflates.
    pub hdr_v2: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum HistogramError {
    #[error("making a histogram failed: {0}; this is a fault of the program, please report it")]
    Bounds(#[from] hdrhistogram::CreationError),
    #[error(
        "the agent sent a histogram that cannot be read ({0}): its version and this command's differ too much"
    )]
    Decode(String),
    #[error(
        "the agent sent a histogram with other bounds ({0}): its version and this command's differ too much"
    )]
    Merge(String),
    #[error("writing a histogram failed: {0}; this is a fault of the program, please report it")]
    Encode(String),
}

/// All latencies of a node.
#[derive(Debug, Default)]
pub struct Histograms {
    rows: BTreeMap<(Box<str>, Latency), Histogram<u64>>,
}

/// An empty histogram with everyone's bounds.
pub fn empty() -> Result<Histogram<u64>, HistogramError> {
    Ok(Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, DIGITS)?)
}

impl Histograms {
    /// Counts one latency of the mount with this source (mountinfo's).
    pub fn record(&mut self, source: &str, latency: Latency, took: Nanos) {
        let known = self.rows.contains_key(&(Box::from(source), latency));
        let source = if known || self.rows.len() < SOURCES * 2 { source } else { OTHER };
        if let Some(histogram) = self.row(source, latency) {
            histogram.saturating_record(took.0.clamp(LOWEST_NS, HIGHEST_NS));
        }
    }

    fn row(&mut self, source: &str, latency: Latency) -> Option<&mut Histogram<u64>> {
        use std::collections::btree_map::Entry;
        match self.rows.entry((Box::from(source), latency)) {
            Entry::Occupied(row) => Some(row.into_mut()),
            // The bounds are constants that a test tries, so `empty` cannot fail here.
            Entry::Vacant(row) => Some(row.insert(empty().ok()?)),
        }
    }

    /// Every histogram, ready for the wire.
    pub fn encode(&self) -> Result<Vec<Encoded>, HistogramError> {
        let mut serializer = V2Serializer::new();
        let encode = |((source, latency), histogram): (&(Box<str>, Latency), &Histogram<u64>)| {
            let mut hdr_v2 = Vec::new();
            serializer
                .serialize(histogram, &mut hdr_v2)
                .map_err(|e| HistogramError::Encode(e.to_string()))?;
            Ok(Encoded { source: source.clone(), latency: *latency, hdr_v2 })
        };
        self.rows.iter().map(encode).collect()
    }
}

/// Reads one histogram from the wire.
pub fn decode(mut hdr_v2: &[u8]) -> Result<Histogram<u64>, HistogramError> {
    // The header says how much memory is taken before the first count is read, so it is checked first:
    // 40 bytes of cookie, payload length, offset, digits, lowest, highest, ratio (HdrHistogram's V2).
    let word =
        |at: usize| hdr_v2.get(at..at + 4).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(u32::from_be_bytes);
    let long =
        |at: usize| hdr_v2.get(at..at + 8).and_then(|b| <[u8; 8]>::try_from(b).ok()).map(u64::from_be_bytes);
    let whole = word(4).map(|payload| payload as usize + HEADER) == Some(hdr_v2.len());
    let ours = (word(12), long(16), long(24)) == (Some(u32::from(DIGITS)), Some(LOWEST_NS), Some(HIGHEST_NS));
    if !whole || !ours {
        return Err(HistogramError::Decode("its header is not ours".to_owned()));
    }
    Deserializer::new().deserialize(&mut hdr_v2).map_err(|e| HistogramError::Decode(e.to_string()))
}

/// Adds histograms up: exactly what recording into one would have given.
pub fn merge<'a>(
    parts: impl IntoIterator<Item = &'a Histogram<u64>>,
) -> Result<Histogram<u64>, HistogramError> {
    let mut sum = empty()?;
    for part in parts {
        sum.add(part).map_err(|e| HistogramError::Merge(e.to_string()))?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn merging_equals_recording_in_one(
            values in proptest::collection::vec((0usize..5, 0u64..200_000_000_000), 0..400)
        ) {
            let mut apart = Histograms::default();
            let mut together = Histograms::default();
            for (mount, ns) in &values {
                apart.record(&format!("store{mount}:/"), Latency::Miss, Nanos(*ns));
                together.record("one", Latency::Miss, Nanos(*ns));
            }
            let parts: Vec<_> =
                apart.encode().unwrap().iter().map(|row| decode(&row.hdr_v2).unwrap()).collect();
            let merged = merge(&parts).unwrap();
            let whole = match together.encode().unwrap().first() {
                Some(row) => decode(&row.hdr_v2).unwrap(),
                None => empty().unwrap(),
            };
            prop_assert_eq!(merged, whole);
        }

        #[test]
        fn damaged_bytes_are_refused_not_trusted(
            header in proptest::option::of((0usize..HEADER, any::<u8>())),
            counts in proptest::collection::vec((HEADER..HEADER + 60, any::<u8>()), 0..60)
        ) {
            let mut histograms = Histograms::default();
            for ms in 0..50 {
                histograms.record("a", Latency::Hit, Nanos::from_millis(ms * ms));
            }
            let mut bytes = histograms.encode().unwrap().remove(0).hdr_v2;
            for (at, value) in header.into_iter().chain(counts) {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn rows_are_bounded() {
        let mut histograms = Histograms::default();
        for mount in 0..1000 {
            histograms.record(&format!("m{mount}"), Latency::Miss, Nanos(1));
        }
        let rows = histograms.encode().unwrap();
        assert!(rows.len() <= SOURCES * 2 + 1);
        let other = rows.iter().find(|row| &*row.source == OTHER).unwrap();
        assert_eq!(decode(&other.hdr_v2).unwrap().len(), 1000 - 2 * SOURCES as u64);
    }
}
