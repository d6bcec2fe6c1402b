//! What the mutating webhook makes of pods, one case after the other.

use k8s_openapi::api::core::v1 as core;
use serde_json::{Value, json};

use super::known::Known;
use crate::schedule::patch::DECISION;
use crate::schedule::{mutate, review};

const PREFERRED: &str = "/spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution";

/// A review as kube-apiserver 1.34 sends it.
pub fn asked(namespace: &str, pod: &Value) -> Vec<u8> {
    serde_json::to_vec(&json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "name": "p", "namespace": namespace, "operation": "CREATE",
            "userInfo": {"username": "u", "groups": ["system:authenticated"]},
            "object": pod, "oldObject": null, "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"}
        }
    }))
    .unwrap()
}

pub fn answered(known: &Known, body: &[u8]) -> Value {
    serde_json::from_slice(&review::answer(body, |request| mutate::judge(known, request))).unwrap()
}

/// The patch in an answer; empty where there is none.
pub fn patch_of(answer: &Value) -> json_patch::Patch {
    assert_eq!(answer["response"]["allowed"], true, "{answer}");
    let Some(patch) = answer["response"].get("patch") else { return json_patch::Patch(Vec::new()) };
    assert_eq!(answer["response"]["patchType"], "JSONPatch");
    let bytes: k8s_openapi::ByteString = serde_json::from_value(patch.clone()).unwrap();
    serde_json::from_slice(&bytes.0).unwrap()
}

/// The pod after admission, and none where it was left as it is.
fn mutated(known: &Known, namespace: &str, pod: &Value) -> Option<Value> {
    let patch = patch_of(&answered(known, &asked(namespace, pod)));
    if patch.0.is_empty() {
        return None;
    }
    let mut after = pod.clone();
    json_patch::patch(&mut after, &patch).unwrap();
    Some(after)
}

fn pod() -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": "p", "creationTimestamp": null},
        "spec": {
            "volumes": [{"name": "tmp", "emptyDir": {}},
                        {"name": "data", "persistentVolumeClaim": {"claimName": "train", "readOnly": true}}],
            "containers": [
                {"name": "main", "image": "i", "resources": {},
                 "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "data", "mountPath": "/data"}]}],
            "initContainers": [
                {"name": "first", "image": "i", "resources": {},
                 "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]
        },
        "status": {}
    })
}

#[test]
fn a_pod_that_uses_a_dataset_prefers_where_its_bytes_are() {
    let after = mutated(&Known::usual(8), "ml", &pod()).unwrap();
    let term = |weight: u64, by: &str, key: &str, name: &str| json!({"weight": weight, "preference": {by: [{"key": key, "operator": "In", "values": [name]}]}});
    assert_eq!(
        after.pointer(PREFERRED).unwrap(),
        &json!([
            term(100, "matchFields", "metadata.name", "n0"),
            term(65, "matchFields", "metadata.name", "n3"),
            term(20, "matchExpressions", "topology.kubernetes.io/zone", "z0"),
            term(10, "matchExpressions", "topology.kubernetes.io/zone", "z1"),
            term(5, "matchExpressions", "topology.kubernetes.io/region", "r"),
        ])
    );
    let words = after["metadata"]["annotations"][DECISION].as_str().unwrap();
    assert!(words.starts_with("prefers n0 (10.0 GiB), n3 (5.0 GiB) of ml/train"), "{words}");
    let propagation = |path: &str| after.pointer(path).and_then(|at| at.get("mountPropagation")).cloned();
    assert_eq!(propagation("/spec/containers/0/volumeMounts/1"), Some(json!("HostToContainer")));
    assert_eq!(propagation("/spec/initContainers/0/volumeMounts/0"), Some(json!("HostToContainer")));
    assert_eq!(propagation("/spec/containers/0/volumeMounts/0"), None);
    // What the API server would decode, it decodes.
    let _: core::Pod = serde_json::from_value(after).unwrap();
}

#[test]
fn a_second_pass_changes_nothing() {
    let known = Known::usual(8);
    let after = mutated(&known, "ml", &pod()).unwrap();
    assert_eq!(mutated(&known, "ml", &after), None);
}

#[test]
fn a_container_added_after_the_first_pass_gets_its_propagation() {
    let known = Known::usual(8);
    let mut after = mutated(&known, "ml", &pod()).unwrap();
    let sidecar = json!({"name": "side", "volumeMounts": [{"name": "data", "mountPath": "/d"}]});
    after["spec"]["containers"].as_array_mut().unwrap().push(sidecar);
    let again = mutated(&known, "ml", &after).unwrap();
    after["spec"]["containers"][1]["volumeMounts"][0]["mountPropagation"] = json!("HostToContainer");
    assert_eq!(again, after);
}

#[test]
fn what_the_user_wrote_is_kept_and_comes_first() {
    let own =
        json!({"weight": 7, "preference": {"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}});
    let required =
        json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]});
    let mut before = pod();
    before["metadata"]["annotations"] = json!({"a/b": "c"});
    before["spec"]["affinity"] = json!({
        "podAntiAffinity": {"x": 1},
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": required,
            "preferredDuringSchedulingIgnoredDuringExecution": [own]}});
    let after = mutated(&Known::usual(8), "ml", &before).unwrap();
    assert_eq!(after["spec"]["affinity"]["podAntiAffinity"], json!({"x": 1}));
    assert_eq!(
        after["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"],
        required
    );
    let terms = after.pointer(PREFERRED).unwrap().as_array().unwrap();
    assert_eq!((terms.len(), &terms[0]), (6, &own));
    assert_eq!(after["metadata"]["annotations"]["a/b"], "c");
}

#[test]
fn affinity_grows_from_wherever_the_path_ends() {
    for (affinity, terms) in [
        (json!(null), 5),
        (json!({}), 5),
        (json!({"podAffinity": {}}), 5),
        (json!({"nodeAffinity": null}), 5),
        (json!({"nodeAffinity": {}}), 5),
        (json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": null}}), 5),
        (json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}), 5),
    ] {
        let mut before = pod();
        before["spec"]["affinity"] = affinity.clone();
        let after = mutated(&Known::usual(8), "ml", &before).unwrap();
        assert_eq!(after.pointer(PREFERRED).unwrap().as_array().unwrap().len(), terms, "{affinity}");
    }
}

#[test]
fn nodes_that_can_mount_nothing_are_left_out_by_what_the_pod_requires() {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let ours = json!([
        {"key": "headrace.io/mount", "operator": "NotIn", "values": ["disabled"]},
        {"key": "kubernetes.io/os", "operator": "NotIn", "values": ["windows"]}]);
    let gpu = json!({"key": "gpu", "operator": "Exists"});
    let with = |first: &Value| json!([first, ours[0], ours[1]]);
    let field = json!([{"key": "metadata.name", "operator": "In", "values": ["n1"]}]);
    let known = Known::usual(8).with_unmountable("n5", "it is labelled so");
    for (own, expected) in [
        (json!(null), json!([{"matchExpressions": ours}])),
        (json!([{"matchExpressions": [gpu]}]), json!([{"matchExpressions": with(&gpu)}])),
        // One of them has to be met: it is held in each.
        (
            json!([{"matchFields": field}, {"matchExpressions": [gpu], "matchFields": field}]),
            json!([{"matchFields": field, "matchExpressions": ours},
                   {"matchExpressions": with(&gpu), "matchFields": field}]),
        ),
        (
            json!([{"matchFields": field, "matchExpressions": null}]),
            json!([{"matchFields": field, "matchExpressions": ours}]),
        ),
        (
            json!([{"matchFields": field, "matchExpressions": []}]),
            json!([{"matchFields": field, "matchExpressions": ours}]),
        ),
        // These match no node, and so they stay.
        (json!([{}, {"matchExpressions": []}]), json!([{}, {"matchExpressions": []}])),
    ] {
        let mut before = pod();
        if !own.is_null() {
            before["spec"]["affinity"] = json!({"nodeAffinity": { REQUIRED: {"nodeSelectorTerms": own} }});
        }
        let after = mutated(&known, "ml", &before).unwrap();
        assert_eq!(
            after["spec"]["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"], expected,
            "{own}"
        );
        assert_eq!(after.pointer(PREFERRED).unwrap().as_array().unwrap().len(), 5, "{own}");
        let words = after["metadata"]["annotations"][DECISION].as_str().unwrap();
        assert!(words.contains("; kept off nodes that can mount no Dataset (1 by now)"), "{words}");
        assert_eq!(mutated(&known, "ml", &after), None, "{own}");
        let _: core::Pod = serde_json::from_value(after).unwrap();
    }
    // Of bytes nothing is known: that it has to be mounted is.
    let mut unheld = pod();
    unheld["spec"]["volumes"][1]["persistentVolumeClaim"]["claimName"] = json!("empty");
    let after = mutated(&known, "ml", &unheld).unwrap();
    assert_eq!(
        after["spec"]["affinity"],
        json!({"nodeAffinity": { REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": ours}]} }})
    );
    // Whose node is settled, and who mounts no Dataset, is not kept off any.
    let mut daemon = pod();
    daemon["metadata"]["ownerReferences"] = json!([{"kind": "DaemonSet", "name": "d", "controller": true}]);
    assert_eq!(mutated(&known, "ml", &daemon).unwrap()["spec"].get("affinity"), None);
    assert_eq!(mutated(&known, "elsewhere", &pod()), None);
}

#[test]
fn who_asks_to_be_left_alone_is() {
    let known = Known::usual(8);
    let mut labelled = pod();
    labelled["metadata"]["labels"] = json!({"headrace.io/scheduling": "disabled"});
    let mut annotated = pod();
    annotated["metadata"]["annotations"] = json!({"headrace.io/scheduling": "disabled"});
    assert_eq!(mutated(&known, "ml", &labelled), None);
    assert_eq!(mutated(&known, "ml", &annotated), None);
    let mut quiet = Known::usual(8);
    quiet.left_alone.insert("ml".to_owned());
    assert_eq!(mutated(&quiet, "ml", &pod()), None);
}

#[test]
fn only_claims_of_this_namespace_count() {
    let known = Known::usual(8);
    assert_eq!(mutated(&known, "guest", &pod()), None, "guest has no claim train");
    let mut borrowed = pod();
    borrowed["spec"]["volumes"][1]["persistentVolumeClaim"]["claimName"] = json!("borrowed");
    let after = mutated(&known, "guest", &borrowed).unwrap();
    let words = after["metadata"]["annotations"][DECISION].as_str().unwrap();
    assert!(words.contains("of ml/train"), "{words}");
}

#[test]
fn where_the_node_is_settled_nothing_is_preferred() {
    let mut named = pod();
    named["spec"]["nodeName"] = json!("n5");
    let mut daemon = pod();
    daemon["metadata"]["ownerReferences"] = json!([{"kind": "DaemonSet", "name": "d", "controller": true}]);
    let mut unknown = pod();
    unknown["spec"]["volumes"][1]["persistentVolumeClaim"]["claimName"] = json!("empty");
    for (before, says) in [
        (named, "named already"),
        (daemon, "DaemonSet"),
        (unknown, "no node is known to hold bytes of ml/empty"),
    ] {
        let after = mutated(&Known::usual(8), "ml", &before).unwrap();
        assert_eq!(after["spec"].get("affinity"), None);
        let words = after["metadata"]["annotations"][DECISION].as_str().unwrap();
        assert!(words.contains(says), "{words}");
        assert_eq!(
            after.pointer("/spec/containers/0/volumeMounts/1/mountPropagation"),
            Some(&json!("HostToContainer"))
        );
    }
}

#[test]
fn propagation_is_added_only_where_the_api_allows_it_and_nobody_chose() {
    let mut before = pod();
    before["spec"]["containers"][0]["volumeMounts"] = json!([
        {"name": "data", "mountPath": "/a", "mountPropagation": "None"},
        {"name": "data", "mountPath": "/b", "mountPropagation": "Bidirectional"},
        {"name": "data", "mountPath": "/c", "subPath": "part"},
        {"name": "data", "mountPath": "/d", "subPathExpr": "$(X)"},
        {"name": "data", "mountPath": "/e", "recursiveReadOnly": "IfPossible"},
        {"name": "data", "mountPath": "/f", "recursiveReadOnly": "Disabled"}]);
    let after = mutated(&Known::usual(8), "ml", &before).unwrap();
    let propagation: Vec<Option<&str>> = after["spec"]["containers"][0]["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| mount.get("mountPropagation").and_then(Value::as_str))
        .collect();
    assert_eq!(propagation, [Some("None"), Some("Bidirectional"), None, None, None, Some("HostToContainer")]);
}

#[test]
fn a_patch_tests_what_its_positions_mean() {
    let known = Known::usual(8);
    let patch = patch_of(&answered(&known, &asked("ml", &pod())));
    for (path, other) in [
        ("/spec/volumes/1/persistentVolumeClaim/claimName", "another"),
        ("/spec/containers/0/volumeMounts/1/name", "tmp"),
    ] {
        let mut moved = pod();
        *moved.pointer_mut(path).unwrap() = json!(other);
        let before = moved.clone();
        assert!(json_patch::patch(&mut moved, &patch).is_err(), "{path}");
        assert_eq!(moved, before, "not a half of it");
    }
}

#[test]
fn what_cannot_be_read_is_allowed_without_a_patch() {
    let known = Known::usual(8);
    let pod_of = |spec: Value| asked("ml", &json!({"metadata": {}, "spec": spec}));
    let deep = format!("{{\"request\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for (body, warned) in [
        (Vec::new(), true),
        (b"{".to_vec(), true),
        (b"[]".to_vec(), true),
        (b"null".to_vec(), true),
        (b"\xff\xfe\x00".to_vec(), true),
        (b"{}".to_vec(), true),
        (br#"{"request":null}"#.to_vec(), true),
        (br#"{"request":{"uid":7}}"#.to_vec(), true),
        (deep.into_bytes(), true),
        (br#"{"request":{"uid":"u"}}"#.to_vec(), false),
        (asked("ml", &json!(null)), false),
        (asked("ml", &json!("a pod")), true),
        (
            asked("ml", &json!({"spec": {"volumes": [{"persistentVolumeClaim": {"claimName": "train"}}]}})),
            false,
        ),
        (pod_of(json!({"volumes": {"a": 1}})), true),
        (pod_of(json!({"volumes": [{"name": 1}]})), true),
        (pod_of(json!({"volumes": [null]})), true),
        (pod_of(json!({"containers": [{"volumeMounts": "x"}]})), true),
        (pod_of(json!({"affinity": [1]})), true),
        (
            pod_of(
                json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": 7}}}),
            ),
            true,
        ),
    ] {
        let answer = answered(&known, &body);
        let shown = String::from_utf8_lossy(body.get(..body.len().min(200)).unwrap()).into_owned();
        assert_eq!(answer["kind"], "AdmissionReview", "{shown}");
        assert_eq!(answer["response"]["allowed"], true, "{shown}");
        assert_eq!(answer["response"].get("patch"), None, "{shown}");
        assert_eq!(answer["response"].get("warnings").is_some(), warned, "{shown}: {answer}");
    }
}

#[test]
fn other_kinds_and_verbs_pass() {
    let known = Known::usual(8);
    let mut review: Value = serde_json::from_slice(&asked("ml", &pod())).unwrap();
    review["request"]["operation"] = json!("UPDATE");
    assert!(patch_of(&answered(&known, &serde_json::to_vec(&review).unwrap())).0.is_empty());
    review["request"]["operation"] = json!("CREATE");
    review["request"]["kind"] = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    assert!(patch_of(&answered(&known, &serde_json::to_vec(&review).unwrap())).0.is_empty());
}

#[test]
fn the_answer_is_what_the_api_server_expects() {
    let answer = answered(&Known::usual(8), &asked("elsewhere", &pod()));
    assert_eq!(
        answer,
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
               "response": {"uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "allowed": true}})
    );
}

#[test]
fn a_pod_that_would_take_far_more_memory_than_its_bytes_is_left_alone_unread() {
    let mut bulky = pod();
    bulky["spec"]["containers"][0]["volumeMounts"] = json!(vec![json!({}); 30_000]);
    let answer = answered(&Known::usual(4), &asked("ml", &bulky));
    assert_eq!(answer["response"]["allowed"], true);
    assert_eq!(answer["response"].get("patch"), None);
    let warning = answer["response"]["warnings"][0].as_str().unwrap();
    assert!(warning.contains("more than 20000 objects and lists"), "{warning}");
}
