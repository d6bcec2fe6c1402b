//! An apiserver for tests that need no more than one that serves deploy/crd: the one that KUBECONFIG names, with our
//! CRDs for as long as the tests take, or else the stage's.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, GroupVersionKind, ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tests::cluster::shared::Cluster;
use tests::cluster::wait::{Seen, until};

use super::stage::{LIMIT, Stage, deployed, object, with};

/// On CRDs that a test has installed: what a killed one has left may be taken away, a person's may not.
const MARK: &str = "tests.headrace.io/installed";

/// Has `ask` put its questions, which make nothing: dry runs. A cluster that was given has our CRDs meanwhile and none
/// of them afterwards, however `ask` ends.
pub async fn asked<F>(ask: impl FnOnce(Client) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    if !Cluster::named() {
        let stage = Stage::shared().await;
        // One of the others stops etcd.
        let _turn = stage.turn().await;
        return ask(stage.client().await).await;
    }
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cluster = Cluster::shared().await.unwrap_or_else(|error| panic!("{error}"));
    let client = cluster.client().await.unwrap();
    let all: Api<CustomResourceDefinition> = Api::all(client.clone());
    for document in deployed("crd") {
        let name = document["metadata"]["name"].as_str().unwrap();
        let there = all.get_opt(name).await.unwrap();
        assert!(
            there.is_none_or(|there| there.labels().contains_key(MARK)),
            "the cluster that KUBECONFIG names has {name} already, not from these tests: they would replace it and take \
             it away with every object of it. Use a cluster without Headrace, or unset KUBECONFIG to have a private one"
        );
    }
    remove(&all).await;
    install(&client, &all).await;
    // In a task of its own, so that a test which fails leaves nothing either.
    let outcome = tokio::spawn(ask(client.clone())).await;
    remove(&all).await;
    if let Err(error) = outcome {
        std::panic::resume_unwind(error.into_panic());
    }
}

async fn install(client: &Client, all: &Api<CustomResourceDefinition>) {
    let mark = json!({"labels": {MARK: "yes"}});
    for document in deployed("crd") {
        let metadata = with(document["metadata"].clone(), mark.clone());
        let document: CustomResourceDefinition = object(with(document, json!({ "metadata": metadata })));
        all.create(&PostParams::default(), &document).await.unwrap();
    }
    until("the CRDs are served", LIMIT, async || {
        for document in deployed("crd") {
            let names = &document["spec"]["names"];
            let version = document["spec"]["versions"][0]["name"].as_str().unwrap();
            let kind = GroupVersionKind::gvk("headrace.io", version, names["kind"].as_str().unwrap());
            let Ok((resource, _)) = kube::discovery::pinned_kind(client, &kind).await else {
                return Ok(Seen::NotYet(format!("{} is not known", kind.kind)));
            };
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            if let Err(error) = api.list(&ListParams::default().limit(1)).await {
                return Ok(Seen::NotYet(error.to_string()));
            }
        }
        Ok(Seen::Done(()))
    })
    .await
    .unwrap();
}

/// Those of the tests, by their mark.
async fn remove(all: &Api<CustomResourceDefinition>) {
    let marked = ListParams::default().labels(MARK);
    for definition in all.list(&marked).await.unwrap() {
        all.delete(&definition.name_any(), &DeleteParams::default()).await.unwrap();
    }
    until("the tests' CRDs are gone", LIMIT, async || {
        let left = all.list_metadata(&marked).await?.items.len();
        Ok(if left == 0 { Seen::Done(()) } else { Seen::NotYet(format!("{left} are left")) })
    })
    .await
    .unwrap();
}
