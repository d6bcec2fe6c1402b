//! What the operator says about a Dataset.
//!
//! Numbers that nobody has measured are absent, and the texts beside them say `Unknown`: an empty cache and
//! a cache nobody has reported are two things. Every list is bounded; the count beside it is not.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Entries kept of `nodes`, `readers` and `volumes`: the status of a Dataset read everywhere stays under
/// 16 KiB.
pub const MAX_NODES: usize = 32;
pub const MAX_READERS: usize = 16;
pub const MAX_VOLUMES: usize = 65;
pub const MAX_VERSIONS: usize = 16;

/// Bytes of a reader's `workload`: a kind of 63, a slash and a name of 253, as the apiserver allows, and some spare.
pub const MAX_WORKLOAD: usize = 320;

/// The state of a Dataset in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DatasetPhase {
    /// Its volumes are being made.
    #[default]
    Pending,
    /// Pods can use it: every claim is bound.
    Bound,
    /// It cannot work as it is written, or some of its claims cannot be bound; conditions say why.
    Failed,
    /// It is being deleted; conditions say what it waits for.
    Terminating,
}

/// Types of conditions.
pub mod condition {
    /// Every claim is bound.
    pub const READY: &str = "Ready";
    /// Agents report about the Dataset: what status says of bytes is measured.
    pub const OBSERVED: &str = "Observed";
    /// Deletion waits for something; only while the Dataset is deleted.
    pub const TERMINATING: &str = "Terminating";
}

/// One version of the data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionStatus {
    /// Digest of the version's paths, sizes and times.
    #[schemars(length(max = 128))]
    pub version: String,
    /// Whether readers see this one.
    #[serde(default)]
    pub current: bool,
    /// When it was first reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<Time>,
    /// Bytes of all its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<i64>,
    /// Its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_num: Option<i64>,
    /// Bytes of it that at least one node holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_bytes: Option<i64>,
}

/// The cache in words for a person, `Unknown` where nobody has measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CacheStates {
    /// Bytes of the current version that at least one node holds, such as `1.2GiB`.
    #[schemars(length(max = 32))]
    pub cached: String,
    /// Bytes that nodes may hold of it.
    #[schemars(length(max = 32))]
    pub cache_capacity: String,
    /// Share of the current version that at least one node holds, such as `45%`.
    #[schemars(length(max = 32))]
    pub cached_percentage: String,
    /// Share of read bytes that were on the reader's node when they were read.
    #[schemars(length(max = 32))]
    pub cache_hit_ratio: String,
}

/// What one node holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Name of the node.
    #[schemars(length(max = 253))]
    pub node: String,
    /// Bytes of the current version in its memory or cache.
    pub cached_bytes: i64,
    /// Share of the current version, in per cent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<i32>,
}

/// A workload that has a pod which uses the Dataset on a node where it is being read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReaderStatus {
    /// Kind and name of the pods' owner, such as `Job/train`, as it was when the pods got their nodes; of a pod that
    /// nothing owns `Pod/` and its name.
    #[schemars(length(max = 320))]
    pub workload: String,
    /// Namespace of the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
    /// On how many such nodes it has such pods.
    #[serde(default)]
    pub nodes: i32,
}

/// The state of one claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VolumePhase {
    /// Made, or about to be, and not bound yet.
    #[default]
    Pending,
    /// Pods can use it.
    Bound,
    /// Its name is taken, its namespace is going or missing, or its volume was lost; the message says which.
    Blocked,
}

/// One claim of the Dataset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStatus {
    /// Namespace of the claim.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Name of the claim.
    #[schemars(length(max = 253))]
    pub claim_name: String,
    /// State of the claim.
    pub phase: VolumePhase,
    /// Why it is not bound, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// The operation that touched the Dataset last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastOperation {
    /// DataLoad, DataMigrate, DataBackup or DataProcess.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Name of the operation.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Namespace of the operation.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// How it is, or how it ended: Pending, Executing, Complete, Failed, or Deleted before its end.
    #[schemars(length(max = 63))]
    pub phase: String,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

/// What the operator says about a Dataset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatasetStatus {
    /// The generation of the spec that this status answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The state in one word.
    #[serde(default)]
    pub phase: DatasetPhase,
    /// The state with reasons. `Unknown` is a status of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The version that readers see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub version: Option<String>,
    /// Versions known, newest first, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub versions: Vec<VersionStatus>,
    /// Bytes of the current version in words, or `Unknown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub ufs_total: Option<String>,
    /// Bytes of the current version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<i64>,
    /// Files of the current version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_num: Option<i64>,
    /// Bytes of the current version that at least one node holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_bytes: Option<i64>,
    /// The cache in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_states: Option<CacheStates>,
    /// The nodes that hold most of it, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub nodes: Vec<NodeStatus>,
    /// How many nodes hold something of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_count: Option<i32>,
    /// Who reads it, as far as pods tell: workloads with a pod that uses it on a node whose agent tells that it is
    /// being read there. Those on most such nodes come first, then by namespace, kind and name, at most 16. Agents tell
    /// how many read, not who: a pod beside one that reads is among them before it has read itself. A pod that has
    /// ended, and one whose agent is silent, is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub readers: Vec<ReaderStatus>,
    /// How many workloads read it: the number of workloads that `readers` is made of, those beyond 16 among them, or the
    /// most that one agent counts on its node, whichever is greater. A workload on several nodes counts once. Silent
    /// agents do not count; absent where all are silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader_count: Option<i32>,
    /// Its claims, one a namespace that may use it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 65))]
    pub volumes: Vec<VolumeStatus>,
    /// The operation that touched it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_operation: Option<LastOperation>,
}
