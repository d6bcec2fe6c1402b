//! What agents have learned, for the next replica on any node; beside it how workloads read ([`Patterns`]).
//!
//! Bounded by bytes: of what the node that told most has told, the profile that came longest ago goes first, so that
//! an agent that tells without end pushes out its own. Whoever writes AccessProfiles takes what changed and puts back
//! what was kept.

use std::collections::{BTreeMap, BTreeSet};

use super::patterns::{Pattern, Patterns};
use crate::inventory::{First, Name};

/// One profile: fits a message, and an object in etcd several times over.
pub const LARGEST: usize = 96 << 10;

/// All of them: some hundreds of a usual size are a few MiB.
const MOST_BYTES: usize = 32 << 20;

/// Datasets on one source of which a profile says something; of what was kept in the cluster fewer, so that agents' word has room.
const MOST_FIRSTS: usize = 16;
const MOST_KEPT_FIRSTS: usize = 8;

const LONGEST_KEY: usize = 512;

/// (workload, source).
type Key = (Box<str>, Box<str>);

/// Whose pods a workload ran in last, and what they use there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whose {
    /// `namespace/Kind/name`.
    pub owner: Name,
    /// On the file system.
    pub dataset: Name,
}

#[derive(Debug)]
struct Known {
    bytes: Vec<u8>,
    age: u64,
    /// The node that told it; none of what was kept in the cluster.
    teller: Option<Name>,
    /// When that was learned, seconds since 1970.
    kept: Option<i64>,
    /// None where nobody has said.
    whose: Option<Whose>,
    /// By Dataset.
    first: BTreeMap<Name, First>,
}

/// What one node has told.
#[derive(Debug, Default)]
struct Share {
    ages: BTreeSet<u64>,
    bytes: usize,
}

#[derive(Debug, Default)]
pub struct Profiles {
    known: BTreeMap<Key, Known>,
    ages: BTreeMap<u64, Key>,
    shares: BTreeMap<Option<Name>, Share>,
    bytes: usize,
    revision: u64,
    patterns: Patterns,
}

impl Profiles {
    /// Takes a profile over from a node, with what it says of Datasets; of those that it does not name, what was said
    /// before stays. False when it is larger than it may be.
    pub fn put(
        &mut self,
        teller: Option<&Name>,
        workload: &str,
        source: &str,
        bytes: Vec<u8>,
        first: Vec<(Name, First)>,
    ) -> bool {
        let too_long = workload.len() > LONGEST_KEY || source.len() > LONGEST_KEY || workload.is_empty();
        if too_long || bytes.len() > LARGEST || bytes.is_empty() {
            return false;
        }
        let key = (Box::from(workload), Box::from(source));
        self.revision += 1;
        let (age, teller) = (self.revision, teller.cloned());
        let mut known = Known { bytes, age, teller, kept: None, whose: None, first: BTreeMap::new() };
        if let Some(former) = self.take(&key) {
            known.whose = former.whose;
            known.first = former.first;
        }
        for (dataset, first) in first {
            if known.first.len() < MOST_FIRSTS || known.first.contains_key(&dataset) {
                known.first.insert(dataset, first);
            }
        }
        self.keep(key, known);
        while self.bytes > MOST_BYTES {
            let most = self.shares.values().max_by_key(|share| share.bytes);
            let oldest = most.and_then(|share| self.ages.get(share.ages.first()?).cloned());
            if oldest.and_then(|oldest| self.take(&oldest)).is_none() {
                break;
            }
        }
        true
    }

    fn keep(&mut self, key: Key, known: Known) {
        let cost = cost(&key, &known);
        self.bytes += cost;
        let share = self.shares.entry(known.teller.clone()).or_default();
        share.bytes += cost;
        share.ages.insert(known.age);
        self.ages.insert(known.age, key.clone());
        self.known.insert(key, known);
    }

    fn take(&mut self, key: &Key) -> Option<Known> {
        let known = self.known.remove(key)?;
        let cost = cost(key, &known);
        self.bytes = self.bytes.saturating_sub(cost);
        self.ages.remove(&known.age);
        if let Some(share) = self.shares.get_mut(&known.teller) {
            share.bytes = share.bytes.saturating_sub(cost);
            share.ages.remove(&known.age);
            if share.ages.is_empty() {
                self.shares.remove(&known.teller);
            }
        }
        Some(known)
    }

    /// Takes a kept profile over, learned at `kept` (seconds since 1970): in place of one that was kept earlier. Where agents have told one
    /// only what they have not said is taken.
    pub fn restore(
        &mut self,
        workload: &str,
        source: &str,
        bytes: Vec<u8>,
        kept: Option<i64>,
        first: Vec<(Name, First)>,
        whose: Option<Whose>,
    ) {
        let key = (Box::from(workload), Box::from(source));
        let known = self.known.get(&key);
        let told = known.is_some_and(|known| known.teller.is_some());
        if known.is_some_and(|known| !told && known.kept > kept) {
            return;
        }
        if !told && !self.put(None, workload, source, bytes, Vec::new()) {
            return;
        }
        if let Some(mut known) = self.take(&key) {
            for (dataset, first) in first {
                if known.first.contains_key(&dataset) {
                    if !told {
                        known.first.insert(dataset, first);
                    }
                } else if known.first.len() < MOST_KEPT_FIRSTS {
                    known.first.insert(dataset, first);
                }
            }
            if told {
                known.whose = known.whose.or(whose);
            } else {
                (known.whose, known.kept) = (whose, kept);
            }
            self.keep(key, known);
        }
    }

    /// Says whose pods a workload ran in last.
    pub fn ran_for(&mut self, workload: &str, source: &str, whose: Whose) {
        let key = (Box::from(workload), Box::from(source));
        if let Some(mut known) = self.take(&key) {
            known.whose = Some(whose);
            self.keep(key, known);
        }
    }

    /// Whose pods a workload ran in last.
    pub fn whose(&self, workload: &str, source: &str) -> Option<&Whose> {
        self.known.get(&(workload.into(), source.into()))?.whose.as_ref()
    }

    /// The Datasets on a source of which it is known what a workload reads first.
    pub fn firsts(&self, workload: &str, source: &str) -> impl Iterator<Item = &Name> {
        self.known.get(&(workload.into(), source.into())).into_iter().flat_map(|known| known.first.keys())
    }

    /// Grows with each profile that comes.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn get(&self, workload: &str, source: &str) -> Option<&[u8]> {
        self.known.get(&(workload.into(), source.into())).map(|known| known.bytes.as_slice())
    }

    /// What a workload reads first of a Dataset on a source.
    pub fn first(&self, workload: &str, source: &str, dataset: &str) -> Option<&First> {
        self.known.get(&(workload.into(), source.into()))?.first.get(dataset)
    }

    /// Profiles that agents have told after a revision: (workload, source, profile, its revision), oldest first. What
    /// was kept in the cluster is no news there.
    pub fn since(&self, revision: u64) -> impl Iterator<Item = (&str, &str, &[u8], u64)> {
        let newer = self.ages.range(revision.saturating_add(1)..);
        let told = newer.filter_map(|(age, key)| Some((age, key, self.known.get(key)?)));
        let told = told.filter(|(.., known)| known.teller.is_some());
        told.map(|(age, key, known)| (&*key.0, &*key.1, known.bytes.as_slice(), *age))
    }

    /// A node tells how a workload reads a Dataset.
    pub fn pattern(&mut self, teller: &Name, dataset: Name, workload: &str, pattern: Pattern) {
        if workload.len() <= LONGEST_KEY {
            self.patterns.put(teller, dataset, workload, pattern);
        }
    }

    /// How workloads read a Dataset.
    pub fn patterns(&self, dataset: &str) -> impl Iterator<Item = (&str, &Pattern)> {
        self.patterns.of(dataset)
    }

    /// The Dataset is gone.
    pub fn forget(&mut self, dataset: &str) {
        self.patterns.forget(dataset);
        let named = self.known.iter().filter(|(_, known)| known.first.contains_key(dataset));
        let named: Vec<Key> = named.map(|(key, _)| key.clone()).collect();
        for key in named {
            if let Some(mut known) = self.take(&key) {
                known.first.remove(dataset);
                self.keep(key, known);
            }
        }
    }
}

fn cost(key: &Key, known: &Known) -> usize {
    // A run stands in two lists.
    let first = known.first.iter().map(|(name, first)| name.len() + 128 + 16 * first.runs().len());
    // Twice the key, and what the two maps take around it.
    let whose = known.whose.as_ref().map_or(0, |whose| whose.owner.len() + whose.dataset.len());
    2 * (key.0.len() + key.1.len()) + whose + known.bytes.len() + first.sum::<usize>() + 256
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Version;

    #[test]
    fn what_was_said_of_a_dataset_stays_until_something_else_is_or_it_goes() {
        let mut profiles = Profiles::default();
        let first = |start| First::new(Version(1), [start..start + 1]).unwrap();
        let told = |profiles: &Profiles, dataset| profiles.first("w", "s", dataset).cloned();
        profiles.put(None, "w", "s", vec![1], vec![("a/x".into(), first(0)), ("a/y".into(), first(5))]);
        // As an agent of before says it, or one that has not found the files yet.
        profiles.put(None, "w", "s", vec![2], Vec::new());
        assert_eq!((told(&profiles, "a/x"), told(&profiles, "a/y")), (Some(first(0)), Some(first(5))));
        profiles.put(None, "w", "s", vec![3], vec![("a/x".into(), first(9))]);
        assert_eq!((told(&profiles, "a/x"), told(&profiles, "a/y")), (Some(first(9)), Some(first(5))));
        profiles.put(Some(&"n".into()), "w", "s", vec![3], Vec::new());
        let kept = vec![("a/x".into(), first(7)), ("a/z".into(), first(8))];
        profiles.restore("w", "s", vec![4], None, kept, None);
        assert_eq!(told(&profiles, "a/x"), Some(first(9)), "what agents said is later");
        assert_eq!(profiles.get("w", "s"), Some(&[3][..]));
        assert_eq!(told(&profiles, "a/z"), Some(first(8)), "of this they said nothing");
        profiles.forget("a/z");
        profiles.forget("a/x");
        assert_eq!((told(&profiles, "a/x"), told(&profiles, "a/y")), (None, Some(first(5))));
        for number in 0..2 * MOST_FIRSTS {
            profiles.put(None, "w", "s", vec![1], vec![(format!("a/{number}").into(), first(1))]);
        }
        let key = ("w".into(), "s".into());
        assert_eq!(profiles.known.get(&key).unwrap().first.len(), MOST_FIRSTS);
        assert_eq!(profiles.bytes, cost(&key, profiles.known.get(&key).unwrap()), "what is counted is there");
    }

    #[test]
    fn whose_it_is_stays_until_somebody_elses_pods_run_it() {
        let mut profiles = Profiles::default();
        let of = |owner: &str| Whose { owner: owner.into(), dataset: "a/d".into() };
        profiles.ran_for("w", "s", of("a/Job/none"));
        assert_eq!(profiles.whose("w", "s"), None);
        // Kept, and kept anew by another replica: who follows knows it as it is.
        profiles.restore("w", "s", vec![1], Some(5), Vec::new(), None);
        profiles.restore("w", "s", vec![2], Some(6), Vec::new(), Some(of("a/Job/x")));
        profiles.restore("w", "s", vec![9], Some(5), Vec::new(), Some(of("a/Job/former")));
        assert_eq!(
            (profiles.get("w", "s"), profiles.whose("w", "s")),
            (Some(&[2][..]), Some(&of("a/Job/x")))
        );
        profiles.put(Some(&"n".into()), "w", "s", vec![3], Vec::new());
        assert_eq!(profiles.whose("w", "s"), Some(&of("a/Job/x")));
        profiles.ran_for("w", "s", of("a/Job/longer"));
        profiles.restore("w", "s", vec![2], Some(6), Vec::new(), Some(of("a/Job/x")));
        assert_eq!(profiles.whose("w", "s"), Some(&of("a/Job/longer")));
        let key = ("w".into(), "s".into());
        assert_eq!(profiles.bytes, cost(&key, profiles.known.get(&key).unwrap()), "what is counted is there");
        // Told before the kept one was seen: an agent that names no pods does not take away whose it is.
        profiles.put(Some(&"n".into()), "v", "s", vec![3], Vec::new());
        profiles.restore("v", "s", vec![2], Some(6), Vec::new(), Some(of("a/Job/x")));
        assert_eq!(
            (profiles.get("v", "s"), profiles.whose("v", "s")),
            (Some(&[3][..]), Some(&of("a/Job/x")))
        );
    }

    #[test]
    fn who_tells_without_end_pushes_out_its_own() {
        let mut profiles = Profiles::default();
        let [honest, liar] = ["n1", "n2"].map(Name::from);
        profiles.restore("kept", "s", vec![0; LARGEST], None, Vec::new(), None);
        profiles.put(Some(&honest), "w", "s", vec![0; LARGEST], Vec::new());
        let many = 2 * MOST_BYTES / LARGEST;
        for number in 0..many {
            profiles.put(Some(&liar), &format!("lie {number}"), "s", vec![0; LARGEST], Vec::new());
        }
        assert!(profiles.get("w", "s").is_some() && profiles.get("kept", "s").is_some());
        assert!(profiles.get("lie 0", "s").is_none(), "the oldest goes first");
        assert!(profiles.get(&format!("lie {}", many - 1), "s").is_some());
        assert!(profiles.bytes <= MOST_BYTES && profiles.bytes > MOST_BYTES - 2 * LARGEST);
        let (mut bytes, mut ages) = (0, 0);
        for share in profiles.shares.values() {
            bytes += share.bytes;
            ages += share.ages.len();
        }
        assert_eq!((bytes, ages), (profiles.bytes, profiles.known.len()), "what is counted is there");
    }
}
