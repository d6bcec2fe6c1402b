//! Operations: one of each kind, in an order; a failing one is tried again and given up; what is over goes.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt};
use operator::marks::MANAGED_BY;
use operator_api::crd::{AccessProfile, DataBackup, DataLoad, DataMigrate, DataProcess, Dataset};
use operator_api::report::v1::down::Kind as Told;
use operator_api::report::v1::{ProfileLearned, up};
use serde_json::{Value, json};
use tests::agents::obedient::Obedient;
use tests::cluster::kubelet::{EXIT_CODE, MESSAGE, RUN_SECONDS};
use tests::cluster::wait::{Seen, until};

use super::agent::{self, BYTES, Home};
use super::stage::{LIMIT, api, apply, dataset, gone, make, operation, phase_is, said, with};

pub const NAMESPACE: &str = "b";
/// Uses a Dataset of the other.
const GUEST: &str = "a";

/// As many AccessProfiles as a Dataset may have (docs/operator.md).
const MOST_PROFILES: usize = 256;
const DATASET: &str = "worked";

pub fn of(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "headrace.io/v1alpha1", "kind": kind,
           "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec})
}

/// A DataProcess whose pod takes a moment and ends with a code.
fn process(name: &str, code: &str, timing: Value) -> Value {
    process_of(DATASET, name, code, timing)
}

pub fn process_of(dataset: &str, name: &str, code: &str, timing: Value) -> Value {
    let processor = json!({
        "podMetadata": {"annotations": {RUN_SECONDS: "0.2", EXIT_CODE: code}},
        "job": {"podSpec": {"containers": [{"name": "main", "image": "registry.invalid/none"}]}}});
    let target = json!({"name": dataset, "mountPath": "/data"});
    of("DataProcess", name, with(json!({"dataset": target, "processor": processor}), timing))
}

async fn complete(client: &Client, kind: &str, name: &str) -> Value {
    operation(client, kind, NAMESPACE, name, "is complete", |status| status["phase"] == "Complete").await
}

pub async fn jobs(client: &Client) {
    let datasets: Api<Dataset> = api(client, NAMESPACE);
    make(&datasets, dataset(DATASET, json!({}))).await;
    phase_is(&datasets, DATASET, "Bound").await;
    let before = |name: &str| json!({"kind": "DataProcess", "name": name});
    let both = json!({"runAfter": [before("first"), before("second")]});
    apply(client, &process("third", "0", both)).await;
    apply(client, &process("second", "0", json!({"runAfter": [before("first")]}))).await;
    // A person's own program may mean anything by 2.
    apply(client, &process("bad", "2", json!({"backoffLimit": 1, "ttlSecondsAfterFinished": 3}))).await;
    tokio::join!(given_up(client), one_after_another(client, &datasets), at_its_time(client));

    let processes: Api<DataProcess> = api(client, NAMESPACE);
    // Its time was over at once, and it stayed for those that run after it.
    gone(&processes, "first").await;
    for name in ["second", "third"] {
        processes.delete(name, &DeleteParams::default()).await.unwrap();
    }
    let jobs: Api<Job> = api(client, NAMESPACE);
    until("their Jobs are gone", LIMIT, async || {
        let left = jobs.list(&ListParams::default()).await?.items.len();
        Ok(if left == 0 { Seen::Done(()) } else { Seen::NotYet(format!("{left} are")) })
    })
    .await
    .unwrap();
    datasets.delete(DATASET, &DeleteParams::default()).await.unwrap();
    gone(&datasets, DATASET).await;
}

/// By the clock, and when a node has come; a node that goes is no event.
async fn at_its_time(client: &Client) {
    let timing = json!({"policy": "OnEvent", "on": ["NodeAdded"]});
    apply(client, &process("on-node", "0", timing)).await;
    apply(client, &process("minutely", "0", json!({"policy": "Cron", "schedule": "* * * * *"}))).await;
    let nodes: Api<Node> = Api::all(client.clone());
    for (number, name) in ["newcomer", "latecomer"].into_iter().enumerate() {
        // The apiserver's times are whole seconds.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        make(&nodes, json!({"metadata": {"name": name}})).await;
        let ran = |status: &Value| status["run"] == number + 1 && status["phase"] == "Pending";
        let status = operation(client, "DataProcess", NAMESPACE, "on-node", "has run", ran).await;
        assert!(status["lastSuccessfulTime"].is_string(), "{status}");
    }
    nodes.delete("latecomer", &DeleteParams::default()).await.unwrap();
    let ran = |status: &Value| status["lastSuccessfulTime"].is_string();
    let status = operation(client, "DataProcess", NAMESPACE, "minutely", "has run", ran).await;
    assert!(status["lastScheduleTime"].as_str().unwrap().ends_with(":00Z"), "{status}");
    let processes: Api<DataProcess> = api(client, NAMESPACE);
    assert_eq!(
        processes.get("on-node").await.unwrap().status.unwrap().run,
        2,
        "a node that went is no event"
    );
    for name in ["on-node", "minutely"] {
        processes.delete(name, &DeleteParams::default()).await.unwrap();
    }
    nodes.delete("newcomer", &DeleteParams::default()).await.unwrap();
}

async fn one_after_another(client: &Client, datasets: &Api<Dataset>) {
    let wait = |status: &Value| status.to_string().contains("runs after");
    operation(client, "DataProcess", NAMESPACE, "third", "says what it waits for", wait).await;
    apply(client, &process("first", "0", json!({"ttlSecondsAfterFinished": 0}))).await;
    for name in ["second", "third"] {
        let status = complete(client, "DataProcess", name).await;
        assert_eq!((&status["run"], &status["failures"]), (&json!(1), &json!(0)), "{status}");
    }
    let last = said(datasets, DATASET, "Ready", "").await.status.unwrap().last_operation;
    assert_eq!(last.unwrap().kind, "DataProcess");

    let migrate = json!({"from": {"dataset": {"name": DATASET}},
        "to": {"externalStorage": {"uri": "s3://bucket/y"}}, "ttlSecondsAfterFinished": 0,
        "podMetadata": {"annotations": {RUN_SECONDS: "0.2", EXIT_CODE: "0"}}});
    apply(client, &of("DataMigrate", "copy", migrate)).await;
    gone(&api::<DataMigrate>(client, NAMESPACE), "copy").await;
    answers(client).await;
    backup(client).await;
}

/// The try, another after ten seconds, the end, and its disappearance.
async fn given_up(client: &Client) {
    let given_up = |status: &Value| status["phase"] == "Failed";
    let status = operation(client, "DataProcess", NAMESPACE, "bad", "is given up", given_up).await;
    assert_eq!(status["failures"], 2, "{status}");
    assert!(status.to_string().contains("run 1 is given up: Job bad-"), "{status}");
    let processes: Api<DataProcess> = api(client, NAMESPACE);
    gone(&processes, "bad").await;
    let events: Api<Event> = api(client, NAMESPACE);
    let about = ListParams::default().fields("involvedObject.name=bad,type=Warning");
    let mut reasons: Vec<_> =
        events.list(&about).await.unwrap().items.into_iter().filter_map(|event| event.reason).collect();
    reasons.sort();
    assert_eq!(reasons, ["BackOff", "Failed"]);
}

/// What the worker says at its end becomes the operation's status.
async fn answers(client: &Client) {
    let migrate = |code: &str, message: Value| {
        json!({"from": {"dataset": {"name": DATASET}}, "to": {"externalStorage": {"uri": "s3://bucket/y"}},
            "backoffLimit": if code == "2" { 5 } else { 0 },
            "podMetadata": {"annotations": {RUN_SECONDS: "0.2", EXIT_CODE: code, MESSAGE: message.to_string()}}})
    };
    let done = json!({"result": 1, "done": true, "bytes": 5, "bytesThere": 2, "bytesTotal": 7});
    apply(client, &of("DataMigrate", "moved", migrate("0", done))).await;
    let status = complete(client, "DataMigrate", "moved").await;
    assert_eq!(
        status["progress"],
        json!({"percentage": "100%", "bytesDone": 7, "bytesTotal": 7}),
        "{status}"
    );
    let failed = json!({"result": 1, "error": "the target is full: make room"});
    apply(client, &of("DataMigrate", "stuck", migrate("1", failed))).await;
    let given_up = |status: &Value| status["phase"] == "Failed";
    let status = operation(client, "DataMigrate", NAMESPACE, "stuck", "is given up", given_up).await;
    assert!(status.to_string().contains("failed: the target is full: make room"), "{status}");
    hopeless(client, migrate("2", json!({"result": 1, "error": "the task is written in version 9"}))).await;
    let migrates = api::<DataMigrate>(client, NAMESPACE);
    for name in ["moved", "stuck", "hopeless"] {
        migrates.delete(name, &DeleteParams::default()).await.unwrap();
    }
}

/// What no other try would do better is not tried again, whatever tries are left.
async fn hopeless(client: &Client, spec: Value) {
    apply(client, &of("DataMigrate", "hopeless", spec)).await;
    let given_up = |status: &Value| status["phase"] == "Failed";
    let status = operation(client, "DataMigrate", NAMESPACE, "hopeless", "is given up", given_up).await;
    assert_eq!((&status["run"], &status["failures"]), (&json!(1), &json!(1)), "{status}");
    let text = status.to_string();
    assert!(text.contains("failed: the task is written in version 9; trying again would not help"), "{text}");
    let jobs: Api<Job> = api(client, NAMESPACE);
    let job = jobs.get(status["jobName"].as_str().unwrap()).await.unwrap();
    let ended = serde_json::to_value(&job.status.unwrap().conditions).unwrap().to_string();
    assert!(ended.contains("PodFailurePolicy") && ended.contains("exit code 2"), "{ended}");
    let events: Api<Event> = api(client, NAMESPACE);
    let about = ListParams::default().fields("involvedObject.name=hopeless,type=Warning");
    let told = events.list(&about).await.unwrap().items;
    let reasons: Vec<_> = told.iter().filter_map(|event| event.reason.as_deref()).collect();
    assert!(!reasons.contains(&"BackOff"), "{reasons:?}");
}

/// A backup's pod is given what was learned of its Dataset, and of no other.
async fn backup(client: &Client) {
    let profiles: Api<AccessProfile> = api(client, NAMESPACE);
    for (name, dataset) in [("learned", DATASET), ("other", "elsewhere")] {
        let spec =
            json!({"workload": {"kind": "Job", "name": name}, "dataset": {"name": dataset}, "data": "AAAA"});
        make(&profiles, of("AccessProfile", name, spec)).await;
    }
    let secret = json!({"name": "access_key_id", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}});
    let backup = json!({"dataset": DATASET, "backupPath": "s3://bucket/z", "encryptOptions": [secret],
        "ttlSecondsAfterFinished": 5});
    apply(client, &of("DataBackup", "keep", backup)).await;
    let status = complete(client, "DataBackup", "keep").await;
    let jobs: Api<Job> = api(client, NAMESPACE);
    let job = jobs.get(status["jobName"].as_str().unwrap()).await.unwrap();
    let env = serde_json::to_value(&job.spec.unwrap().template.spec.unwrap().containers[0].env).unwrap();
    let value = |name: &str| {
        let mut found = env.as_array().unwrap().iter().filter(|variable| variable["name"] == name);
        found.next().unwrap_or_else(|| panic!("no {name}: {env}")).clone()
    };
    assert_eq!(value("HEADRACE_TO_0")["valueFrom"]["secretKeyRef"]["key"], "k");
    let task: Value = serde_json::from_str(value("HEADRACE_TASK")["value"].as_str().unwrap()).unwrap();
    assert_eq!(task["profiles"], json!({"variables": ["HEADRACE_PROFILES_0"], "leftOut": 0}), "{task}");
    let given: Value = serde_json::from_str(value("HEADRACE_PROFILES_0")["value"].as_str().unwrap()).unwrap();
    assert_eq!(
        (given.as_array().unwrap().len(), &given[0]["metadata"]["name"]),
        (1, &json!("learned")),
        "{given}"
    );
    gone(&api::<DataBackup>(client, NAMESPACE), "keep").await;
    for name in ["learned", "other"] {
        profiles.delete(name, &DeleteParams::default()).await.unwrap();
    }
}

/// A load waits for agents, one comes, does it, and tells what it learned.
pub async fn loads(client: &Client, folder: &Path, listen: SocketAddr) {
    let datasets: Api<Dataset> = api(client, NAMESPACE);
    let spec = json!({"mounts": [{"mountPoint": "nfs://nas/export", "name": "x"}],
        "sharing": {"grants": [{"namespace": GUEST}]}});
    make(&datasets, dataset("loaded", spec)).await;
    let load = json!({"dataset": {"name": "loaded"}, "pin": true});
    apply(client, &of("DataLoad", "load", load)).await;
    let waits = |status: &Value| status.to_string().contains("the agents of 0 have Dataset");
    operation(client, "DataLoad", NAMESPACE, "load", "waits for agents", waits).await;

    let home = Home::make(client, folder, "life-0").await;
    let url = format!("https://{listen}");
    let node = agent::start(home, &url, "nas:/export", "b/loaded", false).await;
    let status = complete(client, "DataLoad", "load").await;
    assert_eq!(status["progress"]["percentage"], "100%", "{status}");
    assert_eq!(status["progress"]["bytesDone"], BYTES, "{status}");
    let instructed = instructed(&node);
    assert_eq!(instructed.len(), 1, "one node, one piece");
    // Its pin is held as long as it is there.
    let loads: Api<DataLoad> = api(client, NAMESPACE);
    assert!(!node.heard().iter().any(|told| matches!(told, Told::Withdrawal(_))), "{:?}", node.heard());
    loads.delete("load", &DeleteParams::default()).await.unwrap();
    gone(&loads, "load").await;
    let_go(&node, &instructed[0]).await;
    // One that keeps nothing goes by itself when its time is over.
    let brief = json!({"dataset": {"name": "loaded"}, "ttlSecondsAfterFinished": 1});
    apply(client, &of("DataLoad", "brief", brief)).await;
    gone(&loads, "brief").await;

    // What the agent told is in the status.
    let known = said(&datasets, "loaded", "Observed", "True AgentsReport: reported by one agent").await;
    let status = serde_json::to_value(known.status.clone().unwrap()).unwrap();
    assert_eq!(status["totalBytes"], BYTES, "{status}");
    let version = &status["versions"][0];
    assert_eq!((&version["current"], &version["totalBytes"]), (&json!(true), &json!(BYTES)), "{status}");
    assert!(version["firstSeen"].is_string(), "{status}");

    // What it learned is kept beside the Dataset as long as that is, also of a workload in another namespace.
    // An agent teaches of Datasets that a pod on its node uses, or used; this one has nothing fetched for it.
    let reader = json!({"metadata": {"name": "reader", "annotations": {"headrace.io/scheduling": "disabled"}},
        "spec": {"nodeName": "life-0", "containers": [{"name": "main", "image": "registry.invalid/none"}],
                 "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "loaded"}}]}});
    // As many as a Dataset may have, learned before these: the oldest goes for each that comes.
    let profiles: Api<AccessProfile> = api(client, NAMESPACE);
    let uid = known.metadata.uid.unwrap();
    for number in 0..MOST_PROFILES {
        let old = json!({
            "metadata": {"name": format!("old-{number:03}"), "labels": {MANAGED_BY.0: MANAGED_BY.1},
                "ownerReferences": [{"apiVersion": "headrace.io/v1alpha1", "kind": "Dataset", "name": "loaded", "uid": uid}]},
            "spec": {"workload": {"kind": "Program", "name": "old"}, "dataset": {"name": "loaded"}, "data": ""}});
        make(&profiles, old).await;
    }
    let mut kept = Vec::new();
    for namespace in [NAMESPACE, GUEST] {
        let pods: Api<Pod> = api(client, namespace);
        let made = make(&pods, reader.clone()).await;
        let teach = || {
            node.say(up::Kind::Learned(ProfileLearned {
                workload: format!("pod exe=/app/{namespace}"),
                source: "nas:/export".into(),
                profile: vec![7; 100],
                first: Vec::new(),
                pods: made.metadata.uid.iter().cloned().collect(),
            }));
        };
        let learned = until("an AccessProfile is there", LIMIT, async || {
            // The operator may not have heard of the pod yet.
            teach();
            // Those that a backup is given stand here for a while, too.
            let all = profiles.list(&ListParams::default()).await?.items;
            let guest = (namespace == GUEST).then(|| GUEST.to_owned());
            let ours = all.into_iter().find(|AccessProfile { spec, .. }| {
                let workload = &spec.workload;
                (spec.dataset.name.as_str(), workload.name.as_str()) == ("loaded", "reader")
                    && workload.namespace == guest
            });
            Ok(ours.map_or(Seen::NotYet("none".into()), Seen::Done))
        })
        .await
        .unwrap();
        assert_eq!(learned.owner_references().len(), 1, "{learned:?}");
        kept.push(learned.name_any());
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        pods.delete("reader", &now).await.unwrap();
    }
    gone(&profiles, "old-000").await;
    let newest = format!("old-{:03}", MOST_PROFILES - 1);
    assert!(profiles.get_opt(&newest).await.unwrap().is_some(), "it was learned last of those");
    drop(node);
    datasets.delete("loaded", &DeleteParams::default()).await.unwrap();
    gone(&datasets, "loaded").await;
    for name in &kept {
        gone(&profiles, name).await;
    }
}

/// A Dataset goes while an agent is at it: the load is given up, the agent told so, and nothing waits for it.
pub async fn deleted_while_loading(client: &Client, stuck: &Obedient) {
    let datasets: Api<Dataset> = api(client, NAMESPACE);
    make(&datasets, dataset("halted", json!({"mounts": [{"mountPoint": "nfs://nas/stuck", "name": "x"}]})))
        .await;
    apply(client, &of("DataLoad", "endless", json!({"dataset": {"name": "halted"}}))).await;
    let loads = |status: &Value| status["phase"] == "Executing" && status.to_string().contains("Unknown");
    operation(client, "DataLoad", NAMESPACE, "endless", "is at work", loads).await;
    let told = until("the agent is told to load", LIMIT, async || {
        Ok(instructed(stuck).pop().map_or(Seen::NotYet("nothing was told".into()), Seen::Done))
    })
    .await
    .unwrap();
    datasets.delete("halted", &DeleteParams::default()).await.unwrap();
    let over = |status: &Value| status["phase"] == "Failed";
    let status = operation(client, "DataLoad", NAMESPACE, "endless", "is given up", over).await;
    // It may be gone by the next look.
    let text = status.to_string();
    let why = ["Dataset b/halted is being deleted", "Dataset b/halted does not exist"];
    assert!(why.iter().any(|why| text.contains(&format!("run 1 is given up: {why}"))), "{text}");
    gone(&datasets, "halted").await;
    let_go(stuck, &told).await;
}

/// The identities of what an agent was told to do.
fn instructed(agent: &Obedient) -> Vec<String> {
    let id = |told| match told {
        Told::Instruction(told) => Some(told.id),
        _ => None,
    };
    agent.heard().into_iter().filter_map(id).collect()
}

async fn let_go(agent: &Obedient, id: &str) {
    until("the agent is told to let it be", LIMIT, async || {
        let let_be = |heard: &Told| matches!(heard, Told::Withdrawal(withdrawal) if withdrawal.id == id);
        let heard = agent.heard();
        Ok(if heard.iter().any(let_be) { Seen::Done(()) } else { Seen::NotYet(format!("{heard:?}")) })
    })
    .await
    .unwrap();
}
