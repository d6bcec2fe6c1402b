//! **Dataset**: a named set of mounts over stores, how it is cached, and who may use it.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::common::EncryptOption;
use super::dataset::{AccessMode, CacheSpec, IDLE_SECONDS, Mount, Retention, Sharing, VersionPolicy};
use super::dataset_status::DatasetStatus;

/// What data it is, how it is cached, and who may use it.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "headrace.io",
    version = "v1alpha1",
    kind = "Dataset",
    namespaced,
    status = "DatasetStatus",
    derive = "Default",
    derive = "PartialEq",
    shortname = "hds",
    category = "headrace",
    doc = "A named set of mounts over stores. Pods use it by the PersistentVolumeClaim of the same name.",
    printcolumn(name = "Total", type_ = "string", json_path = ".status.ufsTotal", description = "Bytes of the current version"),
    printcolumn(name = "Cached", type_ = "string", json_path = ".status.cacheStates.cached", description = "Bytes that at least one node holds"),
    printcolumn(name = "Cached%", type_ = "string", json_path = ".status.cacheStates.cachedPercentage", description = "Share that at least one node holds"),
    printcolumn(name = "Hit", type_ = "string", json_path = ".status.cacheStates.cacheHitRatio", description = "Share of read bytes that were on the reader's node"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.nodeCount", priority = 1),
    printcolumn(name = "Readers", type_ = "integer", json_path = ".status.readerCount", priority = 1),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')").message("a Dataset's name becomes a label and a claim's name: at most 63 of a-z, 0-9 and -, beginning and ending with a letter or digit"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.mounts.all(m, !has(m.name) || self.mounts.exists_one(o, has(o.name) && o.name == m.name))").message("two mounts have one name: give each its own"),
    validation = Rule::new("!has(self.accessModes) || self.accessModes.all(m, m == 'ReadOnlyMany') || !self.mounts.all(m, has(m.readOnly) && m.readOnly)").message("accessModes allow writing and every mount is readOnly: use ReadOnlyMany, or drop readOnly from a mount"),
    validation = Rule::new("!has(self.accessModes) || self.accessModes.size() <= 1 || !self.accessModes.exists(m, m == 'ReadWriteOncePod')").message("ReadWriteOncePod stands beside another access mode, which Kubernetes lets no claim have: leave it alone in accessModes, or take it out"),
    validation = Rule::new("has(self.accessModes) == has(oldSelf.accessModes) && (!has(self.accessModes) || self.accessModes == oldSelf.accessModes)").message("accessModes cannot be changed, because Kubernetes does not change them on a claim: make another Dataset over the same mounts"),
)]
pub struct DatasetSpec {
    /// The stores and where they are seen in the Dataset.
    #[schemars(length(min = 1, max = 32))]
    pub mounts: Vec<Mount>,
    /// Options for every mount, for the data path to come (a DataBackup lists s3:// mounts with
    /// them); a mount's own win, whichever of them are secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub shared_options: BTreeMap<String, String>,
    /// Options for every mount whose values are secrets, for the data path to come (a DataBackup lists s3:// mounts with
    /// them); a mount's own win, whichever of them are secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub shared_encrypt_options: Vec<EncryptOption>,
    /// When changed data becomes a new version, and which one readers see. Absent: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_policy: Option<VersionPolicy>,
    /// How pods may mount it. Absent: ReadOnlyMany.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub access_modes: Vec<AccessMode>,
    /// Where and how much of it is kept on nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheSpec>,
    /// Which other namespaces may use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharing: Option<Sharing>,
    /// How long versions and idle bytes are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

impl DatasetSpec {
    /// Seconds without a reader after which the Dataset is idle.
    pub fn idle_seconds(&self) -> i64 {
        self.retention.as_ref().and_then(|r| r.idle_seconds).unwrap_or(IDLE_SECONDS)
    }

    /// Whether `namespace` may use a Dataset that lives in `own`.
    pub fn admits(&self, own: &str, namespace: &str) -> bool {
        namespace == own
            || self.sharing.iter().flat_map(|s| &s.grants).any(|grant| grant.namespace == namespace)
    }
}
