//! A node's bytes: pieces it was told to keep, and the pieces read last beside them.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

/// A piece of a Dataset.
pub type Key = (u32, u16);

#[derive(Clone, Debug, Default)]
pub struct Cache {
    /// Bytes, and when used last; none for kept ones.
    pieces: FxHashMap<Key, (u64, Option<u64>)>,
    order: BTreeMap<u64, Key>,
    bytes: u64,
    kept: u64,
    clock: u64,
}

impl Cache {
    pub fn has(&self, key: Key) -> bool {
        self.pieces.contains_key(&key)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn kept(&self) -> u64 {
        self.kept
    }

    pub fn touch(&mut self, key: Key) {
        self.clock += 1;
        if let Some((_, Some(used))) = self.pieces.get_mut(&key) {
            self.order.remove(used);
            *used = self.clock;
            self.order.insert(self.clock, key);
        }
    }

    /// Puts a piece in; returns what had to go. A kept piece may push out used ones only, and comes always.
    pub fn insert(&mut self, key: Key, bytes: u64, keep: bool, most: u64) -> Vec<Key> {
        self.remove(key);
        let mut gone = Vec::new();
        while self.bytes + bytes > most {
            let Some((_, old)) = self.order.pop_first() else { break };
            self.remove(old);
            gone.push(old);
        }
        if self.bytes + bytes > most && !keep {
            return gone;
        }
        self.clock += 1;
        self.bytes += bytes;
        if keep {
            self.kept += bytes;
        } else {
            self.order.insert(self.clock, key);
        }
        self.pieces.insert(key, (bytes, (!keep).then_some(self.clock)));
        gone
    }

    pub fn remove(&mut self, key: Key) -> bool {
        let Some((bytes, used)) = self.pieces.remove(&key) else { return false };
        self.bytes -= bytes;
        match used {
            Some(used) => drop(self.order.remove(&used)),
            None => self.kept -= bytes,
        }
        true
    }

    /// Kept no longer: goes when room is wanted.
    pub fn let_go(&mut self, key: Key) {
        if let Some((bytes, used @ None)) = self.pieces.get_mut(&key) {
            self.clock += 1;
            self.kept -= *bytes;
            *used = Some(self.clock);
            self.order.insert(self.clock, key);
        }
    }

    pub fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self.pieces.keys().copied().collect();
        keys.sort_unstable();
        keys
    }
}
