//! What came past schemas and webhooks and cannot work: the status says why, and what to do.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use operator_api::crd::Dataset;
use serde_json::{Value, json};
use tests::cluster::fleet::{Fleet, Spec};
use tests::cluster::kubelet::{EXIT_CODE, RUN_SECONDS};

use super::stage::{
    LIMIT, Replica, Stage, api, apply, claim_is_bound, dataset, gone, make, namespace, operation, phase_is,
    said, with,
};

const OWN: &str = "status-a";
const OTHER: &str = "status-b";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_work_is_said_in_status() {
    let stage = Stage::shared().await;
    let _turn = stage.turn().await;
    let client = stage.client().await;
    for name in [OWN, OTHER, "status-quota"] {
        namespace(&client, name).await;
    }
    let fleet = Fleet::join(client.clone(), Spec::new("status", 1)).await.unwrap();
    let replica = Replica::start(&stage.operator().await, "one", None).await;
    tokio::join!(
        datasets(&client),
        operations(&client),
        refused_jobs(&client),
        deleted_while_in_work(&client)
    );
    let all: Api<Dataset> = api(&client, OWN);
    all.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    for name in ["broken", "first", "early"] {
        gone(&all, name).await;
    }
    fleet.leave().await.unwrap();
    replica.end().await;
}

async fn datasets(client: &Client) {
    let own: Api<Dataset> = api(client, OWN);
    let other: Api<Dataset> = api(client, OTHER);
    let claims: Api<PersistentVolumeClaim> = api(client, OWN);

    // A URL that no schema sees through, and one that is put right.
    let broken = json!({"mounts": [{"mountPoint": "s3:///folder", "name": "x"}]});
    make(&own, dataset("broken", broken)).await;
    phase_is(&own, "broken", "Failed").await;
    said(&own, "broken", "Ready", "False Invalid: the mountPoint of mount /x cannot be used").await;
    assert!(claims.get_opt("broken").await.unwrap().is_none(), "nothing is half-made");
    apply(
        client,
        &with(dataset("broken", json!({})), json!({"metadata": {"name": "broken", "namespace": OWN}})),
    )
    .await;
    phase_is(&own, "broken", "Bound").await;

    // Two Datasets want one claim: who came first has it.
    let grant = json!({"sharing": {"grants": [{"namespace": OTHER, "claimName": "wanted"}]}});
    make(&own, dataset("first", grant)).await;
    claim_is_bound(&api(client, OTHER), "wanted").await;
    make(&other, dataset("wanted", json!({}))).await;
    let words = format!("claim {OTHER}/wanted belongs to Dataset {OWN}/first: rename one of the Datasets");
    said(&other, "wanted", "Ready", &words).await;
    phase_is(&own, "first", "Bound").await;
    other.delete("wanted", &DeleteParams::default()).await.unwrap();
    gone(&other, "wanted").await;
    claim_is_bound(&api(client, OTHER), "wanted").await;

    // A namespace that comes later.
    make(&own, dataset("early", json!({"sharing": {"grants": [{"namespace": "status-late"}]}}))).await;
    said(&own, "early", "Ready", "namespace status-late does not exist: create it, or take the grant out")
        .await;
    claim_is_bound(&claims, "early").await;
    namespace(client, "status-late").await;
    claim_is_bound(&api(client, "status-late"), "early").await;
    phase_is(&own, "early", "Bound").await;
}

fn of(kind: &str, namespace: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "headrace.io/v1alpha1", "kind": kind,
           "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

fn process(namespace: &str, name: &str, dataset: Value, extra: Value) -> Value {
    let processor = json!({
        "podMetadata": {"annotations": {RUN_SECONDS: "600", EXIT_CODE: "0"}},
        "job": {"podSpec": {"containers": [{"name": "main", "image": "registry.invalid/none"}]}}});
    let target = with(dataset, json!({"mountPath": "/data"}));
    of("DataProcess", namespace, name, with(json!({"dataset": target, "processor": processor}), extra))
}

async fn operations(client: &Client) {
    let after = |name: &str| json!({"runAfter": [{"kind": "DataProcess", "name": name}]});
    let known = || json!({"name": "first"});
    let store = |uri: &str| json!({"externalStorage": {"uri": uri}});
    make(&api::<Dataset>(client, OWN), dataset("sealed", json!({}))).await;
    let cases = [
        (process(OWN, "nowhere", json!({"name": "none"}), json!({})), "Dataset status-a/none does not exist"),
        (
            process(OTHER, "not-granted", json!({"name": "sealed", "namespace": OWN}), json!({})),
            "its owner has to add a grant for status-b to spec.sharing.grants",
        ),
        (
            process(OTHER, "not-there", json!({"name": "none", "namespace": OWN}), json!({})),
            "its owner has to add a grant for status-b to spec.sharing.grants",
        ),
        (process(OWN, "round-1", known(), after("round-2")), ""),
        (process(OWN, "round-2", known(), after("round-3")), ""),
        (process(OWN, "round-3", known(), after("round-1")), "runAfter makes a circle in which each waits"),
        (process(OWN, "self", known(), after("self")), "runAfter makes a circle"),
        (
            process(OWN, "never", known(), json!({"policy": "Cron", "schedule": "0 0 30 2 *"})),
            "does not come within four years",
        ),
        (
            process(OWN, "no-time", known(), json!({"policy": "Cron", "schedule": "61 * * * *"})),
            "is not understood",
        ),
        (
            of("DataMigrate", OWN, "same", json!({"from": store("s3://a/b"), "to": store("s3://a/b")})),
            "from and to are the same",
        ),
        (
            of(
                "DataMigrate",
                OWN,
                "sealed",
                json!({"from": store("s3://a/b"), "to": {"dataset": {"name": "sealed"}}}),
            ),
            "cannot be written: add ReadWriteMany",
        ),
        (
            of("DataBackup", OWN, "local", json!({"dataset": "sealed", "backupPath": "local:///tmp"})),
            "names a folder of whatever node the Job runs on",
        ),
        (
            of("DataLoad", OWN, "no-version", json!({"dataset": {"name": "sealed"}, "version": "yesterday"})),
            "the agents of 0 have Dataset",
        ),
    ];
    for (object, _) in &cases {
        apply(client, object).await;
    }
    for (object, words) in &cases {
        let text = |field: &str| object["metadata"][field].as_str().unwrap().to_owned();
        let kind = object["kind"].as_str().unwrap();
        let says = |status: &Value| status["phase"] == "Pending" && status.to_string().contains(words);
        let status =
            operation(client, kind, &text("namespace"), &text("name"), &format!("says '{words}'"), says)
                .await;
        assert_eq!(status["run"].as_i64().unwrap_or(0), 0, "it has not begun: {status}");
    }
    let begun = api::<Job>(client, OWN).list(&ListParams::default()).await.unwrap().items;
    let of_these = |job: &&Job| job.metadata.name.as_ref().is_some_and(|name| !name.starts_with("in-work"));
    assert_eq!(begun.iter().filter(of_these).count(), 0, "{begun:?}");
}

/// A Job that the apiserver does not let be is a try that failed.
async fn refused_jobs(client: &Client) {
    let home = "status-quota";
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": home}, "spec": {"hard": {"count/jobs.batch": "0"}}});
    apply(client, &quota).await;
    let datasets: Api<Dataset> = api(client, home);
    make(&datasets, dataset("d", json!({}))).await;
    phase_is(&datasets, "d", "Bound").await;
    let no_image = json!({"job": {"podSpec": {"containers": [{"name": "Main!", "image": "i"}]}}});
    let once = json!({"backoffLimit": 0});
    apply(client, &process(home, "quota", json!({"name": "d"}), once.clone())).await;
    apply(client, &process(home, "pod", json!({"name": "d"}), with(once, json!({"processor": no_image}))))
        .await;
    for (name, words) in [("quota", "exceeded quota: none"), ("pod", "spec.containers[0].name")] {
        let failed = |status: &Value| status["phase"] == "Failed";
        let status = operation(client, "DataProcess", home, name, "has failed", failed).await;
        let text = status.to_string();
        assert!(text.contains("the apiserver refused the Job") && text.contains(words), "{text}");
        assert_eq!(status["failures"], 1, "{status}");
    }
    datasets.delete("d", &DeleteParams::default()).await.unwrap();
    gone(&datasets, "d").await;
}

/// Its Dataset goes: the run is given up, the pod ended, and nothing wedges.
async fn deleted_while_in_work(client: &Client) {
    let datasets: Api<Dataset> = api(client, OWN);
    make(&datasets, dataset("short", json!({}))).await;
    phase_is(&datasets, "short", "Bound").await;
    apply(client, &process(OWN, "in-work", json!({"name": "short"}), json!({}))).await;
    let works = |status: &Value| status["phase"] == "Executing";
    let status = operation(client, "DataProcess", OWN, "in-work", "is at work", works).await;
    let jobs: Api<Job> = api(client, OWN);
    let name = status["jobName"].as_str().unwrap().to_owned();
    tests::cluster::wait::until("the pod runs", LIMIT, async || {
        let active = jobs.get_opt(&name).await?.and_then(|job| job.status?.ready).unwrap_or(0);
        Ok(if active > 0 {
            tests::cluster::wait::Seen::Done(())
        } else {
            tests::cluster::wait::Seen::NotYet("it does not".into())
        })
    })
    .await
    .unwrap();
    datasets.delete("short", &DeleteParams::default()).await.unwrap();
    let over = |status: &Value| status["phase"] == "Failed";
    let status = operation(client, "DataProcess", OWN, "in-work", "is given up", over).await;
    assert!(status.to_string().contains("Dataset status-a/short is being deleted"), "{status}");
    gone(&datasets, "short").await;
    gone(&jobs, &name).await;
}
