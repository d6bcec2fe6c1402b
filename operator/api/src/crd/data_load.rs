//! **DataLoad**: brings parts of a Dataset to nodes before somebody reads them. Agents do the work.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::common::DatasetRef;
use super::operation::{OperationStatus, Timing};

/// A part of the Dataset to load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.path.startsWith('/') && !self.path.matches('(^|/)[.][.](/|$)')").message("path must be absolute in the Dataset and without '..', such as /train"),
)]
pub struct TargetPath {
    /// File or folder in the Dataset; `/` is everything.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// How many nodes are to hold this part. Absent: as the DataLoad says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub replicas: Option<i32>,
}

/// What to load, how often, and when.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "headrace.io",
    version = "v1alpha1",
    kind = "DataLoad",
    namespaced,
    status = "OperationStatus",
    derive = "Default",
    derive = "PartialEq",
    shortname = "hload",
    category = "headrace",
    doc = "Brings parts of a Dataset to nodes before somebody reads them.",
    printcolumn(name = "Dataset", type_ = "string", json_path = ".spec.dataset.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress.percentage"),
    printcolumn(name = "Duration", type_ = "string", json_path = ".status.duration"),
    printcolumn(name = "Failures", type_ = "integer", json_path = ".status.failures", priority = 1),
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policy", priority = 1),
    printcolumn(name = "Last", type_ = "date", json_path = ".status.completionTime", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 200").message("the name becomes part of Job names: at most 200 characters"),
)]
#[serde(rename_all = "camelCase")]
pub struct DataLoadSpec {
    /// The Dataset to load.
    pub dataset: DatasetRef,
    /// Parts of it, most important first. Absent: everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub target: Vec<TargetPath>,
    /// The version to load. Absent: the one readers see when the run begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[a-zA-Z0-9:._-]+$"))]
    pub version: Option<String>,
    /// How many nodes are to hold each part. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub replicas: Option<i32>,
    /// Loads of a higher priority go first, from 0 to 100. Readers always go before loads. Default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub priority: Option<i32>,
    /// Keep what was loaded until this DataLoad is deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pin: bool,
    /// When it runs.
    #[serde(flatten)]
    pub timing: Timing,
}
