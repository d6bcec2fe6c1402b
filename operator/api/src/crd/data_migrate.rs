//! **DataMigrate**: copies data from store to store, or from a version into a store. A Job does the work.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{EncryptOption, PodMetadata};
use super::operation::{OperationStatus, Timing};

/// A Dataset as one end of a migration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.path) || (self.path.startsWith('/') && !self.path.matches('(^|/)[.][.](/|$)'))").message("path must be absolute in the Dataset and without '..', such as /train"),
)]
pub struct DatasetToMigrate {
    /// Name of the Dataset.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Namespace of the Dataset; this object's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Folder in the Dataset; everything when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub path: Option<String>,
    /// Version to read. Absent: the one readers see when the run begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[a-zA-Z0-9:._-]+$"))]
    pub version: Option<String>,
}

/// A store outside of any Dataset as one end of a migration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalStorage {
    /// URL of the store, such as `s3://bucket/folder`.
    #[schemars(length(min = 5, max = 2048), regex(pattern = r"^[a-z][a-z0-9+.-]*://[^\s]*$"))]
    pub uri: String,
    /// Options whose values are secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub encrypt_options: Vec<EncryptOption>,
}

/// One end of a migration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.dataset) != has(self.externalStorage)").message("name a dataset or an externalStorage, and only one of them"),
)]
pub struct DataToMigrate {
    /// A Dataset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<DatasetToMigrate>,
    /// A store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_storage: Option<ExternalStorage>,
}

/// What to copy from where to where, and when.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "headrace.io",
    version = "v1alpha1",
    kind = "DataMigrate",
    namespaced,
    status = "OperationStatus",
    derive = "Default",
    derive = "PartialEq",
    shortname = "hmigrate",
    category = "headrace",
    doc = "Copies data from store to store, checksummed and resumable.",
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
#[x_kube(
    validation = Rule::new("!has(self.to.dataset) || !has(self.to.dataset.version)").message("to.dataset.version cannot be chosen: what is written becomes a new version"),
)]
pub struct DataMigrateSpec {
    /// Where the data is.
    pub from: DataToMigrate,
    /// Where it is to be.
    pub to: DataToMigrate,
    /// Objects copied at once. Default 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub parallelism: Option<i32>,
    /// Image of the Job, in place of the operator's own choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[^\s]+$"))]
    pub image: Option<String>,
    /// Labels and annotations of the Job's pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_metadata: Option<PodMetadata>,
    /// Labels of the nodes that the Job may run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the Job's pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Resources of the Job's pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// When it runs.
    #[serde(flatten)]
    pub timing: Timing,
}
