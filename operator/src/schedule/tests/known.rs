//! A view made of tables: what the operator knows in these tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use k8s_openapi::jiff::Timestamp;
use operator_api::crd::Dataset;
use operator_api::crd::operation::{OperationKind, OperationRef};
use operator_api::validate::{self, graph::Graph};

use crate::inventory::{Chunks, Version};
use crate::schedule::bound::Needs;
use crate::schedule::reach::{DatasetName, Holding, Node, Nodes, Reach, View};

pub const GIB: u64 = 1 << 30;

#[derive(Debug, Default)]
pub struct Known {
    pub claims: BTreeMap<(String, String), DatasetName>,
    pub left_alone: BTreeSet<String>,
    pub nodes: Arc<Nodes>,
    pub held: BTreeMap<DatasetName, (u64, Vec<Holding>)>,
    pub generation: AtomicU64,
    pub moment: AtomicU64,
    pub asked: AtomicU64,
}

pub fn dataset(name: &str) -> DatasetName {
    format!("ml/{name}").into()
}

impl Known {
    /// Nodes n0, n1, … in two zones and four racks; `train` is on n0 and n3, and `ml` and `guest` may use it.
    pub fn usual(nodes: u32) -> Self {
        let all = (0..nodes)
            .map(|index| Node {
                name: format!("n{index}").into(),
                region: Some("r".into()),
                zone: Some(format!("z{}", index % 2).into()),
                rack: Some(u64::from(index % 4)),
                ..Node::default()
            })
            .collect();
        let holdings = vec![
            Holding { node: 0, memory: GIB, cache: 9 * GIB, coming: 0 },
            Holding { node: 3, cache: 5 * GIB, ..Holding::default() },
        ];
        let claim = |namespace: &str, claim: &str| (namespace.to_owned(), claim.to_owned());
        Self {
            claims: [
                (claim("ml", "train"), dataset("train")),
                (claim("guest", "borrowed"), dataset("train")),
                (claim("ml", "empty"), dataset("empty")),
            ]
            .into(),
            left_alone: ["quiet".to_owned()].into(),
            nodes: Arc::new(Nodes::new(all)),
            held: [(dataset("train"), (10 * GIB, holdings))].into(),
            ..Self::default()
        }
    }

    pub fn with_unmountable(mut self, name: &str, reason: &str) -> Self {
        let mut all: Vec<Node> = (0..).map_while(|index| self.nodes.get(index)).cloned().collect();
        for node in all.iter_mut().filter(|node| &*node.name == name) {
            node.unmountable = Some(reason.into());
        }
        self.nodes = Arc::new(Nodes::new(all));
        self
    }
}

impl View for Known {
    fn dataset(&self, namespace: &str, claim: &str) -> Option<DatasetName> {
        self.claims.get(&(namespace.to_owned(), claim.to_owned())).cloned()
    }

    fn opted_out(&self, namespace: &str) -> bool {
        self.left_alone.contains(namespace)
    }

    fn nodes(&self) -> Arc<Nodes> {
        self.nodes.clone()
    }

    fn reach(&self, datasets: &[DatasetName], _workload: Option<&str>) -> Reach {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut sum: BTreeMap<u32, Holding> = BTreeMap::new();
        let mut expected = 0;
        for (bytes, holdings) in datasets.iter().filter_map(|dataset| self.held.get(dataset)) {
            expected += bytes;
            for holding in holdings {
                let all =
                    sum.entry(holding.node).or_insert(Holding { node: holding.node, ..Holding::default() });
                all.memory += holding.memory;
                all.cache += holding.cache;
            }
        }
        Reach { nodes: self.nodes.clone(), expected, holdings: sum.into_values().collect() }
    }

    fn generation(&self, _datasets: &[DatasetName]) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    fn moment(&self) -> u64 {
        self.moment.load(Ordering::Relaxed)
    }
}

impl Needs for Known {
    /// Three chunks, wherever there is nothing.
    fn missing(&self, dataset: &str, node: &str, _workload: Option<&str>) -> Option<(Version, Vec<Chunks>)> {
        let node = self.nodes.named(node)?;
        let (_, holdings) = self.held.get(dataset)?;
        let there = holdings.iter().any(|holding| holding.node == node);
        (!there).then(|| (Version(1), vec![0..3]))
    }
}

impl validate::Known for Known {
    fn dataset(&self, _: &str, _: &str) -> Option<Arc<Dataset>> {
        None
    }

    fn claim(&self, _: &str, _: &str) -> Option<validate::Claim> {
        None
    }

    /// `first` runs after `last`.
    fn operations(&self, _: &str) -> Graph {
        [(run("first"), vec![run("last")])].into_iter().collect()
    }

    fn roomiest_node(&self) -> Option<validate::Room> {
        Some(validate::Room { bytes: 100 * GIB, nodes: 3 })
    }

    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

fn run(name: &str) -> OperationRef {
    OperationRef { kind: OperationKind::DataLoad, name: name.to_owned() }
}
