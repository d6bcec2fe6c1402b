//! What a person writes into a Dataset.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::EncryptOption;

/// One store, or part of one, that is seen below a path of the Dataset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.path) || has(self.name)").message("a mount needs a name or a path, under which it is seen in the Dataset: set name"),
    validation = Rule::new("!has(self.path) || (self.path.startsWith('/') && !self.path.matches('(^|/)[.][.](/|$)'))").message("path must be absolute and without '..', such as /train"),
)]
pub struct Mount {
    /// URL of the data, such as `nfs://host/export`, `juicefs://name/folder` (the name is needed: nodes know it by that), `mounted://source/folder` (a file system as
    /// a node's mountinfo names it), `s3://bucket/train`, `https://host/data`, `pvc://claim/folder` or `local:///mnt/data`.
    /// Until the data path exists only the first three can be seen on nodes. A Dataset of one nfs:// mount whose path is `/`
    /// has a volume that every kubelet mounts; all else something else has to mount.
    #[schemars(length(min = 5, max = 2048), regex(pattern = r"^[a-z][a-z0-9+.-]*://[^\s]*$"))]
    pub mount_point: String,
    /// Options for the store's client: of an nfs:// volume those of mount.nfs, as they were when it was made; of others for
    /// the data path to come. A DataBackup lists s3:// mounts with them. Never secrets: those are `encryptOptions`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub options: BTreeMap<String, String>,
    /// Name of the mount, unique in the Dataset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?$"))]
    pub name: Option<String>,
    /// Where the mount is seen in the Dataset, `/` for all of it; `/{name}` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub path: Option<String>,
    /// Refuse writes below this mount: of an nfs:// volume now, else for the data path to come.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Options whose values are secrets, for the data path to come; a DataBackup lists s3:// mounts with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub encrypt_options: Vec<EncryptOption>,
}

impl Mount {
    /// Where the mount is seen in the Dataset.
    pub fn seen_at(&self) -> String {
        match (&self.path, &self.name) {
            (Some(path), _) => path.clone(),
            (None, Some(name)) => format!("/{name}"),
            (None, None) => "/".into(),
        }
    }
}

/// Which version of the data readers see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Follow {
    /// The newest version that was found in the stores.
    #[default]
    Latest,
    /// One version, named in `version`: status speaks of it, whatever the stores hold by now. What pods read is what
    /// the stores hold, until the data path keeps versions.
    Pinned,
}

/// When a changed store becomes a new version, and which version readers see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.follow) && self.follow == 'Pinned') == has(self.version)").message("version goes with follow: Pinned, and only with it"),
)]
pub struct VersionPolicy {
    /// `Latest` (the default) or `Pinned`.
    #[serde(default)]
    pub follow: Follow,
    /// The version to stay at, as `status.versions` names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[a-zA-Z0-9:._-]+$"))]
    pub version: Option<String>,
    /// How often the stores are to be asked for changes, in seconds. Today agents tell of changes when they see
    /// them on a mount, and this is kept for the data path to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 31_536_000))]
    pub interval_seconds: Option<i64>,
}

/// How pods may mount the Dataset's volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AccessMode {
    /// Read by pods on many nodes.
    ReadOnlyMany,
    /// Read and written by pods on many nodes.
    ReadWriteMany,
    /// Read and written by pods on one node.
    ReadWriteOnce,
    /// Read and written by one pod.
    ReadWriteOncePod,
}

impl AccessMode {
    pub fn name(self) -> &'static str {
        match self {
            Self::ReadOnlyMany => "ReadOnlyMany",
            Self::ReadWriteMany => "ReadWriteMany",
            Self::ReadWriteOnce => "ReadWriteOnce",
            Self::ReadWriteOncePod => "ReadWriteOncePod",
        }
    }
}

/// What a cache tier is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum MediumType {
    /// Memory of the node: the page cache, or tmpfs.
    MEM,
    /// Flash.
    SSD,
    /// Spinning disk.
    HDD,
}

/// One tier of the cache on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.path) || (self.path.startsWith('/') && !self.path.matches('(^|/)[.][.](/|$)'))").message("path must be an absolute folder of the node, without '..', such as /var/cache/headrace"),
    validation = Rule::new("!has(self.low) || !has(self.high) || double(self.low) <= double(self.high)").message("low must not be above high: the cache is emptied from high down to low"),
)]
pub struct Level {
    /// `MEM`, `SSD` or `HDD`. Today bytes are kept in memory alone; the others count by their quota.
    pub mediumtype: MediumType,
    /// Folder of the node that holds the tier, for the data path to come. A MEM tier needs none: it is the page cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub path: Option<String>,
    /// Bytes of this tier on each node that the Dataset may fill, such as `100Gi`.
    #[schemars(
        length(min = 1, max = 24),
        regex(pattern = r"^(0|[1-9][0-9]{0,14})(\.[0-9]{1,3})?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$")
    )]
    pub quota: String,
    /// Share of the quota at which space is made, such as `0.95`; for the data path to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), regex(pattern = r"^(0\.[0-9]{1,4}|1(\.0{1,4})?)$"))]
    pub high: Option<String>,
    /// Share of the quota down to which space is made, such as `0.7`; for the data path to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), regex(pattern = r"^(0\.[0-9]{1,4}|1(\.0{1,4})?)$"))]
    pub low: Option<String>,
}

/// The tiers of a node's cache, fastest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TieredStore {
    /// Tiers, fastest first.
    #[schemars(length(min = 1, max = 8))]
    pub levels: Vec<Level>,
}

/// Whether several Datasets may be cached on one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PlacementMode {
    /// Nodes are shared with other Datasets.
    #[default]
    Shared,
    /// No other Dataset is placed on this one's nodes, and DataLoads leave out nodes that this keeps them off.
    Exclusive,
}

/// How many nodes hold each part of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replicas {
    /// As many as measured demand pays for.
    Auto,
    /// So many.
    Count(u32),
}

/// Where and how much of the Dataset is kept on nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CacheSpec {
    /// Tiers on each node. Absent: the page cache, as far as the node has memory to spare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tieredstore: Option<TieredStore>,
    /// Bytes of each node that the Dataset may fill in all tiers together, such as `200Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 24),
        regex(pattern = r"^(0|[1-9][0-9]{0,14})(\.[0-9]{1,3})?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$")
    )]
    pub quota: Option<String>,
    /// How many nodes hold each part of the data: a number from 1 to 1000, or `auto` (the default), which
    /// follows what is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("type(self) == int ? (self >= 1 && self <= 1000) : self == 'auto'").message("replicas must be a number from 1 to 1000, or auto"))]
    pub replicas: Option<IntOrString>,
    /// Labels of the nodes that may hold the data.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that the cache tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// `Shared` (the default) or `Exclusive`.
    #[serde(default)]
    pub placement: PlacementMode,
}

impl CacheSpec {
    /// What `replicas` means. What no schema would let in means `Auto`.
    pub fn replicas(&self) -> Replicas {
        match &self.replicas {
            Some(IntOrString::Int(count)) if *count >= 1 => Replicas::Count(count.unsigned_abs()),
            _ => Replicas::Auto,
        }
    }
}

/// Another namespace that may use the Dataset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// Name of the namespace.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub namespace: String,
    /// Name of the PersistentVolumeClaim made there; the Dataset's name when absent. Needed where another
    /// claim has that name already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub claim_name: Option<String>,
}

/// Who else may use the Dataset. Its own namespace always may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sharing {
    /// The namespaces; each gets a PersistentVolumeClaim of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["namespace".into()]))]
    pub grants: Vec<Grant>,
}

/// How long things are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// How many versions are to be kept in the cache, the current one among them; for the data path to come. Default 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub versions: Option<i32>,
    /// Seconds without a reader after which the Dataset counts as idle, and operations on the event DatasetIdle run.
    /// Space that nobody reads is given back first whatever this says. Default 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 31_536_000))]
    pub idle_seconds: Option<i64>,
}

/// Seconds without a reader after which a Dataset is idle, unless it says otherwise: an epoch's pause for
/// validation and checkpoints is shorter.
pub const IDLE_SECONDS: i64 = 600;
