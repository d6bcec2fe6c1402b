//! The part of a pod that scheduling reads: which claims it mounts, where, and what it says about itself.
//!
//! Every field may be missing or null, as Go writes it. What is of another kind than the API server would
//! let pass is an error, and the pod is left alone.

use std::collections::BTreeMap;

use kube::api::ObjectMeta;
use serde::{Deserialize, Deserializer};

/// Opts a pod (label or annotation) or a namespace (label) out, with the value `disabled`.
pub const SCHEDULING: &str = "headrace.io/scheduling";

/// The value of [`SCHEDULING`] that opts out.
pub const DISABLED: &str = "disabled";

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Pod {
    pub metadata: Option<Metadata>,
    #[serde(default, deserialize_with = "nullable")]
    pub spec: Spec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    #[serde(default, deserialize_with = "nullable")]
    pub namespace: String,
    pub labels: Option<BTreeMap<String, String>>,
    pub annotations: Option<BTreeMap<String, String>>,
    #[serde(default, deserialize_with = "nullable")]
    pub owner_references: Vec<Owner>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Owner {
    #[serde(default, deserialize_with = "nullable")]
    pub kind: String,
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    #[serde(default, deserialize_with = "nullable")]
    pub controller: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    #[serde(default, deserialize_with = "nullable")]
    pub node_name: String,
    pub affinity: Option<Affinity>,
    #[serde(default, deserialize_with = "nullable")]
    pub volumes: Vec<Volume>,
    #[serde(default, deserialize_with = "nullable")]
    pub containers: Vec<Container>,
    #[serde(default, deserialize_with = "nullable")]
    pub init_containers: Vec<Container>,
}

/// Only how far the path exists, and the terms of which one must be met: what is in it is the user's and stays as it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Affinity {
    pub node_affinity: Option<NodeAffinity>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeAffinity {
    pub required_during_scheduling_ignored_during_execution: Option<NodeSelector>,
    pub preferred_during_scheduling_ignored_during_execution: Option<Vec<serde::de::IgnoredAny>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSelector {
    #[serde(default, deserialize_with = "nullable")]
    pub node_selector_terms: Vec<NodeSelectorTerm>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSelectorTerm {
    #[serde(default, deserialize_with = "nullable")]
    pub match_fields: Vec<Requirement>,
    pub match_expressions: Option<Vec<Requirement>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Requirement {
    #[serde(default, deserialize_with = "nullable")]
    pub key: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    pub persistent_volume_claim: Option<ClaimSource>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimSource {
    #[serde(default, deserialize_with = "nullable")]
    pub claim_name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    #[serde(default, deserialize_with = "nullable")]
    pub volume_mounts: Vec<VolumeMount>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeMount {
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    pub mount_propagation: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub sub_path: String,
    #[serde(default, deserialize_with = "nullable")]
    pub sub_path_expr: String,
    pub recursive_read_only: Option<String>,
}

impl Pod {
    /// The same of a pod whose metadata was read by others.
    pub fn of(metadata: &ObjectMeta, spec: Spec) -> Self {
        let owners = metadata.owner_references.iter().flatten();
        let metadata = Metadata {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            labels: metadata.labels.clone(),
            annotations: metadata.annotations.clone(),
            owner_references: owners
                .map(|owner| Owner {
                    kind: owner.kind.clone(),
                    name: owner.name.clone(),
                    controller: owner.controller.unwrap_or_default(),
                })
                .collect(),
        };
        Self { metadata: Some(metadata), spec }
    }

    /// Claims that the pod mounts: the volume's index, its name and the claim's name.
    pub fn claims(&self) -> impl Iterator<Item = (usize, &str, &str)> {
        self.spec.volumes.iter().enumerate().filter_map(|(index, volume)| {
            let claim = volume.persistent_volume_claim.as_ref()?;
            (!claim.claim_name.is_empty()).then_some((index, &*volume.name, &*claim.claim_name))
        })
    }

    /// Whether the pod's own label or annotation asks to be left alone.
    pub fn opted_out(&self) -> bool {
        let says = |map: &Option<BTreeMap<String, String>>| {
            map.as_ref().and_then(|map| map.get(SCHEDULING)).is_some_and(|value| value == DISABLED)
        };
        self.metadata.as_ref().is_some_and(|own| says(&own.labels) || says(&own.annotations))
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.as_ref()?.annotations.as_ref()?.get(key).map(String::as_str)
    }

    pub fn namespace(&self) -> &str {
        self.metadata.as_ref().map_or("", |own| &own.namespace)
    }

    /// The object that made the pod.
    pub fn controller(&self) -> Option<&Owner> {
        self.metadata.as_ref()?.owner_references.iter().find(|owner| owner.controller)
    }
}

fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_absences_are_the_same() {
        for text in [
            "{}",
            r#"{"metadata":null,"spec":null}"#,
            r#"{"metadata":{"labels":null,"annotations":null,"ownerReferences":null,"creationTimestamp":null},
                "spec":{"nodeName":null,"volumes":null,"containers":null,"affinity":null}}"#,
        ] {
            let pod: Pod = serde_json::from_str(text).unwrap();
            assert_eq!(pod.claims().count(), 0);
            assert!(!pod.opted_out());
        }
        assert!(serde_json::from_str::<Pod>(r#"{"spec":{"volumes":{}}}"#).is_err());
    }

    #[test]
    fn claims_are_found_among_other_volumes() {
        let pod: Pod = serde_json::from_str(
            r#"{"spec":{"volumes":[
                {"name":"tmp","emptyDir":{}},
                {"name":"data","persistentVolumeClaim":{"claimName":"train","readOnly":true}},
                {"name":"odd","persistentVolumeClaim":{"claimName":""}}]}}"#,
        )
        .unwrap();
        assert_eq!(pod.claims().collect::<Vec<_>>(), [(1, "data", "train")]);
    }

    #[test]
    fn label_and_annotation_opt_out() {
        for text in [
            r#"{"metadata":{"labels":{"headrace.io/scheduling":"disabled"}}}"#,
            r#"{"metadata":{"annotations":{"headrace.io/scheduling":"disabled"}}}"#,
        ] {
            assert!(serde_json::from_str::<Pod>(text).unwrap().opted_out());
        }
        let other = r#"{"metadata":{"labels":{"headrace.io/scheduling":"on"}}}"#;
        assert!(!serde_json::from_str::<Pod>(other).unwrap().opted_out());
    }
}
