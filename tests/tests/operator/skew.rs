//! A replica whose clock is ten minutes off: neither does it lose the Lease that it renews, nor does it keep one that
//! it does not, nor does it judge by its clock what another has begun.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams};
use operator_api::crd::{DataProcess, Dataset};
use serde_json::{Value, json};
use tests::bench::lab;
use tests::cluster::fleet::{Fleet, Spec};
use tests::cluster::operator::Operator;
use tests::cluster::wait::{Seen, until};

use super::stage::{
    LIMIT, NAMESPACE, Replica, Stage, api, apply, dataset, gone, make, namespace, operation, phase_is,
    process,
};

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

/// Put before libc's own, it makes a program's wall clock ten minutes fast. (libfaketime hangs with jemalloc.)
const FAST: &str = r"
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *at) {
    int failed = syscall(SYS_clock_gettime, id, at);
    if (!failed && id == CLOCK_REALTIME) at->tv_sec += 600;
    return failed;
}
";

/// The operator's program with a clock that is ten minutes ahead.
fn ahead(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("fast.c"), folder.join("fast.so"));
    std::fs::write(&source, format!("#define _GNU_SOURCE\n{FAST}")).unwrap();
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(made.expect("cc, which links Rust programs too").success());
    let program = lab::program("headrace-operator").unwrap();
    let script = folder.join("ahead");
    let text = format!("#!/bin/sh\nLD_PRELOAD={} exec {} \"$@\"\n", library.display(), program.display());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    script
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_over_with_another_clock_stops_nothing_before_its_time() {
    let stage = Stage::shared().await;
    let _turn = stage.turn().await;
    let client = stage.client().await;
    namespace(&client, "ahead").await;
    let datasets: Api<Dataset> = api(&client, "ahead");
    let access = stage.operator().await;
    let fleet = Fleet::join(client.clone(), Spec::new("ahead", 1)).await.unwrap();
    let replica = Replica::start(&access, "punctual", None).await;
    make(&datasets, dataset("d", json!({}))).await;
    phase_is(&datasets, "d", "Bound").await;
    let timing = json!({"activeDeadlineSeconds": 120, "backoffLimit": 0});
    apply(&client, &process("ahead", "healthy", "d", "15", timing)).await;
    let executing = |status: &Value| status["phase"] == "Executing";
    operation(&client, "DataProcess", "ahead", "healthy", "is under way", executing).await;
    replica.end().await;

    let folder = tempfile::tempdir().unwrap();
    let program = ahead(folder.path());
    let arguments = ["--identity", "ahead"];
    let operator = Operator::start(&program, &access, folder.path(), &arguments).await.unwrap();
    let over = |status: &Value| status["phase"] == "Complete" || status["phase"] == "Failed";
    let status = operation(&client, "DataProcess", "ahead", "healthy", "has ended", over).await;
    assert_eq!((&status["phase"], &status["failures"]), (&json!("Complete"), &json!(0)), "{status}");
    let time = |field: &str| status[field].as_str().unwrap().parse::<Timestamp>().unwrap();
    let took = time("completionTime").duration_since(time("startTime"));
    assert!(took > SignedDuration::ZERO && took < SignedDuration::from_secs(120), "{took}: {status}");
    let log = std::fs::read_to_string(folder.path().join("operator.log")).unwrap();
    assert!(log.contains("this machine's clock is") && log.contains("ahead of the apiserver's"), "{log}");
    let processes: Api<DataProcess> = api(&client, "ahead");
    processes.delete("healthy", &Default::default()).await.unwrap();
    gone(&processes, "healthy").await;
    datasets.delete("d", &Default::default()).await.unwrap();
    gone(&datasets, "d").await;
    fleet.leave().await.unwrap();
    assert!(operator.stop());
}
