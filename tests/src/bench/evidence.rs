//! What a run shows: the store's journal laid beside the reader's accesses.
//!
//! Nothing here is the agent's own word. Fetched is what the store served to the agent's process; wasted is
//! the part of it that the reader read nothing of (page by page), and what was fetched more than once;
//! covered is a read byte whose answer, to whomever it went, had been handed to the kernel before the read
//! began, and on a store that drops pages at open, since the file's last open. A read that has to wait for
//! a fetch under way is not covered.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::bench::ranges::RangeSet;
use crate::reader::outcome::Outcome;
use crate::store::journal::{Record, Request};

const PAGE: u64 = 4096;

/// Byte counts of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// What the reader read, as it counts.
    pub read: u64,
    pub covered: u64,
    /// Served to the agent.
    pub fetched: u64,
    /// Of that, what nobody read, and repetitions.
    pub wasted: u64,
    /// Served to the reader's processes and not read: the kernel's own read-ahead.
    pub readahead: u64,
    /// Requests of others than the reader before the reader's first.
    pub early: u64,
    /// Entries missing in the journal: where this is not 0 the rest is too low.
    pub omitted: u64,
}

impl Evidence {
    pub fn weigh(record: &Record, outcome: &Outcome, agent: Option<u32>, drops_pages: bool) -> Self {
        let readers: HashSet<u32> = outcome.processes.iter().copied().collect();
        let mut read: HashMap<u64, RangeSet> = HashMap::new();
        for access in &outcome.accesses {
            let pages = pages(access.offset..access.offset.saturating_add(access.bytes));
            read.entry(access.ino).or_default().insert(pages);
        }
        let wanted =
            |ino: u64, range: &Range<u64>| read.get(&ino).map_or(0, |set| set.overlap(range.clone()));
        let mut evidence = Self { read: outcome.bytes, omitted: record.omitted, ..Self::default() };
        let mut useful: HashMap<u64, RangeSet> = HashMap::new();
        for entry in record.entries.iter().filter(|entry| entry.request == Request::Read) {
            let range = entry.offset..entry.offset.saturating_add(entry.bytes);
            if Some(entry.by) == agent {
                evidence.fetched += entry.bytes;
                useful.entry(entry.ino).or_default().insert(range);
            } else if readers.contains(&entry.by) {
                evidence.readahead += entry.bytes - wanted(entry.ino, &range);
            }
        }
        let used: u64 =
            useful.iter().flat_map(|(ino, set)| set.iter().map(|range| wanted(*ino, &range))).sum();
        evidence.wasted = evidence.fetched.saturating_sub(used);
        evidence.covered = covered(record, outcome, drops_pages);
        let of_reader = record.entries.iter().filter(|entry| readers.contains(&entry.by));
        let first = of_reader.map(|entry| entry.arrived).min().unwrap_or(u64::MAX);
        evidence.early = record.entries.iter().filter(|entry| entry.arrived < first).count() as u64;
        evidence
    }

    fn share(self, part: u64) -> f64 {
        if self.read == 0 { 0.0 } else { part as f64 / self.read as f64 }
    }

    pub fn coverage(self) -> f64 {
        self.share(self.covered)
    }

    pub fn waste(self) -> f64 {
        self.share(self.wasted)
    }

    pub fn fetched(self) -> f64 {
        self.share(self.fetched)
    }

    pub fn readahead(self) -> f64 {
        self.share(self.readahead)
    }
}

fn pages(range: Range<u64>) -> Range<u64> {
    range.start / PAGE * PAGE..range.end.div_ceil(PAGE) * PAGE
}

/// Goes through answers and accesses in the order of time, keeping what is in memory.
fn covered(record: &Record, outcome: &Outcome, drops_pages: bool) -> u64 {
    let mut answers: Vec<_> = record
        .entries
        .iter()
        .filter(|entry| entry.request == Request::Read || (drops_pages && entry.request == Request::Open))
        .collect();
    answers.sort_by_key(|entry| entry.answered);
    let mut accesses: Vec<_> = outcome.accesses.iter().collect();
    accesses.sort_by_key(|access| access.begun);
    let mut memory: HashMap<u64, RangeSet> = HashMap::new();
    let mut answers = answers.into_iter().peekable();
    let mut covered = 0;
    for access in accesses {
        while let Some(entry) = answers.next_if(|entry| entry.answered <= access.begun) {
            let set = memory.entry(entry.ino).or_default();
            match entry.request {
                Request::Open => set.clear(),
                _ => set.insert(entry.offset..entry.offset.saturating_add(entry.bytes)),
            }
        }
        let range = access.offset..access.offset.saturating_add(access.bytes);
        covered += memory.get(&access.ino).map_or(0, |set| set.overlap(range));
    }
    covered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::outcome::Access;
    use crate::store::journal::Entry;

    const AGENT: u32 = 7;
    const READER: u32 = 9;

    fn answer(request: Request, by: u32, offset: u64, bytes: u64, answered: u64) -> Entry {
        Entry { request, by, ino: 2, offset, bytes, arrived: answered - 5, answered }
    }

    fn access(offset: u64, bytes: u64, begun: u64) -> Access {
        Access { ino: 2, offset, bytes, begun }
    }

    fn outcome(accesses: Vec<Access>) -> Outcome {
        let bytes = accesses.iter().map(|access| access.bytes).sum();
        Outcome { bytes, accesses, processes: vec![READER], ..Outcome::default() }
    }

    #[test]
    fn every_byte_has_one_fate() {
        let record = Record {
            entries: vec![
                answer(Request::Lookup, READER, 0, 0, 10),
                answer(Request::Read, AGENT, 0, 8192, 20),
                answer(Request::Read, READER, 8192, 8192, 40),
                answer(Request::Read, AGENT, 16_384, 4096, 60),
            ],
            omitted: 0,
        };
        let read = outcome(vec![access(0, 4096, 30), access(4096, 8192, 35), access(16_384, 10, 50)]);
        let evidence = Evidence::weigh(&record, &read, Some(AGENT), false);
        // The last read began while its page was being fetched: late, not covered.
        assert_eq!((evidence.covered, evidence.read), (8192, 12_298));
        assert_eq!((evidence.fetched, evidence.wasted), (12_288, 0), "a page read in part is read");
        assert_eq!(evidence.readahead, 4096);
        assert_eq!(evidence.early, 0);
    }

    #[test]
    fn unread_repeated_and_early_fetches_are_seen() {
        let record = Record {
            entries: vec![
                answer(Request::Read, AGENT, 0, 4096, 10),
                answer(Request::Read, AGENT, 0, 4096, 20),
                answer(Request::Read, AGENT, 8192, 4096, 30),
                answer(Request::Read, READER, 4096, 4096, 40),
            ],
            omitted: 0,
        };
        let read = outcome(vec![access(0, 8192, 32)]);
        let evidence = Evidence::weigh(&record, &read, Some(AGENT), false);
        assert_eq!((evidence.fetched, evidence.wasted, evidence.early), (12_288, 8192, 3));
        assert!((evidence.coverage() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn an_open_empties_the_file_where_pages_are_dropped() {
        let record = Record {
            entries: vec![answer(Request::Read, AGENT, 0, 4096, 10), answer(Request::Open, READER, 0, 0, 20)],
            omitted: 0,
        };
        let read = outcome(vec![access(0, 4096, 30)]);
        assert_eq!(Evidence::weigh(&record, &read, Some(AGENT), true).covered, 0);
        assert_eq!(Evidence::weigh(&record, &read, Some(AGENT), false).covered, 4096);
    }
}
