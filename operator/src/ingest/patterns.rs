//! How workloads read Datasets, in agents' words, for people. Pure.
//!
//! Bounded by number: of the node that has most of them the one goes that it told first, so that an agent that tells
//! without end pushes out its own.

use std::collections::BTreeMap;

use crate::inventory::Name;

/// Patterns remembered, one for each Dataset and workload.
const MOST: usize = 4_096;

const LONGEST: usize = 128;

/// How a workload reads a Dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pub words: Box<str>,
    /// Share of its bytes that were in memory in time, in thousandths.
    pub covered_permille: u32,
}

/// (Dataset, workload).
type Key = (Name, Box<str>);

#[derive(Debug)]
struct Told {
    pattern: Pattern,
    teller: Name,
    age: u64,
}

#[derive(Debug, Default)]
pub struct Patterns {
    known: BTreeMap<Key, Told>,
    /// What each node has told, the oldest first.
    shares: BTreeMap<Name, BTreeMap<u64, Key>>,
    age: u64,
}

impl Patterns {
    pub fn put(&mut self, teller: &Name, dataset: Name, workload: &str, pattern: Pattern) {
        if pattern.words.len() > LONGEST {
            return;
        }
        let key = (dataset, Box::from(workload));
        self.take(&key);
        self.age += 1;
        let age = self.age;
        self.shares.entry(teller.clone()).or_default().insert(age, key.clone());
        self.known.insert(key, Told { pattern, teller: teller.clone(), age });
        if self.known.len() > MOST {
            let most = self.shares.values().max_by_key(|share| share.len());
            if let Some(oldest) = most.and_then(|share| share.first_key_value()).map(|(_, key)| key.clone()) {
                self.take(&oldest);
            }
        }
    }

    /// Of a Dataset, by workload.
    pub fn of(&self, dataset: &str) -> impl Iterator<Item = (&str, &Pattern)> {
        let from = (Name::from(dataset), Box::from(""));
        let here = self.known.range(from..).take_while(move |((name, _), _)| **name == *dataset);
        here.map(|((_, workload), told)| (&**workload, &told.pattern)).collect::<Vec<_>>().into_iter()
    }

    /// The Dataset is gone.
    pub fn forget(&mut self, dataset: &str) {
        let here: Vec<Key> =
            self.of(dataset).map(|(workload, _)| (dataset.into(), workload.into())).collect();
        for key in here {
            self.take(&key);
        }
    }

    fn take(&mut self, key: &Key) {
        let Some(told) = self.known.remove(key) else { return };
        if let Some(share) = self.shares.get_mut(&told.teller) {
            share.remove(&told.age);
            if share.is_empty() {
                self.shares.remove(&told.teller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(words: &str) -> Pattern {
        Pattern { words: words.into(), covered_permille: 0 }
    }

    #[test]
    fn who_tells_without_end_pushes_out_its_own() {
        let mut patterns = Patterns::default();
        let [honest, liar, other] = ["n1", "n2", "n3"].map(Name::from);
        patterns.put(&honest, "a/d".into(), "w", pattern("in order"));
        for number in 0..2 * MOST {
            patterns.put(&liar, "a/d".into(), &format!("lie {number}"), pattern("lie"));
        }
        patterns.put(&other, "a/d".into(), "v", pattern("shuffled"));
        let said = |patterns: &Patterns, of: &str| {
            patterns.of("a/d").find(|(workload, _)| *workload == of).map(|(_, told)| told.words.clone())
        };
        assert_eq!(said(&patterns, "w").as_deref(), Some("in order"));
        assert_eq!(said(&patterns, "v").as_deref(), Some("shuffled"), "who comes later is heard");
        assert_eq!(said(&patterns, "lie 0"), None, "the oldest goes first");
        assert_eq!(patterns.known.len(), MOST);
        patterns.put(&other, "a/d".into(), "w", pattern("backwards"));
        patterns.put(&other, "a/d".into(), "w", pattern(&"x".repeat(LONGEST + 1)));
        assert_eq!(said(&patterns, "w").as_deref(), Some("backwards"));
        let shares = |patterns: &Patterns| patterns.shares.values().map(BTreeMap::len).sum::<usize>();
        assert_eq!(shares(&patterns), patterns.known.len(), "what is counted is there");
        patterns.put(&honest, "a/e".into(), "w", pattern("in order"));
        patterns.forget("a/d");
        assert_eq!((patterns.known.len(), shares(&patterns)), (1, 1));
        assert!(patterns.of("a/e").next().is_some());
    }
}
