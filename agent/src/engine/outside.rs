//! What is told beyond this node, and what is asked for from there: the reporter's questions, answered in between
//! like a person's.

use std::collections::{HashMap, VecDeque};

use agent_core::{Door, Extent, Observation, Order, OrderId, Outcome, Pages};
use tokio::sync::mpsc;

use super::{Engine, now};
use crate::api::query::{Errand, ErrandEnd, Exchange, Learned, OutsideQuery, Stirring};
use crate::prefetch::NO_TIME;

/// The core's own orders count from 1 and never come here.
pub const FIRST_ERRAND: u64 = 1 << 63;

/// Workloads whose profiles wait for the reporter; the oldest are left out.
const WAITING: usize = 64;

/// Errands whose pages are remembered; the reporter has fewer under way.
const UNDER_WAY: usize = 256;

/// Given out for one question, so that the reporter keeps to what an agent may send.
const AT_ONCE: usize = 8;

/// Workloads whose pods are remembered; the one that began longest ago goes first.
const WORKLOADS: usize = 1_024;

/// Pods remembered of each: no more than are told.
const PODS: usize = 16;

type Key = (Box<str>, Box<str>);

/// Kept from the first question on.
#[derive(Debug, Default)]
pub struct Outside {
    asked: bool,
    learned: VecDeque<(Box<str>, Box<str>, Vec<u8>)>,
    wanted: VecDeque<Key>,
    /// Where workloads run, or ran lately: (workload, pods by uid, the latest first), the latest last.
    pods: VecDeque<(Box<str>, VecDeque<Box<str>>)>,
    ends: Option<mpsc::Sender<ErrandEnd>>,
    /// What each errand under way asks for.
    pages: HashMap<u64, Vec<Pages>>,
}

impl Outside {
    /// A process of a workload runs in a pod.
    pub fn runs_in(&mut self, workload: &str, uid: &str) {
        let known = self.pods.iter().position(|(name, _)| **name == *workload);
        let (_, mut pods) = known.and_then(|at| self.pods.remove(at)).unwrap_or_default();
        pods.retain(|known| **known != *uid);
        pods.push_front(uid.into());
        pods.truncate(PODS);
        if self.pods.len() >= WORKLOADS {
            self.pods.pop_front();
        }
        self.pods.push_back((workload.into(), pods));
    }

    fn pods_of(&self, workload: &str) -> Vec<Box<str>> {
        let known = self.pods.iter().rev().find(|(name, _)| **name == *workload);
        known.into_iter().flat_map(|(_, pods)| pods.iter().cloned()).collect()
    }

    /// A profile has changed.
    pub fn learned(&mut self, profiles: &[(Box<str>, Box<str>, Vec<u8>)]) {
        if !self.asked {
            return;
        }
        for profile in profiles {
            self.learned.retain(|(workload, source, _)| (workload, source) != (&profile.0, &profile.1));
            self.learned.push_back(profile.clone());
            if self.learned.len() > WAITING {
                self.learned.pop_front();
            }
        }
    }

    /// Nothing is known here of a workload that begins.
    pub fn wanted(&mut self, workload: &str, source: &str) {
        if self.asked {
            self.wanted.push_back((workload.into(), source.into()));
            if self.wanted.len() > WAITING {
                self.wanted.pop_front();
            }
        }
    }

    /// Takes the answer to an errand, and says what of it the core should know; `None` where it is one of the
    /// core's. Pages that were there already are told by no record: after records were lost, the core would never
    /// know of them again, and a pin would be looked after for ever.
    pub fn take(&mut self, observation: &Observation) -> Option<Option<Observation>> {
        let Observation::Fetched { id, outcome, file, .. } = observation else { return None };
        if id.0 < FIRST_ERRAND {
            return None;
        }
        if let Some(ends) = &self.ends {
            // The reporter has room for all that it has under way; should it not, it has ended.
            let _ = ends.try_send(ErrandEnd { id: *id, outcome: *outcome });
        }
        let pages = self.pages.remove(&id.0);
        let resident = pages.zip(*file).filter(|_| *outcome == Outcome::Done);
        Some(resident.map(|(pages, file)| Observation::Resident { file, pages }))
    }
}

impl Engine {
    pub(super) fn outside(&mut self, query: OutsideQuery) {
        match query {
            OutsideQuery::Stirred { limit, again, reply } => {
                if again {
                    self.core.stir_again();
                }
                let stirring = Stirring { stir: self.core.stirred(limit), readings: self.core.readings() };
                // An asker that has left misses it: it asks for all again when it comes back.
                if reply.send(stirring).is_err() {
                    self.core.stir_again();
                }
            }
            OutsideQuery::Profiles { reply } => {
                self.outside.asked = true;
                let Outside { learned, wanted, .. } = &mut self.outside;
                let changed: Vec<_> = learned.drain(..learned.len().min(AT_ONCE)).collect();
                let wanted = wanted.drain(..wanted.len().min(AT_ONCE)).collect();
                let told = changed.into_iter().map(|(workload, source, profile)| {
                    let pods = self.outside.pods_of(&workload);
                    Learned { workload, source, profile, pods }
                });
                let _ = reply.send(Exchange { learned: told.collect(), wanted });
            }
            OutsideQuery::Teach { workload, source, profile } => {
                self.apply(&Observation::Profile { workload, source, bytes: profile.into() }, now());
            }
            OutsideQuery::Errands { errands, unwanted, ends } => {
                self.outside.ends = Some(ends);
                for id in unwanted {
                    self.prefetch.submit(Order::Cancel { id: OrderId(id.0 | FIRST_ERRAND) });
                }
                for Errand { id, mount, path, pages, let_go } in errands {
                    let id = OrderId(id.0 | FIRST_ERRAND);
                    if let_go {
                        self.prefetch.let_go(id, mount, path, pages);
                        continue;
                    }
                    if self.outside.pages.len() < UNDER_WAY {
                        self.outside.pages.insert(id.0, pages.clone());
                    }
                    let (door, extent) = (Door::Open, Extent::Ranges(pages));
                    // Readers' own predictions go first: their deadlines are sooner than never.
                    let deadline = NO_TIME;
                    self.prefetch.submit(Order::Fetch {
                        id,
                        mount,
                        path,
                        file: None,
                        door,
                        via: 0,
                        extent,
                        deadline,
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use agent_core::{FileKey, Nanos};

    use super::*;

    #[test]
    fn the_pods_that_a_workload_ran_in_are_told_with_what_it_taught() {
        let mut outside = Outside::default();
        for uid in ["a", "b", "a"] {
            outside.runs_in("pod exe=/x", uid);
        }
        outside.runs_in("pod exe=/y", "c");
        let told = |outside: &Outside, workload| outside.pods_of(workload).join(" ");
        assert_eq!(
            (told(&outside, "pod exe=/x"), told(&outside, "host exe=/x")),
            ("a b".into(), String::new())
        );
        for number in 0..2 * WORKLOADS {
            outside.runs_in("pod exe=/x", &number.to_string());
            outside.runs_in(&format!("pod exe=/{number}"), "d");
        }
        assert_eq!(outside.pods.len(), WORKLOADS);
        assert_eq!(outside.pods_of("pod exe=/x").len(), PODS);
        assert_eq!(outside.pods_of("pod exe=/x")[0], (2 * WORKLOADS - 1).to_string().into());
        assert_eq!(told(&outside, "pod exe=/y"), "", "it began longest ago");
    }

    #[test]
    fn what_an_errand_found_there_is_told_to_the_core() {
        let file = FileKey { dev: 1, ino: 2 };
        let answer = |id, outcome| Observation::Fetched {
            id: OrderId(id),
            outcome,
            file: Some(file),
            size: 40_000,
            bytes: 0,
            took: Nanos(1),
        };
        let mut outside = Outside::default();
        assert!(outside.take(&answer(7, Outcome::Done)).is_none(), "the core's own");
        for id in [FIRST_ERRAND, FIRST_ERRAND + 1] {
            outside.pages.insert(id, vec![0..10]);
        }
        let told = outside.take(&answer(FIRST_ERRAND, Outcome::Done)).unwrap();
        assert!(
            matches!(&told, Some(Observation::Resident { file: of, pages }) if *of == file && *pages == [0..10]),
            "{told:?}"
        );
        assert!(outside.take(&answer(FIRST_ERRAND + 1, Outcome::Failed)).unwrap().is_none());
        assert!(outside.pages.is_empty());
        assert!(outside.take(&answer(FIRST_ERRAND, Outcome::Done)).unwrap().is_none(), "it let pages go");
    }
}
