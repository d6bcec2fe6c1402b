//! Every field of every CRD with everything wrong that its schema speaks of, in the apiserver's own judgement.
//!
//! The faults come from deploy/crd itself (`faulty`), so a field that is new is tried without anybody's doing. By
//! hand is only what schemas do not say: objects that patterns and the rules across fields let in.

use std::collections::BTreeSet;

use futures::StreamExt;
use kube::api::{DynamicObject, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::faulty::{self, Fault, NULL};
use super::stage::{api_of, deployed, object, with};

/// Nothing is made there, so it need not be a namespace of our own.
const NAMESPACE: &str = "default";

/// The apiserver's own limit of side-by-side requests is far above; the processors here are two.
const AT_ONCE: usize = 8;

/// Failures told at once: what is wrong with one bound is wrong in many places.
const TOLD: usize = 40;

/// Places that nothing but the size of a request (3 MiB) bounds, and why. A name that ends in a dot means all below. One
/// that names nothing any more fails, as does a place without a bound that is not here.
const BOUNDLESS: [(&str, &[&str]); 4] = [
    (
        "a type of Kubernetes, judged where Kubernetes uses it: in the Job's pod",
        &[
            "DataMigrate spec.resources.",
            "DataMigrate spec.tolerations[].",
            "DataProcess spec.processor.job.podSpec.",
            "DataProcess spec.processor.script.env[].",
            "DataProcess spec.processor.script.resources.",
        ],
    ),
    ("a type of Kubernetes, compared with nodes' taints", &["Dataset spec.cache.tolerations[]."]),
    (
        "chunks by number: what lies behind the Dataset's end names nothing",
        &["AccessProfile spec.first[].count", "AccessProfile spec.first[].start"],
    ),
    (
        "bounded in number and not in length: nothing says how long an option, a label or a word may be",
        &[
            "DataMigrate spec.nodeSelector{}",
            "DataMigrate spec.podMetadata.annotations{}",
            "DataMigrate spec.podMetadata.labels{}",
            "DataProcess spec.processor.podMetadata.annotations{}",
            "DataProcess spec.processor.podMetadata.labels{}",
            "DataProcess spec.processor.script.command[]",
            "Dataset spec.cache.nodeSelector{}",
            "Dataset spec.mounts[].options{}",
            "Dataset spec.sharedOptions{}",
        ],
    ),
];

const POD: &str = "spec.processor.job.podSpec.";

/// Places that no object may have, by a rule across fields: `refusals` tries them.
const NEVER: [&str; 1] = ["DataMigrate spec.to.dataset.version"];

/// What is given of an object's spec, the rest being as little as its schema allows. Null: left out. All of a kind
/// together have every field; what an earlier one has is not tried again.
fn given(kind: &str) -> Vec<Value> {
    let cron = json!({"policy": "Cron", "schedule": "0 4 * * *", "timeZone": "Europe/Berlin", "on": null});
    let event = json!({"policy": "OnEvent", "schedule": null, "timeZone": null});
    let store = json!({"dataset": null, "externalStorage": {"uri": "s3://bucket/x"}});
    let held =
        |version: Value| json!({"dataset": {"path": "/x", "version": version}, "externalStorage": null});
    let dataset = json!({"mountPath": "/data", "subPath": "x"});
    match kind {
        "Dataset" => vec![json!({
            "mounts": [{"mountPoint": "s3://bucket/x", "path": "/x", "readOnly": true}],
            "accessModes": ["ReadOnlyMany"],
            "cache": {"replicas": "auto", "quota": "1Gi", "tieredstore": {
                "levels": [{"mediumtype": "SSD", "path": "/x", "quota": "1Gi", "low": "0.5", "high": "0.9"}]}},
            "versionPolicy": {"follow": "Pinned"},
        })],
        "DataLoad" => [cron, event].map(|timing| with(json!({"target": [{"path": "/x"}]}), timing)).into(),
        "DataMigrate" => vec![
            with(json!({"from": held(json!("x")), "to": store}), cron),
            with(json!({"from": store, "to": held(Value::Null)}), event),
        ],
        "DataBackup" => {
            [cron, event].map(|timing| with(json!({"backupPath": "s3://bucket/x"}), timing)).into()
        }
        "DataProcess" => vec![
            with(json!({"dataset": dataset, "processor": {"job": null}}), cron),
            with(json!({"dataset": dataset, "processor": {"script": null}}), event),
        ],
        "AccessProfile" => vec![json!({"learnedAt": "2026-11-30T04:09:23Z"})],
        _ => panic!("{kind} is new: give what its patterns and rules ask for"),
    }
}

/// Objects to be let in, each with the faults to be refused on it. Fails where a field would not be tried, or where
/// nothing bounds one.
fn tries(definition: &Value) -> Vec<(Value, Vec<Fault>)> {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let kind = text(&spec["names"]["kind"]);
    let version = &spec["versions"][0];
    let full = &version["schema"]["openAPIV3Schema"];
    // Status is a subresource: what a client sends of it here is dropped unread.
    let schema = json!({"required": full["required"], "properties": {"spec": full["properties"]["spec"]}});
    let mut tried = BTreeSet::new();
    let mut all = Vec::new();
    for own in given(&kind) {
        let whole = json!({
            "apiVersion": format!("{}/{}", text(&spec["group"]), text(&version["name"])), "kind": kind,
            "metadata": {"name": "judged", "namespace": NAMESPACE},
            "spec": faulty::whole(&schema["properties"]["spec"], Some(&own)),
        });
        let mut faults = faulty::faults(&schema, &whole);
        faults.retain(|fault| !tried.contains(&fault.place));
        // A pod's thousand fields are each tried once: they come from one hand, and each question carries all of them.
        let mut seen = BTreeSet::new();
        faults.retain(|fault| {
            !fault.place.starts_with(POD)
                || fault.what != NULL && seen.insert((fault.place.clone(), fault.what))
        });
        tried.extend(faults.iter().map(|fault| fault.place.clone()));
        all.push((whole, faults));
    }
    let (places, boundless) = faulty::places(&schema);
    let named = |place: &str| format!("{kind} {place}");
    let untried: Vec<String> = places
        .difference(&tried)
        .map(|place| named(place))
        .filter(|place| !NEVER.contains(&&**place))
        .collect();
    assert!(
        untried.is_empty(),
        "no object that is tried has these fields, say in `given` what they hold: {untried:#?}"
    );
    let known: Vec<&str> = BOUNDLESS.iter().flat_map(|(_, places)| *places).copied().collect();
    let covers =
        |known: &str, place: &str| known == place || (known.ends_with('.') && place.starts_with(known));
    let boundless: Vec<String> = boundless.iter().map(|place| named(place)).collect();
    let fresh: Vec<&String> =
        boundless.iter().filter(|place| !known.iter().any(|known| covers(known, place))).collect();
    assert!(fresh.is_empty(), "nothing bounds these fields, give each a bound: {fresh:#?}");
    let stale = known.iter().filter(|known| known.starts_with(&named("")));
    let stale: Vec<&&str> =
        stale.filter(|known| !boundless.iter().any(|place| covers(known, place))).collect();
    assert!(stale.is_empty(), "these have a bound by now: {stale:#?}");
    all
}

/// None where the apiserver refuses it and names the field; else what it says.
async fn let_in(api: &Api<DynamicObject>, whole: &Value, fault: &Fault) -> Option<String> {
    let try_it = PostParams { dry_run: true, ..PostParams::default() };
    let said = match api.create(&try_it, &object(fault.on(whole))).await {
        Ok(answer)
            if fault.what == NULL && fault.found_in(&answer.data).is_none_or(|kept| !kept.is_null()) =>
        {
            return None;
        }
        Ok(_) => "it is let in".to_owned(),
        Err(kube::Error::Api(status)) => {
            let mut causes = status.details.iter().flat_map(|details| &details.causes);
            if status.code == 422 && (fault.what == NULL || causes.any(|cause| cause.field == fault.field)) {
                return None;
            }
            status.message.clone()
        }
        Err(error) => error.to_string(),
    };
    Some(format!("{} {fault}: {said}", whole["kind"]))
}

/// An apiserver that serves deploy/crd refuses every fault, by the field's name.
pub async fn every_fault_of_every_field_is_refused_by_name(client: &Client) {
    let mut let_through = Vec::new();
    for definition in deployed("crd") {
        for (whole, faults) in tries(&definition) {
            let sound: DynamicObject = object(whole.clone());
            let api = api_of(client, &sound).await;
            let try_it = PostParams { dry_run: true, ..PostParams::default() };
            api.create(&try_it, &sound).await.unwrap_or_else(|error| panic!("{whole}: {error}"));
            println!("{}: {} faults", whole["kind"], faults.len());
            let (api, whole) = (&api, &whole);
            let said = futures::stream::iter(faults)
                .map(|fault| async move { let_in(api, whole, &fault).await })
                .buffer_unordered(AT_ONCE);
            let_through.extend(said.filter_map(std::future::ready).collect::<Vec<_>>().await);
        }
    }
    let count = let_through.len();
    let_through.truncate(TOLD);
    assert!(count == 0, "{count} faults are not refused by name: {let_through:#?}");
}

/// Needs no apiserver: a new field, or one without a bound, is found before there is one.
#[test]
fn every_field_is_tried_and_has_a_bound() {
    for definition in deployed("crd") {
        let count: usize = tries(&definition).iter().map(|(_, faults)| faults.len()).sum();
        println!("{}: {count} faults", definition["spec"]["names"]["kind"]);
    }
}
