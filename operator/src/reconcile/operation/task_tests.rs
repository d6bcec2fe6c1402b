//! What the worker is told, and what is made of its answers.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, PodTemplateSpec};
use kube::runtime::watcher::Event;
use operator_api::crd::{AccessProfile, DataBackup, DataMigrate, Dataset};
use serde_json::{Value, json};

use super::task::{self, Profiles, Said};
use crate::marks;
use crate::watch::Owned;

/// As the worker reads what stands in the pod's variables.
fn understood(template: &PodTemplateSpec) -> worker::task::Task {
    let secret = |name: &str| name.starts_with("HEADRACE_").then(|| "value".to_owned());
    worker::task::parse(&value(template, "HEADRACE_TASK"), &secret).unwrap()
}

fn dataset() -> Arc<Dataset> {
    let dataset = json!({"metadata": {"name": "d", "namespace": "n", "uid": "u"}, "spec": {
        "mounts": [{"mountPoint": "s3://x/$(y)", "name": "y"}]}});
    Arc::new(serde_json::from_value(dataset).unwrap())
}

fn backup(spec: Value) -> DataBackup {
    serde_json::from_value(json!({"metadata": {"name": "b", "namespace": "n"}, "spec": spec})).unwrap()
}

fn no_claims() -> Owned<k8s_openapi::api::core::v1::PersistentVolumeClaim> {
    Owned::by(marks::DATASET_UID)
}

fn container(template: &PodTemplateSpec) -> &Container {
    &template.spec.as_ref().unwrap().containers[0]
}

fn container_mut(template: &mut PodTemplateSpec) -> &mut Container {
    &mut template.spec.as_mut().unwrap().containers[0]
}

/// A variable as the kubelet gives it to the program.
fn value(template: &PodTemplateSpec, name: &str) -> String {
    let env = container(template).env.as_ref().unwrap();
    let found = env.iter().find(|variable| variable.name == name).unwrap_or_else(|| panic!("no {name}"));
    found.value.clone().unwrap().replace("$$", "$")
}

fn told(template: &PodTemplateSpec) -> Value {
    serde_json::from_str(&value(template, "HEADRACE_TASK")).unwrap()
}

#[test]
fn a_claim_is_a_folder_for_either_side_and_for_a_backup() {
    let migrate: DataMigrate = serde_json::from_value(json!({
        "metadata": {"name": "m", "namespace": "n"},
        "spec": {"from": {"dataset": {"name": "d", "path": "/train", "version": "ab"}},
                 "to": {"externalStorage": {"uri": "pvc://claim/a/b"}}}}))
    .unwrap();
    let datasets = [Some(dataset())];
    let claims = Owned::by(marks::DATASET_UID);
    let claim = json!({"metadata": {"name": "d", "namespace": "n", "labels": {marks::DATASET_UID: "u"}}});
    claims.apply(&Event::Apply(serde_json::from_value(claim).unwrap()));
    let template = task::migrate(&migrate, Some("image"), &datasets, &claims).unwrap();
    let told = told(&template);
    assert_eq!(
        told["from"],
        json!({"folder": "/headrace/from", "path": "/train", "version": "ab", "dataset": "n/d"})
    );
    assert_eq!((&told["to"]["folder"], &told["to"]["path"]), (&json!("/headrace/to"), &json!("a/b")));
    assert_eq!(told["task"], 1);
    let worker::task::Task::Migrate(read) = understood(&template) else { panic!("another task") };
    assert_eq!((read.version.as_deref(), read.parallelism), (Some("ab"), 8));
    assert!(read.source.contains("n/d"), "a Dataset's journal is its own: {}", read.source);
    let volumes = serde_json::to_value(&template.spec.as_ref().unwrap().volumes).unwrap();
    assert_eq!(volumes[0]["persistentVolumeClaim"], json!({"claimName": "d", "readOnly": true}));
    assert_eq!(volumes[1]["persistentVolumeClaim"], json!({"claimName": "claim", "readOnly": false}));

    let kept = task::backup(
        &backup(json!({"dataset": "d", "backupPath": "pvc://claim"})),
        Some("image"),
        &datasets,
        &claims,
    );
    let kept = kept.unwrap();
    let task = self::told(&kept);
    assert_eq!((&task["to"]["folder"], &task["to"]["path"]), (&json!("/headrace/to"), &json!("")));
    assert_eq!(
        task["dataset"]["spec"]["mounts"][0]["mountPoint"], "s3://x/$(y)",
        "the kubelet replaces nothing"
    );
    assert_eq!(container(&kept).volume_mounts.as_ref().unwrap()[0].mount_path, "/headrace/to");
}

#[test]
fn a_backup_has_the_secrets_of_its_store() {
    let secret = json!({"name": "access_key_id", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}});
    let spec = json!({"dataset": "d", "backupPath": "s3://b/x", "encryptOptions": [secret]});
    let template = task::backup(&backup(spec), Some("image"), &[Some(dataset())], &no_claims()).unwrap();
    assert_eq!(told(&template)["to"]["options"]["access_key_id"], "HEADRACE_TO_0");
    assert!(template.spec.as_ref().unwrap().volumes.is_none());
    let mut whole = template.clone();
    let id = &mut container_mut(&mut whole).env.as_mut().unwrap()[0];
    assert_eq!((id.name.as_str(), id.value.as_ref()), ("HEADRACE_TO_0", None), "the value is the kubelet's");
    let secret = |_: &str| Some("value".to_owned());
    let half = worker::task::parse(&value(&template, "HEADRACE_TASK"), &secret).unwrap_err().to_string();
    assert!(half.contains("access_key_id and secret_access_key go together"), "{half}");
}

fn profile(name: &str, of: Value, learned: &str, bytes: usize) -> AccessProfile {
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "n"}, "spec": {
        "workload": {"kind": "Job", "name": "w$(x)"}, "dataset": of, "learnedAt": learned,
        "data": "A".repeat(bytes)}}))
    .unwrap()
}

#[test]
fn profiles_go_along_newest_first_as_far_as_there_is_room() {
    let spec = json!({"dataset": "d", "backupPath": "s3://b/x"});
    let mut template = task::backup(&backup(spec), Some("image"), &[Some(dataset())], &no_claims()).unwrap();
    let mut profiles = Profiles::default();
    for number in 0..5 {
        let learned = format!("2026-11-2{number}T00:00:00Z");
        profiles.add("d", "n", &profile(&format!("p{number}"), json!({"name": "d"}), &learned, 250_000));
    }
    profiles.add("d", "n", &profile("other", json!({"name": "e"}), "2026-11-29T00:00:00Z", 1));
    profiles.add(
        "d",
        "n",
        &profile("foreign", json!({"name": "d", "namespace": "m"}), "2026-11-29T00:00:00Z", 1),
    );
    profiles.give(&mut template);
    let task = told(&template);
    assert_eq!(task["profiles"]["leftOut"], 2);
    let names: Vec<_> =
        task["profiles"]["variables"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(names.len() > 5);
    let env = container(&template).env.as_ref().unwrap();
    assert!(env.iter().all(|variable| variable.value.as_ref().is_none_or(|value| value.len() < 128 << 10)));
    let text: String = names.iter().map(|name| value(&template, name)).collect();
    let given: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut kept: Vec<_> = given.iter().map(|one| one["metadata"]["name"].as_str().unwrap()).collect();
    kept.sort_unstable();
    assert_eq!(kept, ["p2", "p3", "p4"]);
    assert_eq!(given[0]["spec"]["workload"]["name"], "w$(x)");
    let worker::task::Task::Backup(read) = understood(&template) else { panic!("another task") };
    assert_eq!((read.left_out, read.profiles.as_ref().map(Vec::len)), (2, Some(names.len())));
    let (archive, count) = worker::archive::write(&read, Some(&text), vec![], "now").unwrap();
    let content = worker::archive::read(&archive).unwrap();
    assert_eq!((count, content.objects.len()), (3, 4), "the Dataset and its profiles");
    let restored: Dataset = serde_json::from_value(content.objects[0].clone()).unwrap();
    assert_eq!(restored.spec, dataset().spec);
    for object in &content.objects[1..] {
        let _: AccessProfile = serde_json::from_value(object.clone()).unwrap();
    }
}

#[test]
fn dollars_are_never_parted() {
    let spec = json!({"dataset": "d", "backupPath": "s3://b/x"});
    for shift in 0..4 {
        let mut template =
            task::backup(&backup(spec.clone()), Some("image"), &[Some(dataset())], &no_claims()).unwrap();
        let mut profiles = Profiles::default();
        let mut one = profile("p", json!({"name": "d"}), "2026-11-29T00:00:00Z", shift);
        one.spec.pattern = Some("$".repeat(100_000));
        profiles.add("d", "n", &one);
        profiles.give(&mut template);
        let names = told(&template)["profiles"]["variables"].clone();
        let names: Vec<_> = names.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(names.len(), 2);
        let text: String = names.iter().map(|name| value(&template, name)).collect();
        let given: Vec<Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(given[0]["spec"]["pattern"].as_str().unwrap().len(), 100_000);
    }
}

#[test]
fn profiles_go_along_where_they_are_wanted() {
    let wanted = |include: Value| {
        task::wanted(&backup(json!({"dataset": "d", "backupPath": "s3://b/x", "include": include}))).is_some()
    };
    assert!(wanted(json!([])) && wanted(json!(["Profiles", "Metadata"])) && !wanted(json!(["Metadata"])));
}

fn pod(container: &str, message: &str) -> Pod {
    let state = json!({"terminated": {"exitCode": 1, "message": message}});
    let status = json!({"name": container, "state": state, "image": "", "imageID": "", "ready": false, "restartCount": 0});
    serde_json::from_value(json!({"status": {"containerStatuses": [status]}})).unwrap()
}

#[test]
fn answers_are_taken_from_the_worker_and_bounded() {
    let report = worker::report::Report {
        done: true,
        bytes: 3,
        bytes_there: u64::MAX,
        bytes_total: 9,
        note: Some("one mount is left out".into()),
        ..worker::report::Report::new()
    };
    let done = report.message();
    let Said::Done(progress) = task::said(&[pod("worker", &done)]) else { panic!("no progress") };
    assert_eq!((progress.bytes_done, progress.bytes_total), (Some(i64::MAX), Some(9)));
    assert_eq!(progress.note.as_deref(), Some("one mount is left out"));
    let failed = worker::report::Report::failed("the store is shut".into()).message();
    assert_eq!(task::said(&[pod("worker", &failed)]), Said::Failed("the store is shut".into()));
    let long = json!({"result": 1, "error": format!("a\nb{}", "ü".repeat(2_000))}).to_string();
    let Said::Failed(why) = task::said(&[pod("worker", &long)]) else { panic!("no sentence") };
    assert!(why.starts_with("a bü") && why.len() <= 1_000, "{why}");
    for strange in ["", "OOM", "{}", "[1]", r#"{"result": 2, "error": "x"}"#, r#"{"result": 1, "bytes": -1}"#]
    {
        assert_eq!(task::said(&[pod("worker", strange)]), Said::Nothing, "{strange}");
    }
    assert_eq!(task::said(&[pod("sidecar", &done), Pod::default()]), Said::Nothing);
}
