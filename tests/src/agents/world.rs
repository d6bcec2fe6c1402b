//! What the simulated nodes hold: Datasets, where each lies, and how a node's residency changes. All of it follows
//! from a seed, in this process and in the operator's.

use std::sync::Arc;

use agent::report::ledger::{Key, Ledger, Tier};
use agent::report::speaker::{Demand, Facts, Version};
use operator_api::report::v1 as wire;

/// A cluster in numbers.
#[derive(Clone, Copy, Debug)]
pub struct World {
    pub nodes: u32,
    pub datasets: u32,
    /// Datasets on each node, each on a file system of its own.
    pub per_node: u32,
    /// Runs of chunks that a node holds of each of its Datasets at the start.
    pub runs: u32,
    pub seed: u64,
}

/// Chunks of each Dataset: 40 GB.
pub const CHUNKS: u32 = 10_000;

/// Chunks of a run at the start, and of one that comes or goes, at most.
const LONGEST: u32 = 60;

/// Reports of the steady state change so many ranges, of so many Datasets.
pub const CHANGED_DATASETS: u32 = 5;
pub const CHANGED_RANGES: u32 = 20;

/// SplitMix64: small, seeded, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.draw() % u64::from(bound.max(1))).unwrap_or(0)
    }
}

impl World {
    /// As `cluster::fleet` calls those of a fleet `node`.
    pub fn node_name(self, node: u32) -> String {
        format!("node-{node}")
    }

    pub fn dataset_name(self, dataset: u32) -> Arc<str> {
        format!("bench/dataset-{dataset:05}").into()
    }

    /// As mountinfo would have it.
    pub fn source(self, dataset: u32) -> String {
        format!("store-{dataset}:/export")
    }

    /// A node's Datasets: always the same, and every Dataset is on about as many nodes.
    pub fn datasets_of(self, node: u32) -> Vec<u32> {
        let mut random = Random::new(self.seed ^ (u64::from(node) << 20));
        let mut chosen = std::collections::BTreeSet::new();
        while chosen.len() < self.per_node.min(self.datasets) as usize {
            chosen.insert(random.below(self.datasets));
        }
        chosen.into_iter().collect()
    }

    pub fn version(self, dataset: u32) -> Version {
        let mut random = Random::new(self.seed.wrapping_add(u64::from(dataset)));
        let version = u128::from(random.draw() | 1) << 64 | u128::from(random.draw());
        let bytes = u64::from(CHUNKS) * (4 << 20);
        Version { version, bytes, files: 1_000, seen_ms: 1_700_000_000_000 + u64::from(dataset) }
    }

    pub fn sources_of(self, node: u32) -> Vec<wire::Source> {
        let source = |(number, dataset)| wire::Source {
            number,
            source: self.source(dataset),
            fstype: "nfs4".into(),
            folders: Vec::new(),
        };
        (1..).zip(self.datasets_of(node)).map(source).collect()
    }

    fn key(self, dataset: u32) -> Key {
        Key {
            dataset: self.dataset_name(dataset),
            version: self.version(dataset).version,
            tier: Tier::PageCache,
        }
    }

    /// Fills a node that has just started.
    pub fn fill(self, node: u32, ledger: &mut Ledger, facts: &mut Facts) {
        let mut random = Random::new(self.seed ^ 0xf111 ^ (u64::from(node) << 24));
        facts.capacity = Some(wire::Capacity { ram_bytes: 64 << 30, cache_bytes: 0 });
        facts.pressure = Some(wire::Pressure { memory_permille: 3, io_permille: 1 });
        for dataset in self.datasets_of(node) {
            facts.versions.insert(self.dataset_name(dataset), self.version(dataset));
            let demand = Demand { readers: 1, rate: 100 << 20, hit: 5 << 30, miss: 1 << 30 };
            facts.demand.insert(self.dataset_name(dataset), demand);
            ledger.change(&self.key(dataset), |held| {
                for _ in 0..self.runs {
                    let start = random.below(CHUNKS - 64);
                    held.whole.insert(start, start + 1 + random.below(LONGEST));
                }
            });
        }
    }

    /// One interval's change: in some of the node's Datasets ranges go and others as long come, so that a node holds as
    /// much at the end as at the beginning.
    pub fn change(self, node: u32, ledger: &mut Ledger, random: &mut Random) {
        let datasets = self.datasets_of(node);
        let count = u32::try_from(datasets.len()).unwrap_or(0);
        if count == 0 {
            return;
        }
        let first = random.below(count);
        let per_dataset = CHANGED_RANGES.div_ceil(CHANGED_DATASETS.min(count));
        for n in 0..CHANGED_DATASETS.min(count) {
            let Some(dataset) = datasets.get(((first + n) % count) as usize) else { continue };
            ledger.change(&self.key(*dataset), |held| {
                // As of a node whose memory is taken by others: a part of what it has lies in chunks that are not whole.
                held.partial = u64::from(random.below(1 << 26));
                let set = &mut held.whole;
                // One that goes and one that comes are two in the report.
                for _ in 0..per_dataset.div_ceil(2) {
                    let gone = random.below(u32::try_from(set.spans().len()).unwrap_or(0));
                    let gone = set.spans().get(gone as usize).copied();
                    // Of a long one only its beginning.
                    let length = gone.map_or(1, |(start, end)| (end - start).min(LONGEST));
                    if let Some((start, _)) = gone {
                        set.remove(start, start + length);
                    }
                    let start = random.below(CHUNKS.saturating_sub(length));
                    set.insert(start, start + length);
                }
            });
        }
    }
}
