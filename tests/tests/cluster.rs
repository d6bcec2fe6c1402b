//! The test cluster itself: a real scheduler puts a pod on one of our nodes, and everything goes again.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tests::cluster::fleet::{FLEET, Fleet, Spec};
use tests::cluster::kubelet::{EXIT_CODE, RUN_SECONDS};
use tests::cluster::shared::Cluster;
use tests::cluster::wait::{Seen, until};

const LIMIT: Duration = Duration::from_secs(60);

async fn shared() -> std::sync::Arc<Cluster> {
    Cluster::shared().await.unwrap_or_else(|error| panic!("{error}"))
}

/// A pod that may run on this fleet only.
fn pod(name: &str, fleet: &str) -> Pod {
    let spec = json!({
        "nodeSelector": { FLEET: fleet },
        "containers": [{ "name": "main", "image": "registry.invalid/none" }],
    });
    object(json!({ "metadata": { "name": name }, "spec": spec }))
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn phase(pod: &Pod) -> String {
    pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default()
}

#[tokio::test]
async fn a_pod_is_scheduled_runs_and_goes() {
    let cluster = shared().await;
    let client = cluster.client().await.unwrap();
    let namespace = cluster.namespace().await.unwrap();
    let fleet = Fleet::join(client.clone(), Spec::new(&namespace.name, 2)).await.unwrap();
    let pods: Api<Pod> = namespace.api();
    pods.create(&PostParams::default(), &pod("one", &namespace.name)).await.unwrap();
    let running = until("the pod runs", LIMIT, async || {
        let pod = pods.get("one").await?;
        Ok(if phase(&pod) == "Running" { Seen::Done(pod) } else { Seen::NotYet(format!("{:?}", pod.status)) })
    })
    .await
    .unwrap();
    let node = running.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap();
    assert!(fleet.names().any(|name| name == node), "{node} is none of ours");
    let scheduled = running.status.iter().flat_map(|status| status.conditions.iter().flatten());
    assert!(scheduled.clone().any(|c| c.type_ == "PodScheduled" && c.status == "True"));

    pods.delete("one", &DeleteParams::default()).await.unwrap();
    until("the pod is gone", LIMIT, async || {
        let found = pods.get_opt("one").await?;
        Ok(found.map_or(Seen::Done(()), |pod| Seen::NotYet(format!("{:?}", pod.metadata))))
    })
    .await
    .unwrap();
    fleet.leave().await.unwrap();
    let name = namespace.name.clone();
    namespace.leave().await.unwrap();
    let nodes: Api<Node> = Api::all(client);
    let left =
        nodes.list(&kube::api::ListParams::default().labels(&format!("{FLEET}={name}"))).await.unwrap();
    let left: Vec<String> = left.items.iter().map(ResourceExt::name_any).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn nodes_that_were_left_behind_go_with_the_next_fleet() {
    let cluster = shared().await;
    let client = cluster.client().await.unwrap();
    let namespace = cluster.namespace().await.unwrap();
    let former =
        Fleet::join(client.clone(), Spec::new(&format!("{}-former", namespace.name), 1)).await.unwrap();
    let names: Vec<String> = former.names().collect();
    let failed = tokio::spawn(async move {
        let _fleet = former;
        panic!("as a test does that fails");
    });
    assert!(failed.await.unwrap_err().is_panic());
    let fleet = Fleet::join(client.clone(), Spec::new(&namespace.name, 1)).await.unwrap();
    let nodes: Api<Node> = Api::all(client);
    for name in names {
        until(&format!("{name} is gone"), LIMIT, async || {
            let found = nodes.get_opt(&name).await?;
            Ok(found.map_or(Seen::Done(()), |node| Seen::NotYet(format!("{:?}", node.metadata))))
        })
        .await
        .unwrap();
    }
    fleet.leave().await.unwrap();
    namespace.leave().await.unwrap();
}

#[tokio::test]
async fn a_pod_that_asks_for_too_much_waits() {
    let cluster = shared().await;
    let namespace = cluster.namespace().await.unwrap();
    let fleet = Fleet::join(cluster.client().await.unwrap(), Spec::new(&namespace.name, 1)).await.unwrap();
    let pods: Api<Pod> = namespace.api();
    let mut greedy = pod("greedy", &namespace.name);
    let spec = greedy.spec.as_mut().unwrap();
    spec.containers[0].resources = Some(object(json!({ "requests": { "cpu": "1000" } })));
    pods.create(&PostParams::default(), &greedy).await.unwrap();
    let message = until("the scheduler says that it fits nowhere", LIMIT, async || {
        let pod = pods.get("greedy").await?;
        let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let refused = conditions.find(|c| c.reason.as_deref() == Some("Unschedulable"));
        let message = refused.and_then(|c| c.message.clone());
        Ok(message.map_or_else(|| Seen::NotYet(format!("{:?}", pod.status)), Seen::Done))
    })
    .await
    .unwrap();
    assert!(message.contains("Insufficient cpu"), "{message}");
    fleet.leave().await.unwrap();
    namespace.leave().await.unwrap();
}

#[tokio::test]
async fn jobs_end_as_their_annotations_say() {
    let cluster = shared().await;
    let namespace = cluster.namespace().await.unwrap();
    let fleet = Fleet::join(cluster.client().await.unwrap(), Spec::new(&namespace.name, 1)).await.unwrap();
    let jobs: Api<Job> = namespace.api();
    for (name, code) in [("good", "0"), ("bad", "1")] {
        let mut template = serde_json::to_value(pod("unused", &namespace.name)).unwrap();
        template["metadata"] = json!({ "annotations": { RUN_SECONDS: "0.2", EXIT_CODE: code } });
        template["spec"]["restartPolicy"] = json!("Never");
        let job =
            json!({ "metadata": { "name": name }, "spec": { "backoffLimit": 0, "template": template } });
        jobs.create(&PostParams::default(), &object(job)).await.unwrap();
    }
    for (name, condition) in [("good", "Complete"), ("bad", "Failed")] {
        until(&format!("job {name} is {condition}"), LIMIT, async || {
            let job = jobs.get(name).await?;
            let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let so = conditions.clone().any(|c| c.type_ == condition && c.status == "True");
            Ok(if so { Seen::Done(()) } else { Seen::NotYet(format!("{:?}", job.status)) })
        })
        .await
        .unwrap();
    }
    fleet.leave().await.unwrap();
    namespace.leave().await.unwrap();
}
