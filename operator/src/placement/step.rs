//! Placement: which nodes should hold which pieces, brought up to date a bounded step at a time.
//!
//! A step first takes back what nodes lost or no longer have room for, then looks again at a bounded number
//! of Datasets: those that lost copies or got pods first, then those that changed, the longest unseen
//! before the others. The same facts give the same steps, whatever the order in which they came: what
//! decides is names, never ids.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;

use crate::inventory::{Chunks, DatasetId, Inventory, Millis, NodeId, Version};

use super::book::{Book, Placed, Release};
use super::occupancy::Occupancy;
use super::piece::Pieces;
use super::reason::{Because, Reason};
use super::room::{Room, room};
use super::settle::{Move, Turn};

/// A Dataset of which nothing changed is looked at again after this: its readers' traces fade, and nodes may
/// have let go of bytes.
const RESETTLE_MS: u64 = 60_000;

/// One of which something changed is looked at again after this: reports come every few seconds, and each
/// changes something.
const CHANGED_MS: u64 = 15_000;

/// What one step may do at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Datasets looked at.
    pub datasets: usize,
    /// Copies decided, and the bytes that have to travel for them.
    pub moves: usize,
    pub bytes: u64,
}

impl Default for Limits {
    /// A step of 256 Datasets takes some 50 ms; at one step a second 10,000 are seen in 40 s.
    fn default() -> Self {
        Self { datasets: 256, moves: 4_096, bytes: 4 << 40 }
    }
}

/// What a step decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    pub moves: Vec<Move>,
    pub releases: Vec<Release>,
    /// Datasets looked at, and those that wait for the next step.
    pub seen: usize,
    pub waiting: usize,
}

/// A node that should hold some chunks, as a person may ask.
#[derive(Clone, Debug, PartialEq)]
pub struct Holder {
    pub node: NodeId,
    pub chunks: Chunks,
    pub value: f64,
    pub reason: Reason,
}

#[derive(Clone, Debug, Default)]
pub struct Placement {
    pub(super) book: Book,
}

impl Placement {
    /// Who should hold what of a Dataset, in the order of its chunks.
    pub fn holders(&self, dataset: DatasetId) -> impl Iterator<Item = Holder> + '_ {
        let placed = self.book.dataset(dataset);
        placed.into_iter().flat_map(|placed| {
            placed.copies.iter().map(|((piece, node), copy)| Holder {
                node: *node,
                chunks: placed.pieces.chunks(*piece),
                value: copy.value,
                reason: copy.reason,
            })
        })
    }

    /// Whether a node should hold a piece.
    pub fn wants(&self, dataset: DatasetId, version: Version, piece: u16, node: NodeId) -> bool {
        let placed = self.book.dataset(dataset).filter(|placed| placed.version == version);
        placed.is_some_and(|placed| placed.copies.contains_key(&(piece, node)))
    }

    /// Bytes given out on a node.
    pub fn given(&self, node: NodeId) -> u64 {
        self.book.given(node).map_or(0, |g| g.bytes)
    }

    /// Bytes given out on a node to a Dataset.
    pub fn given_to(&self, node: NodeId, dataset: DatasetId) -> u64 {
        self.book.given(node).and_then(|g| g.datasets.get(&dataset)).copied().unwrap_or_default()
    }

    /// Who has been given room where, for those who ask beside placement.
    pub fn occupancy(&self, inventory: &Inventory, whole: bool) -> Occupancy {
        Occupancy::of(&self.book, inventory, whole)
    }

    /// Copies of pieces decided on: what memory is made of.
    pub fn copies(&self) -> usize {
        self.book.copies()
    }

    /// One bounded step towards what the inventory asks for.
    pub fn step(&mut self, inventory: &Inventory, now: Millis, limits: &Limits) -> Step {
        let rooms: FxHashMap<NodeId, Room> =
            inventory.nodes().map(|(id, node)| (id, room(node, now))).collect();
        let mut turn = Turn::new(inventory, &rooms, now, (limits.moves, limits.bytes));
        self.forget_datasets(inventory, &mut turn);
        self.forget_nodes(inventory, &rooms, &mut turn);
        let due = self.due(inventory, now);
        let waiting = due.len().saturating_sub(limits.datasets);
        let mut seen = 0;
        for id in due.into_iter().take(limits.datasets) {
            self.open(inventory, id);
            turn.settle(&mut self.book, id);
            seen += 1;
        }
        let Turn { moves, releases, .. } = turn;
        Step { moves, releases, seen, waiting }
    }

    /// Datasets that are gone, or have another version or size.
    fn forget_datasets(&mut self, inventory: &Inventory, turn: &mut Turn<'_>) {
        let mut gone = Vec::new();
        for (id, placed) in self.book.datasets() {
            let dataset = inventory.dataset(id).filter(|d| d.spec().is_some());
            let current = dataset.and_then(|d| d.current());
            let same = |placed: &Placed| {
                current.is_some_and(|v| {
                    v.version == placed.version && v.bytes.map(Pieces::of) == Some(placed.pieces)
                })
            };
            if !same(placed) {
                let because = if dataset.is_none() { Because::DatasetGone } else { Because::NewVersion };
                let name = dataset.map_or(id.0.into(), |d| d.key());
                gone.push((name, id, placed.copies.keys().copied().collect::<Vec<_>>(), because));
            }
        }
        gone.sort_unstable_by_key(|(name, id, ..)| (*name, *id));
        for (_, id, copies, because) in gone {
            for (piece, node) in copies {
                turn.release(&mut self.book, (id, piece, node), because);
            }
            self.book.close(id);
        }
    }

    /// Nodes that are gone or lost, or have less room than was given out.
    fn forget_nodes(&mut self, inventory: &Inventory, rooms: &FxHashMap<NodeId, Room>, turn: &mut Turn<'_>) {
        let mut nodes: Vec<_> =
            self.book.nodes().map(|id| (inventory.node(id).map(|n| n.name()), id)).collect();
        nodes.sort_unstable();
        for (_, node) in nodes {
            let room = rooms.get(&node).copied();
            let lost = room.map_or(Some(Because::NodeGone), |r| r.lost);
            let budget = room.map_or(0, |r| r.budget);
            let over = self.given(node) > budget;
            if lost.is_none() && !over {
                continue;
            }
            let mut copies: Vec<_> = self.book.on(node).collect();
            let value = |book: &Book, (dataset, piece): &(DatasetId, u16)| {
                let copy = book.dataset(*dataset).and_then(|p| p.copies.get(&(*piece, node)));
                copy.map_or(0.0, |c| c.value) / book.bytes_of(*dataset, *piece).max(1) as f64
            };
            let key = |at: &(DatasetId, u16)| (inventory.dataset(at.0).map_or(0, |d| d.key()), at.1);
            copies.sort_by(|a, b| {
                value(&self.book, a).total_cmp(&value(&self.book, b)).then_with(|| key(a).cmp(&key(b)))
            });
            for (dataset, piece) in copies {
                if lost.is_none() && self.given(node) <= budget {
                    break;
                }
                turn.release(&mut self.book, (dataset, piece, node), lost.unwrap_or(Because::LessRoom));
            }
        }
    }

    /// Datasets to look at, the most urgent first.
    fn due(&self, inventory: &Inventory, now: Millis) -> Vec<DatasetId> {
        let mut due = Vec::new();
        for (id, dataset) in inventory.datasets() {
            if dataset.bytes().is_none() {
                continue; // Of unknown size: nothing can be given room.
            }
            let placed = self.book.dataset(id);
            let revision = placed.map_or(0, |p| p.revision);
            let bound = placed.map_or(dataset.bound() > 0, |_| dataset.bound() > revision);
            let urgent = bound || placed.is_some_and(|p| p.restless);
            let stale = placed.is_some_and(|p| now.since(p.settled) >= RESETTLE_MS && !p.copies.is_empty());
            let changed = dataset.revision() > revision;
            let changed = changed && placed.is_none_or(|p| now.since(p.settled) >= CHANGED_MS);
            if urgent || stale || placed.is_none() || changed {
                due.push((Reverse(urgent), placed.map(|p| p.settled), dataset.key(), dataset.name(), id));
            }
        }
        due.sort_unstable();
        due.into_iter().map(|(.., id)| id).collect()
    }

    fn open(&mut self, inventory: &Inventory, id: DatasetId) {
        let Some(dataset) = inventory.dataset(id) else { return };
        let (Some(current), Some(spec)) = (dataset.current(), dataset.spec()) else { return };
        let Some(bytes) = current.bytes else { return };
        self.book.open(
            id,
            Placed {
                version: current.version,
                pieces: Pieces::of(bytes),
                sharing: spec.sharing,
                copies: Default::default(),
                settled: Millis::default(),
                revision: 0,
                restless: false,
            },
        );
    }
}
