//! What is resident on this node, and what the operator has been told of it: reports are the difference.
//!
//! Kept in both forms, so that any number of changes costs no more than what they come to, and so that nothing
//! piles up while nobody listens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use operator_api::report::v1 as wire;

use super::chunks::ChunkSet;

/// Datasets' versions with something resident, in both tiers; a node with more has forgotten to unmount.
const MOST: usize = 8_192;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// `namespace/name`: numbers change with the operator's life.
    pub dataset: Arc<str>,
    pub version: u128,
    pub tier: Tier,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    PageCache,
    Cache,
}

#[derive(Debug, Default)]
struct Entry {
    now: Holding,
    told: Holding,
}

/// What a tier holds of a version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    pub whole: ChunkSet,
    /// Bytes in chunks that are not whole.
    pub partial: u64,
}

impl Holding {
    fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.partial == 0
    }
}

#[derive(Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<Key, Entry>,
    changed: BTreeSet<Key>,
    /// Changes that were not taken because there were too many versions.
    pub refused: u64,
}

impl Ledger {
    pub fn get(&self, key: &Key) -> Option<&Holding> {
        self.entries.get(key).map(|entry| &entry.now)
    }

    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.entries.keys()
    }

    /// Nothing of it is resident.
    pub fn clear(&mut self, key: &Key) {
        if self.entries.contains_key(key) {
            self.change(key, |held| *held = Holding::default());
        }
    }

    /// Changes what is resident.
    pub fn change(&mut self, key: &Key, change: impl FnOnce(&mut Holding)) {
        if self.entries.len() >= MOST && !self.entries.contains_key(key) {
            self.refused += 1;
            return;
        }
        let entry = self.entries.entry(key.clone()).or_default();
        change(&mut entry.now);
        if entry.now == entry.told {
            self.changed.remove(key);
            if entry.now.is_empty() {
                self.entries.remove(key);
            }
        } else {
            self.changed.insert(key.clone());
        }
    }

    /// The operator knows nothing (any more): everything is to be told.
    pub fn forget_told(&mut self) {
        self.entries.retain(|_, entry| !entry.now.is_empty());
        for entry in self.entries.values_mut() {
            entry.told = Holding::default();
        }
        self.changed = self.entries.keys().cloned().collect();
    }

    /// Of Datasets that are bound no more the operator forgets what it was told: it is told anew when they are bound again.
    pub fn forget_unbound(&mut self, is_bound: impl Fn(&str) -> bool) {
        let Self { entries, changed, .. } = self;
        entries.retain(|key, entry| {
            if is_bound(&key.dataset) {
                return true;
            }
            entry.told = Holding::default();
            let keeps = !entry.now.is_empty();
            if keeps {
                changed.insert(key.clone());
            } else {
                changed.remove(key);
            }
            keeps
        });
    }

    pub fn has_changes(&self, number: impl Fn(&str) -> Option<u32>) -> bool {
        self.changed.iter().any(|key| number(&key.dataset).is_some())
    }

    /// Takes the next part of the difference: at most so many entries and ranges. Datasets without a number are
    /// left for later. From here on it counts as told.
    pub fn take(
        &mut self,
        entries: usize,
        ranges: usize,
        number: impl Fn(&str) -> Option<u32>,
    ) -> Vec<wire::Residency> {
        let mut out = Vec::new();
        let mut room = ranges;
        let mut done = Vec::new();
        for key in &self.changed {
            if out.len() >= entries || room == 0 {
                break;
            }
            let Some(dataset) = number(&key.dataset) else { continue };
            let Some(entry) = self.entries.get_mut(key) else { continue };
            let mut removed = entry.told.whole.without(&entry.now.whole);
            let mut added = entry.now.whole.without(&entry.told.whole);
            removed.truncate(room);
            added.truncate(room - removed.len());
            room -= removed.len() + added.len();
            for &(start, end) in &removed {
                entry.told.whole.remove(start, end);
            }
            for &(start, end) in &added {
                entry.told.whole.insert(start, end);
            }
            let partial = (entry.told.partial != entry.now.partial).then_some(entry.now.partial);
            entry.told.partial = entry.now.partial;
            let flat = |runs: Vec<(u32, u32)>| runs.into_iter().flat_map(|(s, e)| [s, e - s]).collect();
            out.push(wire::Residency {
                dataset,
                version_high: (key.version >> 64) as u64,
                version_low: key.version as u64,
                tier: match key.tier {
                    Tier::PageCache => wire::Tier::PageCache.into(),
                    Tier::Cache => wire::Tier::Cache.into(),
                },
                removed: flat(removed),
                added: flat(added),
                partial_bytes: partial,
            });
            if entry.told == entry.now {
                done.push(key.clone());
            }
        }
        for key in done {
            self.changed.remove(&key);
            if self.entries.get(&key).is_some_and(|entry| entry.now.is_empty()) {
                self.entries.remove(&key);
            }
        }
        out
    }
}
