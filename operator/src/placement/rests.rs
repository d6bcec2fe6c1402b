//! What nodes were told, and has ended: when it may be told again, and under which number. Pure.
//!
//! The number is part of an instruction's identity, and an agent answers an identity that it has met from memory. So a
//! node's numbers only grow: what is forgotten for want of room raises the number that everything unknown begins with.

use rustc_hash::FxHashMap;

use crate::inventory::{Millis, NodeId};

/// Between an end and the next try, doubled with each: a report that says what is there now takes some seconds,
/// and memory that let bytes go once will not keep them a moment later.
const REST_MS: u64 = 60_000;
const REST_DOUBLED: u8 = 4;

/// Of one node, where some rest no longer: 2 KiB. Beyond it one of those is forgotten, and with it how often it has ended.
const MANY: usize = 128;

/// Of one node that all rest. Beyond it the one whose rest ends first is forgotten, and everything unknown rests as long.
const MOST: usize = 1_024;

/// An agent that names a greater one of an earlier life says nonsense: at a minute each they take a thousand years.
const MAX_NUMBER: u32 = 1 << 29;

#[derive(Clone, Debug, Default)]
pub struct Rests {
    nodes: FxHashMap<NodeId, Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// The number of what is not remembered, and until when that rests, in seconds.
    floor: u32,
    floor_until: u32,
    /// Sorted by key.
    rests: Vec<Rest>,
}

#[derive(Clone, Copy, Debug)]
struct Rest {
    /// Half of a plan's identity: two that share it share a rest, which harms neither.
    key: u32,
    /// In seconds.
    until: u32,
    /// Of the next try.
    number: u32,
    /// How often it has ended, as far as that counts.
    ended: u8,
}

fn key(id: u64) -> u32 {
    id as u32
}

fn seconds(ms: u64) -> u32 {
    u32::try_from(ms / 1_000).unwrap_or(u32::MAX)
}

impl Node {
    fn get(&self, id: u64) -> Option<&Rest> {
        self.rests.binary_search_by_key(&key(id), |rest| rest.key).ok().and_then(|at| self.rests.get(at))
    }

    /// Makes room for one more.
    fn make_room(&mut self, now: u32) {
        if self.rests.len() < MANY {
            return;
        }
        let first = self.rests.iter().enumerate().min_by_key(|(_, rest)| rest.until);
        let Some((at, until)) = first.map(|(at, rest)| (at, rest.until)) else { return };
        if until <= now || self.rests.len() >= MOST {
            self.floor = self.floor.max(self.rests.remove(at).number);
            self.floor_until = self.floor_until.max(until);
        }
    }

    fn entry(&mut self, id: u64, now: u32) -> Option<&mut Rest> {
        let key = key(id);
        let at = match self.rests.binary_search_by_key(&key, |rest| rest.key) {
            Ok(at) => at,
            Err(_) => {
                self.make_room(now);
                let at = self.rests.partition_point(|other| other.key < key);
                self.rests.insert(at, Rest { key, until: 0, number: self.floor, ended: 0 });
                at
            }
        };
        self.rests.get_mut(at)
    }
}

impl Rests {
    /// It has ended and, should it still be lacking, is told again only after a rest.
    pub fn rest(&mut self, node: NodeId, id: u64, now: Millis) {
        let Some(rest) = self.nodes.entry(node).or_default().entry(id, seconds(now.0)) else { return };
        rest.until =
            seconds(now.0.saturating_add(REST_MS << rest.ended.min(REST_DOUBLED)).saturating_add(999));
        rest.number = rest.number.saturating_add(1);
        rest.ended = rest.ended.saturating_add(1);
    }

    /// An earlier life has told it under this number.
    pub fn tried(&mut self, node: NodeId, id: u64, number: u32) {
        if number > MAX_NUMBER {
            return;
        }
        let node = self.nodes.entry(node).or_default();
        // What an agent names of an earlier life pushes nothing out.
        if node.rests.len() >= MANY && node.get(id).is_none() {
            node.floor = node.floor.max(number);
        } else if let Some(rest) = node.entry(id, 0) {
            rest.number = rest.number.max(number);
        }
    }

    /// The number of its next try.
    pub fn number(&self, node: NodeId, id: u64) -> u32 {
        self.nodes.get(&node).map_or(0, |node| node.get(id).map_or(node.floor, |rest| rest.number))
    }

    pub fn is_resting(&self, node: NodeId, id: u64, now: Millis) -> bool {
        let until =
            self.nodes.get(&node).map(|node| node.get(id).map_or(node.floor_until, |rest| rest.until));
        until.is_some_and(|until| now.0 < u64::from(until) * 1_000)
    }

    /// Of nodes that there are.
    pub fn retain(&mut self, mut there: impl FnMut(NodeId) -> bool) {
        self.nodes.retain(|node, _| there(*node));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const NODE: NodeId = NodeId(7);

    proptest! {
        /// Nodes have more pieces than are remembered, and agents name what earlier lives told them.
        #[test]
        fn no_number_is_given_twice(
            acts in prop::collection::vec((0..2_000_u64, 0..20_u32, 0..5_u8), 1..6_000),
            // Between two ends: all rest still, or hardly any does.
            pace in prop::sample::select(vec![1, 1_000_u64]),
        ) {
            let mut rests = Rests::default();
            let mut given = BTreeSet::new();
            for (turn, (id, number, act)) in acts.into_iter().enumerate() {
                if act == 0 {
                    // It may have been told by an earlier life under any number up to this one.
                    rests.tried(NODE, id, number);
                    given.extend((0..number).map(|number| (id, number)));
                    rests.rest(NODE, id, Millis(turn as u64 * pace));
                    given.insert((id, number));
                } else {
                    let number = rests.number(NODE, id);
                    prop_assert!(given.insert((id, number)), "{id} under {number} again");
                    rests.rest(NODE, id, Millis(turn as u64 * pace));
                }
            }
            prop_assert!(rests.nodes[&NODE].rests.len() <= MOST);
        }
    }

    #[test]
    fn more_than_can_be_remembered_rest_all_the_same() {
        let (mut rests, begun) = (Rests::default(), Millis(1_000_000));
        for id in 0..3 * MOST as u64 {
            rests.rest(NODE, id, begun);
        }
        for id in [0, 1, 3 * MOST as u64 - 1, u64::MAX >> 40] {
            assert!(rests.is_resting(NODE, id, Millis(begun.0 + REST_MS - 1)), "{id}");
            assert!(!rests.is_resting(NODE, id, Millis(begun.0 + REST_MS)), "{id}");
        }
        // When they rest no longer new ones take their places one by one, and nothing unknown has to wait.
        let later = Millis(begun.0 + 2 * REST_MS);
        rests.rest(NODE, 1 << 20, later);
        assert!(
            rests.is_resting(NODE, 1 << 20, Millis(later.0 + 1)) && !rests.is_resting(NODE, 1 << 21, later)
        );
        // A number that nobody can have given.
        let number = rests.number(NODE, 1 << 21);
        rests.tried(NODE, 9, u32::MAX);
        rests.rest(NODE, 1 << 21, later);
        assert_eq!(rests.number(NODE, 1 << 21), number + 1);
    }

    #[test]
    fn it_rests_longer_each_time_and_goes_with_its_node() {
        let (mut rests, mut now) = (Rests::default(), 0);
        for minutes in [1, 2, 4, 8, 16, 16] {
            rests.rest(NODE, 1, Millis(now));
            let end = now + minutes * REST_MS;
            assert!(
                rests.is_resting(NODE, 1, Millis(end - 1)) && !rests.is_resting(NODE, 1, Millis(end)),
                "{minutes}"
            );
            now = end;
        }
        assert!(!rests.is_resting(NODE, 2, Millis(0)) && !rests.is_resting(NodeId(8), 1, Millis(0)));
        assert_eq!((rests.number(NODE, 1), rests.number(NODE, 2)), (6, 0));
        rests.retain(|node| node != NODE);
        assert_eq!(rests.number(NODE, 1), 0);
    }
}
