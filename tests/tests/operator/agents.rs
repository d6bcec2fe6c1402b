//! deploy/agent as a real control plane takes it: every field is known, its namespace lets privileged pods in, and each
//! node of the cluster gets one, whatever it is tainted with.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tests::cluster::fleet::{Fleet, Spec};
use tests::cluster::wait::{Seen, until};

use super::stage::{LIMIT, NAMESPACE, Stage, api, api_of, apply, deployed, object};

const NAME: &str = "headrace-agent";

/// A namespace as clusters have them by default, in which no pod may be privileged.
const ORDINARY: &str = "agents-ordinary";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agents_daemonset_stands_on_every_node() {
    let stage = Stage::shared().await;
    let _turn = stage.turn().await;
    let client = stage.client().await;
    let documents = deployed("agent");
    let strict = PatchParams { dry_run: true, ..PatchParams::apply("tests").validation_strict() };
    for document in &documents {
        let object: DynamicObject = object(document.clone());
        let answer =
            api_of(&client, &object).await.patch(&object.name_any(), &strict, &Patch::Apply(document)).await;
        answer.unwrap_or_else(|error| panic!("{}: {error}", document["kind"]));
    }
    for document in &documents {
        apply(&client, document).await;
    }
    let template =
        documents.iter().find(|document| document["kind"] == "DaemonSet").unwrap()["spec"]["template"]
            .clone();
    let_in(&client, template).await;

    let fleet = Fleet::join(client.clone(), Spec::new("watched", 2)).await.unwrap();
    let nodes: Api<Node> = Api::all(client.clone());
    let tainted = json!({"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoExecute"}]}});
    let one = fleet.names().next().unwrap();
    nodes.patch(&one, &PatchParams::default(), &Patch::Merge(&tainted)).await.unwrap();
    let sets: Api<DaemonSet> = api(&client, NAMESPACE);
    until("every node has its agent", LIMIT, async || {
        let status = sets.get(NAME).await?.status.unwrap_or_default();
        let seen = (status.desired_number_scheduled, status.number_ready);
        Ok(if seen == (2, 2) { Seen::Done(()) } else { Seen::NotYet(format!("{seen:?}")) })
    })
    .await
    .unwrap();

    for document in &documents {
        let object: DynamicObject = object(document.clone());
        let api = api_of(&client, &object).await;
        api.delete(&object.name_any(), &DeleteParams::background()).await.unwrap();
    }
    let pods: Api<Pod> = api(&client, NAMESPACE);
    until("its pods are gone", LIMIT, async || {
        let left = pods.list(&kube::api::ListParams::default()).await?.items.len();
        Ok(if left == 0 { Seen::Done(()) } else { Seen::NotYet(format!("{left} are there")) })
    })
    .await
    .unwrap();
    fleet.leave().await.unwrap();
}

/// Privileged pods are let into its namespace as deploy/rbac labels it, where the cluster's own default would refuse them.
async fn let_in(client: &Client, template: Value) {
    let labels = json!({"pod-security.kubernetes.io/enforce": "baseline"});
    let ordinary =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ORDINARY, "labels": labels}});
    apply(client, &ordinary).await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": ORDINARY}});
    apply(client, &account).await;
    let try_it = PostParams { dry_run: true, ..PostParams::default() };
    let mut pod = json!({"metadata": {"name": "one"}, "spec": template["spec"]});
    let mut asked = async |namespace: &str| {
        pod["metadata"]["namespace"] = json!(namespace);
        api::<Pod>(client, namespace).create(&try_it, &object(pod.clone())).await.map(drop)
    };
    let refused = asked(ORDINARY).await.unwrap_err().to_string();
    assert!(refused.contains("privileged"), "{refused}");
    asked(NAMESPACE).await.unwrap();
    let home = Api::<Namespace>::all(client.clone()).get(NAMESPACE).await.unwrap();
    assert_eq!(
        home.labels().get("pod-security.kubernetes.io/enforce").map(String::as_str),
        Some("privileged")
    );
    let space: DynamicObject = object(ordinary);
    api_of(client, &space).await.delete(ORDINARY, &DeleteParams::default()).await.unwrap();
}
