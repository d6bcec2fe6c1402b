//! Any pod at all: the webhook answers, a patch applies whole, keeps what was there, and is not needed twice.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::known::Known;
use super::mutating::{answered, asked, patch_of};

fn claim() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({"persistentVolumeClaim": {"claimName": "train"}})),
        Just(json!({"persistentVolumeClaim": {"claimName": "empty", "readOnly": true}})),
        Just(json!({"persistentVolumeClaim": {"claimName": "foreign"}})),
        Just(json!({"persistentVolumeClaim": {"claimName": "~/odd"}})),
        Just(json!({"persistentVolumeClaim": null})),
        Just(json!({"emptyDir": {}})),
    ]
}

fn mount() -> impl Strategy<Value = Value> {
    let propagation = prop_oneof![Just("None"), Just("HostToContainer"), Just("Bidirectional")];
    (0..4_usize, of(propagation), of(Just("sub")), of(prop_oneof![Just("Enabled"), Just("Disabled")]))
        .prop_map(|(volume, propagation, sub, recursive)| {
            let mut mount = json!({"name": format!("v{volume}"), "mountPath": "/m"});
            for (key, value) in
                [("mountPropagation", propagation), ("subPath", sub), ("recursiveReadOnly", recursive)]
            {
                if let Some(value) = value {
                    mount[key] = json!(value);
                }
            }
            mount
        })
}

fn containers() -> impl Strategy<Value = Value> {
    vec(of(vec(mount(), 0..4)), 0..3)
        .prop_map(|all| all.into_iter().map(|mounts| json!({"name": "c", "volumeMounts": mounts})).collect())
}

fn affinity() -> impl Strategy<Value = Value> {
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    prop_oneof![
        Just(Value::Null),
        Just(json!({})),
        Just(json!({"podAffinity": {"a": [1]}})),
        Just(json!({"nodeAffinity": {}})),
        Just(
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}})
        ),
        vec(1..100_u32, 0..3).prop_map(|weights| {
            let terms: Vec<Value> =
                weights.into_iter().map(|weight| json!({"weight": weight, "preference": {}})).collect();
            json!({"nodeAffinity": { PREFERRED: terms }})
        }),
    ]
}

fn pod() -> impl Strategy<Value = Value> {
    let annotations = of(vec(("[a-z/~.]{1,8}", "\\PC{0,8}"), 0..3));
    (vec(claim(), 0..4), containers(), of(containers()), of(affinity()), annotations, of("[a-z]{0,3}"))
        .prop_map(|(claims, containers, init, affinity, annotations, node)| {
            let volumes: Vec<Value> = claims
                .into_iter()
                .enumerate()
                .map(|(index, mut volume)| {
                    volume["name"] = json!(format!("v{index}"));
                    volume
                })
                .collect();
            let mut spec = json!({"volumes": volumes, "containers": containers});
            for (key, value) in
                [("initContainers", init), ("affinity", affinity), ("nodeName", node.map(Value::from))]
            {
                if let Some(value) = value {
                    spec[key] = value;
                }
            }
            let mut metadata = json!({"name": "p"});
            if let Some(annotations) = annotations {
                metadata["annotations"] =
                    Value::Object(annotations.into_iter().map(|(k, v)| (k, v.into())).collect::<Map<_, _>>());
            }
            json!({"metadata": metadata, "spec": spec})
        })
}

/// Whether `after` has everything of `before`, in lists in the same places.
fn kept(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Null, _) => true,
        (Value::Object(before), Value::Object(after)) => before
            .iter()
            .all(|(key, value)| value.is_null() || after.get(key).is_some_and(|a| kept(value, a))),
        (Value::Array(before), Value::Array(after)) => {
            before.len() <= after.len() && before.iter().zip(after).all(|(before, after)| kept(before, after))
        }
        (before, after) => before == after,
    }
}

fn preferred(pod: &Value) -> usize {
    let path = "/spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution";
    pod.pointer(path).and_then(Value::as_array).map_or(0, Vec::len)
}

proptest! {
    #[test]
    fn any_pod_is_changed_whole_once_and_only_by_addition(pod in pod()) {
        let known = Known::usual(8);
        let patch = patch_of(&answered(&known, &asked("ml", &pod)));
        let mut after = pod.clone();
        json_patch::patch(&mut after, &patch).unwrap();
        prop_assert!(kept(&pod, &after), "{pod}\n{after}");
        prop_assert!(preferred(&after) <= preferred(&pod) + 17);
        let again = patch_of(&answered(&known, &asked("ml", &after)));
        prop_assert!(again.0.is_empty(), "{:?}", again);
    }

    #[test]
    fn any_bytes_are_answered(body in vec(any::<u8>(), 0..200)) {
        prop_assert!(patch_of(&answered(&Known::usual(8), &body)).0.is_empty());
    }

    /// A true review with a byte changed, a piece cut out, or its end missing.
    #[test]
    fn damaged_reviews_are_answered(pod in pod(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in 0..40_usize) {
        let mut body = asked("ml", &pod);
        let at = at.index(body.len());
        body[at] = byte;
        let end = (at + cut).min(body.len());
        body.drain(at..end);
        let answer = answered(&Known::usual(8), &body);
        prop_assert_eq!(&answer["response"]["allowed"], &json!(true));
        body.truncate(at);
        let answer = answered(&Known::usual(8), &body);
        prop_assert_eq!(&answer["response"]["allowed"], &json!(true));
    }
}
