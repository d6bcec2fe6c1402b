//! By what a backup's pod reaches the mounts of its Dataset, to list their files: the language of docs/operator.md. Pure.
//!
//! What the worker speaks it asks itself, with the mount's own Secrets, which lie in the backup's namespace. Claims are
//! mounted. The rest says why it is not reached, and the backup says it on.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{EnvVar, PersistentVolumeClaim};
use kube::ResourceExt;
use operator_api::crd::Dataset;
use operator_api::crd::common::EncryptOption;
use operator_api::crd::dataset_status::VolumePhase;
use operator_api::validate::nfs;
use operator_api::validate::url::StoreUrl;
use serde_json::{Value, json};

use super::pod::{Mount, claim, secrets};
use crate::watch::Owned;

/// In the order of the Dataset's mounts.
pub fn of(
    dataset: &Dataset,
    claims: &Owned<PersistentVolumeClaim>,
    env: &mut Vec<EnvVar>,
    mounts: &mut Vec<Mount>,
) -> Vec<Value> {
    let spec = &dataset.spec;
    let mut reaches = Vec::new();
    for (index, mount) in spec.mounts.iter().enumerate() {
        let mut folder = |claim: String, path: &str| {
            let (volume, at) = (format!("from-{index}"), format!("/headrace/from-{index}"));
            mounts.push(Mount { volume, claim, at: at.clone(), sub_path: None, read_only: Some(true) });
            json!({"folder": at, "path": path})
        };
        let mut reach = match StoreUrl::parse(&mount.mount_point) {
            Err(error) => unreached(&error.to_string()),
            Ok(url) => match url.scheme.as_str() {
                "s3" | "http" | "https" => {
                    let options = effective(&spec.shared_encrypt_options, mount);
                    // Without its Secret the mount is not listed; the rest of the backup does not wait for it.
                    json!({"options": secrets(&format!("from_{index}"), options.into_iter(), true, env)})
                }
                "pvc" => folder(url.authority, &url.path),
                "nfs" if nfs::folder(&spec.mounts).is_some() => match volume(dataset, claims) {
                    Ok(claim) => folder(claim, ""),
                    Err(why) => unreached(&why),
                },
                scheme => unreached(&format!(
                    "a backup lists s3://, pvc://, one file of http(s)://, and nfs:// where it is all of the Dataset, \
                     and not {scheme}:// here"
                )),
            },
        };
        reach["at"] = mount.seen_at().into();
        reaches.push(reach);
    }
    reaches
}

fn unreached(why: &str) -> Value {
    json!({"unreached": why})
}

/// The mount's own secrets, and the shared ones that it has no own word for.
fn effective<'a>(
    shared: &'a [EncryptOption],
    mount: &'a operator_api::crd::dataset::Mount,
) -> Vec<&'a EncryptOption> {
    let own: BTreeSet<&str> = mount
        .options
        .keys()
        .map(String::as_str)
        .chain(mount.encrypt_options.iter().map(|o| &*o.name))
        .collect();
    let shared = shared.iter().filter(|option| !own.contains(&*option.name));
    shared.chain(&mount.encrypt_options).collect()
}

/// The claim by which the Dataset's own namespace has it, where that shows what the Dataset says.
fn volume(dataset: &Dataset, claims: &Owned<PersistentVolumeClaim>) -> Result<String, String> {
    let namespace = dataset.namespace().unwrap_or_default();
    let claim = claim(dataset, &namespace, claims)?;
    let volumes = dataset.status.iter().flat_map(|status| &status.volumes);
    let of_it = |volume: &&operator_api::crd::dataset_status::VolumeStatus| {
        volume.namespace == namespace && volume.claim_name == claim
    };
    // A volume that was made before the mounts were changed shows another store, and a message says so.
    let shows = volumes.filter(of_it).any(|v| v.phase == VolumePhase::Bound && v.message.is_none());
    shows.then_some(claim).ok_or_else(|| {
        "its volume is not there yet, or shows another store: see the Dataset's status.volumes".into()
    })
}
