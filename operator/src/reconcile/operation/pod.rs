//! What the pods of operations have in common: claims, mounts, secrets, text that is meant as it stands. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    EnvVar, EnvVarSource, PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, PodSpec, PodTemplateSpec,
    SecretKeySelector, Volume, VolumeMount,
};
use kube::ResourceExt;
use kube::api::ObjectMeta;
use operator_api::crd::Dataset;
use operator_api::crd::common::{EncryptOption, PodMetadata};

use crate::marks;
use crate::reconcile::dataset::targets;
use crate::watch::Owned;

/// The claim by which a namespace uses a Dataset. A name alone says nothing: a claim of that name may be anybody's.
pub fn claim(
    dataset: &Dataset,
    namespace: &str,
    claims: &Owned<PersistentVolumeClaim>,
) -> Result<String, String> {
    let name = dataset.name_any();
    let target = targets::of(dataset).into_iter().find(|target| target.namespace == namespace);
    let claim = target.map(|target| target.claim).ok_or_else(|| {
        format!("namespace {namespace} may not use Dataset {name}: its owner has to add a grant")
    })?;
    let uid = dataset.uid();
    let made_for_it = claims
        .get(namespace, &claim)
        .is_some_and(|found| uid.is_some() && found.labels().get(marks::DATASET_UID) == uid.as_ref());
    made_for_it.then(|| claim.clone()).ok_or_else(|| {
        format!(
            "claim {namespace}/{claim} of Dataset {name} is not there yet, or is another's: see the Dataset's \
             status.volumes"
        )
    })
}

/// The kubelet replaces `$(NAME)` in commands and variables: what is meant as it stands is written so.
pub fn verbatim(text: &str) -> String {
    text.replace('$', "$$")
}

/// Options that are secrets, as variables; gives which option is in which variable. Without one that is
/// not `optional` the pod does not start.
pub fn secrets<'a>(
    side: &str,
    options: impl Iterator<Item = &'a EncryptOption>,
    optional: bool,
    env: &mut Vec<EnvVar>,
) -> BTreeMap<String, String> {
    let named = options.enumerate().map(|(index, option)| {
        let name = format!("HEADRACE_{}_{index}", side.to_ascii_uppercase());
        let key = SecretKeySelector {
            name: option.value_from.secret_key_ref.name.clone(),
            key: option.value_from.secret_key_ref.key.clone(),
            optional: Some(optional),
        };
        let value_from = Some(EnvVarSource { secret_key_ref: Some(key), ..EnvVarSource::default() });
        env.push(EnvVar { name: name.clone(), value_from, ..EnvVar::default() });
        (option.name.clone(), name)
    });
    named.collect()
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
