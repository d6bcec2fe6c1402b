//! Trouble between operator and apiserver: nothing lost, nothing made twice, and it is said what is waited for.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use operator_api::crd::{DataProcess, Dataset};
use serde_json::json;
use tests::cluster::fleet::{Fleet, Spec};
use tests::cluster::proxy::{Proxy, Rule, Trouble};
use tests::cluster::wait::{Seen, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stage::{
    LIMIT, Replica, Stage, api, apply, dataset, gone, make, namespace, object, operation, phase_is, process,
};

/// The whole answer to a plain GET.
async fn get(address: std::net::SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

async fn answers(replica: &Replica, words: &str) {
    until(&format!("/readyz says '{words}'"), LIMIT, async || {
        let text = get(replica.health, "/readyz").await.unwrap_or_else(|error| error.to_string());
        Ok(if text.contains(words) { Seen::Done(()) } else { Seen::NotYet(text) })
    })
    .await
    .unwrap();
}

/// Its Dataset goes while it runs, the run is given up, and the apiserver does not let its Job be deleted at first.
async fn a_job_that_cannot_be_stopped_is_stopped_later(client: &Client, proxy: &Proxy) {
    let datasets: Api<Dataset> = api(client, "faults");
    make(&datasets, dataset("halted", json!({}))).await;
    phase_is(&datasets, "halted", "Bound").await;
    apply(client, &process("faults", "endless", "halted", "3600", json!({}))).await;
    let jobs: Api<Job> = api(client, "faults");
    let has = async |wanted: usize| {
        until(&format!("{wanted} Jobs are there"), LIMIT, async || {
            let there = jobs.list(&ListParams::default()).await?.items.len();
            Ok(if there == wanted { Seen::Done(()) } else { Seen::NotYet(format!("{there} are")) })
        })
        .await
        .unwrap();
    };
    has(1).await;
    // The namespace's Jobs by name: only their deletion.
    proxy.spoil([Rule::new("/namespaces/faults/jobs/", Trouble::Status(500)).times(3)]);
    let before = proxy.spoiled();
    datasets.delete("halted", &DeleteParams::default()).await.unwrap();
    let over = |status: &serde_json::Value| status["phase"] == "Failed";
    operation(client, "DataProcess", "faults", "endless", "is given up", over).await;
    has(0).await;
    assert!(proxy.spoiled() >= before + 3, "{} requests were spoiled", proxy.spoiled() - before);
    proxy.spoil([]);
    gone(&datasets, "halted").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_is_outlived_and_said() {
    let stage = Stage::shared().await;
    let _turn = stage.turn().await;
    let client = stage.client().await;
    namespace(&client, "faults").await;
    let datasets: Api<Dataset> = api(&client, "faults");
    let proxy = Proxy::open(&stage.plane).await.unwrap();
    let access = proxy.access(stage.operator().await.credential.clone());

    // A kind whose CRD is not there, one that RBAC does not allow, and an apiserver that has no answer.
    proxy.spoil([
        Rule::new("/accessprofiles", Trouble::Status(404)),
        Rule::new("/persistentvolumes", Trouble::Status(403)),
        Rule::new("/dataprocesses", Trouble::Status(500)),
    ]);
    let one = Replica::start(&access, "one", None).await;
    answers(&one, "AccessProfile cannot be listed: the apiserver does not know the kind AccessProfile").await;
    answers(&one, "PersistentVolume cannot be listed: the operator may not").await;
    answers(&one, "DataProcess cannot be listed: the apiserver answers 500").await;
    answers(&one, "HTTP/1.1 503").await;
    proxy.spoil([]);
    answers(&one, "HTTP/1.1 200").await;

    // Every watch is cut after a second and writes are spoiled in every way; two replicas.
    proxy.spoil([
        Rule::new("watch=true", Trouble::Status(410)).every(5).times(5),
        Rule::new("watch=true", Trouble::Expire(Duration::from_secs(1))).every(3).times(8),
        Rule::cut_watches(Duration::from_secs(1)),
        Rule::new("/persistentvolume", Trouble::Status(429)).every(3).times(15),
        Rule::new("/headrace.io/", Trouble::Status(500)).every(4).times(15),
        Rule::new("/persistentvolume", Trouble::Status(409)).every(5).times(5),
    ]);
    let two = Replica::start(&access, "two", None).await;
    for number in 0..10 {
        make(&datasets, dataset(&format!("d-{number}"), json!({}))).await;
    }
    for number in 0..10 {
        phase_is(&datasets, &format!("d-{number}"), "Bound").await;
    }
    let shares = proxy.shares();
    assert!(shares.iter().all(|spoiled| *spoiled > 0), "a trouble that nobody met: {shares:?}");
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let of_these = |volume: &PersistentVolume| {
        volume.labels().get("headrace.io/dataset-namespace").map(String::as_str) == Some("faults")
    };
    let volumes = volumes.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(volumes.iter().filter(|volume| of_these(volume)).count(), 10, "none twice");

    // Whoever leads goes; the other takes over.
    one.end().await;
    make(&datasets, dataset("after", json!({}))).await;
    phase_is(&datasets, "after", "Bound").await;

    // etcd stands still for twice as long as a Lease lasts, while a run is under way and something is asked for.
    let fleet = Fleet::join(client.clone(), Spec::new("faults", 1)).await.unwrap();
    apply(&client, &process("faults", "held", "d-0", "5", json!({}))).await;
    let executing = |status: &serde_json::Value| status["phase"] == "Executing";
    operation(&client, "DataProcess", "faults", "held", "is under way", executing).await;
    let asked_for = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        until("a Dataset is made in spite of it", LIMIT, async || {
            let made =
                datasets.create(&PostParams::default(), &object(dataset("meanwhile", json!({})))).await;
            Ok(match made {
                Err(error) if !error.to_string().contains("already exists") => {
                    Seen::NotYet(error.to_string())
                }
                _ => Seen::Done(()),
            })
        })
        .await
        .unwrap();
    };
    let (paused, ()) = tokio::join!(stage.plane.pause_etcd(Duration::from_secs(30)), asked_for);
    paused.unwrap();
    phase_is(&datasets, "meanwhile", "Bound").await;
    let complete = |status: &serde_json::Value| status["phase"] == "Complete";
    let held = operation(&client, "DataProcess", "faults", "held", "is complete", complete).await;
    assert_eq!((&held["run"], &held["failures"]), (&json!(1), &json!(0)), "{held}");
    let jobs: Api<Job> = api(&client, "faults");
    assert_eq!(jobs.list(&ListParams::default()).await.unwrap().items.len(), 1, "none twice");
    fleet.leave().await.unwrap();
    api::<DataProcess>(&client, "faults").delete("held", &DeleteParams::default()).await.unwrap();
    datasets.delete("meanwhile", &DeleteParams::default()).await.unwrap();
    gone(&datasets, "meanwhile").await;
    datasets.delete("after", &DeleteParams::default()).await.unwrap();
    gone(&datasets, "after").await;
    a_job_that_cannot_be_stopped_is_stopped_later(&client, &proxy).await;
    datasets.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    for number in 0..10 {
        gone(&datasets, &format!("d-{number}")).await;
    }
    two.end().await;
}
