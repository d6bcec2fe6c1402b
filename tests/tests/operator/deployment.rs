//! deploy/operator as a real control plane takes it: every field is known, its pods may run where the strictest rules
//! hold, come to be as the account of deploy/rbac on nodes of their own, and stand behind every port of the Service.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tests::cluster::fleet::{Fleet, Spec};
use tests::cluster::operator::status_of;
use tests::cluster::wait::{Seen, until};

use super::stage::{ACCOUNT, LIMIT, NAMESPACE, Replica, Stage, api, api_of, apply, deployed, object};

const NAME: &str = "headrace-operator";

/// A namespace in which only pods may run that ask for nothing.
const STRICT: &str = "deployment-strict";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_own_deployment_stands() {
    let stage = Stage::shared().await;
    let _turn = stage.turn().await;
    let client = stage.client().await;
    let documents = deployed("operator");
    strictly(&client, &documents).await;
    restricted(&client, &documents).await;
    probes(stage, &documents).await;

    let fleet = Fleet::join(client.clone(), Spec::new("deployed", 2)).await.unwrap();
    for document in &documents {
        apply(&client, document).await;
    }
    let pods = running(&client).await;
    let nodes: Vec<_> = pods.iter().map(|pod| pod.spec.as_ref().unwrap().node_name.clone()).collect();
    assert_ne!(nodes[0], nodes[1], "one node takes both with it");
    for pod in &pods {
        assert_eq!(pod.spec.as_ref().unwrap().service_account_name.as_deref(), Some(ACCOUNT));
    }
    reached(&client, &pods).await;
    spared(&client).await;

    for document in &documents {
        let object: DynamicObject = object(document.clone());
        let api = api_of(&client, &object).await;
        api.delete(&object.name_any(), &DeleteParams::background()).await.unwrap();
    }
    let all: Api<Pod> = api(&client, NAMESPACE);
    until("its pods are gone", LIMIT, async || {
        let left = all.list(&ListParams::default()).await?.items.len();
        Ok(if left == 0 { Seen::Done(()) } else { Seen::NotYet(format!("{left} are there")) })
    })
    .await
    .unwrap();
    fleet.leave().await.unwrap();
}

/// A field that no kind has would be dropped in silence, were it not asked.
async fn strictly(client: &Client, documents: &[Value]) {
    let strict = PatchParams { dry_run: true, ..PatchParams::apply("tests").validation_strict() };
    for document in documents {
        let object: DynamicObject = object(document.clone());
        let api = api_of(client, &object).await;
        let answer = api.patch(&object.name_any(), &strict, &Patch::Apply(document)).await;
        answer.unwrap_or_else(|error| panic!("{}: {error}", document["kind"]));
    }
    let mut wrong = document(documents, "Deployment").clone();
    wrong["spec"]["template"]["spec"]["topologySpread"] = json!([]);
    let api: Api<Deployment> = api(client, NAMESPACE);
    let answer = api.patch(NAME, &strict, &Patch::Apply(&wrong)).await.map(drop);
    assert!(answer.unwrap_err().to_string().contains("topologySpread"));
}

fn document<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    documents.iter().find(|document| document["kind"] == kind).unwrap()
}

/// Its pod is let in where the strictest of Kubernetes' own rules holds.
async fn restricted(client: &Client, documents: &[Value]) {
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": STRICT, "labels": labels}});
    apply(client, &namespace).await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": STRICT}});
    apply(client, &account).await;
    let pods: Api<Pod> = api(client, STRICT);
    let template = &document(documents, "Deployment")["spec"]["template"];
    let mut pod = json!({"metadata": {"name": "one", "labels": template["metadata"]["labels"]}, "spec": template["spec"]});
    let try_it = PostParams { dry_run: true, ..PostParams::default() };
    pods.create(&try_it, &object(pod.clone())).await.unwrap();
    pod["spec"]["securityContext"]["runAsNonRoot"] = Value::Null;
    let refused = pods.create(&try_it, &object(pod)).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("runAsNonRoot"), "{refused}");
}

/// Both probes ask what the operator answers.
async fn probes(stage: &Stage, documents: &[Value]) {
    let replica = Replica::start(&stage.operator().await, "probed", None).await;
    let container = &document(documents, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    for probe in ["livenessProbe", "readinessProbe"] {
        let path = container[probe]["httpGet"]["path"].as_str().unwrap();
        until(&format!("{path} answers 200"), LIMIT, async || {
            let answer = status_of(replica.health, path).await;
            Ok(if answer == Some(200) { Seen::Done(()) } else { Seen::NotYet(format!("{answer:?}")) })
        })
        .await
        .unwrap();
    }
    replica.end().await;
}

async fn running(client: &Client) -> Vec<Pod> {
    let deployments: Api<Deployment> = api(client, NAMESPACE);
    until("both replicas are available", LIMIT, async || {
        let status = deployments.get(NAME).await?.status.unwrap_or_default();
        let done = status.available_replicas == Some(2);
        Ok(if done { Seen::Done(()) } else { Seen::NotYet(format!("{status:?}")) })
    })
    .await
    .unwrap();
    let pods: Api<Pod> = api(client, NAMESPACE);
    let pods = pods.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(pods.len(), 2);
    pods
}

/// Every port of the Service leads to both pods, to a port that the container has.
async fn reached(client: &Client, pods: &[Pod]) {
    let service = api::<Service>(client, NAMESPACE).get(NAME).await.unwrap();
    let asked = service.spec.unwrap().ports.unwrap().len();
    let slices: Api<EndpointSlice> = api(client, NAMESPACE);
    let of = ListParams::default().labels(&format!("kubernetes.io/service-name={NAME}"));
    let slice = until("the Service leads to both pods", LIMIT, async || {
        let slice = slices.list(&of).await?.items.pop();
        let whole = |slice: &EndpointSlice| slice.endpoints.len() == 2 && slice.ports.is_some();
        let seen = format!("{slice:?}");
        Ok(slice.filter(whole).map_or(Seen::NotYet(seen), Seen::Done))
    })
    .await
    .unwrap();
    let container = &pods[0].spec.as_ref().unwrap().containers[0];
    let mut has: Vec<_> = container.ports.iter().flatten().map(|port| Some(port.container_port)).collect();
    let mut leads: Vec<_> = slice.ports.iter().flatten().map(|port| port.port).collect();
    has.sort_unstable();
    leads.sort_unstable();
    assert_eq!((leads.len(), &leads), (asked, &has));
}

/// One may be taken at a time, and not both.
async fn spared(client: &Client) {
    let budgets: Api<PodDisruptionBudget> = api(client, NAMESPACE);
    until("one disruption is allowed", LIMIT, async || {
        let status = budgets.get(NAME).await?.status.unwrap_or_default();
        let seen = (status.expected_pods, status.current_healthy, status.disruptions_allowed);
        Ok(if seen == (2, 2, 1) { Seen::Done(()) } else { Seen::NotYet(format!("{seen:?}")) })
    })
    .await
    .unwrap();
}
