//! What the pods of operations have in common: claims, mounts, text that is meant as it stands. Pure.

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaimVolumeSource, PodSpec, PodTemplateSpec, Volume, VolumeMount,
};
use kube::ResourceExt;
use kube::api::ObjectMeta;
use operator_api::crd::Dataset;
use operator_api::crd::common::PodMetadata;

use crate::reconcile::dataset::targets;

/// The claim by which a namespace uses a Dataset.
pub fn claim(dataset: &Dataset, namespace: &str) -> Result<String, String> {
    let target = targets::of(dataset).into_iter().find(|target| target.namespace == namespace);
    target.map(|target| target.claim).ok_or_else(|| {
        format!(
            "namespace {namespace} may not use Dataset {}: its owner has to add a grant",
            dataset.name_any()
        )
    })
}

/// The kubelet replaces `$(NAME)` in commands and variables: what is meant as it stands is written so.
pub fn verbatim(text: &str) -> String {
    text.replace('$', "$$")
}

/// A claim that is to be seen in every container of a pod.
#[derive(Clone, Debug)]
pub struct Mount {
    pub volume: String,
    pub claim: String,
    pub at: String,
    pub sub_path: Option<String>,
    pub read_only: Option<bool>,
}

/// Adds a claim to every container.
pub fn mount(pod: &mut PodSpec, mount: Mount) {
    let Mount { volume: name, claim: claim_name, at, sub_path, read_only } = mount;
    let source = PersistentVolumeClaimVolumeSource { claim_name, read_only };
    let volume = Volume { name: name.clone(), persistent_volume_claim: Some(source), ..Volume::default() };
    pod.volumes.get_or_insert_default().push(volume);
    for container in pod.containers.iter_mut().chain(pod.init_containers.iter_mut().flatten()) {
        let mount = VolumeMount {
            name: name.clone(),
            mount_path: at.clone(),
            sub_path: sub_path.clone(),
            ..VolumeMount::default()
        };
        container.volume_mounts.get_or_insert_default().push(mount);
    }
}

pub fn template(pod: PodSpec, metadata: Option<&PodMetadata>) -> PodTemplateSpec {
    let metadata = metadata.map(|metadata| ObjectMeta {
        labels: Some(metadata.labels.clone()),
        annotations: Some(metadata.annotations.clone()),
        ..ObjectMeta::default()
    });
    PodTemplateSpec { metadata, spec: Some(pod) }
}
