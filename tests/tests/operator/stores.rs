//! A Dataset that is a folder of an NFS server has a volume that every kubelet mounts.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use operator_api::crd::Dataset;
use serde_json::{Value, json};
use tests::cluster::wait::{Seen, until};

use super::stage::{LIMIT, api, claim_is_bound, dataset, make, phase_is, said};

fn mounts(path: &str) -> Value {
    json!({"mounts": [{"mountPoint": format!("nfs://nas:2050/{path}"), "path": "/", "options": {"vers": "4.2"}}]})
}

/// The volume that the claim is bound to.
async fn volume(client: &Client, name: &str) -> Option<PersistentVolume> {
    let claim = api::<PersistentVolumeClaim>(client, "a").get_opt(name).await.unwrap()?;
    let volume = claim.spec?.volume_name?;
    Api::all(client.clone()).get_opt(&volume).await.unwrap()
}

async fn shows(client: &Client, name: &str, path: &str) -> PersistentVolume {
    until(&format!("the claim's volume shows {path}"), LIMIT, async || {
        let volume = volume(client, name).await;
        let shown =
            volume.as_ref().and_then(|volume| volume.spec.as_ref()?.nfs.as_ref()).map(|nfs| nfs.path.clone());
        Ok(match volume {
            Some(volume) if shown.as_deref() == Some(path) => Seen::Done(volume),
            _ => Seen::NotYet(format!("{shown:?}")),
        })
    })
    .await
    .unwrap()
}

/// Made, bound, and honest when the mounts are changed under it.
pub async fn every_kubelet_can_mount_a_folder(client: &Client) {
    let (datasets, claims) = (api::<Dataset>(client, "a"), api::<PersistentVolumeClaim>(client, "a"));
    make(&datasets, dataset("folder", mounts("export/train"))).await;
    claim_is_bound(&claims, "folder").await;
    let first = shows(client, "folder", "/export/train").await;
    let spec = first.spec.as_ref().unwrap();
    assert_eq!(spec.mount_options.as_ref().unwrap(), &["nodev", "nosuid", "port=2050", "vers=4.2"]);
    assert!(spec.csi.is_none() && spec.nfs.as_ref().unwrap().read_only == Some(true), "{spec:?}");
    let bound = phase_is(&datasets, "folder", "Bound").await;
    assert!(!super::stage::says(&bound, "Ready").contains("csi.headrace.io"), "{bound:?}");

    let changed = Patch::Merge(json!({"spec": mounts("export/other")}));
    datasets.patch("folder", &PatchParams::default(), &changed).await.unwrap();
    said(&datasets, "folder", "Ready", "still see the former store").await;
    assert_eq!(volume(client, "folder").await.unwrap().uid(), first.uid(), "pods may be using it");
    claims.delete("folder", &DeleteParams::default()).await.unwrap();
    shows(client, "folder", "/export/other").await;
    phase_is(&datasets, "folder", "Bound").await;

    // Made for a driver that no node has.
    make(&datasets, dataset("driver", json!({}))).await;
    claim_is_bound(&claims, "driver").await;
    said(&datasets, "driver", "Ready", "wait for the driver csi.headrace.io").await;
    let changed = Patch::Merge(json!({"spec": mounts("export/train")}));
    datasets.patch("driver", &PatchParams::default(), &changed).await.unwrap();
    shows(client, "driver", "/export/train").await;
}
