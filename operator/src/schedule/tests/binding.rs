//! From events of the watch on bound pods to facts and fetches.

use serde_json::{Value, json};

use super::known::Known;
use crate::inventory::{Fact, Version};
use crate::schedule::bound::{Begin, Bound, Outcome, Watched};

fn pod(uid: &str, node: &str, phase: &str, claim: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "ml", "uid": uid},
        "spec": {"nodeName": node, "containers": [],
                 "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": claim}}]},
        "status": {"phase": phase}
    })
}

fn watched(pod: Value) -> Watched {
    serde_json::from_value(pod).unwrap()
}

fn told(uid: &str, node: &str) -> Outcome {
    told_of(uid, node, "ml/Pod/p")
}

fn told_of(uid: &str, node: &str, workload: &str) -> Outcome {
    let (pod, node, workload) = (uid.into(), node.into(), workload.into());
    Outcome::Tell(Fact::PodBound { pod, node, workload, datasets: vec!["ml/train".into()] })
}

fn ended(uid: &str, node: &str) -> [Outcome; 2] {
    let call_off = Outcome::CallOff { node: node.into(), prefix: format!("bound/{uid}/") };
    [Outcome::Tell(Fact::PodEnded { pod: uid.into() }), call_off]
}

#[test]
fn a_bound_pod_has_its_node_begin_once() {
    let known = Known::usual(4);
    let mut bound = Bound::default();
    let outcomes = bound.seen(&known, &watched(pod("u1", "n1", "Pending", "train")));
    let [first, Outcome::Begin(begin)] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!(first, &told("u1", "n1"));
    let Begin { id, node, dataset, version, chunks, reason } = begin;
    assert!(id.starts_with("bound/u1/") && id.len() <= 128, "{id}");
    assert_eq!((&**node, &**dataset, *version, &chunks[..]), ("n1", "ml/train", Version(1), &[0..3][..]));
    assert!(reason.contains("ml/p") && reason.contains("ml/train"), "{reason}");
    assert_eq!(bound.seen(&known, &watched(pod("u1", "n1", "Running", "train"))), []);

    let again = Bound::default().seen(&known, &watched(pod("u1", "n1", "Pending", "train")));
    assert_eq!(again, outcomes, "a restarted operator asks for the same thing");
}

#[test]
fn what_pods_wait_for_is_asked_again_by_who_begins_to_lead() {
    let known = Known::usual(4);
    let mut bound = Bound::default();
    let waits = watched(pod("u1", "n1", "Pending", "train"));
    let [_, Outcome::Begin(begin)] = &bound.seen(&known, &waits)[..] else { panic!("nothing is begun") };
    bound.ask_anew();
    assert_eq!(bound.seen(&known, &waits), [], "not before the list");
    bound.listing();
    assert_eq!(bound.seen(&known, &waits), [Outcome::Begin(begin.clone())]);
    assert_eq!(bound.seen(&known, &watched(pod("u2", "n0", "Running", "train"))), [told("u2", "n0")]);
    assert_eq!(bound.listed(), []);
    bound.listing();
    assert_eq!(bound.seen(&known, &waits), [], "once");
    assert_eq!(bound.listed(), ended("u2", "n0"));
}

#[test]
fn what_is_there_or_runs_already_is_not_fetched() {
    let known = Known::usual(4);
    let mut bound = Bound::default();
    assert_eq!(bound.seen(&known, &watched(pod("u1", "n0", "Pending", "train"))), [told("u1", "n0")]);
    assert_eq!(bound.seen(&known, &watched(pod("u2", "n1", "Running", "train"))), [told("u2", "n1")]);
}

#[test]
fn pods_of_no_dataset_without_node_or_on_their_way_out_are_nothing() {
    let known = Known::usual(4);
    let mut bound = Bound::default();
    let mut leaving = pod("u3", "n1", "Pending", "train");
    leaving["metadata"]["deletionTimestamp"] = json!("2026-11-24T09:00:00Z");
    let mut nameless = pod("u4", "n1", "Pending", "train");
    nameless["metadata"].as_object_mut().unwrap().remove("uid");
    for pod in [pod("u1", "n1", "Pending", "foreign"), pod("u2", "", "Pending", "train"), leaving, nameless] {
        assert_eq!(bound.seen(&known, &watched(pod.clone())), [], "{pod}");
        assert_eq!(bound.ended(&watched(pod)), []);
    }
}

#[test]
fn who_opted_out_is_counted_but_not_fetched_for() {
    let known = Known::usual(4);
    let mut quiet = pod("u1", "n1", "Pending", "train");
    quiet["metadata"]["labels"] = json!({"headrace.io/scheduling": "disabled"});
    assert_eq!(Bound::default().seen(&known, &watched(quiet)), [told("u1", "n1")]);
}

#[test]
fn people_are_told_whom_a_pod_works_for() {
    let known = Known::usual(4);
    let mut owned = pod("u1", "n0", "Running", "train");
    owned["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u", "controller": true}]);
    assert_eq!(Bound::default().seen(&known, &watched(owned)), [told_of("u1", "n0", "ml/Job/j")]);
    let alone = pod("u2", "n0", "Running", "train");
    assert_eq!(Bound::default().seen(&known, &watched(alone)), [told_of("u2", "n0", "ml/Pod/p")]);
}

#[test]
fn pods_end_by_their_deletion_or_by_missing_in_a_new_list() {
    let known = Known::usual(4);
    let mut bound = Bound::default();
    for uid in ["u1", "u2", "u3"] {
        bound.seen(&known, &watched(pod(uid, "n0", "Running", "train")));
    }
    assert_eq!(bound.ended(&watched(pod("u1", "n0", "Running", "train"))), ended("u1", "n0"));
    assert_eq!(bound.ended(&watched(pod("u1", "n0", "Running", "train"))), []);
    bound.listing();
    assert_eq!(bound.seen(&known, &watched(pod("u2", "n0", "Running", "train"))), []);
    assert_eq!(bound.listed(), ended("u3", "n0"));
    assert_eq!(bound.listed(), []);
}
