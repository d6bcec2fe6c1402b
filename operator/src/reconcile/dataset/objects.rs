//! The PersistentVolume and claim of a target, whole: made once, and never changed.
//!
//! The volume names the claim and the claim names the volume, so that the controller-manager binds them at the
//! first look, and no other claim can take the volume.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, ObjectReference, PersistentVolume, PersistentVolumeClaim,
    PersistentVolumeClaimSpec, PersistentVolumeSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use operator_api::crd::Dataset;
use operator_api::crd::dataset::AccessMode;

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

/// `bound` is the uid of the claim where there is one already: a claim that lost its volume takes this one.
pub fn volume(dataset: &Dataset, target: &Target, bound: Option<String>) -> PersistentVolume {
    let uid = dataset.uid().unwrap_or_default();
    let name = marks::volume(&uid, &target.namespace, &target.claim);
    let read_only = dataset.spec.access_modes.iter().all(|mode| *mode == AccessMode::ReadOnlyMany);
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
                uid: bound,
                ..Default::default()
            }),
            csi: Some(CSIPersistentVolumeSource {
                driver: marks::DRIVER.into(),
                volume_handle: name,
                read_only: Some(read_only),
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
            volume_name: Some(marks::volume(&uid, &target.namespace, &target.claim)),
            ..Default::default()
        }),
        status: None,
    }
}
