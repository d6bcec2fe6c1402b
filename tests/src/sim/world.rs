//! What is where, and what pods get of it: truth, where the inventory is hearsay.

use rustc_hash::FxHashMap;

use super::cache::{Cache, Key};
use super::cluster::{Cluster, Event, Pod};
use super::random::Random;

/// Copies looked at for a near one: finding the very nearest of thousands is not what is compared here.
const LOOKED_AT: usize = 24;

/// A pod on a node.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    pub pod: usize,
    pub node: usize,
    pub spec: Pod,
    pub(super) piece: u16,
    pub(super) epoch: u32,
    /// Bytes that it could have read and has not yet, for want of a whole piece's worth.
    pub(super) carry: u64,
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
    pub(super) caches: Vec<Cache>,
    holders: FxHashMap<Key, Vec<u32>>,
    pub(super) seen: rustc_hash::FxHashSet<Key>,
    pub(super) store_left: u64,
    pub(super) store_share: f64,
    pub(super) send_left: Vec<u64>,
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

    pub(super) fn suffer(&mut self, event: Event) {
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
