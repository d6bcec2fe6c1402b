//! What is known of one Dataset, and of its bytes on each node.

use std::collections::BTreeMap;

use super::chunk_set::ChunkSet;
use super::fact::{Change, DatasetSpec, Demand, VersionFacts};
use super::hash::hash64;
use super::units::{CHUNK, Chunks, Name, NodeId, Tier, Version, WorkloadId, chunks_in};

/// Versions remembered: the one in use, the one before while readers of it end, and two for stores that
/// change faster than that.
pub(super) const MAX_VERSIONS: usize = 4;

/// Runs of chunks that all sets of one node may be made of: half a MiB of them. An agent that floods takes
/// no more than that.
const MAX_NODE_SPANS: usize = 65_536;

#[derive(Clone, Debug)]
pub struct Dataset {
    pub(super) name: Name,
    pub(super) key: u64,
    pub(super) spec: Option<DatasetSpec>,
    /// The one learned last comes first.
    pub(super) versions: Vec<VersionFacts>,
    pub(super) nodes: BTreeMap<NodeId, Presence>,
    /// Pods that use it, by whom they work for and where they are. Beside `nodes` and not in it: most rows there
    /// have no pod, and every one would carry an empty list.
    pub(super) users: BTreeMap<(WorkloadId, NodeId), u32>,
    pub(super) revision: u64,
    pub(super) bound: u64,
}

/// A Dataset on a node.
#[derive(Clone, Debug, Default)]
pub struct Presence {
    pub(super) held: Vec<Held>,
    pub(super) demand: Option<Demand>,
    /// Pods bound to the node that use it.
    pub(super) pods: u32,
}

/// What a node holds of one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub version: Version,
    pub ram: ChunkSet,
    pub cache: ChunkSet,
    /// Bytes beside those, in chunks of which a part is missing: of small files read in any order and more of them
    /// than there is memory hardly a chunk is whole.
    pub(super) ram_partial: u64,
    pub(super) cache_partial: u64,
}

/// Sums over all nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    pub version: Option<Version>,
    pub bytes: Option<u64>,
    pub files: Option<u64>,
    /// Bytes that at least one node holds. No more than there are: of chunks that no node has whole those of one node
    /// count, since others may have the same.
    pub cached: u64,
    /// Bytes on all nodes together.
    pub ram: u64,
    pub cache: u64,
    /// Nodes that hold something.
    pub holders: u32,
    /// Workloads that read, each once on each of its nodes; pods that may.
    pub readers: u32,
    pub pods: u32,
    /// Bytes read a second.
    pub rate: u64,
    pub hit: u64,
    pub miss: u64,
}

impl Summary {
    /// The share of it that at least one node holds; unknown while its size is.
    pub fn cached_share(&self) -> Option<f64> {
        let total = self.bytes.filter(|&b| b > 0)?;
        Some(self.cached as f64 / total as f64)
    }

    /// The share of the bytes read that readers had not to wait for; unknown while nobody reads.
    pub fn hit_share(&self) -> Option<f64> {
        let read = self.hit.saturating_add(self.miss);
        (read > 0).then(|| self.hit as f64 / read as f64)
    }
}

impl Held {
    pub fn tier(&self, tier: Tier) -> &ChunkSet {
        match tier {
            Tier::Ram => &self.ram,
            Tier::Cache => &self.cache,
        }
    }

    pub(super) fn tier_mut(&mut self, tier: Tier) -> &mut ChunkSet {
        match tier {
            Tier::Ram => &mut self.ram,
            Tier::Cache => &mut self.cache,
        }
    }

    /// In either tier.
    pub fn resident(&self) -> ChunkSet {
        let mut all = self.cache.clone();
        all.unite(&self.ram);
        all
    }

    pub(super) fn partial_mut(&mut self, tier: Tier) -> &mut u64 {
        match tier {
            Tier::Ram => &mut self.ram_partial,
            Tier::Cache => &mut self.cache_partial,
        }
    }

    /// Bytes in a tier, of a version of `total` bytes.
    pub fn bytes_in(&self, tier: Tier, total: Option<u64>) -> u64 {
        let (whole, partial) = match tier {
            Tier::Ram => (&self.ram, self.ram_partial),
            Tier::Cache => (&self.cache, self.cache_partial),
        };
        whole.bytes(total).saturating_add(partial).min(total.unwrap_or(u64::MAX))
    }

    /// Bytes in either tier, no more than there are: those of a chunk that is whole in neither may be the same in both.
    pub fn bytes(&self, total: Option<u64>) -> u64 {
        let (ram, cache) = (self.bytes_in(Tier::Ram, total), self.bytes_in(Tier::Cache, total));
        if ram == 0 || cache == 0 {
            return ram + cache;
        }
        self.resident().bytes(total).max(ram).max(cache)
    }

    pub fn is_empty(&self) -> bool {
        self.ram.is_empty() && self.cache.is_empty() && self.ram_partial == 0 && self.cache_partial == 0
    }
}

impl Presence {
    /// Applies a change to what the node holds, whose runs are `node_spans` together; returns how many runs were left out.
    pub(super) fn change(&mut self, change: &Change, end: u32, node_spans: &mut usize) -> u32 {
        let at = self.held.iter().position(|h| h.version == change.version);
        let at = at.unwrap_or_else(|| {
            if self.held.len() < MAX_VERSIONS {
                // Nearly always the only one; a vector's own growth would keep room for three more, 48 MiB on 5,000 nodes.
                self.held.reserve_exact(1);
                self.held.push(Held { version: change.version, ..Held::default() });
            }
            self.held.len() - 1
        });
        let Some(held) = self.held.get_mut(at).filter(|h| h.version == change.version) else {
            return u32::try_from(change.added.len()).unwrap_or(u32::MAX);
        };
        let set: &mut ChunkSet = held.tier_mut(change.tier);
        let before = set.spans();
        let mut refused = 0;
        for run in &change.removed {
            refused += u32::from(!set.remove(run));
        }
        for run in &change.added {
            let clipped: Chunks = run.start..run.end.min(end);
            let fits = *node_spans + set.spans() < MAX_NODE_SPANS + before;
            refused += u32::from(clipped.start >= clipped.end || clipped.end < run.end || !fits);
            if fits && !set.insert(&clipped) {
                refused += 1;
            }
        }
        *node_spans = (*node_spans + set.spans()).saturating_sub(before);
        if let Some(bytes) = change.partial {
            *held.partial_mut(change.tier) = bytes;
        }
        self.held.retain(|h| !h.is_empty());
        refused
    }

    /// What is held of a version; of an unknown one, whatever there is most of.
    pub fn held(&self, version: Option<Version>) -> Option<&Held> {
        match version {
            Some(version) => self.held.iter().find(|h| h.version == version),
            None => self.held.iter().max_by_key(|h| (h.bytes(None), h.version)),
        }
    }

    pub fn versions(&self) -> impl Iterator<Item = &Held> {
        self.held.iter()
    }

    /// None: the agent has not said.
    pub fn demand(&self) -> Option<Demand> {
        self.demand
    }

    pub fn pods(&self) -> u32 {
        self.pods
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.demand.is_none() && self.pods == 0
    }
}

impl Dataset {
    pub(super) fn new(name: Name) -> Self {
        let key = hash64(&*name);
        Self {
            name,
            key,
            spec: None,
            versions: Vec::new(),
            nodes: BTreeMap::new(),
            users: BTreeMap::new(),
            revision: 0,
            bound: 0,
        }
    }

    pub fn name(&self) -> &Name {
        &self.name
    }

    /// A hash of the name: the same in every process, whoever came first.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// None: nobody has declared it.
    pub fn spec(&self) -> Option<&DatasetSpec> {
        self.spec.as_ref()
    }

    /// The version learned last.
    pub fn current(&self) -> Option<&VersionFacts> {
        self.versions.first()
    }

    pub fn versions(&self) -> &[VersionFacts] {
        &self.versions
    }

    pub fn bytes(&self) -> Option<u64> {
        self.current()?.bytes
    }

    /// Chunks of the current version; unknown while its size is.
    pub fn chunks(&self) -> Option<u32> {
        self.bytes().map(chunks_in)
    }

    /// Nodes that hold something of it, read it, or have pods that use it.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Presence)> {
        self.nodes.iter().map(|(id, presence)| (*id, presence))
    }

    /// Workloads whose pods use it, with each node that such a pod is bound to; a workload's nodes come one after
    /// the other.
    pub fn users(&self) -> impl Iterator<Item = (WorkloadId, NodeId)> + '_ {
        self.users.keys().copied()
    }

    pub fn on(&self, node: NodeId) -> Option<&Presence> {
        self.nodes.get(&node)
    }

    /// What each node holds of the current version.
    pub fn holders(&self) -> impl Iterator<Item = (NodeId, &Held)> {
        let version = self.current().map(|v| v.version);
        self.nodes.iter().filter_map(move |(id, p)| Some((*id, p.held(version).filter(|h| !h.is_empty())?)))
    }

    /// Nodes that hold any of these chunks, with how many of them in RAM and in the cache tier.
    pub fn holders_of(&self, chunks: &Chunks) -> Vec<(NodeId, u32, u32)> {
        let counted =
            self.holders().map(|(id, h)| (id, h.ram.shared_with(chunks), h.cache.shared_with(chunks)));
        counted.filter(|(_, ram, cache)| ram + cache > 0).collect()
    }

    /// Bytes that a node holds of the current version in a tier.
    pub fn resident(&self, node: NodeId, tier: Tier) -> u64 {
        let version = self.current().map(|v| v.version);
        let held = self.nodes.get(&node).and_then(|p| p.held(version));
        held.map_or(0, |h| h.bytes_in(tier, self.bytes()))
    }

    /// The revision of the inventory in which something of it changed last.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The revision of the inventory in which a pod that uses it last got a node.
    pub fn bound(&self) -> u64 {
        self.bound
    }

    /// Costs time in proportion to the runs held: for a status, not for every pod.
    pub fn summary(&self) -> Summary {
        self.summary_of(|_| true)
    }

    /// The same over those nodes that count.
    pub fn summary_of(&self, counts: impl Fn(NodeId) -> bool) -> Summary {
        let current = self.current();
        let mut sum = Summary {
            version: current.map(|v| v.version),
            bytes: current.and_then(|v| v.bytes),
            files: current.and_then(|v| v.files),
            ..Summary::default()
        };
        let mut runs: Vec<Chunks> = Vec::new();
        let mut most = 0;
        for (_, held) in self.holders().filter(|(id, _)| counts(*id)) {
            sum.holders += 1;
            sum.ram = sum.ram.saturating_add(held.bytes_in(Tier::Ram, sum.bytes));
            sum.cache = sum.cache.saturating_add(held.bytes_in(Tier::Cache, sum.bytes));
            most = held.bytes(sum.bytes).max(most);
            runs.extend(held.ram.iter().chain(held.cache.iter()));
        }
        let (covered, reached) = covered(runs);
        let short = |bytes: u64| u64::from(reached).checked_mul(CHUNK)?.checked_sub(bytes);
        sum.cached = (covered * CHUNK).saturating_sub(sum.bytes.and_then(short).unwrap_or(0)).max(most);
        for (_, presence) in self.nodes.iter().filter(|(id, _)| counts(**id)) {
            sum.pods = sum.pods.saturating_add(presence.pods);
            let Some(demand) = presence.demand else { continue };
            sum.readers = sum.readers.saturating_add(demand.readers);
            sum.rate = sum.rate.saturating_add(demand.rate);
            sum.hit = sum.hit.saturating_add(demand.hit);
            sum.miss = sum.miss.saturating_add(demand.miss);
        }
        sum
    }

    pub(super) fn is_forgotten(&self) -> bool {
        self.spec.is_none() && self.nodes.is_empty()
    }
}

/// Chunks that lie in at least one of the runs, and where the last one ends. Sorted once, where adding run by run to a set would move
/// its tail each time.
fn covered(mut runs: Vec<Chunks>) -> (u64, u32) {
    runs.sort_unstable_by_key(|run| run.start);
    let (mut covered, mut reached) = (0, 0);
    for run in runs {
        covered += u64::from(run.end.saturating_sub(run.start.max(reached)));
        reached = reached.max(run.end);
    }
    (covered, reached)
}
