//! What has been decided: the copies of each piece, and the room given out for them.
//!
//! Every change of a copy goes through `put` and `take`, so that room, quota and exclusive nodes are right
//! by construction.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use crate::inventory::{Chunks, DatasetId, Millis, NodeId, Sharing, Version};

use super::piece::Pieces;
use super::reason::{Because, Reason};
use super::room::Given;

/// A node should hold a piece.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Copy {
    /// Bytes at the store's cost that it saves within the horizon.
    pub value: f64,
    pub reason: Reason,
}

/// A Dataset's copies.
#[derive(Clone, Debug)]
pub struct Placed {
    pub version: Version,
    pub pieces: Pieces,
    pub sharing: Sharing,
    pub copies: BTreeMap<(u16, NodeId), Copy>,
    /// When it was looked at last, and the inventory's revision then.
    pub settled: Millis,
    pub revision: u64,
    /// It lost a copy since, or got one the last time: there may be more to do.
    pub restless: bool,
}

/// A copy that is no longer wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    pub dataset: DatasetId,
    pub version: Version,
    pub piece: u16,
    pub chunks: Chunks,
    pub node: NodeId,
    pub because: Because,
}

#[derive(Clone, Debug, Default)]
pub struct Book {
    datasets: BTreeMap<DatasetId, Placed>,
    given: FxHashMap<NodeId, Given>,
    held: FxHashMap<NodeId, BTreeSet<(DatasetId, u16)>>,
}

impl Book {
    pub fn dataset(&self, id: DatasetId) -> Option<&Placed> {
        self.datasets.get(&id)
    }

    pub fn dataset_mut(&mut self, id: DatasetId) -> Option<&mut Placed> {
        self.datasets.get_mut(&id)
    }

    pub fn datasets(&self) -> impl Iterator<Item = (DatasetId, &Placed)> {
        self.datasets.iter().map(|(id, placed)| (*id, placed))
    }

    pub fn open(&mut self, id: DatasetId, placed: Placed) {
        self.datasets.entry(id).or_insert(placed);
    }

    pub fn close(&mut self, id: DatasetId) {
        if self.datasets.get(&id).is_some_and(|p| p.copies.is_empty()) {
            self.datasets.remove(&id);
        }
    }

    pub fn copies(&self) -> usize {
        self.datasets.values().map(|p| p.copies.len()).sum()
    }

    pub fn given(&self, node: NodeId) -> Option<&Given> {
        self.given.get(&node)
    }

    /// Nodes that hold something.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.held.keys().copied()
    }

    pub fn on(&self, node: NodeId) -> impl Iterator<Item = (DatasetId, u16)> + '_ {
        self.held.get(&node).into_iter().flatten().copied()
    }

    pub fn bytes_of(&self, dataset: DatasetId, piece: u16) -> u64 {
        self.datasets.get(&dataset).map_or(0, |p| p.pieces.bytes(&p.pieces.chunks(piece)))
    }

    pub fn put(&mut self, dataset: DatasetId, piece: u16, node: NodeId, copy: Copy) {
        let Some(placed) = self.datasets.get_mut(&dataset) else { return };
        let bytes = placed.pieces.bytes(&placed.pieces.chunks(piece));
        if placed.copies.insert((piece, node), copy).is_none() {
            self.given.entry(node).or_default().take(dataset, bytes, placed.sharing);
            self.held.entry(node).or_default().insert((dataset, piece));
        }
    }

    pub fn take(
        &mut self,
        dataset: DatasetId,
        piece: u16,
        node: NodeId,
        because: Because,
    ) -> Option<Release> {
        let placed = self.datasets.get_mut(&dataset)?;
        placed.copies.remove(&(piece, node))?;
        placed.restless = true;
        let chunks = placed.pieces.chunks(piece);
        let bytes = placed.pieces.bytes(&chunks);
        if let Some(given) = self.given.get_mut(&node) {
            given.give_back(dataset, bytes);
        }
        if let Some(held) = self.held.get_mut(&node) {
            held.remove(&(dataset, piece));
            if held.is_empty() {
                self.held.remove(&node);
                self.given.remove(&node);
            }
        }
        Some(Release { dataset, version: placed.version, piece, chunks, node, because })
    }

    /// A Dataset wants its nodes for itself, or no longer does.
    pub fn share(&mut self, dataset: DatasetId, sharing: Sharing) {
        let Some(placed) = self.datasets.get_mut(&dataset) else { return };
        if placed.sharing == sharing {
            return;
        }
        placed.sharing = sharing;
        let nodes: BTreeSet<NodeId> = placed.copies.keys().map(|(_, node)| *node).collect();
        for node in nodes {
            let Some(given) = self.given.get_mut(&node) else { continue };
            match sharing {
                Sharing::Exclusive => given.exclusive = given.exclusive.or(Some(dataset)),
                Sharing::Shared => given.exclusive = given.exclusive.filter(|e| *e != dataset),
            }
        }
    }
}
