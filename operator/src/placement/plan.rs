//! What agents are told, so that what is decided comes true.
//!
//! Compares what nodes should hold with what they say they hold. An instruction's id is made of what it
//! asks for, so that a restarted operator gives the same one again and an agent at work on it knows it.
//! A node has few fetches at once: the most useful come first, and what changes meanwhile is never fetched.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::inventory::hash::hash64;
use crate::inventory::{Chunks, DatasetId, Inventory, Millis, NodeId, Version};

use super::book::Release;
use super::reason::{Because, Reason};
use super::rendezvous::{draw, piece_key, route};
use super::rests::Rests;
use super::step::Placement;

/// Nodes named to an agent as those to ask, at most: should they all fail, the store answers.
const MAX_ASKED: usize = 4;

/// Fetches that an agent may say are under way: it was never told of more.
pub const MAX_RESUMED: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub enum Instruction {
    /// Bring these chunks, asking these nodes first, one after the other, then the store; keep them.
    Fetch {
        id: u64,
        dataset: DatasetId,
        version: Version,
        piece: u16,
        chunks: Vec<Chunks>,
        ask: Vec<NodeId>,
        reason: Reason,
    },
    /// No longer keep these chunks: their room is for others.
    Release { id: u64, dataset: DatasetId, version: Version, chunks: Chunks, because: Because },
}

impl Instruction {
    pub fn id(&self) -> u64 {
        match self {
            Self::Fetch { id, .. } | Self::Release { id, .. } => *id,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanLimits {
    /// Fetches under way on one node, and altogether.
    pub per_node: usize,
    pub in_all: usize,
    /// A fetch nobody answered for in this time is told again.
    pub patience_ms: u64,
}

impl Default for PlanLimits {
    /// Four pieces keep a node's link busy; 16,384 are 3 on each of 5,000 nodes.
    fn default() -> Self {
        Self { per_node: 4, in_all: 16_384, patience_ms: 600_000 }
    }
}

/// Fetches under way, by node, and those that have ended.
#[derive(Clone, Debug, Default)]
pub struct Flights {
    nodes: FxHashMap<NodeId, BTreeMap<u64, Millis>>,
    all: usize,
    rests: Rests,
}

impl Flights {
    pub fn begin(&mut self, node: NodeId, id: u64, now: Millis) {
        if self.nodes.entry(node).or_default().insert(id, now).is_none() {
            self.all += 1;
        }
    }

    /// An agent has answered: done, failed or refused. What failed is told again by the next plan.
    pub fn end(&mut self, node: NodeId, id: u64) {
        let Some(flights) = self.nodes.get_mut(&node) else { return };
        self.all -= usize::from(flights.remove(&id).is_some());
        if flights.is_empty() {
            self.nodes.remove(&node);
        }
    }

    /// It has ended and, should it still be lacking, is told again only after a rest.
    pub fn rest(&mut self, node: NodeId, id: u64, now: Millis) {
        self.end(node, id);
        self.rests.rest(node, id, now);
    }

    /// An earlier life has told it under this number.
    pub fn tried(&mut self, node: NodeId, id: u64, number: u32) {
        self.rests.tried(node, id, number);
    }

    /// The number of its next try.
    pub fn number(&self, node: NodeId, id: u64) -> u32 {
        self.rests.number(node, id)
    }

    /// An agent has come back: what it says is under way is, and nothing else.
    pub fn resume(&mut self, node: NodeId, ids: &[u64], now: Millis) {
        self.lose(node);
        ids.iter().take(MAX_RESUMED).for_each(|id| self.begin(node, *id, now));
    }

    /// A node is gone, and its fetches with it.
    pub fn lose(&mut self, node: NodeId) {
        self.all -= self.nodes.remove(&node).map_or(0, |flights| flights.len());
    }

    pub fn len(&self) -> usize {
        self.all
    }

    pub fn is_empty(&self) -> bool {
        self.all == 0
    }

    fn on(&self, node: NodeId) -> usize {
        self.nodes.get(&node).map_or(0, BTreeMap::len)
    }

    fn has(&self, node: NodeId, id: u64) -> bool {
        self.nodes.get(&node).is_some_and(|flights| flights.contains_key(&id))
    }

    fn expire(&mut self, now: Millis, patience_ms: u64) {
        for flights in self.nodes.values_mut() {
            let before = flights.len();
            flights.retain(|_, since| now.since(*since) < patience_ms);
            self.all -= before - flights.len();
        }
        self.nodes.retain(|_, flights| !flights.is_empty());
    }
}

/// What to tell which node now. Takes note of the fetches in `flights`; `released` are those of the steps
/// since the plan before.
pub fn plan(
    inventory: &Inventory,
    placement: &Placement,
    released: &[Release],
    flights: &mut Flights,
    limits: &PlanLimits,
    now: Millis,
) -> Vec<(NodeId, Instruction)> {
    flights.expire(now, limits.patience_ms);
    flights.rests.retain(|node| inventory.node(node).is_some());
    let mut told: Vec<(NodeId, Instruction)> =
        released.iter().filter_map(|r| Some((r.node, release(inventory, placement, r)?))).collect();
    let mut lacking: Vec<Lack> = Vec::new();
    for (dataset, placed) in placement.book.datasets() {
        let Some(known) = inventory.dataset(dataset) else { continue };
        for ((piece, node), copy) in &placed.copies {
            if flights.on(*node) >= limits.per_node {
                continue;
            }
            let chunks = placed.pieces.chunks(*piece);
            let held = known.on(*node).and_then(|p| p.held(Some(placed.version)));
            let here = held.map_or(0, |h| h.ram.shared_with(&chunks).max(h.cache.shared_with(&chunks)));
            let whole = chunks.end - chunks.start;
            if here < whole
                && inventory.node(*node).is_some_and(|n| n.told().is_some() && n.silent().is_none())
            {
                let density = copy.value / placed.pieces.bytes(&chunks).max(1) as f64;
                let key = piece_key(known.key(), placed.version.0, *piece);
                let name = inventory.node(*node).map_or(0, |n| n.key());
                let turn = draw(name, key, 1.0);
                lacking.push(Lack { density, turn, name, key, dataset, piece: *piece, node: *node });
            }
        }
    }
    lacking.sort_by(|a, b| {
        let order = b.density.total_cmp(&a.density).then(b.turn.total_cmp(&a.turn));
        order.then_with(|| (a.key, a.name).cmp(&(b.key, b.name)))
    });
    let mut circles: FxHashMap<(DatasetId, u16), Circle> = FxHashMap::default();
    for lack in lacking {
        if flights.len() >= limits.in_all {
            break;
        }
        if flights.on(lack.node) >= limits.per_node {
            continue;
        }
        let Some(instruction) = fetch(inventory, placement, &lack, &mut circles) else { continue };
        if !flights.has(lack.node, instruction.id())
            && !flights.rests.is_resting(lack.node, instruction.id(), now)
        {
            flights.begin(lack.node, instruction.id(), now);
            told.push((lack.node, instruction));
        }
    }
    told
}

/// A copy that is not all there yet.
struct Lack {
    /// What it saves for each of its bytes: the most useful first.
    density: f64,
    /// What the node draws for the piece. Where all else is equal each node begins with those it is to read
    /// from the store for the others, and they do not all ask the same one at once.
    turn: f64,
    name: u64,
    key: u64,
    dataset: DatasetId,
    piece: u16,
    node: NodeId,
}

/// Who has a piece, and who is to have it.
struct Circle {
    holders: Vec<NodeId>,
    starters: Vec<NodeId>,
}

fn fetch(
    inventory: &Inventory,
    placement: &Placement,
    lack: &Lack,
    circles: &mut FxHashMap<(DatasetId, u16), Circle>,
) -> Option<Instruction> {
    let Lack { key, dataset, piece, node, .. } = *lack;
    let (known, placed) = (inventory.dataset(dataset)?, placement.book.dataset(dataset)?);
    let copy = placed.copies.get(&(piece, node))?;
    let all = placed.pieces.chunks(piece);
    let circle = circles.entry((dataset, piece)).or_insert_with(|| {
        let talks =
            |id: &NodeId| inventory.node(*id).is_some_and(|n| n.facts().is_some() && n.silent().is_none());
        let has = known.holders_of(&all).into_iter();
        let whole = all.end - all.start;
        let holders = has.filter(|(id, ram, cache)| *ram.max(cache) == whole && talks(id)).map(|(id, ..)| id);
        let range = (piece, NodeId(0))..=(piece, NodeId(u32::MAX));
        let starters = placed.copies.range(range).map(|((_, id), _)| *id).filter(talks);
        Circle { holders: holders.collect(), starters: starters.collect() }
    });
    let held = known.on(node).and_then(|p| p.held(Some(placed.version)));
    let mut chunks = vec![all];
    for run in held.iter().flat_map(|h| h.ram.iter().chain(h.cache.iter())) {
        chunks = chunks.into_iter().flat_map(|c| without(&c, &run)).collect();
    }
    if chunks.is_empty() {
        return None;
    }
    let mut ask = route(inventory, node, key, &circle.holders, &circle.starters);
    ask.truncate(MAX_ASKED);
    let name = inventory.node(node)?.name();
    let id = hash64(&("fetch", &**name, &**known.name(), placed.version, piece));
    Some(Instruction::Fetch { id, dataset, version: placed.version, piece, chunks, ask, reason: copy.reason })
}

/// What is left of a run without another.
fn without(run: &Chunks, other: &Chunks) -> impl Iterator<Item = Chunks> + use<> {
    let before = run.start..run.end.min(other.start);
    let after = run.start.max(other.end)..run.end;
    [before, after].into_iter().filter(|r| r.start < r.end)
}

/// None where it is wanted there again, or nobody is there to be told.
fn release(inventory: &Inventory, placement: &Placement, release: &Release) -> Option<Instruction> {
    let Release { dataset, version, piece, ref chunks, node, because } = *release;
    let placed = placement.book.dataset(dataset).filter(|p| p.version == version);
    let again = placed.is_some_and(|p| p.copies.contains_key(&(piece, node)));
    let name = inventory.node(node).filter(|n| !again && n.told().is_some())?.name();
    let of = inventory.dataset(dataset)?.name();
    let id = hash64(&("release", &**name, &**of, version, piece));
    Some(Instruction::Release { id, dataset, version, chunks: chunks.clone(), because })
}
