//! A report as facts, or a refusal. Pure.
//!
//! What makes no sense ends the stream: an agent that sends it is broken or lies. A Dataset that is not bound to
//! the agent is left out and counted: bindings change while reports are on their way. So is a version of more bytes than
//! there are: what anybody can write into a store's file sizes must not end its nodes' streams again and again.

use operator_api::report::v1 as wire;
use rustc_hash::FxHashMap;

use crate::inventory::{
    Capacity, Change, Chunks, DatasetReport, Demand, First, Millis, Name, Pressure, Report, Tier, Version,
    VersionFacts,
};

use super::limits::Limits;

/// An exbibyte: more bytes than this exist nowhere.
const MOST_BYTES: u64 = 1 << 60;

/// Datasets that a profile is told by, and runs of chunks of each.
const MOST_FIRSTS: usize = 16;
const MOST_RUNS: usize = 64;

/// Thousandths.
const WHOLE: u32 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nonsense {
    #[error("a report has {found} entries, more than the {most} of Welcome; split it")]
    Entries { found: usize, most: u32 },
    #[error("a report has {found} ranges, more than the {most} of Welcome; split it")]
    Ranges { found: usize, most: u32 },
    #[error("ranges come as pairs of first chunk and length; a list has an odd number of values")]
    Odd,
    #[error("a range is empty or ends beyond chunk {}", u32::MAX)]
    Range,
    #[error("residency names no tier that this operator knows")]
    Tier,
    #[error("residency names version 0, which is none")]
    Version,
    #[error("{0} is larger than an exbibyte")]
    Bytes(&'static str),
    #[error("a pressure is above the whole")]
    Pressure,
    #[error("what a workload reads first has {0} entries, more than 16 Datasets or 64 runs of one")]
    Firsts(usize),
}

/// What a report says.
#[derive(Debug, Default)]
pub struct Facts {
    pub report: Report,
    pub patterns: Vec<(Name, wire::Pattern)>,
    pub ranges: u32,
    /// Entries about Datasets that are not bound to this agent.
    pub unknown: u32,
    /// Datasets of which a version was left out that is larger than an exbibyte.
    pub too_large: Vec<Name>,
}

/// Ranges in a report, before anything else is looked at.
pub fn ranges(report: &wire::Report) -> usize {
    report.residency.iter().map(|r| (r.added.len() + r.removed.len()) / 2).sum()
}

/// `now` is this operator's.
pub fn facts(
    told: wire::Report,
    session: u64,
    bound: &FxHashMap<u32, Name>,
    limits: &Limits,
    now: Millis,
) -> Result<Facts, Nonsense> {
    let found = told.residency.len() + told.versions.len() + told.demand.len() + told.patterns.len();
    if found > limits.entries as usize {
        return Err(Nonsense::Entries { found, most: limits.entries });
    }
    let found = ranges(&told);
    if found > limits.ranges as usize {
        return Err(Nonsense::Ranges { found, most: limits.ranges });
    }
    let wire::Report {
        sequence,
        snapshot,
        more: _,
        residency,
        versions,
        demand,
        patterns,
        capacity,
        pressure,
        clock_ms,
    } = told;
    let mut parts = Parts { bound, parts: Vec::new(), places: FxHashMap::default(), unknown: 0 };
    for entry in residency {
        let change = change(&entry)?;
        if let Some(part) = parts.of(entry.dataset) {
            part.changes.push(change);
        }
    }
    let mut too_large = Vec::new();
    for entry in versions {
        let version = version(entry.version_high, entry.version_low)?;
        let Ok(bytes) = bytes("a version", entry.bytes) else {
            too_large.extend(bound.get(&entry.dataset).cloned());
            continue;
        };
        let at = seen_at(entry.seen_ms, clock_ms, now);
        let facts = VersionFacts { version, bytes: Some(bytes), files: Some(entry.files), at };
        if let Some(part) = parts.of(entry.dataset) {
            part.learned = Some(facts);
        }
    }
    for entry in demand {
        let demand = Demand {
            readers: entry.readers,
            rate: bytes("a rate", entry.rate)?,
            hit: bytes("what was hit", entry.hit_bytes)?,
            miss: bytes("what was missed", entry.miss_bytes)?,
        };
        if let Some(part) = parts.of(entry.dataset) {
            part.demand = Some(demand);
        }
    }
    let named = |pattern: wire::Pattern| Some((bound.get(&pattern.dataset)?.clone(), pattern));
    let patterns = patterns.into_iter().filter_map(named).collect();
    let capacity = match capacity {
        Some(told) => {
            let (ram, cache) = (bytes("the memory", told.ram_bytes)?, bytes("the cache", told.cache_bytes)?);
            Some(Capacity { ram, cache })
        }
        None => None,
    };
    let pressure = match pressure {
        Some(told) if told.memory_permille > WHOLE || told.io_permille > WHOLE => {
            return Err(Nonsense::Pressure);
        }
        Some(told) => Some(Pressure { memory: told.memory_permille as u16, io: told.io_permille as u16 }),
        None => None,
    };
    let Parts { parts: datasets, unknown, .. } = parts;
    let report = Report { session, sequence, whole: snapshot, datasets, capacity, pressure };
    let ranges = u32::try_from(found).unwrap_or(u32::MAX);
    Ok(Facts { report, patterns, ranges, unknown, too_large })
}

/// What a workload reads first, by Dataset; and how many were named that are not bound to this agent.
pub fn firsts(
    told: Vec<wire::First>,
    bound: &FxHashMap<u32, Name>,
) -> Result<(Vec<(Name, First)>, u32), Nonsense> {
    let most = told.iter().map(|first| first.chunks.len() / 2).max().unwrap_or(0);
    if told.len() > MOST_FIRSTS || most > MOST_RUNS {
        return Err(Nonsense::Firsts(told.len().max(most)));
    }
    let (mut firsts, mut unknown) = (Vec::new(), 0);
    for entry in told {
        let version = version(entry.version_high, entry.version_low)?;
        let first = First::new(version, chunks(&entry.chunks)?);
        match (bound.get(&entry.dataset), first) {
            (Some(name), Some(first)) => firsts.push((name.clone(), first)),
            (Some(_), None) => {}
            (None, _) => unknown += 1,
        }
    }
    Ok((firsts, unknown))
}

/// One part for each Dataset, however its entries are spread.
struct Parts<'a> {
    bound: &'a FxHashMap<u32, Name>,
    parts: Vec<DatasetReport>,
    places: FxHashMap<u32, usize>,
    unknown: u32,
}

impl Parts<'_> {
    fn of(&mut self, number: u32) -> Option<&mut DatasetReport> {
        let Some(name) = self.bound.get(&number) else {
            self.unknown += 1;
            return None;
        };
        let next = self.parts.len();
        let place = *self.places.entry(number).or_insert(next);
        if place == next {
            self.parts.push(DatasetReport { dataset: name.clone(), ..DatasetReport::default() });
        }
        self.parts.get_mut(place)
    }
}

fn change(told: &wire::Residency) -> Result<Change, Nonsense> {
    let tier = match told.tier() {
        wire::Tier::PageCache => Tier::Ram,
        wire::Tier::Cache => Tier::Cache,
        wire::Tier::Unspecified => return Err(Nonsense::Tier),
    };
    let version = version(told.version_high, told.version_low)?;
    let partial = told.partial_bytes.map(|told| bytes("what is there of chunks", told)).transpose()?;
    Ok(Change { version, tier, removed: chunks(&told.removed)?, added: chunks(&told.added)?, partial })
}

/// When an agent saw a version, by this operator's clock: as long ago as by the agent's own, which may be wrong by
/// any amount. Of an agent that does not say what its clock shows it is what that showed, but never to come: who is
/// ahead would be believed until everybody's clock is there.
fn seen_at(seen_ms: u64, clock_ms: u64, now: Millis) -> Millis {
    if clock_ms == 0 {
        return Millis(seen_ms).min(now);
    }
    Millis(now.0.saturating_sub(clock_ms.saturating_sub(seen_ms)))
}

fn version(high: u64, low: u64) -> Result<Version, Nonsense> {
    let version = u128::from(high) << 64 | u128::from(low);
    if version == 0 { Err(Nonsense::Version) } else { Ok(Version(version)) }
}

fn bytes(what: &'static str, bytes: u64) -> Result<u64, Nonsense> {
    if bytes > MOST_BYTES { Err(Nonsense::Bytes(what)) } else { Ok(bytes) }
}

fn chunks(pairs: &[u32]) -> Result<Vec<Chunks>, Nonsense> {
    let (pairs, rest) = pairs.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Nonsense::Odd);
    }
    let run = |&[start, length]: &[u32; 2]| match start.checked_add(length) {
        Some(end) if length > 0 => Ok(start..end),
        _ => Err(Nonsense::Range),
    };
    pairs.iter().map(run).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_as_old_as_its_agent_says_and_never_of_the_future() {
        let (now, hour) = (1_700_000_000_000, 3_600_000);
        for (seen, clock, at, why) in [
            (now - 5, now, now - 5, "a clock that is right"),
            (now + hour - 5, now + hour, now - 5, "one that is ahead"),
            (now - hour - 5, now - hour, now - 5, "one that is behind"),
            (now + 5, now, now, "one that was set back between"),
            (u64::MAX, 1, now, "a lie"),
            (0, u64::MAX, 0, "another"),
            (now - 5, 0, now - 5, "an agent of before"),
            (now + hour, 0, now, "an agent of before, ahead"),
            (u64::MAX, 0, now, "an agent of before, a lie"),
        ] {
            assert_eq!(seen_at(seen, clock, Millis(now)), Millis(at), "{why}");
        }
    }

    #[test]
    fn a_version_of_more_bytes_than_there_are_ends_no_stream() {
        let bound: FxHashMap<u32, Name> = [(1, "a/b".into()), (2, "a/c".into())].into_iter().collect();
        let version =
            |dataset, bytes| wire::Version { dataset, version_low: 7, bytes, ..wire::Version::default() };
        let versions = vec![version(1, u64::MAX), version(2, MOST_BYTES), version(3, u64::MAX)];
        let told = wire::Report { sequence: 1, versions, ..wire::Report::default() };
        let facts = facts(told, 1, &bound, &Limits::default(), Millis(1)).unwrap();
        assert_eq!(facts.too_large, ["a/b".into()]);
        let learned: Vec<_> =
            facts.report.datasets.iter().map(|part| (&*part.dataset, part.learned)).collect();
        assert!(
            matches!(learned[..], [("a/c", Some(VersionFacts { bytes: Some(MOST_BYTES), .. }))]),
            "{learned:?}"
        );
    }

    #[test]
    fn what_is_read_first_is_bounded_and_of_known_datasets() {
        let bound: FxHashMap<u32, Name> = [(1, Name::from("a/b"))].into_iter().collect();
        let first = |dataset, version_low, chunks: Vec<u32>| wire::First {
            dataset,
            version_high: 0,
            version_low,
            chunks,
        };
        let (told, unknown) =
            firsts(vec![first(1, 7, vec![4, 2, 0, 1]), first(2, 7, vec![0, 1])], &bound).unwrap();
        let expected = First::new(Version(7), [4..6, 0..1]).unwrap();
        assert_eq!((told, unknown), (vec![("a/b".into(), expected)], 1));
        assert_eq!(firsts(Vec::new(), &bound), Ok((Vec::new(), 0)), "an agent of before");
        assert_eq!(firsts(vec![first(1, 7, Vec::new())], &bound), Ok((Vec::new(), 0)));
        let refused = |told: Vec<wire::First>| firsts(told, &bound).unwrap_err();
        assert_eq!(refused(vec![first(1, 7, vec![1])]), Nonsense::Odd);
        assert_eq!(refused(vec![first(1, 7, vec![1, 0])]), Nonsense::Range);
        assert_eq!(refused(vec![first(1, 7, vec![u32::MAX, 1])]), Nonsense::Range);
        assert_eq!(refused(vec![first(1, 0, vec![0, 1])]), Nonsense::Version);
        assert_eq!(refused(vec![first(1, 7, [0, 1].repeat(65))]), Nonsense::Firsts(65));
        assert_eq!(refused(vec![first(1, 7, vec![0, 1]); 17]), Nonsense::Firsts(17));
    }
}
