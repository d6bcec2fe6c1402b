//! A cluster as the operator knows it: nodes, Datasets, who holds what, all from a few numbers.

use std::sync::{Arc, PoisonError, RwLock};

use operator::inventory::{
    CHUNK, Capacity, Change, ChunkSet, DatasetReport, DatasetSpec, Fact, Inventory, Millis, Name, NodeFacts,
    Report, Tier, Version, VersionFacts,
};
use operator::schedule::picture::Picture;
use serde_json::{Value, json};

/// Chunks of each Dataset: 64 GiB.
const CHUNKS: u32 = 16_384;

const VERSION: Version = Version(1);

/// Namespace of all Datasets and pods.
pub const NAMESPACE: &str = "bench";

#[derive(Clone, Copy, Debug)]
pub struct World {
    pub nodes: u32,
    pub datasets: u32,
    /// Nodes that hold each Dataset.
    pub holders: u32,
}

pub fn dataset(number: u32) -> String {
    format!("dataset-{number}")
}

/// As long as cloud providers make them.
pub fn node(number: u32) -> String {
    format!("ip-10-{}-{}-{}.eu-central-1.compute.internal", number >> 16, number >> 8 & 255, number & 255)
}

impl World {
    /// The holder in turn of a Dataset; spread over all nodes by a step that meets each of them.
    pub fn holder(&self, dataset: u32, turn: u32) -> u32 {
        let at = u64::from(dataset) * u64::from(self.holders) + u64::from(turn);
        u32::try_from(at.wrapping_mul(2_654_435_761) % u64::from(self.nodes)).unwrap_or(0)
    }

    pub fn build(&self, name: impl Fn(u32) -> String) -> (Arc<RwLock<Inventory>>, Picture) {
        let mut inventory = Inventory::default();
        let mut tell = |fact| inventory.apply(fact, Millis(0));
        for number in 0..self.nodes {
            let labels = [
                ("kubernetes.io/os", "linux".to_owned()),
                ("topology.kubernetes.io/region", "eu-central-1".to_owned()),
                (
                    "topology.kubernetes.io/zone",
                    format!("eu-central-1{}", ["a", "b", "c"][number as usize % 3]),
                ),
                ("headrace.io/rack", format!("rack-{}", number / 40)),
            ];
            let labels =
                labels.into_iter().map(|(key, value)| (Name::from(key), Name::from(value))).collect();
            let facts = NodeFacts { labels, ready: true, ..NodeFacts::default() };
            tell(Fact::Node { node: name(number).into(), facts });
        }
        let mut held: Vec<Vec<DatasetReport>> = (0..self.nodes).map(|_| Vec::new()).collect();
        let mut whole = ChunkSet::default();
        whole.insert(&(0..CHUNKS));
        for number in 0..self.datasets {
            let dataset: Name = format!("{NAMESPACE}/{}", dataset(number)).into();
            tell(Fact::Dataset { dataset: dataset.clone(), spec: DatasetSpec::default() });
            let bytes = Some(u64::from(CHUNKS) * CHUNK);
            let facts = VersionFacts { version: VERSION, bytes, files: None, at: Millis(0) };
            tell(Fact::Version { dataset: dataset.clone(), facts });
            for turn in 0..self.holders {
                if let Some(held) = held.get_mut(self.holder(number, turn) as usize) {
                    held.push(DatasetReport::holds(dataset.clone(), VERSION, Tier::Cache, &whole));
                }
            }
        }
        for (number, datasets) in (0..).zip(held) {
            let capacity = Some(Capacity { ram: 256 << 30, cache: 4 << 40 });
            let report =
                Report { session: 1, sequence: 1, whole: true, datasets, capacity, ..Report::default() };
            tell(Fact::Report { node: name(number).into(), report });
        }
        let inventory = Arc::new(RwLock::new(inventory));
        let picture = Picture::new(inventory.clone());
        for number in 0..self.datasets {
            let name = dataset(number);
            let dataset: Name = format!("{NAMESPACE}/{name}").into();
            picture.set_claim(NAMESPACE, &name, &name);
            picture.set_dataset(&dataset, &name, vec![(NAMESPACE.into(), name.as_str().into())]);
        }
        (inventory, picture)
    }

    /// One more report of a node, which moves 20 ranges of five Datasets in its memory to and fro.
    pub fn report(&self, inventory: &RwLock<Inventory>, number: u32, sequence: u64) {
        let node = number % self.nodes.max(1);
        let datasets = (0..5_u32)
            .map(|turn| {
                let other = (node * 5 + turn) % self.datasets.max(1);
                let runs = (0..4).map(|run| run * 100 + turn..run * 100 + turn + 8).collect();
                let (added, removed) =
                    if sequence.is_multiple_of(2) { (runs, Vec::new()) } else { (Vec::new(), runs) };
                DatasetReport {
                    dataset: format!("{NAMESPACE}/{}", dataset(other)).into(),
                    changes: vec![Change {
                        version: VERSION,
                        tier: Tier::Ram,
                        removed,
                        added,
                        partial: None,
                    }],
                    demand: None,
                    learned: None,
                }
            })
            .collect();
        let report = Report { session: 1, sequence, whole: false, datasets, ..Report::default() };
        let fact = Fact::Report { node: self::node(node).into(), report };
        inventory.write().unwrap_or_else(PoisonError::into_inner).apply(fact, Millis(0));
    }
}

/// A pod that mounts a Dataset, of the size that pods have in practice: two containers with their environment.
pub fn pod(number: u32, claim: &str) -> Value {
    let environment: Vec<Value> = (0..20)
        .map(|index| json!({"name": format!("SETTING_{index}"), "value": "some-value-of-usual-length"}))
        .collect();
    let container = |name: &str| {
        json!({
            "name": name, "image": "registry.example.com/team/trainer:v1.2.3", "env": environment,
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
            "volumeMounts": [{"name": "data", "mountPath": "/data"},
                             {"name": "kube-api-access", "mountPath": "/var/run/secrets", "readOnly": true}],
            "terminationMessagePath": "/dev/termination-log", "imagePullPolicy": "IfNotPresent"
        })
    };
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "name": format!("trainer-{number}"), "generateName": "trainer-", "namespace": NAMESPACE,
            "uid": format!("00000000-0000-4000-8000-{number:012}"),
            "labels": {"app": "trainer", "batch.kubernetes.io/job-name": "trainer"},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "trainer", "uid": "u",
                                 "controller": true, "blockOwnerDeletion": true}]
        },
        "spec": {
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}},
                        {"name": "kube-api-access", "projected": {"sources": [], "defaultMode": 420}}],
            "containers": [container("main"), container("logs")],
            "restartPolicy": "Never", "schedulerName": "default-scheduler"
        },
        "status": {"phase": "Pending"}
    })
}
