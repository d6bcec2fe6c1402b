//! Where the bytes are that a pod will read: the one picture from which affinity and scores are drawn.
//!
//! `Nodes` is the table of nodes and their places, replaced as a whole when one of them changes; `Reach` is
//! what one set of Datasets has on them. A `View` answers from the inventory and from watched objects.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::inventory::Name;

/// Index into [`Nodes`].
pub type NodeIndex = u32;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub name: Box<str>,
    /// Values of the labels `topology.kubernetes.io/region` and `topology.kubernetes.io/zone`.
    pub region: Option<Name>,
    pub zone: Option<Name>,
    /// The same for all nodes of a rack.
    pub rack: Option<u64>,
    /// It takes no pods now: cordoned, or not ready. Others know that too; it is only not worth naming.
    pub closed: bool,
    /// Why no Dataset can be mounted there, in words; none where nothing speaks against it.
    pub unmountable: Option<Box<str>>,
}

#[derive(Debug, Default)]
pub struct Nodes {
    all: Vec<Node>,
    by_name: FxHashMap<Box<str>, NodeIndex>,
    /// Racks by a dense number of their own, so that scoring needs no hashing.
    racks: Vec<Option<u32>>,
    rack_count: usize,
    unmountable: usize,
}

impl Nodes {
    pub fn new(all: Vec<Node>) -> Self {
        let mut numbers: FxHashMap<u64, u32> = FxHashMap::default();
        let mut racks = Vec::with_capacity(all.len());
        let mut by_name = FxHashMap::with_capacity_and_hasher(all.len(), rustc_hash::FxBuildHasher);
        for (index, node) in (0..).zip(&all) {
            by_name.insert(node.name.clone(), index);
            racks.push(node.rack.map(|rack| {
                let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
                *numbers.entry(rack).or_insert(next)
            }));
        }
        let unmountable = all.iter().filter(|node| node.unmountable.is_some()).count();
        Self { rack_count: numbers.len(), all, by_name, racks, unmountable }
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn get(&self, index: NodeIndex) -> Option<&Node> {
        self.all.get(index as usize)
    }

    pub fn named(&self, name: &str) -> Option<NodeIndex> {
        self.by_name.get(name).copied()
    }

    pub fn rack(&self, index: NodeIndex) -> Option<u32> {
        self.racks.get(index as usize).copied().flatten()
    }

    /// Racks as [`Nodes::rack`] numbers them.
    pub fn rack_count(&self) -> usize {
        self.rack_count
    }

    /// Racks of all nodes, by node.
    pub fn racks(&self) -> &[Option<u32>] {
        &self.racks
    }

    /// How many nodes are known to mount nothing.
    pub fn unmountable(&self) -> usize {
        self.unmountable
    }
}

/// Bytes on one node; what is in memory is not counted again as cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    pub node: NodeIndex,
    pub memory: u64,
    pub cache: u64,
    /// On the way there: the node was told to bring it in, or has pods that read it.
    pub coming: u64,
}

impl Holding {
    /// What is there.
    pub fn bytes(self) -> u64 {
        self.memory.saturating_add(self.cache)
    }
}

#[derive(Clone, Debug, Default)]
pub struct Reach {
    pub nodes: Arc<Nodes>,
    /// Bytes that the pod is expected to read (first): its profile's, else all of its Datasets. 0: unknown.
    pub expected: u64,
    /// One for each node that holds any of them.
    pub holdings: Vec<Holding>,
}

/// Datasets weighed for one pod; one that mounts more is steered by these.
pub const DATASETS: usize = 16;

/// A Dataset as `namespace/name`.
pub type DatasetName = Name;

/// What scheduling asks of the rest of the operator. Answers come from memory: none may wait.
pub trait View: Send + Sync + 'static {
    /// The Dataset behind a claim, if the claim is there and the operator made it for that Dataset.
    fn dataset(&self, namespace: &str, claim: &str) -> Option<DatasetName>;

    /// Whether the namespace asks to be left alone.
    fn opted_out(&self, namespace: &str) -> bool;

    fn nodes(&self) -> Arc<Nodes>;

    /// Where those Datasets' bytes are, weighed by what `workload` was seen to read first.
    fn reach(&self, datasets: &[DatasetName], workload: Option<&str>) -> Reach;

    /// Changes whenever [`View::reach`] of these Datasets may answer otherwise.
    fn generation(&self, datasets: &[DatasetName]) -> u64;

    /// Grows about once a second. Within one moment an answer may be kept without asking for its generation:
    /// a Dataset that changes all the time is not added up anew for every pod.
    fn moment(&self) -> u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn racks_get_dense_numbers() {
        let node = |name: &str, rack| Node { name: name.into(), rack, ..Node::default() };
        let nodes =
            Nodes::new(vec![node("a", Some(71)), node("b", None), node("c", Some(72)), node("d", Some(71))]);
        assert_eq!(nodes.racks(), [Some(0), None, Some(1), Some(0)]);
        assert_eq!((nodes.rack_count(), nodes.len()), (2, 4));
        assert_eq!(nodes.named("c"), Some(2));
        assert_eq!(nodes.named("e"), None);
        assert_eq!(nodes.unmountable(), 0);
    }
}
