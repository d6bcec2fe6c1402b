//! Ways to place pods and bytes: the simple ones that placement is compared with.

use rustc_hash::FxHashMap;

use super::cluster::Pod;
use super::random::Random;
use super::world::{Got, Reader, World};

pub use super::cache::Key;

pub trait Policy {
    fn name(&self) -> &'static str;

    /// A node with a free slot for a pod.
    fn choose(&mut self, world: &mut World, pod: &Pod) -> Option<usize>;

    /// A pod's node needs a piece that it has not got.
    fn get(&mut self, world: &mut World, node: usize, key: Key) -> Got;

    fn bound(&mut self, _world: &World, _reader: &Reader) {}

    fn ended(&mut self, _world: &World, _reader: &Reader) {}

    /// Before pods read.
    fn tick(&mut self, _world: &mut World) {}
}

/// The emptier of two nodes drawn, as a scheduler that looks at load alone comes out; all nodes if need be.
pub fn anywhere(world: &mut World) -> Option<usize> {
    let nodes = world.up.len();
    let (a, b) = (world.random.below(nodes), world.random.below(nodes));
    let used = |n: &usize| world.used.get(*n).copied().unwrap_or(usize::MAX);
    let drawn = [a, b].into_iter().filter(|n| world.has_slot(*n)).min_by_key(used);
    drawn.or_else(|| (0..nodes).map(|n| (n + a) % nodes).find(|n| world.has_slot(*n)))
}

/// No placement: each node has a cache of its own in front of the store, as a mount has.
#[derive(Debug, Default)]
pub struct Alone;

impl Policy for Alone {
    fn name(&self) -> &'static str {
        "none"
    }

    fn choose(&mut self, world: &mut World, _pod: &Pod) -> Option<usize> {
        anywhere(world)
    }

    fn get(&mut self, world: &mut World, node: usize, key: Key) -> Got {
        let got = world.fetch(key);
        if got == Got::Yes {
            world.put(node, key, false);
        }
        got
    }
}

/// Two copies of each piece on nodes drawn when it is first read; pods anywhere; readers keep what they read.
#[derive(Debug)]
pub struct Scattered {
    random: Random,
}

impl Scattered {
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed) }
    }
}

impl Policy for Scattered {
    fn name(&self) -> &'static str {
        "random"
    }

    fn choose(&mut self, world: &mut World, _pod: &Pod) -> Option<usize> {
        anywhere(world)
    }

    fn get(&mut self, world: &mut World, node: usize, key: Key) -> Got {
        let alone = world.copies(key) == 0;
        let got = world.get_near(node, key);
        if alone && got == Got::Yes {
            for _ in 0..2 {
                let to = self.random.below(world.up.len());
                if world.up.get(to).is_some_and(|up| *up) && world.send(node, key) == Got::Yes {
                    world.put(to, key, false);
                }
            }
        }
        got
    }
}

/// Workers by label, as Fluid has them: a Dataset gets a fixed few nodes at its first use, which hold it
/// between them; pods prefer nodes that have the label. A worker is asked for what it has not got, and
/// fetches it. Readers keep what they read in the page cache that all ways have.
#[derive(Debug, Default)]
pub struct Labels {
    workers: FxHashMap<usize, Vec<usize>>,
}

/// Fluid's examples have one to three workers a Dataset; two, and more where one Dataset needs the room.
const WORKERS: usize = 2;

impl Labels {
    fn workers(&mut self, world: &mut World, dataset: usize) -> Vec<usize> {
        if let Some(known) = self.workers.get_mut(&dataset) {
            // A worker's pod that lost its node comes up elsewhere, empty.
            for at in 0..known.len() {
                if known.get(at).is_some_and(|n| !world.up.get(*n).is_some_and(|up| *up))
                    && let Some(other) = anywhere(world)
                    && let Some(worker) = known.get_mut(at)
                {
                    *worker = other;
                }
            }
            return known.clone();
        }
        let chosen: Vec<usize> = (0..WORKERS).filter_map(|_| anywhere(world)).collect();
        self.workers.insert(dataset, chosen.clone());
        chosen
    }
}

impl Policy for Labels {
    fn name(&self) -> &'static str {
        "labels"
    }

    fn choose(&mut self, world: &mut World, pod: &Pod) -> Option<usize> {
        let workers = self.workers(world, pod.dataset);
        workers.into_iter().find(|n| world.has_slot(*n)).or_else(|| anywhere(world))
    }

    fn get(&mut self, world: &mut World, node: usize, key: Key) -> Got {
        let workers = self.workers(world, key.0 as usize);
        let Some(worker) = workers.get(usize::from(key.1) % workers.len().max(1)).copied() else {
            return Got::Wait;
        };
        if !world.has(worker, key) {
            if world.fetch(key) == Got::Wait {
                return Got::Wait;
            }
            world.put(worker, key, false);
        }
        if worker != node {
            if world.send(worker, key) == Got::Wait {
                return Got::Wait;
            }
            if world.distance(worker, node) < 2 {
                world.tally.near += world.bytes(key);
            }
            world.put(node, key, false);
        }
        Got::Yes
    }
}
