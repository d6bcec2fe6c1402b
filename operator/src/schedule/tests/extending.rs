//! The extender against the shapes that kube-scheduler's Go writes and reads.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::known::Known;
use crate::schedule::extender::Extender;
use crate::schedule::reach::{DatasetName, Nodes, Reach, View};

/// `json.Marshal(extenderv1.ExtenderArgs{…})` of kube-scheduler 1.34 with nodeCacheCapable, for a pod of a Job.
const BY_NAME: &str = r#"{"Pod":{"metadata":{"name":"train-x7k2p","generateName":"train-","namespace":"ml","uid":"0b0f6a4f-6d4a-4b55-9d3b-0f4c3e3f5a11","resourceVersion":"812","creationTimestamp":"2026-11-24T09:00:00Z","labels":{"app":"a"},"ownerReferences":[{"apiVersion":"batch/v1","kind":"Job","name":"train","uid":"u","controller":true,"blockOwnerDeletion":true}],"managedFields":[{"manager":"kube-controller-manager","operation":"Update","apiVersion":"v1","time":"2026-11-24T09:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:generateName":{}}}}]},"spec":{"volumes":[{"name":"data","persistentVolumeClaim":{"claimName":"train"}},{"name":"kube-api-access-2xq5m","projected":{"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}}],"defaultMode":420}}],"containers":[{"name":"main","image":"busybox","resources":{"requests":{"cpu":"1"}},"volumeMounts":[{"name":"data","mountPath":"/data"}],"terminationMessagePath":"/dev/termination-log","imagePullPolicy":"Always"}],"restartPolicy":"Never","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","schedulerName":"headrace-scheduler","priority":0},"status":{"phase":"Pending","qosClass":"Burstable"}},"Nodes":null,"NodeNames":["n0","n1","n2","n3","n4","stranger"]}"#;

/// As above without nodeCacheCapable.
const BY_NODE: &str = r#"{"Pod":{"metadata":{"name":"p","namespace":"ml","creationTimestamp":null},"spec":{"volumes":[{"name":"data","persistentVolumeClaim":{"claimName":"train"}}],"containers":null},"status":{}},"Nodes":{"metadata":{},"items":[{"metadata":{"name":"n3","labels":{"a":"\"b\""}},"spec":{},"status":{"images":[]}},{"metadata":{"name":"n5"},"spec":{},"status":{}}]},"NodeNames":null}"#;

/// What is known, and becomes something else.
struct Changing(Mutex<Known>);

impl View for Changing {
    fn dataset(&self, namespace: &str, claim: &str) -> Option<DatasetName> {
        View::dataset(&*self.0.lock().unwrap(), namespace, claim)
    }

    fn opted_out(&self, namespace: &str) -> bool {
        self.0.lock().unwrap().opted_out(namespace)
    }

    fn nodes(&self) -> Arc<Nodes> {
        self.0.lock().unwrap().nodes()
    }

    fn reach(&self, datasets: &[DatasetName], workload: Option<&str>) -> Reach {
        self.0.lock().unwrap().reach(datasets, workload)
    }

    fn generation(&self, datasets: &[DatasetName]) -> u64 {
        self.0.lock().unwrap().generation(datasets)
    }

    fn moment(&self) -> u64 {
        self.0.lock().unwrap().moment()
    }
}

fn extender(known: Known) -> (Arc<Known>, Extender) {
    let known = Arc::new(known);
    (known.clone(), Extender::new(known))
}

fn prioritized(extender: &Extender, body: &str) -> Value {
    serde_json::from_slice(&extender.prioritize(body.as_bytes()).unwrap()).unwrap()
}

fn filtered(extender: &Extender, body: &str) -> Value {
    serde_json::from_slice(&extender.filter(body.as_bytes()).unwrap()).unwrap()
}

#[test]
fn scores_are_a_host_priority_list() {
    let (_, extender) = extender(Known::usual(6));
    assert_eq!(
        extender.prioritize(BY_NAME.as_bytes()).unwrap(),
        // n0 has 1 of 10 GiB in memory and 9 in cache, n3 5 in cache; n4 stands in n0's rack.
        br#"[{"Host":"n0","Score":9},{"Host":"n3","Score":4},{"Host":"n4","Score":3}]"#
    );
    assert_eq!(prioritized(&extender, BY_NODE), json!([{"Host": "n3", "Score": 4}]));
    let old = BY_NAME
        .replace("\"Pod\"", "\"pod\"")
        .replace("\"NodeNames\"", "\"nodenames\"")
        .replace("\"Nodes\"", "\"nodes\"");
    assert_eq!(prioritized(&extender, &old), prioritized(&extender, BY_NAME));
}

#[test]
fn nothing_is_filtered_for_locality() {
    let (_, extender) = extender(Known::usual(6));
    assert_eq!(
        filtered(&extender, BY_NAME),
        json!({"Nodes": null, "NodeNames": ["n0", "n1", "n2", "n3", "n4", "stranger"],
               "FailedNodes": {}, "FailedAndUnresolvableNodes": {}, "Error": ""})
    );
    let items: Value = serde_json::from_str::<Value>(BY_NODE).unwrap()["Nodes"]["items"].take();
    assert_eq!(filtered(&extender, BY_NODE)["Nodes"]["items"], items);
}

#[test]
fn nodes_that_cannot_mount_are_filtered_with_the_reason_for_pods_that_would() {
    let (_, extender) = extender(Known::usual(6).with_unmountable("n3", "it runs \"another\" system"));
    let answer = filtered(&extender, BY_NAME);
    assert_eq!(answer["NodeNames"], json!(["n0", "n1", "n2", "n4", "stranger"]));
    assert_eq!(answer["FailedAndUnresolvableNodes"], json!({"n3": "it runs \"another\" system"}));
    let answer = filtered(&extender, BY_NODE);
    assert_eq!(answer["Nodes"]["items"][0]["metadata"]["name"], "n5");
    assert_eq!(answer["Nodes"]["items"].as_array().unwrap().len(), 1);

    let unconcerned = BY_NAME.replace(r#""claimName":"train""#, r#""claimName":"foreign""#);
    assert_eq!(filtered(&extender, &unconcerned)["NodeNames"].as_array().unwrap().len(), 6);
}

#[test]
fn pods_of_no_dataset_and_those_left_alone_get_no_scores() {
    let (known, extender) = extender(Known::usual(6));
    for (from, to) in [
        (r#""claimName":"train""#, r#""claimName":"foreign""#),
        (r#""namespace":"ml""#, r#""namespace":"quiet""#),
        (r#""labels":{"app":"a"}"#, r#""labels":{"headrace.io/scheduling":"disabled"}"#),
    ] {
        assert_eq!(prioritized(&extender, &BY_NAME.replace(from, to)), json!([]), "{to}");
    }
    assert_eq!(known.asked.load(Ordering::Relaxed), 0);
}

#[test]
fn scores_are_kept_until_something_changed() {
    let (known, extender) = extender(Known::usual(6));
    for _ in 0..3 {
        prioritized(&extender, BY_NAME);
    }
    assert_eq!(known.asked.load(Ordering::Relaxed), 1);
    known.moment.fetch_add(1, Ordering::Relaxed);
    prioritized(&extender, BY_NAME);
    known.generation.fetch_add(1, Ordering::Relaxed);
    prioritized(&extender, BY_NAME);
    assert_eq!(known.asked.load(Ordering::Relaxed), 1, "within one moment nobody asks again");
    known.moment.fetch_add(1, Ordering::Relaxed);
    prioritized(&extender, BY_NAME);
    assert_eq!(known.asked.load(Ordering::Relaxed), 2);
    // Another workload reads other bytes first.
    prioritized(
        &extender,
        &BY_NAME.replace(r#""kind":"Job","name":"train""#, r#""kind":"Job","name":"other""#),
    );
    assert_eq!(known.asked.load(Ordering::Relaxed), 3);
}

#[test]
fn no_table_of_nodes_is_held_that_is_another_one_by_now() {
    let known = Arc::new(Changing(Mutex::new(Known::usual(6))));
    let extender = Extender::new(known.clone());
    let former = known.0.lock().unwrap().nodes.clone();
    prioritized(&extender, BY_NAME);
    let next = Known::usual(7);
    next.moment.store(1, Ordering::Relaxed);
    next.generation.store(1, Ordering::Relaxed);
    *known.0.lock().unwrap() = next;
    let other = BY_NAME.replace(r#""kind":"Job","name":"train""#, r#""kind":"Job","name":"other""#);
    prioritized(&extender, &other);
    assert_eq!(Arc::strong_count(&former), 1, "nobody asks for scores of these");
    let asked = |known: &Changing| known.0.lock().unwrap().asked.load(Ordering::Relaxed);
    let scores = prioritized(&extender, BY_NAME);
    assert_eq!(scores.as_array().unwrap().len(), 3, "{scores}");
    assert_eq!([prioritized(&extender, BY_NAME), prioritized(&extender, &other)], [scores.clone(), scores]);
    assert_eq!(asked(&known), 2, "those of the table that there is are kept together");
}

#[test]
fn what_cannot_be_read_is_an_error_that_the_scheduler_passes_over() {
    let (_, extender) = extender(Known::usual(6));
    let deep = format!(r#"{{"Pod":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    for body in [
        "",
        "{",
        "[]",
        "\u{0}",
        &deep,
        r#"{"Pod":7,"NodeNames":[]}"#,
        r#"{"Pod":{"spec":{"volumes":[null]}},"NodeNames":["a"]}"#,
        r#"{"Pod":null,"NodeNames":["a",1]}"#,
        r#"{"Pod":null,"NodeNames":["a\"b"]}"#,
        r#"{"Pod":null,"NodeNames":"a"}"#,
        r#"{"Pod":null,"Nodes":{"items":[{"metadata":{}}]},"NodeNames":null}"#,
    ] {
        assert!(extender.filter(body.as_bytes()).is_err(), "{body}");
    }
    let said = extender.filter(b"{}").unwrap_err().to_string();
    assert!(said.contains("nodeCacheCapable"), "{said}");
    assert_eq!(prioritized(&extender, "{}"), json!([]));
}

#[test]
fn lists_longer_than_any_cluster_and_names_of_no_node_are_refused() {
    let (_, extender) = extender(Known::usual(6));
    let list = |entry: &str, count: usize| format!("[{}]", vec![entry; count].join(","));
    let whole = |nodes: String| format!(r#"{{"Pod":null,"Nodes":{{"items":{nodes}}},"NodeNames":null}}"#);
    let named = |names: String| format!(r#"{{"Pod":null,"Nodes":null,"NodeNames":{names}}}"#);
    for body in [whole(list(r#"{"metadata":{"name":"a"}}"#, 50_000)), named(list(r#""a""#, 50_000))] {
        extender.filter(body.as_bytes()).unwrap();
    }
    for body in [whole(list(r#"{"metadata":{"name":"a"}}"#, 50_001)), named(list(r#""a""#, 50_001))] {
        let said = extender.filter(body.as_bytes()).unwrap_err().to_string();
        assert!(said.contains("more than 50000 nodes"), "{said}");
    }
    for name in [String::new(), "a".repeat(254)] {
        let said = extender.filter(named(format!(r#"["{name}"]"#)).as_bytes()).unwrap_err().to_string();
        assert!(said.contains("1 to 253 bytes"), "{said}");
    }
    let pod = format!(r#"{{"Pod":{{"spec":{{"volumes":{}}}}},"NodeNames":["a"]}}"#, list("{}", 1_100_000));
    let said = extender.filter(pod.as_bytes()).unwrap_err().to_string();
    assert!(said.contains("a pod of more than"), "{said}");
    let mounts = list("{}", 30_000);
    let pod =
        format!(r#"{{"Pod":{{"spec":{{"containers":[{{"volumeMounts":{mounts}}}]}}}},"NodeNames":["a"]}}"#);
    for said in [extender.filter(pod.as_bytes()), extender.prioritize(pod.as_bytes())] {
        let said = said.unwrap_err().to_string();
        assert!(said.contains("more than 20000 objects and lists"), "{said}");
    }
}

proptest! {
    /// Whatever the names, filter gives back every one of them, in order, and answers are JSON.
    #[test]
    fn filter_gives_every_name_back(names in proptest::collection::vec("[a-z0-9.é-]{1,12}", 0..40)) {
        let (_, extender) = extender(Known::usual(6));
        let mut args: Value = serde_json::from_str(BY_NAME).unwrap();
        args["NodeNames"] = json!(names);
        let args = args.to_string();
        prop_assert_eq!(&filtered(&extender, &args)["NodeNames"], &json!(names));
        for scored in prioritized(&extender, &args).as_array().unwrap() {
            prop_assert!(names.iter().any(|name| name == scored["Host"].as_str().unwrap()));
            prop_assert!((1..=10).contains(&scored["Score"].as_u64().unwrap()));
        }
    }

    #[test]
    fn damaged_arguments_do_no_harm(at in any::<prop::sample::Index>(), byte in any::<u8>(), end in any::<prop::sample::Index>()) {
        let (_, extender) = extender(Known::usual(6).with_unmountable("n3", "no"));
        let mut body = BY_NAME.as_bytes().to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        for body in [&body[..], &body[..end.index(body.len())]] {
            if let Ok(answer) = extender.filter(body) {
                prop_assert!(serde_json::from_slice::<Value>(&answer).is_ok());
            }
            if let Ok(answer) = extender.prioritize(body) {
                prop_assert!(serde_json::from_slice::<Value>(&answer).is_ok());
            }
        }
    }
}
