//! Which profile is written next. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ingest::Profiles;

/// (workload, source).
pub type Key = (Box<str>, Box<str>);

/// A profile is written again after this at the soonest: what one run adds to many is little.
const SELDOM: Duration = Duration::from_secs(600);

/// Profiles that wait: as many as the hub holds of a usual size. How many are kept in the cluster follows from how many
/// one Dataset may have (`few`).
const MOST: usize = 4_096;

#[derive(Debug)]
pub struct Turns {
    /// Those that came up to this revision have been looked at.
    seen: u64,
    waiting: BTreeMap<Key, u64>,
    /// Lately, and whether it was known whose it is.
    written: BTreeMap<Key, (Duration, bool)>,
}

impl Turns {
    /// What was known before this replica led is kept already, or was never told to it.
    pub fn begin(revision: u64) -> Self {
        Self { seen: revision, waiting: BTreeMap::new(), written: BTreeMap::new() }
    }

    /// Takes up to `limit` that may be written now, those that wait longest first.
    pub fn due(&mut self, profiles: &Profiles, now: Duration, limit: usize) -> Vec<Key> {
        for (workload, source, _, revision) in profiles.since(self.seen) {
            self.seen = self.seen.max(revision);
            let key = (workload.into(), source.into());
            if self.waiting.len() < MOST || self.waiting.contains_key(&key) {
                self.waiting.entry(key).or_insert(revision);
            }
        }
        self.written.retain(|_, (at, _)| now.saturating_sub(*at) < SELDOM);
        let is_owned = |key: &Key| profiles.whose(&key.0, &key.1).is_some();
        // Whose it is may be known a moment after it is told, and pods are found by that.
        let rests = |key: &Key| self.written.get(key).is_some_and(|(_, owned)| *owned || !is_owned(key));
        let mut due: Vec<(u64, Key)> = self
            .waiting
            .iter()
            .filter(|(key, _)| !rests(key))
            .map(|(key, revision)| (*revision, key.clone()))
            .collect();
        due.sort_unstable();
        due.truncate(limit);
        for (_, key) in &due {
            self.waiting.remove(key);
            self.written.insert(key.clone(), (now, is_owned(key)));
        }
        due.into_iter().map(|(_, key)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::Whose;

    fn put(profiles: &mut Profiles, workload: &str, byte: u8) {
        profiles.put(Some(&"n1".into()), workload, "s", vec![byte], Vec::new());
    }

    fn due(turns: &mut Turns, profiles: &Profiles, now: u64) -> Vec<String> {
        let due = turns.due(profiles, Duration::from_secs(now), 2);
        due.into_iter().map(|(workload, _)| workload.into()).collect()
    }

    #[test]
    fn a_few_at_a_time_and_each_seldom() {
        let mut profiles = Profiles::default();
        put(&mut profiles, "before", 1);
        let mut turns = Turns::begin(profiles.revision());
        assert!(due(&mut turns, &profiles, 0).is_empty());
        for name in ["c", "b", "a"] {
            put(&mut profiles, name, 1);
        }
        // What lies in the cluster already need not be written there.
        profiles.restore("kept", "s", vec![1], None, Vec::new(), None);
        assert_eq!(due(&mut turns, &profiles, 1), ["c", "b"]);
        put(&mut profiles, "c", 2);
        assert_eq!(due(&mut turns, &profiles, 2), ["a"]);
        assert!(due(&mut turns, &profiles, 600).is_empty());
        assert_eq!(due(&mut turns, &profiles, 601), ["c"]);
        assert!(due(&mut turns, &profiles, 10_000).is_empty(), "nothing new was learned");
    }

    #[test]
    fn many_that_were_written_do_not_keep_the_next_out() {
        let mut profiles = Profiles::default();
        let mut turns = Turns::begin(0);
        for number in 0..2 * MOST as u64 {
            put(&mut profiles, &format!("w{number}"), 1);
            assert_eq!(due(&mut turns, &profiles, number).len(), 1, "{number}");
        }
        assert!(turns.written.len() <= 2 * SELDOM.as_secs() as usize);
    }

    #[test]
    fn there_is_a_bound() {
        let mut profiles = Profiles::default();
        let mut turns = Turns::begin(0);
        for number in 0..MOST + 10 {
            put(&mut profiles, &format!("w{number}"), 1);
        }
        let mut count = 0;
        for second in 0..MOST as u64 {
            count += due(&mut turns, &profiles, second % 300).len();
        }
        assert_eq!(count, MOST);
    }

    #[test]
    fn whose_it_is_does_not_wait() {
        let (mut profiles, mut turns) = (Profiles::default(), Turns::begin(0));
        put(&mut profiles, "w", 1);
        assert_eq!(due(&mut turns, &profiles, 0), ["w"]);
        put(&mut profiles, "w", 2);
        assert!(due(&mut turns, &profiles, 30).is_empty());
        profiles.ran_for("w", "s", Whose { owner: "ml/Job/t".into(), dataset: "ml/d".into() });
        assert_eq!(due(&mut turns, &profiles, 60), ["w"]);
        put(&mut profiles, "w", 3);
        assert!(due(&mut turns, &profiles, 90).is_empty(), "once");
    }
}
