//! What was asked of the store, by whom, and when the answer had been handed to the kernel.
//!
//! Counters are exact; entries are bounded, and what no longer fits is counted as `omitted`, so that
//! nobody mistakes a cut journal for a whole one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// 64 bytes each: room for the longest benchmark case ten times over.
const ENTRIES: usize = 500_000;

/// Requesters with counters of their own; the rest share process 0's.
const PROCESSES: usize = 256;

/// What a request was. Only look-up, list and read cost latency, and open where the store charges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    Lookup,
    List,
    Open,
    Read,
    /// getattr, opendir and the like: answered at once.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub request: Request,
    /// The process; 0 is the kernel.
    pub by: u32,
    /// The inode asked for; the parent's for a look-up.
    pub ino: u64,
    /// Of the answer: file bytes, from `offset` on.
    pub offset: u64,
    pub bytes: u64,
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub arrived: u64,
    pub answered: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub requests: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// By process, then by kind of request.
    pub processes: BTreeMap<u32, BTreeMap<Request, Count>>,
    /// Requests that have arrived and wait for their answer.
    pub waiting: u64,
    /// The most that ever waited at once since the last reset.
    pub most_waiting: u64,
}

impl Counters {
    pub fn requests(&self) -> u64 {
        self.processes.values().flat_map(BTreeMap::values).map(|count| count.requests).sum()
    }

    pub fn of(&self, tgid: u32, request: Request) -> Count {
        self.processes.get(&tgid).and_then(|kinds| kinds.get(&request)).copied().unwrap_or_default()
    }
}

#[derive(Debug, Default)]
pub struct Journal {
    entries: Vec<Entry>,
    omitted: u64,
    counters: Counters,
}

/// A copy of the journal, as it goes over the control socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub entries: Vec<Entry>,
    pub omitted: u64,
}

impl Journal {
    pub fn arrived(&mut self) {
        self.counters.waiting += 1;
        self.counters.most_waiting = self.counters.most_waiting.max(self.counters.waiting);
    }

    pub fn answered(&mut self, entry: Entry) {
        self.counters.waiting = self.counters.waiting.saturating_sub(1);
        let known = self.counters.processes.contains_key(&entry.by);
        let by = if known || self.counters.processes.len() < PROCESSES { entry.by } else { 0 };
        let count = self.counters.processes.entry(by).or_default().entry(entry.request).or_default();
        count.requests += 1;
        count.bytes += entry.bytes;
        if self.entries.len() < ENTRIES {
            self.entries.push(entry);
        } else {
            self.omitted += 1;
        }
    }

    pub fn counters(&self) -> Counters {
        self.counters.clone()
    }

    pub fn record(&self) -> Record {
        Record { entries: self.entries.clone(), omitted: self.omitted }
    }

    /// Forgets everything but the requests that still wait for their answer.
    pub fn reset(&mut self) {
        let waiting = self.counters.waiting;
        *self = Self::default();
        self.counters.waiting = waiting;
        self.counters.most_waiting = waiting;
    }
}
