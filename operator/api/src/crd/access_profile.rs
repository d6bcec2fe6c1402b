//! **AccessProfile**: what was learned of a workload, so that a new replica on any node starts with it.
//!
//! Written by the operator only. It holds no path in the clear: `data` is what agents exchange, opaque to
//! everybody else, and bounded.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::DatasetRef;

/// Characters of `data`: the 256 KiB that the wire lets through, in base64. An object of etcd may have 1.5 MiB.
pub const MAX_DATA: usize = 349_528;

/// Ranges kept of what is read first.
pub const MAX_FIRST: usize = 64;

/// The workload: the owner of the pods; a pod that nothing owns; `Program` and a number where nobody has said in which
/// pods it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadRef {
    /// Kind of the owner, such as Job or StatefulSet.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name of the owner.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its namespace, where that is not the profile's own: the Dataset is shared with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// Chunks in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChunkRange {
    /// The first chunk.
    #[schemars(range(min = 0))]
    pub start: i64,
    /// How many.
    #[schemars(range(min = 1))]
    pub count: i64,
}

/// What was learned of a workload on a Dataset.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "headrace.io",
    version = "v1alpha1",
    kind = "AccessProfile",
    namespaced,
    derive = "Default",
    derive = "PartialEq",
    shortname = "hprofile",
    category = "headrace",
    doc = "What was learned of a workload; written by the operator only.",
    printcolumn(name = "Workload", type_ = "string", json_path = ".spec.workload.name"),
    printcolumn(name = "Dataset", type_ = "string", json_path = ".spec.dataset.name"),
    printcolumn(name = "Pattern", type_ = "string", json_path = ".spec.pattern"),
    printcolumn(name = "Learned", type_ = "date", json_path = ".spec.learnedAt")
)]
#[serde(rename_all = "camelCase")]
pub struct AccessProfileSpec {
    /// The workload.
    pub workload: WorkloadRef,
    /// The Dataset it reads.
    pub dataset: DatasetRef,
    /// The version it was learned on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub version: Option<String>,
    /// The pattern in words, such as `shuffled epoch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub pattern: Option<String>,
    /// The chunks it reads first, in order, at most 64 ranges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub first: Vec<ChunkRange>,
    /// What agents exchange, in base64.
    #[schemars(length(max = 349_528))]
    pub data: String,
    /// When it was learned, such as `2026-11-30T04:09:23Z`.
    // Not by format: where a text with a format is due, the apiserver lets any list in, and nobody could read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "Option<String>",
        length(max = 40),
        regex(
            pattern = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
        )
    )]
    pub learned_at: Option<Time>,
}
