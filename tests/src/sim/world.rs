//! What is where, and what pods get of it: truth, where the inventory is hearsay.

use rustc_hash::FxHashMap;

use super::cache::{Cache, Key};
use super::cluster::{Cluster, Event, Pod, TICK_S};
use super::policy::Policy;
use super::random::Random;

/// Copies looked at for a near one: finding the very nearest of thousands is not what is compared here.
const LOOKED_AT: usize = 24;

/// A pod on a node.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    pub pod: usize,
    pub node: usize,
    pub spec: Pod,
    piece: u16,
    epoch: u32,
    /// Bytes that it could have read and has not yet, for want of a whole piece's worth.
    carry: u64,
    /// Bytes read in the last tick.
    pub read: u64,
}

/// Sums of a run, in bytes where nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Read by pods: all, from their own node, from their rack or zone.
    pub read: u64,
    pub local: u64,
    pub near: u64,
    /// From the store, by pods and by orders.
    pub store: u64,
    /// Between nodes.
    pub peer: u64,
    /// Brought by orders, before or beside reading.
    pub ordered: u64,
    /// What pods could have read while nobody had anything to give.
    pub waited: u64,
    /// Pods that came to their end, pods that lost their node, pods that no node had room for, in ticks.
    pub done: u64,
    pub killed: u64,
    pub homeless: u64,
    /// Distinct bytes read.
    pub distinct: u64,
}

#[derive(Debug)]
pub struct World {
    pub cluster: Cluster,
    pub random: Random,
    pub tick: u64,
    pub tally: Tally,
    pub up: Vec<bool>,
    pub used: Vec<usize>,
    pub served: Vec<u64>,
    pub readers: Vec<Reader>,
    caches: Vec<Cache>,
    holders: FxHashMap<Key, Vec<u32>>,
    seen: rustc_hash::FxHashSet<Key>,
    store_left: u64,
    store_share: f64,
    send_left: Vec<u64>,
    /// Pieces that came to or left a node since its last report.
    pub changes: Vec<Vec<Key>>,
}

/// Whether bytes could be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    Yes,
    /// Whoever has them has no more to give in this tick.
    Wait,
}

impl World {
    pub fn new(cluster: Cluster, seed: u64) -> Self {
        let nodes = cluster.sites.len();
        Self {
            random: Random::new(seed ^ 0x5eed),
            tick: 0,
            tally: Tally::default(),
            up: vec![true; nodes],
            used: vec![0; nodes],
            served: vec![0; nodes],
            readers: Vec::new(),
            caches: vec![Cache::default(); nodes],
            holders: FxHashMap::default(),
            seen: Default::default(),
            store_left: 0,
            store_share: 1.0,
            send_left: vec![0; nodes],
            changes: vec![Vec::new(); nodes],
            cluster,
        }
    }

    pub fn bytes(&self, key: Key) -> u64 {
        let pieces = self.cluster.datasets.get(key.0 as usize);
        pieces.map_or(0, |p| p.bytes(&p.chunks(key.1)))
    }

    pub fn has(&self, node: usize, key: Key) -> bool {
        self.caches.get(node).is_some_and(|c| c.has(key))
    }

    pub fn cache(&self, node: usize) -> Option<&Cache> {
        self.caches.get(node)
    }

    pub fn has_slot(&self, node: usize) -> bool {
        self.up.get(node).is_some_and(|up| *up)
            && self.used.get(node).is_some_and(|u| *u < self.cluster.slots)
    }

    /// 0: the same rack, 1: the same zone, 2: farther.
    pub fn distance(&self, a: usize, b: usize) -> u8 {
        match (self.cluster.sites.get(a), self.cluster.sites.get(b)) {
            (Some(a), Some(b)) if a.zone == b.zone && a.rack == b.rack => 0,
            (Some(a), Some(b)) if a.zone == b.zone => 1,
            _ => 2,
        }
    }

    /// A near copy with something left to give, among some of those there are.
    pub fn near_copy(&self, node: usize, key: Key) -> Option<usize> {
        let holders = self.holders.get(&key)?;
        let start = (operator::inventory::hash::mix(node as u64 ^ self.tick << 32 ^ u64::from(key.1))
            % holders.len().max(1) as u64) as usize;
        let around = holders.iter().cycle().skip(start).take(holders.len().min(LOOKED_AT));
        let bytes = self.bytes(key);
        let able = around.map(|n| *n as usize).filter(|n| *n != node && self.can_send(*n, bytes));
        able.min_by_key(|n| self.distance(node, *n))
    }

    pub fn copies(&self, key: Key) -> usize {
        self.holders.get(&key).map_or(0, Vec::len)
    }

    fn can_send(&self, node: usize, bytes: u64) -> bool {
        self.send_left.get(node).is_some_and(|left| *left >= bytes)
    }

    /// Sends a piece from one node to another.
    pub fn send(&mut self, from: usize, key: Key) -> Got {
        let bytes = self.bytes(key);
        match self.send_left.get_mut(from) {
            Some(left) if *left >= bytes => *left -= bytes,
            _ => return Got::Wait,
        }
        if let Some(served) = self.served.get_mut(from) {
            *served += bytes;
        }
        self.tally.peer += bytes;
        Got::Yes
    }

    /// Reads a piece from the store.
    pub fn fetch(&mut self, key: Key) -> Got {
        let bytes = self.bytes(key);
        if self.store_left < bytes {
            return Got::Wait;
        }
        self.store_left -= bytes;
        self.tally.store += bytes;
        Got::Yes
    }

    pub fn put(&mut self, node: usize, key: Key, keep: bool) {
        let (bytes, most) = (self.bytes(key), self.cluster.cache + self.cluster.ram);
        let Some(cache) = self.caches.get_mut(node) else { return };
        let had = cache.has(key);
        let gone = cache.insert(key, bytes, keep, most);
        let has = cache.has(key);
        if had != has {
            self.note(node, key, has);
        }
        for key in gone {
            self.note(node, key, false);
        }
    }

    pub fn let_go(&mut self, node: usize, key: Key) {
        if let Some(cache) = self.caches.get_mut(node) {
            cache.let_go(key);
        }
    }

    fn note(&mut self, node: usize, key: Key, has: bool) {
        let holders = self.holders.entry(key).or_default();
        if has {
            holders.push(node as u32);
        } else if let Some(at) = holders.iter().position(|n| *n as usize == node) {
            holders.swap_remove(at);
        }
        if let Some(changes) = self.changes.get_mut(node) {
            changes.push(key);
        }
    }

    fn suffer(&mut self, event: Event) {
        match event {
            Event::Store(share) => self.store_share = share,
            Event::NodeUp(node) => {
                if let Some(up) = self.up.get_mut(node) {
                    *up = true;
                }
            }
            Event::NodeDown(node) => {
                if let Some(up) = self.up.get_mut(node) {
                    *up = false;
                }
                for key in self.caches.get(node).map(Cache::keys).unwrap_or_default() {
                    self.note(node, key, false);
                }
                if let Some(cache) = self.caches.get_mut(node) {
                    *cache = Cache::default();
                }
                self.changes.get_mut(node).into_iter().for_each(Vec::clear);
            }
        }
    }

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

    /// The usual way to bytes: a near copy, else the store; they stay with the reader while there is room.
    pub fn get_near(&mut self, node: usize, key: Key) -> Got {
        let from = self.near_copy(node, key);
        let got = match from {
            Some(from) => self.send(from, key),
            None => self.fetch(key),
        };
        if got == Got::Yes {
            if from.is_some_and(|from| self.distance(node, from) < 2) {
                self.tally.near += self.bytes(key);
            }
            self.put(node, key, false);
        }
        got
    }
}
