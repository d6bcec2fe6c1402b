//! Profiles that wait for their workload's next run: bounded, those taken over longest ago give way.

use std::collections::VecDeque;

use crate::profile::Profile;

/// Profiles taken over and not asked for yet: more workloads than begin on a node within the moment from one
/// run's end to the next one's start. Those that gave way are read from disk again.
const TAUGHT: usize = 64;

/// By workload and source of the mount; few enough to be looked through.
#[derive(Debug, Default)]
pub struct Taught {
    held: VecDeque<(Box<str>, Box<str>, Profile)>,
}

impl Taught {
    fn place(&self, workload: &str, source: &str) -> Option<usize> {
        self.held.iter().position(|(of, at, _)| **of == *workload && **at == *source)
    }

    pub fn holds(&self, workload: &str, source: &str) -> bool {
        self.place(workload, source).is_some()
    }

    pub fn take(&mut self, workload: &str, source: &str) -> Option<Profile> {
        let place = self.place(workload, source)?;
        self.held.remove(place).map(|(_, _, profile)| profile)
    }

    pub fn hold(&mut self, workload: &str, source: &str, profile: Profile) {
        self.take(workload, source);
        if self.held.len() >= TAUGHT {
            self.held.pop_front();
        }
        self.held.push_back((workload.into(), source.into(), profile));
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.held.len()
    }
}
