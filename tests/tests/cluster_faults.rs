//! The faults that the harness can make, on a control plane of their own: each is shown to happen, and to end.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

use std::time::{Duration, Instant};

use futures::StreamExt;
use http::Method;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{ListParams, Patch, PatchParams, PostParams, WatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tests::cluster::audit;
use tests::cluster::control_plane::ControlPlane;
use tests::cluster::fleet::{Fleet, Spec};
use tests::cluster::options::{Audit, Options, Scheduler};
use tests::cluster::proxy::{Proxy, Rule, Trouble};
use tests::cluster::wait::{Seen, until};
use tests::hygiene;

const LIMIT: Duration = Duration::from_secs(60);
const USER: &str = "somebody";

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

async fn write(client: &Client, value: &str) -> Result<ConfigMap, kube::Error> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "one" }, "data": { "a": value } });
    maps.patch("one", &PatchParams::apply("test").force(), &Patch::Apply(map)).await
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("no answer of an apiserver: {other}"),
    }
}

#[tokio::test]
async fn faults_come_and_go() {
    hygiene::on_signals().unwrap();
    hygiene::at_exit();
    let options = Options { audit: Audit::Users(vec![USER.to_owned()]), ..Options::default() };
    let mut plane = ControlPlane::start(&options).await.unwrap_or_else(|error| panic!("{error}"));
    let admin = plane.access().client().await.unwrap();

    requests_are_counted(&plane).await;
    etcd_stops(&plane, &admin).await;
    answers_are_spoiled(&plane, &admin).await;
    the_apiserver_goes_and_comes(&mut plane).await;
    another_scheduler(&mut plane).await;

    let (folder, ids) = (
        plane.folder().to_owned(),
        plane.processes().map(tests::cluster::process::Process::id).collect::<Vec<_>>(),
    );
    assert_eq!(ids.len(), 4);
    drop(plane);
    assert!(!folder.exists(), "{} is left", folder.display());
    for id in ids {
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists(), "process {id} is left");
    }
}

async fn requests_are_counted(plane: &ControlPlane) {
    let somebody = plane.access_of(USER, None).unwrap().client().await.unwrap();
    let pods: Api<Pod> = Api::namespaced(somebody, "default");
    for _ in 0..3 {
        let refused = pods.list(&ListParams::default()).await.unwrap_err();
        assert_eq!(code(&refused), 403, "nobody has allowed it");
    }
    let requests = audit::requests(&plane.audit_log(), USER, "").unwrap();
    assert_eq!(requests.get(&("list".to_owned(), "pods".to_owned())), Some(&3), "{requests:?}");
    assert_eq!(audit::total(&requests), 3);
    assert_eq!(audit::total(&audit::requests(&plane.audit_log(), "headrace-admin", "").unwrap()), 0);
}

async fn etcd_stops(plane: &ControlPlane, admin: &Client) {
    const PAUSE: Duration = Duration::from_secs(3);
    write(admin, "before").await.unwrap();
    let begun = Instant::now();
    let (paused, written) = tokio::join!(plane.pause_etcd(PAUSE), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let written = write(admin, "during").await;
        (written, begun.elapsed())
    });
    paused.unwrap();
    let (answer, took) = written;
    // It waits for etcd, or is told that it cannot be; in no case is it done while etcd stands still.
    assert!(answer.is_err() || took >= PAUSE, "written after {took:?}");
    until("writing works again", LIMIT, async || {
        Ok(write(admin, "after")
            .await
            .map_or_else(|error| Seen::NotYet(error.to_string()), |_| Seen::Done(())))
    })
    .await
    .unwrap();
}

async fn answers_are_spoiled(plane: &ControlPlane, admin: &Client) {
    let bindings: Api<ClusterRoleBinding> = Api::all(admin.clone());
    let binding = json!({
        "metadata": { "name": "tester" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "kind": "ServiceAccount", "name": "tester", "namespace": "default" }],
    });
    bindings.create(&PostParams::default(), &object(binding)).await.unwrap();
    let credential = plane.service_account("default", "tester").await.unwrap();
    let proxy = Proxy::open(plane).await.unwrap();
    let client = proxy.access(credential).client().await.unwrap();
    write(&client, "through the proxy").await.unwrap();

    proxy.spoil([Rule::new("/configmaps/", Trouble::Status(409)).methods(&[Method::PATCH]).times(1)]);
    assert_eq!(code(&write(&client, "refused").await.unwrap_err()), 409);
    write(&client, "not any more").await.unwrap();
    assert_eq!(proxy.spoiled(), 1);

    proxy.spoil([Rule::cut_watches(Duration::from_millis(300))]);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let begun = Instant::now();
    let events = maps.watch(&WatchParams::default(), "0").await.unwrap();
    let seen = events.collect::<Vec<_>>().await;
    assert!(begun.elapsed() < Duration::from_secs(10), "the watch went on");
    assert!(seen.iter().any(Result::is_ok), "it worked until then");
    assert_eq!(proxy.spoiled(), 2);
}

async fn the_apiserver_goes_and_comes(plane: &mut ControlPlane) {
    let admin = plane.access().client().await.unwrap();
    plane.kill_apiserver();
    assert!(write(&admin, "gone").await.is_err());
    plane.start_apiserver().await.unwrap();
    // Another request may still find a connection of the former one.
    until("the same client works again", LIMIT, async || {
        Ok(write(&admin, "again")
            .await
            .map_or_else(|error| Seen::NotYet(error.to_string()), |_| Seen::Done(())))
    })
    .await
    .unwrap();
}

async fn another_scheduler(plane: &mut ControlPlane) {
    let configuration = json!({ "profiles": [{ "schedulerName": "another" }] });
    plane.restart_scheduler(&Scheduler { configuration, ..Scheduler::default() }).await.unwrap();
    let admin = plane.access().client().await.unwrap();
    let fleet = Fleet::join(admin.clone(), Spec::new("lone", 1)).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(admin, "default");
    for name in ["another", "default-scheduler"] {
        let spec = json!({ "schedulerName": name, "containers": [{ "name": "main", "image": "none" }] });
        let pod = json!({ "metadata": { "name": name }, "spec": spec });
        pods.create(&PostParams::default(), &object(pod)).await.unwrap();
    }
    until("the pod of the other scheduler runs", LIMIT, async || {
        let pod = pods.get("another").await?;
        let phase = pod.status.and_then(|status| status.phase);
        Ok(if phase.as_deref() == Some("Running") {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{phase:?}"))
        })
    })
    .await
    .unwrap();
    let left = pods.get("default-scheduler").await.unwrap();
    assert!(left.spec.unwrap().node_name.is_none(), "nobody schedules for that name any more");
    fleet.leave().await.unwrap();
}
