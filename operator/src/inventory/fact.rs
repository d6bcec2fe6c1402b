//! The only way in: what is known about nodes, Datasets and pods, and what agents report.
//!
//! What a fact does not say is unknown, and stays apart from zero.

use super::chunk_set::ChunkSet;
use super::units::{Chunks, Labels, Millis, Name, Tier, Version};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A node is there, or is not what it was.
    Node { node: Name, facts: NodeFacts },
    /// A node is no more; what it held is gone.
    NodeGone { node: Name },
    /// A node's agent has gone quiet: its stream ended or its reports stopped. What it held is kept, as old news.
    NodeSilent { node: Name },
    /// The Datasets that a node's agent has on its mounts, all of them.
    Mounted { node: Name, datasets: Vec<Name> },
    /// A Dataset is there, or is not what it was.
    Dataset { dataset: Name, spec: DatasetSpec },
    /// A Dataset is no more. What nodes say they hold of it is kept until they say otherwise.
    DatasetGone { dataset: Name },
    /// What a version is, as far as it is known. The one learned last (`at`) is the Dataset's current one.
    /// Of a Dataset that nobody has declared or told of, nothing is learned.
    Version { dataset: Name, facts: VersionFacts },
    /// What an agent tells of its node.
    Report { node: Name, report: Report },
    /// A pod that uses Datasets has a node. The workload is whom a person takes it to work for.
    PodBound { pod: Name, node: Name, workload: Name, datasets: Vec<Name> },
    /// A pod is no more, or has ended.
    PodEnded { pod: Name },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeFacts {
    pub labels: Labels,
    pub taints: Vec<Taint>,
    pub ready: bool,
    /// Cordoned: pods and new bytes go elsewhere, what is there stays.
    pub unschedulable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Taint {
    pub key: Name,
    pub value: Name,
    pub effect: Effect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

/// As Kubernetes has it: an empty key tolerates every key, no value every value, no effect every effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Toleration {
    pub key: Option<Name>,
    pub value: Option<Name>,
    pub effect: Option<Effect>,
}

/// What of a Dataset's spec matters to where its bytes are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DatasetSpec {
    pub mounts: Vec<Mount>,
    /// Bytes that one node may hold of it.
    pub quota: Option<u64>,
    pub replicas: Replicas,
    pub sharing: Sharing,
    /// Any of these terms; none means every node.
    pub nodes: Vec<Term>,
    pub tolerations: Vec<Toleration>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mount {
    /// The store's URL, or the source in mountinfo.
    pub source: Name,
    /// Below the Dataset's root.
    pub path: Name,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Replicas {
    /// As many as measured demand pays for.
    #[default]
    Auto,
    /// This many of every chunk, where nodes and room allow.
    Fixed(u32),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// Its nodes may hold other Datasets too.
    #[default]
    Shared,
    /// Its nodes hold no other Dataset.
    Exclusive,
}

/// All of its requirements.
pub type Term = Vec<Requirement>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    pub key: Name,
    pub test: Test,
}

/// Kubernetes' node selector operators.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Test {
    In(Vec<Name>),
    NotIn(Vec<Name>),
    Exists,
    DoesNotExist,
    Gt(i64),
    Lt(i64),
}

/// What one agent tells. The first of a session must be `whole`; each further one changes what those before
/// it said, and has the next sequence number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Names the agent's memory of what it told: another after each of its starts.
    pub session: u64,
    pub sequence: u64,
    /// All that is to be said: what is not named here is not there.
    pub whole: bool,
    pub datasets: Vec<DatasetReport>,
    pub capacity: Option<Capacity>,
    pub pressure: Option<Pressure>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatasetReport {
    pub dataset: Name,
    /// A version the agent has seen whole, as a `Fact::Version` would say.
    pub learned: Option<VersionFacts>,
    pub changes: Vec<Change>,
    /// None: as before.
    pub demand: Option<Demand>,
}

/// What a version is, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VersionFacts {
    pub version: Version,
    pub bytes: Option<u64>,
    pub files: Option<u64>,
    /// When it was first seen; the latest one is the current one.
    pub at: Millis,
}

/// Chunks that came to a tier, and chunks that left it, since the report before. A chunk counts when all of it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub version: Version,
    pub tier: Tier,
    pub removed: Vec<Chunks>,
    pub added: Vec<Chunks>,
    /// Bytes in chunks of which a part is missing. None: as before.
    pub partial: Option<u64>,
}

/// What readers of a Dataset do on a node, over the agent's last window (about a minute). Replaced by the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Demand {
    /// Workloads that read.
    pub readers: u32,
    /// Bytes read a second.
    pub rate: u64,
    /// Bytes of the window that were there when they were read.
    pub hit: u64,
    /// Bytes of the window that readers had to wait for.
    pub miss: u64,
}

/// Room for Datasets on a node, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capacity {
    /// Page cache that may be kept warm.
    pub ram: u64,
    /// The cache tier, used and free; none where the node has none.
    pub cache: u64,
}

/// How hard it is to get memory or the disk, in thousandths of the last ten seconds (PSI `some avg10`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pressure {
    pub memory: u16,
    pub io: u16,
}

/// What became of a fact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub fate: Fate,
    /// Runs of chunks left out because a bound was reached or they lie outside of the version.
    pub refused: u32,
    /// Parts about Datasets that nobody has declared; kept, within a bound.
    pub undeclared: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    #[default]
    Taken,
    /// Nothing new in it.
    Known,
    /// About a Dataset that is not there; left out.
    Undeclared,
    /// A report was missed, or none came first: the agent should tell the whole again.
    AskWhole,
}

impl DatasetReport {
    /// A tier's whole content, as a snapshot has it.
    pub fn holds(dataset: Name, version: Version, tier: Tier, chunks: &ChunkSet) -> Self {
        let change =
            Change { version, tier, removed: Vec::new(), added: chunks.iter().collect(), partial: None };
        Self { dataset, changes: vec![change], ..Self::default() }
    }
}
