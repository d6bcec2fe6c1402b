//! **DataProcess**: runs a pod over a Dataset. A Job does the work.

use k8s_openapi::api::core::v1::{EnvVar, PodSpec, ResourceRequirements};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::PodMetadata;
use super::operation::{OperationStatus, Timing};
use super::pod_schema::pod_spec;

/// The Dataset, and where the pod sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.mountPath.startsWith('/') && !self.mountPath.contains(':')").message("mountPath must be absolute and without ':', such as /data"),
    validation = Rule::new("!has(self.subPath) || (!self.subPath.startsWith('/') && !self.subPath.matches('(^|/)[.][.](/|$)'))").message("subPath must be relative and without '..', such as train"),
)]
pub struct TargetDataset {
    /// Name of the Dataset.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Namespace of the Dataset; this object's own when absent. Another namespace needs a grant in the
    /// Dataset's `spec.sharing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Where the Dataset is mounted in every container.
    #[schemars(length(min = 1, max = 1024))]
    pub mount_path: String,
    /// Folder of the Dataset that is mounted; everything when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub sub_path: Option<String>,
}

/// A processor given as a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobProcessor {
    /// The pod, as in a Job. Its restartPolicy is Never unless it says OnFailure.
    #[schemars(schema_with = "pod_spec")]
    pub pod_spec: PodSpec,
}

/// A processor given as a script.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScriptProcessor {
    /// Image that holds the interpreter.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[^\s]+$"))]
    pub image: String,
    /// The interpreter. The script is its last argument. Default `["sh", "-c"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub command: Vec<String>,
    /// The script.
    #[schemars(length(min = 1, max = 65536))]
    pub source: String,
    /// Environment of the script.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub env: Vec<EnvVar>,
    /// Resources of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

/// What is run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.job) != has(self.script)").message("give a job or a script, and only one of them"),
)]
pub struct Processor {
    /// Service account of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// Labels and annotations of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_metadata: Option<PodMetadata>,
    /// A pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobProcessor>,
    /// A script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<ScriptProcessor>,
}

/// What runs over which Dataset, and when.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "headrace.io",
    version = "v1alpha1",
    kind = "DataProcess",
    plural = "dataprocesses",
    namespaced,
    status = "OperationStatus",
    derive = "Default",
    derive = "PartialEq",
    shortname = "hprocess",
    category = "headrace",
    doc = "Runs a pod over a Dataset.",
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
pub struct DataProcessSpec {
    /// The Dataset, and where it is seen.
    pub dataset: TargetDataset,
    /// What is run.
    pub processor: Processor,
    /// When it runs.
    #[serde(flatten)]
    pub timing: Timing,
}
