//! What is known of one node.

use std::collections::{BTreeSet, VecDeque};

use super::fact::{Capacity, NodeFacts, Pressure};
use super::hash::hash64;
use super::units::{DatasetId, Labels, Millis, Name};

/// Kubernetes' own labels for zone and region; it has none for racks, so the common one and ours.
const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
const RACKS: [&str; 2] = ["headrace.io/rack", "topology.kubernetes.io/rack"];

/// Datasets remembered whose last pod on a node has ended: what its agent learned of one is told when its run is over,
/// minutes later. A node has some dozens of pods; the one that ended first is forgotten first.
const MAX_LATELY: usize = 64;

/// Pods remembered that have ended here: 16 of them on 5,000 nodes are 10 MiB.
const MAX_ENDED: usize = 16;

/// Whose a pod is, and the Datasets that it uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodUse {
    pub workload: Name,
    pub datasets: Box<[Name]>,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub(super) name: Name,
    pub(super) key: u64,
    pub(super) facts: Option<NodeFacts>,
    pub(super) place: Place,
    /// Session and sequence of the last report taken.
    pub(super) told: Option<(u64, u64)>,
    pub(super) heard: Option<Millis>,
    pub(super) silent: Option<Millis>,
    pub(super) capacity: Option<Capacity>,
    pub(super) pressure: Option<Pressure>,
    /// Sorted.
    pub(super) mounted: Option<Box<[Name]>>,
    pub(super) datasets: BTreeSet<DatasetId>,
    /// Datasets whose last pod here has ended, the latest last.
    pub(super) lately: VecDeque<Name>,
    /// Pods that have ended here, the latest last: whose it was that an agent tells of minutes later.
    pub(super) ended: VecDeque<(Name, PodUse)>,
    /// Runs of chunks that all its sets are made of: what the bound counts.
    pub(super) spans: usize,
    pub(super) revision: u64,
}

/// Where a node stands. Each is a hash of the names down to it: two racks `1` of two zones differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub rack: Option<u64>,
    pub zone: Option<u64>,
    pub region: Option<u64>,
}

impl Place {
    pub fn of(labels: &Labels) -> Self {
        let region = labels.get(REGION);
        let zone = labels.get(ZONE);
        let rack = RACKS.iter().find_map(|key| labels.get(*key));
        Self {
            rack: rack.map(|rack| hash64(&(region, zone, Some(rack)))),
            zone: zone.map(|zone| hash64(&(region, Some(zone)))),
            region: region.map(|region| hash64(&Some(region))),
        }
    }
}

impl Node {
    pub(super) fn new(name: Name) -> Self {
        Self {
            key: hash64(&*name),
            name,
            facts: None,
            place: Place::default(),
            told: None,
            heard: None,
            silent: None,
            capacity: None,
            pressure: None,
            mounted: None,
            datasets: BTreeSet::new(),
            lately: VecDeque::new(),
            ended: VecDeque::new(),
            spans: 0,
            revision: 0,
        }
    }

    pub fn name(&self) -> &Name {
        &self.name
    }

    /// A hash of the name: the same in every process, whoever came first.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// None: reports or pods name it, but no Node object is known.
    pub fn facts(&self) -> Option<&NodeFacts> {
        self.facts.as_ref()
    }

    pub fn place(&self) -> Place {
        self.place
    }

    pub fn zone(&self) -> Option<&Name> {
        self.facts.as_ref()?.labels.get(ZONE)
    }

    pub fn rack(&self) -> Option<&Name> {
        let labels = &self.facts.as_ref()?.labels;
        RACKS.iter().find_map(|key| labels.get(*key))
    }

    /// Session and sequence of the last report taken: what a resumed stream goes on from.
    pub fn told(&self) -> Option<(u64, u64)> {
        self.told
    }

    /// When its agent was last heard.
    pub fn heard(&self) -> Option<Millis> {
        self.heard
    }

    /// Since when its agent has been quiet; none while it talks, or never did.
    pub fn silent(&self) -> Option<Millis> {
        self.silent
    }

    pub fn pressure(&self) -> Option<Pressure> {
        self.pressure
    }

    /// Room for Datasets as the agent says; else unknown.
    pub fn capacity(&self) -> Option<Capacity> {
        self.capacity
    }

    /// Whether the node has a Dataset on a mount, so that its agent can bring it in; unknown until that has said.
    pub fn mounts(&self, dataset: &str) -> Option<bool> {
        self.mounted.as_ref().map(|all| all.binary_search_by(|name| (**name).cmp(dataset)).is_ok())
    }

    /// Datasets that it holds something of, that are read there, or that pods there use.
    pub fn datasets(&self) -> impl Iterator<Item = DatasetId> + '_ {
        self.datasets.iter().copied()
    }

    /// The last pod here that used a Dataset has ended.
    pub(super) fn was_used(&mut self, dataset: &Name) {
        self.lately.retain(|known| known != dataset);
        if self.lately.len() >= MAX_LATELY {
            self.lately.pop_front();
        }
        self.lately.push_back(dataset.clone());
    }

    pub(super) fn lately(&self, dataset: &str) -> bool {
        self.lately.iter().any(|known| **known == *dataset)
    }

    /// A pod here that used Datasets has ended.
    pub(super) fn has_ended(&mut self, pod: Name, used: PodUse) {
        if self.ended.len() >= MAX_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back((pod, used));
    }

    /// What a pod used that has ended here lately.
    pub fn ended(&self, pod: &str) -> Option<&PodUse> {
        self.ended.iter().rev().find(|(uid, _)| **uid == *pod).map(|(_, used)| used)
    }

    /// The revision of the inventory in which something of it changed last.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn is_forgotten(&self) -> bool {
        self.facts.is_none() && self.told.is_none() && self.datasets.is_empty()
    }
}
