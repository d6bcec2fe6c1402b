//! How a backup comes by the files of its Dataset.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::runtime::watcher::Event;
use operator_api::crd::{DataBackup, Dataset};
use serde_json::{Value, json};

use super::task;
use crate::marks;
use crate::watch::Owned;

fn claims() -> Owned<PersistentVolumeClaim> {
    let claims = Owned::by(marks::DATASET_UID);
    let claim = json!({"metadata": {"name": "d", "namespace": "n", "labels": {marks::DATASET_UID: "u"}}});
    claims.apply(&Event::Apply(serde_json::from_value(claim).unwrap()));
    claims
}

/// The task's mounts, and the pod's specification.
fn told(spec: Value, status: Value, include: Value) -> (Value, Value) {
    let dataset: Dataset = serde_json::from_value(
        json!({"metadata": {"name": "d", "namespace": "n", "uid": "u"}, "spec": spec, "status": status}),
    )
    .unwrap();
    let backup: DataBackup = serde_json::from_value(json!({"metadata": {"name": "b", "namespace": "n"},
        "spec": {"dataset": "d", "backupPath": "pvc://kept", "include": include}}))
    .unwrap();
    let template = task::backup(&backup, Some("image"), &[Some(Arc::new(dataset))], &claims()).unwrap();
    let pod = serde_json::to_value(template.spec.unwrap()).unwrap();
    let env = pod["containers"][0]["env"].as_array().unwrap().clone();
    let text = env.iter().find(|one| one["name"] == "HEADRACE_TASK").unwrap()["value"].as_str().unwrap();
    let secret = |name: &str| name.starts_with("HEADRACE_FROM_").then(|| "value".to_owned());
    worker::task::parse(&text.replace("$$", "$"), &secret).unwrap();
    (serde_json::from_str::<Value>(&text.replace("$$", "$")).unwrap()["mounts"].clone(), pod)
}

#[test]
fn each_mount_is_reached_or_says_why_not() {
    let secret = |option: &str, name: &str| json!({"name": option, "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}});
    let spec = json!({
        "sharedEncryptOptions": [secret("access_key_id", "shared"), secret("endpoint", "shared"), secret("token", "shared")],
        "mounts": [
            {"mountPoint": "s3://b/x", "name": "x", "encryptOptions": [secret("access_key_id", "own")], "options": {"endpoint": "http://h"}},
            {"mountPoint": "pvc://c/sub", "name": "c"}, {"mountPoint": "juicefs://j", "name": "j"},
            {"mountPoint": "nfs://nas/x", "name": "nas"}]});
    let (mounts, pod) = told(spec, Value::Null, json!([]));
    assert_eq!(
        mounts[0],
        json!({"at": "/x", "options": {"token": "HEADRACE_FROM_0_0", "access_key_id": "HEADRACE_FROM_0_1"}})
    );
    assert_eq!(mounts[1], json!({"at": "/c", "folder": "/headrace/from-1", "path": "sub"}));
    for at in [2, 3] {
        assert!(mounts[at]["unreached"].as_str().unwrap().contains("a backup lists s3://"), "{mounts}");
    }
    assert_eq!(mounts.as_array().unwrap().len(), 4);
    let env = pod["containers"][0]["env"].as_array().unwrap();
    let key = env.iter().find(|one| one["name"] == "HEADRACE_FROM_0_1").unwrap();
    assert_eq!(
        key["valueFrom"]["secretKeyRef"],
        json!({"name": "own", "key": "k", "optional": true}),
        "a Secret that is not there keeps no pod from starting"
    );
    let claims: Vec<_> =
        pod["volumes"].as_array().unwrap().iter().map(|v| &v["persistentVolumeClaim"]).collect();
    assert_eq!(
        claims,
        [&json!({"claimName": "kept", "readOnly": false}), &json!({"claimName": "c", "readOnly": true})]
    );
}

#[test]
fn an_nfs_folder_is_listed_by_a_volume_that_shows_it() {
    let spec = json!({"mounts": [{"mountPoint": "nfs://nas/x", "path": "/"}]});
    let volume = |phase: &str, message: Value| json!({"volumes": [{"namespace": "n", "claimName": "d", "phase": phase, "message": message}]});
    let (mounts, pod) = told(spec.clone(), volume("Bound", Value::Null), json!([]));
    assert_eq!(mounts, json!([{"at": "/", "folder": "/headrace/from-0", "path": ""}]));
    assert_eq!(pod["volumes"][1]["persistentVolumeClaim"], json!({"claimName": "d", "readOnly": true}));
    for status in
        [Value::Null, volume("Pending", Value::Null), volume("Bound", json!("it shows another store"))]
    {
        let (mounts, pod) = told(spec.clone(), status, json!(["Manifests"]));
        assert!(mounts[0]["unreached"].as_str().unwrap().contains("status.volumes"), "{mounts}");
        assert_eq!(pod["volumes"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn where_no_manifests_are_wanted_nothing_is_reached() {
    let spec = json!({"mounts": [{"mountPoint": "pvc://c", "name": "c"}]});
    let (mounts, pod) = told(spec, Value::Null, json!(["Metadata", "Profiles"]));
    assert_eq!((mounts, pod["volumes"].as_array().unwrap().len()), (Value::Null, 1));
}
