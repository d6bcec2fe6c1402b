//! The inventory itself, and what each fact does to it.
//!
//! What the API server says (nodes, Datasets, pods) and what agents say (residency, demand) are kept side
//! by side, and neither waits for the other: a report on a Dataset not yet declared is kept, within a
//! bound, so that the content does not depend on who was heard first.

use std::collections::btree_map::Entry;

use rustc_hash::{FxHashMap, FxHashSet};

use super::dataset::{Dataset, MAX_VERSIONS, Presence};
use super::fact::{Applied, DatasetReport, DatasetSpec, Fact, Fate, NodeFacts, Report, VersionFacts};
use super::node::{Node, Place, PodUse};
use super::table::Table;
use super::units::{DatasetId, Millis, Name, NodeId, WorkloadId, chunks_in};

/// Datasets nobody has declared that one node may tell of, before those declared later are learned.
const MAX_UNDECLARED: usize = 256;

/// A node of which the API server says nothing and whose agent is away is forgotten after so long, when the next such one
/// falls silent: its Node was deleted, the agent lived on a while, and nobody will say again that it is gone.
pub(super) const MAX_STRANGE_MS: u64 = 600_000;

/// Datasets that one pod may use, as far as this remembers.
const MAX_POD_DATASETS: usize = 64;

#[derive(Clone, Debug, Default)]
pub struct Inventory {
    pub(super) nodes: Table<Node>,
    pub(super) datasets: Table<Dataset>,
    pub(super) pods: FxHashMap<Name, Pod>,
    /// Those that a pod is of: a thousand pods of a workload, on as many nodes, have its name once.
    pub(super) workloads: Table<Workload>,
    revision: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub node: NodeId,
    pub workload: WorkloadId,
    pub datasets: Vec<DatasetId>,
}

#[derive(Clone, Debug)]
pub(super) struct Workload {
    name: Name,
    /// Without any it is forgotten.
    pods: u32,
}

impl Inventory {
    /// Grows with each fact that changes something.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn node_id(&self, name: &str) -> Option<NodeId> {
        self.nodes.id(name).map(NodeId)
    }

    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0)
    }

    /// All nodes that anything is known of, also those without a Node object.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().map(|(id, node)| (NodeId(id), node))
    }

    pub fn dataset_id(&self, name: &str) -> Option<DatasetId> {
        self.datasets.id(name).map(DatasetId)
    }

    pub fn dataset(&self, id: DatasetId) -> Option<&Dataset> {
        self.datasets.get(id.0)
    }

    /// The name of a workload that has pods.
    pub fn workload(&self, id: WorkloadId) -> Option<&Name> {
        self.workloads.get(id.0).map(|workload| &workload.name)
    }

    /// The Datasets that are declared.
    pub fn datasets(&self) -> impl Iterator<Item = (DatasetId, &Dataset)> {
        let all = self.datasets.iter().map(|(id, dataset)| (DatasetId(id), dataset));
        all.filter(|(_, dataset)| dataset.spec.is_some())
    }

    /// Declared Datasets of which something changed after a revision.
    pub fn datasets_since(&self, revision: u64) -> impl Iterator<Item = (DatasetId, &Dataset)> {
        self.datasets().filter(move |(_, dataset)| dataset.revision > revision)
    }

    /// Nodes of which something changed after a revision.
    pub fn nodes_since(&self, revision: u64) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes().filter(move |(_, node)| node.revision > revision)
    }

    /// Whether a pod that uses a Dataset is on a node, or was lately.
    pub fn used_on(&self, node: &str, dataset: &str) -> bool {
        let Some((id, node)) = self.node_id(node).and_then(|id| Some((id, self.node(id)?))) else {
            return false;
        };
        let presence = self.dataset_id(dataset).and_then(|dataset| self.dataset(dataset)?.on(id));
        presence.is_some_and(|presence| presence.pods > 0) || node.lately(dataset)
    }

    /// What a pod uses that is bound to that node and has not ended.
    pub fn pod_on(&self, node: &str, pod: &str) -> Option<PodUse> {
        let known = self.pods.get(pod).filter(|known| self.node_id(node) == Some(known.node))?;
        self.pod_use(known)
    }

    fn pod_use(&self, pod: &Pod) -> Option<PodUse> {
        let workload = self.workload(pod.workload)?.clone();
        let datasets = pod.datasets.iter().filter_map(|id| Some(self.dataset(*id)?.name().clone()));
        Some(PodUse { workload, datasets: datasets.collect() })
    }

    /// Nodes, Datasets and pods that anything is known of: what memory is made of.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.nodes.count(), self.datasets.count(), self.pods.len())
    }

    /// Folds one fact in. Never fails: what cannot be taken is counted in the answer.
    pub fn apply(&mut self, fact: Fact, now: Millis) -> Applied {
        let fate = match fact {
            Fact::Node { node, facts } => self.set_node(&node, facts),
            Fact::NodeGone { node } => self.lose_node(&node),
            Fact::NodeSilent { node } => self.silence_node(&node, now),
            Fact::Mounted { node, datasets } => self.set_mounted(&node, datasets),
            Fact::Dataset { dataset, spec } => self.set_dataset(&dataset, spec),
            Fact::DatasetGone { dataset } => self.lose_dataset(&dataset),
            Fact::Version { dataset, facts } => self.learn(&dataset, facts),
            Fact::Report { node, report } => return self.report(&node, report, now),
            Fact::PodBound { pod, node, workload, datasets } => self.bind(pod, &node, &workload, &datasets),
            Fact::PodEnded { pod } => self.unbind(&pod),
        };
        Applied { fate, ..Applied::default() }
    }

    fn next(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    fn set_node(&mut self, name: &Name, facts: NodeFacts) -> Fate {
        let revision = self.next();
        let (_, node) = self.nodes.entry(name, Node::new);
        if node.facts.as_ref() == Some(&facts) {
            return Fate::Known;
        }
        node.place = Place::of(&facts.labels);
        node.facts = Some(facts);
        node.revision = revision;
        Fate::Taken
    }

    fn lose_node(&mut self, name: &str) -> Fate {
        let revision = self.next();
        let Some((id, node)) = self.nodes.id(name).and_then(|id| Some((id, self.nodes.get_mut(id)?))) else {
            return Fate::Known;
        };
        *node =
            Node { datasets: std::mem::take(&mut node.datasets), revision, ..Node::new(node.name.clone()) };
        self.forget_held(NodeId(id), &FxHashSet::default());
        self.tidy_node(NodeId(id));
        Fate::Taken
    }

    fn silence_node(&mut self, name: &str, now: Millis) -> Fate {
        let revision = self.next();
        let node = self.nodes.id(name).and_then(|id| self.nodes.get_mut(id));
        match node {
            Some(node) if node.silent.is_none() => {
                node.silent = Some(now);
                node.revision = revision;
                if node.facts.is_none() {
                    self.forget_strangers(now);
                }
                Fate::Taken
            }
            _ => Fate::Known,
        }
    }

    fn forget_strangers(&mut self, now: Millis) {
        let long = |silent: Millis| now.0.saturating_sub(silent.0) > MAX_STRANGE_MS;
        let strange = |node: &&Node| node.facts.is_none() && node.silent.is_some_and(long);
        let nodes = self.nodes.iter().map(|(_, node)| node);
        let gone: Vec<Name> = nodes.filter(strange).map(|node| node.name.clone()).collect();
        for name in gone {
            self.lose_node(&name);
        }
    }

    fn set_mounted(&mut self, name: &Name, mut datasets: Vec<Name>) -> Fate {
        datasets.sort_unstable();
        datasets.dedup();
        let revision = self.next();
        let (id, node) = self.nodes.entry(name, Node::new);
        if node.mounted.as_deref() == Some(&*datasets) {
            return Fate::Known;
        }
        // What a kernel holds of a file system goes with its last mount, and nothing more is told of it.
        let there = datasets.iter().filter_map(|name| self.datasets.id(name).map(DatasetId)).collect();
        node.mounted = Some(datasets.into());
        node.revision = revision;
        self.forget_held(NodeId(id), &there);
        Fate::Taken
    }

    fn set_dataset(&mut self, name: &Name, spec: DatasetSpec) -> Fate {
        let revision = self.next();
        let (_, dataset) = self.datasets.entry(name, Dataset::new);
        if dataset.spec.as_ref() == Some(&spec) {
            return Fate::Known;
        }
        dataset.spec = Some(spec);
        dataset.revision = revision;
        Fate::Taken
    }

    fn lose_dataset(&mut self, name: &str) -> Fate {
        let revision = self.next();
        let found = self.datasets.id(name).and_then(|id| Some((id, self.datasets.get_mut(id)?)));
        let Some((id, dataset)) = found.filter(|(_, dataset)| dataset.spec.is_some()) else {
            return Fate::Known;
        };
        dataset.spec = None;
        dataset.revision = revision;
        self.tidy_dataset(DatasetId(id));
        Fate::Taken
    }

    fn learn(&mut self, name: &str, facts: VersionFacts) -> Fate {
        let revision = self.next();
        let Some((id, dataset)) =
            self.datasets.id(name).and_then(|id| Some((id, self.datasets.get_mut(id)?)))
        else {
            return Fate::Undeclared;
        };
        let known = dataset.versions.iter().position(|v| v.version == facts.version);
        match known.and_then(|at| dataset.versions.get_mut(at)) {
            Some(known) if (known.at, known.bytes, known.files) >= (facts.at, facts.bytes, facts.files) => {
                return Fate::Known;
            }
            Some(known) => *known = facts,
            None => dataset.versions.push(facts),
        }
        dataset.versions.sort_by_key(|v| std::cmp::Reverse((v.at, v.version)));
        dataset.versions.truncate(MAX_VERSIONS);
        dataset.revision = revision;
        let end = facts.bytes.map_or(u32::MAX, chunks_in);
        for (node, presence) in &mut dataset.nodes {
            let held = presence.held.iter_mut().filter(|h| h.version == facts.version);
            for set in held.flat_map(|h| [&mut h.ram, &mut h.cache]) {
                let before = set.spans();
                set.truncate(end);
                if let Some(node) = self.nodes.get_mut(node.0) {
                    node.spans = (node.spans + set.spans()).saturating_sub(before);
                }
            }
            presence.held.retain(|h| !h.is_empty());
        }
        let emptied: Vec<NodeId> =
            dataset.nodes.iter().filter(|(_, p)| p.is_empty()).map(|(id, _)| *id).collect();
        for node in emptied {
            dataset.nodes.remove(&node);
            if let Some(node) = self.nodes.get_mut(node.0) {
                node.datasets.remove(&DatasetId(id));
            }
        }
        self.tidy_dataset(DatasetId(id));
        Fate::Taken
    }

    fn report(&mut self, name: &Name, report: Report, now: Millis) -> Applied {
        let revision = self.next();
        let (id, node) = self.nodes.entry(name, Node::new);
        let id = NodeId(id);
        let Report { session, sequence, whole, datasets, capacity, pressure } = report;
        let follows = node.told.map(|(s, n)| (s == session, n));
        match follows {
            Some((true, last)) if sequence <= last => {
                node.heard = Some(now);
                node.silent = None;
                return Applied { fate: Fate::Known, ..Applied::default() };
            }
            Some((true, last)) if whole || sequence == last + 1 => {}
            _ if whole => {}
            _ => {
                self.tidy_node(id);
                return Applied { fate: Fate::AskWhole, ..Applied::default() };
            }
        }
        node.told = Some((session, sequence));
        node.heard = Some(now);
        node.silent = None;
        node.revision = revision;
        node.capacity = capacity.or(if whole { None } else { node.capacity });
        node.pressure = pressure.or(if whole { None } else { node.pressure });
        let mut applied = Applied::default();
        if whole {
            let named = datasets.iter().filter_map(|d| self.datasets.id(&d.dataset).map(DatasetId)).collect();
            self.forget_held(id, &named);
        }
        for part in datasets {
            self.take(id, part, whole, revision, &mut applied);
        }
        applied
    }

    /// One Dataset's part of a report.
    fn take(&mut self, id: NodeId, part: DatasetReport, whole: bool, revision: u64, applied: &mut Applied) {
        let DatasetReport { dataset: name, learned, changes, demand } = part;
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        let known = self.datasets.id(&name);
        let declared = known.and_then(|id| self.datasets.get(id)).is_some_and(|d| d.spec.is_some());
        if !declared {
            applied.undeclared += 1;
            let strange =
                node.datasets.iter().filter(|d| self.datasets.get(d.0).is_none_or(|d| d.spec.is_none()));
            let here = known.is_some_and(|known| node.datasets.contains(&DatasetId(known)));
            if !here && strange.count() >= MAX_UNDECLARED {
                applied.refused += 1;
                return;
            }
        }
        let (dataset_id, dataset) = self.datasets.entry(&name, Dataset::new);
        dataset.revision = revision;
        let presence = dataset.nodes.entry(id).or_default();
        if whole {
            let freed: usize = presence.held.iter().map(|h| h.ram.spans() + h.cache.spans()).sum();
            node.spans = node.spans.saturating_sub(freed);
            presence.held.clear();
            presence.demand = None;
        }
        presence.demand = demand.or(presence.demand);
        for change in changes {
            let size = dataset.versions.iter().find(|v| v.version == change.version).and_then(|v| v.bytes);
            let end = size.map_or(u32::MAX, chunks_in);
            applied.refused += presence.change(&change, end, &mut node.spans);
        }
        if presence.is_empty() {
            dataset.nodes.remove(&id);
            node.datasets.remove(&DatasetId(dataset_id));
        } else {
            node.datasets.insert(DatasetId(dataset_id));
        }
        if let Some(facts) = learned {
            self.learn(&name, facts);
        }
        self.tidy_dataset(DatasetId(dataset_id));
    }

    /// Forgets what a node holds and reads, but of the Datasets in `but`. Its pods stay.
    fn forget_held(&mut self, id: NodeId, but: &FxHashSet<DatasetId>) {
        let revision = self.revision;
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        let mut emptied = Vec::new();
        for dataset_id in node.datasets.iter().filter(|d| !but.contains(d)) {
            let Some(dataset) = self.datasets.get_mut(dataset_id.0) else { continue };
            let Some(presence) = dataset.nodes.get_mut(&id) else { continue };
            if presence.held.is_empty() && presence.demand.is_none() {
                continue;
            }
            let freed: usize = presence.held.iter().map(|h| h.ram.spans() + h.cache.spans()).sum();
            node.spans = node.spans.saturating_sub(freed);
            *presence = Presence { pods: presence.pods, ..Presence::default() };
            dataset.revision = revision;
            if presence.is_empty() {
                dataset.nodes.remove(&id);
                emptied.push(*dataset_id);
            }
        }
        for dataset in &emptied {
            node.datasets.remove(dataset);
        }
        for dataset in emptied {
            self.tidy_dataset(dataset);
        }
    }

    fn bind(&mut self, pod: Name, node: &Name, workload: &Name, datasets: &[Name]) -> Fate {
        let (node_id, _) = self.nodes.entry(node, Node::new);
        let node_id = NodeId(node_id);
        let entries = datasets.iter().take(MAX_POD_DATASETS);
        let mut ids: Vec<_> = entries.map(|d| DatasetId(self.datasets.entry(d, Dataset::new).0)).collect();
        ids.sort_unstable();
        ids.dedup();
        let (workload_id, workload) = self.workloads.entry(workload, |name| Workload { name, pods: 0 });
        let bound = Pod { node: node_id, workload: WorkloadId(workload_id), datasets: ids };
        if self.pods.get(&pod) == Some(&bound) {
            return Fate::Known;
        }
        workload.pods += 1;
        // Counted before the former place is given up, so that no row in both is forgotten between.
        let revision = self.next();
        for dataset_id in &bound.datasets {
            if let Some(dataset) = self.datasets.get_mut(dataset_id.0) {
                dataset.revision = revision;
                dataset.bound = revision;
                dataset.nodes.entry(node_id).or_default().pods += 1;
                *dataset.users.entry((bound.workload, node_id)).or_default() += 1;
            }
            if let Some(node) = self.nodes.get_mut(node_id.0) {
                node.revision = revision;
                node.datasets.insert(*dataset_id);
            }
        }
        if let Some(before) = self.pods.insert(pod, bound) {
            self.release(&before);
        }
        self.tidy_node(node_id);
        Fate::Taken
    }

    fn unbind(&mut self, pod: &str) -> Fate {
        let Some((uid, pod)) = self.pods.remove_entry(pod) else { return Fate::Known };
        let used = self.pod_use(&pod);
        if let Some((used, node)) = used.zip(self.nodes.get_mut(pod.node.0)) {
            node.has_ended(uid, used);
        }
        self.release(&pod);
        Fate::Taken
    }

    fn release(&mut self, pod: &Pod) {
        let revision = self.next();
        for dataset_id in &pod.datasets {
            let Some(dataset) = self.datasets.get_mut(dataset_id.0) else { continue };
            dataset.revision = revision;
            if let Entry::Occupied(mut pods) = dataset.users.entry((pod.workload, pod.node)) {
                *pods.get_mut() = pods.get().saturating_sub(1);
                if *pods.get() == 0 {
                    pods.remove();
                }
            }
            let Some(presence) = dataset.nodes.get_mut(&pod.node) else { continue };
            presence.pods = presence.pods.saturating_sub(1);
            if presence.pods == 0
                && let Some(node) = self.nodes.get_mut(pod.node.0)
            {
                node.was_used(&dataset.name);
            }
            if presence.is_empty() {
                dataset.nodes.remove(&pod.node);
                if let Some(node) = self.nodes.get_mut(pod.node.0) {
                    node.datasets.remove(dataset_id);
                }
                self.tidy_dataset(*dataset_id);
            }
        }
        self.tidy_node(pod.node);
        if let Some(workload) = self.workloads.get_mut(pod.workload.0) {
            workload.pods = workload.pods.saturating_sub(1);
            if workload.pods == 0 {
                let name = workload.name.clone();
                self.workloads.remove(pod.workload.0, &name);
            }
        }
    }

    fn tidy_node(&mut self, id: NodeId) {
        if let Some(name) = self.nodes.get(id.0).filter(|n| n.is_forgotten()).map(|n| n.name.clone()) {
            self.nodes.remove(id.0, &name);
        }
    }

    fn tidy_dataset(&mut self, id: DatasetId) {
        if let Some(name) = self.datasets.get(id.0).filter(|d| d.is_forgotten()).map(|d| d.name.clone()) {
            self.datasets.remove(id.0, &name);
        }
    }
}
