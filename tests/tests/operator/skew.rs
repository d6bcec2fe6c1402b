//! A replica whose clock is ten minutes off: neither does it lose the Lease that it renews, nor does it keep one that
//! it does not.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams};
use operator_api::crd::Dataset;
use serde_json::json;
use tests::cluster::wait::{Seen, until};

use super::stage::{LIMIT, NAMESPACE, Replica, Stage, api, dataset, gone, make, namespace, phase_is};

const LEASE: &str = "headrace-operator";
const OFF: SignedDuration = SignedDuration::from_mins(10);

/// As a replica with that clock renews it.
async fn renew(leases: &Api<Lease>, clock: Timestamp) {
    let spec = LeaseSpec {
        holder_identity: Some("skewed".into()),
        lease_duration_seconds: Some(15),
        renew_time: Some(MicroTime(clock)),
        lease_transitions: Some(1),
        ..LeaseSpec::default()
    };
    let metadata = ObjectMeta { name: Some(LEASE.into()), ..ObjectMeta::default() };
    let lease = Lease { metadata, spec: Some(spec) };
    leases.patch(LEASE, &PatchParams::apply("skewed").force(), &Patch::Apply(&lease)).await.unwrap();
}

async fn holder(leases: &Api<Lease>) -> Option<String> {
    leases.get(LEASE).await.unwrap().spec.unwrap().holder_identity
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_ten_minutes_apart_make_neither_two_leaders_nor_none() {
    let stage = Stage::shared().await;
    let _turn = stage.turn().await;
    let client = stage.client().await;
    namespace(&client, "skew").await;
    let leases: Api<Lease> = api(&client, NAMESPACE);
    let datasets: Api<Dataset> = api(&client, "skew");

    // Ten minutes behind: by the times in it, its hold ended long ago. It renews it for longer than it lasts.
    renew(&leases, Timestamp::now() - OFF).await;
    let replica = Replica::start(&stage.operator().await, "punctual", None).await;
    make(&datasets, dataset("d", json!({}))).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(24) {
        renew(&leases, Timestamp::now() - OFF).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(holder(&leases).await.as_deref(), Some("skewed"), "after {:?}", begun.elapsed());
    }
    assert!(datasets.get("d").await.unwrap().status.is_none(), "nobody leads who writes");

    // Ten minutes ahead, and dead: by the times in it, its hold goes on for ten minutes.
    renew(&leases, Timestamp::now() + OFF).await;
    let dead = Instant::now();
    let taken = until("the punctual one leads", LIMIT, async || {
        let holder = leases.get(LEASE).await?.spec.and_then(|spec| spec.holder_identity);
        Ok(if holder.as_deref() == Some("punctual") {
            Seen::Done(dead.elapsed())
        } else {
            Seen::NotYet(format!("{holder:?}"))
        })
    })
    .await
    .unwrap();
    println!("taken over {taken:.1?} after the last renewal");
    assert!(taken > Duration::from_secs(14) && taken < Duration::from_secs(40), "{taken:?}");
    phase_is(&datasets, "d", "Bound").await;
    datasets.delete("d", &Default::default()).await.unwrap();
    gone(&datasets, "d").await;
    replica.end().await;
}
