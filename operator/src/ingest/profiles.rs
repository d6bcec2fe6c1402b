//! What agents have learned, for the next replica on any node; and how workloads read, for people.
//!
//! Bounded by bytes: the profile that came longest ago goes first. Whoever writes AccessProfiles takes what
//! changed and puts back what was kept.

use std::collections::BTreeMap;

use crate::inventory::Name;

/// One profile: fits a message, and an object in etcd several times over.
pub const LARGEST: usize = 96 << 10;

/// All of them: some hundreds of a usual size are a few MiB.
const MOST_BYTES: usize = 32 << 20;

/// Patterns remembered, one for each Dataset and workload.
const MOST_PATTERNS: usize = 4_096;

const LONGEST_KEY: usize = 512;
const LONGEST_PATTERN: usize = 128;

/// (workload, source).
type Key = (Box<str>, Box<str>);

#[derive(Debug, Default)]
pub struct Profiles {
    known: BTreeMap<Key, (Vec<u8>, u64)>,
    ages: BTreeMap<u64, Key>,
    bytes: usize,
    revision: u64,
    patterns: BTreeMap<(Name, Box<str>), Pattern>,
}

/// How a workload reads a Dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pub words: Box<str>,
    /// Share of its bytes that were in memory in time, in thousandths.
    pub covered_permille: u32,
}

impl Profiles {
    /// Takes a profile over; false when it is larger than it may be.
    pub fn put(&mut self, workload: &str, source: &str, bytes: Vec<u8>) -> bool {
        let too_long = workload.len() > LONGEST_KEY || source.len() > LONGEST_KEY || workload.is_empty();
        if too_long || bytes.len() > LARGEST || bytes.is_empty() {
            return false;
        }
        let key = (Box::from(workload), Box::from(source));
        self.revision += 1;
        self.bytes += cost(&key, &bytes);
        if let Some((former, age)) = self.known.insert(key.clone(), (bytes, self.revision)) {
            self.bytes -= cost(&key, &former);
            self.ages.remove(&age);
        }
        self.ages.insert(self.revision, key);
        while self.bytes > MOST_BYTES
            && let Some((_, oldest)) = self.ages.pop_first()
        {
            if let Some((bytes, _)) = self.known.remove(&oldest) {
                self.bytes -= cost(&oldest, &bytes);
            }
        }
        true
    }

    /// Takes a kept profile over, unless agents have told of a later one.
    pub fn restore(&mut self, workload: &str, source: &str, bytes: Vec<u8>) {
        if self.get(workload, source).is_none() {
            self.put(workload, source, bytes);
        }
    }

    /// Grows with each profile that comes.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn get(&self, workload: &str, source: &str) -> Option<&[u8]> {
        self.known.get(&(workload.into(), source.into())).map(|(bytes, _)| bytes.as_slice())
    }

    /// Profiles that came after a revision: (workload, source, profile, its revision), oldest first.
    pub fn since(&self, revision: u64) -> impl Iterator<Item = (&str, &str, &[u8], u64)> {
        let newer = self.ages.range(revision.saturating_add(1)..);
        newer.filter_map(|(age, key)| Some((&*key.0, &*key.1, self.known.get(key)?.0.as_slice(), *age)))
    }

    pub fn pattern(&mut self, dataset: Name, workload: &str, pattern: Pattern) {
        if workload.len() > LONGEST_KEY || pattern.words.len() > LONGEST_PATTERN {
            return;
        }
        let key = (dataset, Box::from(workload));
        if self.patterns.len() < MOST_PATTERNS || self.patterns.contains_key(&key) {
            self.patterns.insert(key, pattern);
        }
    }

    /// How workloads read a Dataset.
    pub fn patterns(&self, dataset: &str) -> impl Iterator<Item = (&str, &Pattern)> {
        let from = (Name::from(dataset), Box::from(""));
        let here = self.patterns.range(from..).take_while(move |((name, _), _)| **name == *dataset);
        here.map(|((_, workload), pattern)| (&**workload, pattern)).collect::<Vec<_>>().into_iter()
    }

    /// The Dataset is gone.
    pub fn forget(&mut self, dataset: &str) {
        self.patterns.retain(|(name, _), _| **name != *dataset);
    }
}

fn cost(key: &Key, bytes: &[u8]) -> usize {
    // Twice the key, and what the two maps take around it.
    2 * (key.0.len() + key.1.len()) + bytes.len() + 256
}
