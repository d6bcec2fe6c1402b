//! **DataBackup**: keeps what cannot be read again from the stores. A Job does the work.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::EncryptOption;
use super::operation::{OperationStatus, Timing};

/// What a backup can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum BackupContent {
    /// The Dataset object itself, without secrets.
    Metadata,
    /// Its versions' digests and totals, and of each mount that the Job can list (s3://, pvc://, one file of http(s)://,
    /// and nfs:// where it is all of the Dataset) path, size, time and the store's mark of every file: no content, and nothing
    /// that is restored, but what stores are compared with when the backup is read again.
    Manifests,
    /// The AccessProfiles of workloads that read it.
    Profiles,
}

/// What to keep where, and when.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "headrace.io",
    version = "v1alpha1",
    kind = "DataBackup",
    namespaced,
    status = "OperationStatus",
    derive = "Default",
    derive = "PartialEq",
    shortname = "hbackup",
    category = "headrace",
    doc = "Keeps a Dataset's metadata and learned profiles where they can be restored from, and manifests of its mounts, with which stores can be compared.",
    printcolumn(name = "Dataset", type_ = "string", json_path = ".spec.dataset"),
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
pub struct DataBackupSpec {
    /// Name of the Dataset, in this namespace.
    #[schemars(length(min = 1, max = 63))]
    pub dataset: String,
    /// Where the backup goes: `pvc://claim/folder` or the URL of a store.
    #[schemars(length(min = 5, max = 2048), regex(pattern = r"^[a-z][a-z0-9+.-]*://[^\s]*$"))]
    pub backup_path: String,
    /// Options of that store whose values are secrets, such as `access_key_id`. Absent: the pod's own identity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub encrypt_options: Vec<EncryptOption>,
    /// What is kept. Absent: everything, manifests of the mounts that can be listed. Manifests that are named here and can be
    /// had of no mount are a failure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub include: Vec<BackupContent>,
    /// Image of the Job, in place of the operator's own choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[^\s]+$"))]
    pub image: Option<String>,
    /// When it runs.
    #[serde(flatten)]
    pub timing: Timing,
}
