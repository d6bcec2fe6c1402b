//! The PersistentVolume and claim of a target, whole: made once, and never changed.
//!
//! The volume names the claim by uid, so that no other claim can take it, whatever it is called. The claim selects the
//! Dataset's volumes by label, so that it takes no other. It does not name its volume, which is made after it: a claim
//! that names a volume waits for the controller-manager's next round (15 s) where it was seen before the volume was; one
//! that does not is bound as soon as the volume is seen.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, ObjectReference, PersistentVolume, PersistentVolumeClaim,
    PersistentVolumeClaimSpec, PersistentVolumeSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use operator_api::crd::Dataset;
use operator_api::crd::dataset::AccessMode;

use super::shown;
use super::targets::Target;
use crate::marks;

/// A volume has to have a size, and a Dataset's is not known when it is made: larger than any.
const CAPACITY: &str = "100Pi";

/// What a claim counts for against its namespace's quota of storage: next to nothing, because the bytes are the
/// nodes', not the namespace's.
const REQUEST: &str = "1Ki";

fn labels(dataset: &Dataset) -> BTreeMap<String, String> {
    BTreeMap::from([
        (marks::MANAGED_BY.0.into(), marks::MANAGED_BY.1.into()),
        (marks::DATASET_UID.into(), dataset.uid().unwrap_or_default()),
        (marks::DATASET_NAME.into(), dataset.name_any()),
        (marks::DATASET_NAMESPACE.into(), dataset.namespace().unwrap_or_default()),
    ])
}

fn access_modes(dataset: &Dataset) -> Vec<String> {
    let modes: Vec<_> = dataset.spec.access_modes.iter().map(|mode| mode.name().to_owned()).collect();
    if modes.is_empty() { vec![AccessMode::ReadOnlyMany.name().into()] } else { modes }
}

/// For the claim of that uid.
pub fn volume(dataset: &Dataset, target: &Target, claim_uid: String) -> PersistentVolume {
    let uid = dataset.uid().unwrap_or_default();
    let name = marks::volume(&uid, &target.namespace, &target.claim);
    let folder = shown::folder(dataset);
    let by_driver = folder.is_none();
    let attributes = BTreeMap::from([
        ("dataset".to_owned(), dataset.name_any()),
        ("namespace".to_owned(), dataset.namespace().unwrap_or_default()),
        ("datasetUid".to_owned(), uid),
    ]);
    PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(labels(dataset)),
            ..Default::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: Some(access_modes(dataset)),
            capacity: Some(BTreeMap::from([("storage".into(), Quantity(CAPACITY.into()))])),
            claim_ref: Some(ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("PersistentVolumeClaim".into()),
                namespace: Some(target.namespace.clone()),
                name: Some(target.claim.clone()),
                uid: Some(claim_uid),
                ..Default::default()
            }),
            mount_options: folder.as_ref().map(|folder| folder.options.clone()),
            nfs: folder.map(|folder| folder.source),
            csi: by_driver.then(|| CSIPersistentVolumeSource {
                driver: marks::DRIVER.into(),
                volume_handle: name,
                read_only: Some(shown::is_read_only(dataset)),
                volume_attributes: Some(attributes),
                ..Default::default()
            }),
            // Deleting a claim must never delete data, and who made the volume takes it away.
            persistent_volume_reclaim_policy: Some("Retain".into()),
            storage_class_name: Some(String::new()),
            volume_mode: Some("Filesystem".into()),
            ..Default::default()
        }),
        status: None,
    }
}

pub fn claim(dataset: &Dataset, target: &Target) -> PersistentVolumeClaim {
    let uid = dataset.uid().unwrap_or_default();
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(target.claim.clone()),
            namespace: Some(target.namespace.clone()),
            labels: Some(labels(dataset)),
            ..Default::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(access_modes(dataset)),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".into(), Quantity(REQUEST.into()))])),
                ..Default::default()
            }),
            // Empty, not absent: no class may provision another volume for it.
            storage_class_name: Some(String::new()),
            volume_mode: Some("Filesystem".into()),
            // Each of these names its claim by uid, so that the one that is this claim's is the only one it can take.
            selector: Some(LabelSelector {
                match_labels: Some(BTreeMap::from([(marks::DATASET_UID.into(), uid)])),
                ..Default::default()
            }),
            ..Default::default()
        }),
        status: None,
    }
}
