//! What the validating webhook refuses, and what must pass whatever it says.

use serde_json::{Value, json};

use super::known::Known;
use crate::schedule::{refuse, review};

fn asked(operation: &str, kind: &str, object: Value, old: Value) -> Value {
    let body = serde_json::to_vec(&json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {"uid": "u", "kind": {"group": "headrace.io", "version": "v1alpha1", "kind": kind},
                    "namespace": "ml", "operation": operation, "object": object, "oldObject": old}
    }))
    .unwrap();
    let known = Known::usual(4);
    serde_json::from_slice(&review::answer(&body, |request| refuse::judge(&known, request))).unwrap()
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "headrace.io/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": "ml"},
           "spec": spec})
}

fn good() -> Value {
    object("Dataset", "d", json!({"mounts": [{"mountPoint": "s3://bucket/train", "name": "train"}]}))
}

/// A URL that no schema pattern can tell from a good one.
fn bad() -> Value {
    object("Dataset", "d", json!({"mounts": [{"mountPoint": "gopher://bucket/train", "name": "train"}]}))
}

fn too_large() -> Value {
    let mut large = good();
    large["spec"]["cache"] = json!({"quota": "1Ti"});
    large
}

fn circle() -> Value {
    let after = json!([{"kind": "DataLoad", "name": "first"}]);
    object("DataLoad", "last", json!({"dataset": {"name": "d"}, "runAfter": after}))
}

fn message(answer: &Value) -> &str {
    assert_eq!(answer["response"]["allowed"], false, "{answer}");
    assert_eq!(answer["response"]["status"]["code"], 422);
    answer["response"]["status"]["message"].as_str().unwrap()
}

#[test]
fn what_cannot_work_is_refused_with_what_to_change() {
    for (kind, object, says) in [
        ("Dataset", bad(), "gopher"),
        ("Dataset", too_large(), "the roomiest of the 3 whose agents have reported has 100"),
        ("DataLoad", circle(), "first"),
        ("Dataset", json!("no object"), "cannot be read"),
    ] {
        let answer = asked("CREATE", kind, object, json!(null));
        let said = message(&answer);
        assert!(said.contains(says), "{said}");
    }
    assert_eq!(asked("CREATE", "Dataset", good(), json!(null))["response"]["allowed"], true);
}

#[test]
fn a_change_to_what_cannot_work_is_refused_and_one_that_leaves_the_spec_passes() {
    assert_eq!(asked("UPDATE", "Dataset", bad(), good())["response"]["allowed"], false);
    let mut labelled = bad();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(asked("UPDATE", "Dataset", labelled, bad())["response"]["allowed"], true);
}

#[test]
fn what_a_dataset_asked_of_nodes_before_is_not_held_against_another_change() {
    let mut changed = too_large();
    changed["spec"]["mounts"][0]["mountPoint"] = json!("s3://bucket/other");
    assert_eq!(asked("UPDATE", "Dataset", changed.clone(), too_large())["response"]["allowed"], true);
    changed["spec"]["cache"]["quota"] = json!("2Ti");
    let answer = asked("UPDATE", "Dataset", changed, too_large());
    assert!(message(&answer).contains("above what any node can cache"));
    let mut changed = too_large();
    let cache = json!({"quota": "1024Gi", "replicas": 3, "placement": "Exclusive", "nodeSelector": {"a": "b"},
                       "tolerations": [{"operator": "Exists"}]});
    changed["spec"]["cache"] = cache;
    assert_eq!(asked("UPDATE", "Dataset", changed.clone(), too_large())["response"]["allowed"], true);
    changed["spec"]["cache"]["quota"] = json!("900Gi");
    assert_eq!(asked("UPDATE", "Dataset", changed.clone(), too_large())["response"]["allowed"], true);
    changed["spec"]["cache"]["quota"] = json!("1.1Ti");
    assert!(message(&asked("UPDATE", "Dataset", changed, too_large())).contains("above what"));
}

#[test]
fn an_object_on_its_way_out_passes() {
    let mut leaving = bad();
    leaving["metadata"]["deletionTimestamp"] = json!("2026-11-24T09:00:00Z");
    assert_eq!(asked("UPDATE", "Dataset", leaving, good())["response"]["allowed"], true);
    assert_eq!(asked("DELETE", "Dataset", json!(null), bad())["response"]["allowed"], true);
}

/// Few bytes that would become a hundred times as many.
fn bulky() -> Value {
    let containers = vec![json!({}); 30_000];
    let job = json!({"podSpec": {"containers": containers}});
    let dataset = json!({"name": "d", "mountPath": "/d"});
    object("DataProcess", "p", json!({"dataset": dataset, "processor": {"job": job}}))
}

#[test]
fn what_would_take_far_more_memory_than_its_bytes_is_refused_unread() {
    let answer = asked("CREATE", "DataProcess", bulky(), json!(null));
    assert!(message(&answer).contains("more than 20000 objects and lists"), "{answer}");
    let mut other = bulky();
    other["spec"]["dataset"]["name"] = json!("e");
    let answer = asked("UPDATE", "DataProcess", bulky(), other);
    assert!(message(&answer).contains("more than 20000 objects and lists"), "{answer}");
    // One that is there already does not get stuck.
    let mut labelled = bulky();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(asked("UPDATE", "DataProcess", labelled, bulky())["response"]["allowed"], true);
    let mut leaving = bulky();
    leaving["metadata"]["deletionTimestamp"] = json!("2026-11-24T09:00:00Z");
    assert_eq!(asked("UPDATE", "DataProcess", leaving, good())["response"]["allowed"], true);
}
