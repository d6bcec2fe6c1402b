//! Time passing: misfortunes, pods that come, their reading, their end.

use super::cluster::{Pod, TICK_S};
use super::policy::Policy;
use super::world::{Got, Reader, World};

impl World {
    /// Lets the whole time pass.
    pub fn run(mut self, policy: &mut dyn Policy) -> Self {
        let mut coming = 0;
        let mut waiting: Vec<(usize, Pod)> = Vec::new();
        while self.tick < self.cluster.ticks {
            self.store_left = (self.cluster.store_rate as f64 * TICK_S as f64 * self.store_share) as u64;
            self.send_left.fill(self.cluster.node_rate * TICK_S);
            let due = self.cluster.events.iter().filter(|(at, _)| *at == self.tick);
            for event in due.map(|(_, e)| *e).collect::<Vec<_>>() {
                self.suffer(event);
            }
            self.bury(&mut waiting);
            while let Some(pod) = self.cluster.pods.get(coming).filter(|p| p.at <= self.tick) {
                waiting.push((coming, *pod));
                coming += 1;
            }
            let mut still = Vec::new();
            for (pod, spec) in waiting.drain(..) {
                match policy.choose(&mut self, &spec).filter(|n| self.has_slot(*n)) {
                    Some(node) => {
                        self.used.get_mut(node).into_iter().for_each(|u| *u += 1);
                        let reader = Reader { pod, node, spec, piece: 0, epoch: 0, carry: 0, read: 0 };
                        policy.bound(&self, &reader);
                        self.readers.push(reader);
                    }
                    None => still.push((pod, spec)),
                }
            }
            waiting = still;
            self.tally.homeless += waiting.len() as u64;
            policy.tick(&mut self);
            self.read(policy);
            self.tick += 1;
        }
        self
    }

    /// Pods whose node is gone begin again elsewhere.
    fn bury(&mut self, waiting: &mut Vec<(usize, Pod)>) {
        let up = &self.up;
        let lost: Vec<Reader> =
            self.readers.iter().filter(|r| !up.get(r.node).is_some_and(|u| *u)).copied().collect();
        self.readers.retain(|r| up.get(r.node).is_some_and(|u| *u));
        for reader in lost {
            self.used.get_mut(reader.node).into_iter().for_each(|u| *u -= 1);
            self.tally.killed += 1;
            waiting.push((reader.pod, reader.spec));
        }
    }

    fn read(&mut self, policy: &mut dyn Policy) {
        let mut readers = std::mem::take(&mut self.readers);
        // Another one comes first in each tick.
        let first = if readers.is_empty() { 0 } else { (self.tick as usize * 7_919) % readers.len() };
        readers.rotate_left(first);
        for reader in &mut readers {
            self.advance(policy, reader);
        }
        readers.sort_unstable_by_key(|r| r.pod);
        for reader in readers {
            if reader.epoch < reader.spec.epochs {
                self.readers.push(reader);
            } else {
                self.tally.done += 1;
                self.used.get_mut(reader.node).into_iter().for_each(|u| *u -= 1);
                policy.ended(self, &reader);
            }
        }
    }

    /// One pod's tick: piece by piece, as far as time and givers allow.
    fn advance(&mut self, policy: &mut dyn Policy, reader: &mut Reader) {
        let mut budget = reader.carry + reader.spec.rate * TICK_S;
        reader.carry = 0;
        reader.read = 0;
        let count = self.cluster.datasets.get(reader.spec.dataset).map_or(0, |p| p.count());
        while reader.epoch < reader.spec.epochs {
            let key = (reader.spec.dataset as u32, reader.piece);
            let bytes = self.bytes(key);
            if bytes > budget {
                // What is left is not lost, but nobody saves up more than a piece.
                reader.carry = budget;
                return;
            }
            if self.has(reader.node, key) {
                self.tally.local += bytes;
                self.caches.get_mut(reader.node).into_iter().for_each(|c| c.touch(key));
            } else if policy.get(self, reader.node, key) == Got::Wait {
                self.tally.waited += budget;
                return;
            }
            if self.seen.insert(key) {
                self.tally.distinct += bytes;
            }
            self.tally.read += bytes;
            reader.read += bytes;
            budget -= bytes;
            reader.piece += 1;
            if reader.piece >= count {
                (reader.piece, reader.epoch) = (0, reader.epoch + 1);
            }
        }
    }
}
