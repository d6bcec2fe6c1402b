//! Operations that run on what agents tell: another version of their Dataset, and that nobody reads it any more.

use std::net::SocketAddr;
use std::path::Path;

use ::agent::report::speaker::{Demand, Facts};
use kube::api::DeleteParams;
use kube::{Api, Client};
use operator_api::crd::{DataProcess, Dataset};
use serde_json::{Value, json};
use tests::agents::obedient::Obedient;
use tests::cluster::wait::{Seen, until};

use super::agent::{self, Home};
use super::stage::{LIMIT, api, apply, dataset, gone, make, operation, phase_is};
use super::work::{NAMESPACE, process_of};

const DATASET: &str = "eventful";
const FULL: &str = "b/eventful";

pub async fn runs_as_agents_tell(client: &Client, folder: &Path, listen: SocketAddr) {
    let datasets: Api<Dataset> = api(client, NAMESPACE);
    let spec = json!({"mounts": [{"mountPoint": "nfs://nas/eventful", "name": "x"}],
        "retention": {"idleSeconds": 10}});
    make(&datasets, dataset(DATASET, spec)).await;
    phase_is(&datasets, DATASET, "Bound").await;
    for (name, event) in [("on-version", "NewVersion"), ("on-idle", "DatasetIdle")] {
        let timing = json!({"policy": "OnEvent", "on": [event]});
        apply(client, &process_of(DATASET, name, "0", timing)).await;
    }
    let home = Home::make(client, folder, "life-2").await;
    let node = agent::start(home, &format!("https://{listen}"), "nas:/eventful", FULL, false).await;
    // No version was known when it was made, so the first is one that it has not run on; and nobody reads yet.
    has_run(client, "on-version", 1).await;
    has_run(client, "on-idle", 1).await;
    // One that is made now counts from it.
    apply(client, &process_of(DATASET, "on-change", "0", json!({"policy": "OnEvent", "on": ["NewVersion"]})))
        .await;
    let from_here =
        |status: &Value| status["servedEvents"][0]["mark"].as_str().is_some_and(|mark| mark != "Unknown");
    let status =
        operation(client, "DataProcess", NAMESPACE, "on-change", "counts from the version", from_here).await;
    assert_eq!(status["run"], 0, "{status}");

    let read = Demand { readers: 1, rate: 1 << 20, hit: 1 << 20, miss: 0 };
    let first = agent::facts(FULL, 0xabc);
    node.change(Facts { demand: [(FULL.into(), read)].into(), ..first.clone() });
    is_read(&datasets).await;
    node.change(first);
    has_run(client, "on-idle", 2).await;
    changes_version(client, &node).await;

    let processes: Api<DataProcess> = api(client, NAMESPACE);
    for (name, runs) in [("on-version", 2), ("on-idle", 2), ("on-change", 1)] {
        let status = processes.get(name).await.unwrap().status.unwrap();
        assert_eq!(status.run, runs, "{name} runs once for each event: {status:?}");
        processes.delete(name, &DeleteParams::default()).await.unwrap();
    }
    drop(node);
    datasets.delete(DATASET, &DeleteParams::default()).await.unwrap();
    gone(&datasets, DATASET).await;
}

/// Another one, and the same again, as every survey tells it.
async fn changes_version(client: &Client, node: &Obedient) {
    node.change(agent::facts(FULL, 0xdef));
    has_run(client, "on-version", 2).await;
    has_run(client, "on-change", 1).await;
    let mut again = agent::facts(FULL, 0xdef);
    again.versions.values_mut().for_each(|version| version.seen_ms += 60_000);
    node.change(again);
}

async fn has_run(client: &Client, name: &str, times: i64) {
    let ran = |status: &Value| status["run"] == times && status["phase"] == "Pending";
    let status = operation(client, "DataProcess", NAMESPACE, name, "has run", ran).await;
    assert!(status["lastSuccessfulTime"].is_string(), "{status}");
}

async fn is_read(datasets: &Api<Dataset>) {
    until("the Dataset's status says that somebody reads", LIMIT, async || {
        let status = datasets.get(DATASET).await?.status;
        let count = status.as_ref().and_then(|status| status.reader_count);
        Ok(if count > Some(0) { Seen::Done(()) } else { Seen::NotYet(format!("{status:?}")) })
    })
    .await
    .unwrap();
}
