//! What the validating webhook refuses, through the apiserver: each with a sentence that says what to change, and
//! nothing half-made.

use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use operator_api::crd::{DataBackup, DataLoad, DataMigrate, DataProcess, Dataset};
use serde_json::{Value, json};
use tests::cluster::wait::{Seen, until};

use super::stage::{LIMIT, api, dataset, gone, make, object, phase_is, with};

const NAMESPACE: &str = "a";

fn of<K: Resource<DynamicType = ()>>(name: &str, spec: Value) -> Value {
    json!({"apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": name}, "spec": spec})
}

fn all<K: Resource<DynamicType = ()>>(client: &Client) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), NAMESPACE, &ApiResource::erase::<K>(&()))
}

/// The operator hears of other objects by watches, which take a moment: it is tried until it is refused, and made
/// in none of the tries.
async fn refused<K: Resource<DynamicType = ()>>(client: &Client, value: Value, words: &[&str]) {
    let api = all::<K>(client);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let message = until(&format!("{} is refused", value["metadata"]["name"]), LIMIT, async || {
        Ok(match api.create(&dry, &object(value.clone())).await {
            Ok(_) => Seen::NotYet("it is let in".into()),
            Err(kube::Error::Api(status)) => Seen::Done(status.message.clone()),
            Err(error) => return Err(error),
        })
    })
    .await
    .unwrap();
    let said = |word: &&str| message.contains(*word);
    assert!(message.contains("admission webhook \"objects.headrace.io\" denied the request"), "{message}");
    assert!(words.iter().all(said), "{words:?} are not all in '{message}'");
}

async fn let_in<K: Resource<DynamicType = ()>>(client: &Client, value: Value) {
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let answer = all::<K>(client).create(&dry, &object(value.clone())).await;
    assert!(answer.is_ok(), "{value}: {answer:?}");
}

pub async fn what_cannot_work_is_refused(client: &Client) {
    datasets(client).await;
    operations(client).await;
    changes(client).await;
}

async fn datasets(client: &Client) {
    let mount =
        |extra: Value| json!({"mounts": [with(json!({"mountPoint": "s3://bucket/x", "name": "x"}), extra)]});
    let quota = |quota: &str| json!({"cache": {"quota": quota}});
    let cases = [
        (mount(json!({"mountPoint": "gopher://bucket/x"})), ["gopher", "s3"]),
        (
            mount(json!({"mountPoint": "s3:///folder"})),
            ["the mountPoint of mount /x cannot be used", "bucket"],
        ),
        // The agents of both nodes have a GiB.
        (quota("2Gi"), ["the quota of 2.0GiB is above what any node can cache", "ask for that much or less"]),
        (
            mount(json!({"options": {"secret_access_key": "k"}})),
            ["'secret_access_key' in the clear", "name it in encryptOptions"],
        ),
        (
            json!({"sharing": {"grants": [{"namespace": NAMESPACE}]}}),
            ["own namespace and needs no grant", "take it out"],
        ),
        (
            json!({"cache": {"tolerations": [{"key": "k", "operator": "In"}]}}),
            ["operator is Equal or Exists", "not 'In'"],
        ),
    ];
    for (extra, words) in cases {
        refused::<Dataset>(client, dataset("judged", extra), &words).await;
    }
    let_in::<Dataset>(client, dataset("judged", quota("512Mi"))).await;
    let made = api::<Dataset>(client, NAMESPACE)
        .create(&PostParams::default(), &object(dataset("judged", quota("2Gi"))))
        .await;
    assert!(made.is_err() && api::<Dataset>(client, NAMESPACE).get_opt("judged").await.unwrap().is_none());
}

async fn operations(client: &Client) {
    let known = "judged-by";
    let datasets: Api<Dataset> = api(client, NAMESPACE);
    let sealed: Api<Dataset> = api(client, "b");
    make(&datasets, dataset(known, json!({}))).await;
    make(&sealed, dataset("sealed", json!({}))).await;
    phase_is(&sealed, "sealed", "Bound").await;
    phase_is(&datasets, known, "Bound").await;
    let load = |name: &str, extra: Value| {
        of::<DataLoad>(name, with(json!({"dataset": {"name": known}, "suspend": true}), extra))
    };
    let after = |name: &str| json!({"runAfter": [{"kind": "DataLoad", "name": name}]});

    // A circle is closed by whoever comes last, of however many.
    let loads: Api<DataLoad> = api(client, NAMESPACE);
    make(&loads, load("round-1", after("round-2"))).await;
    make(&loads, load("round-2", after("round-3"))).await;
    let circle = "DataLoad round-3 → DataLoad round-1 → DataLoad round-2 → DataLoad round-3";
    refused::<DataLoad>(client, load("round-3", after("round-1")), &[circle, "take one of them out"]).await;
    refused::<DataLoad>(client, load("self", after("self")), &["runAfter makes a circle"]).await;
    let_in::<DataLoad>(client, load("round-3", after("round-0"))).await;

    // A Dataset that is not granted and one that is not there are told apart by nobody.
    let grant = "its owner has to add a grant for a to spec.sharing.grants";
    for name in ["sealed", "no-such"] {
        let foreign = json!({"dataset": {"name": name, "namespace": "b"}});
        let words = format!("namespace a may not use Dataset b/{name}");
        refused::<DataLoad>(client, load("foreign", foreign), &[&words, grant]).await;
    }
    let cron = |schedule: &str| json!({"policy": "Cron", "schedule": schedule});
    refused::<DataLoad>(client, load("never", cron("0 0 30 2 *")), &["does not come within four years"])
        .await;
    refused::<DataLoad>(client, load("odd", cron("61 * * * *")), &["61", "is not understood"]).await;

    let store = |uri: &str| json!({"externalStorage": {"uri": uri}});
    let same = json!({"from": store("s3://a/b"), "to": store("s3://a/b")});
    refused::<DataMigrate>(client, of::<DataMigrate>("same", same), &["name another destination"]).await;
    let written = json!({"from": store("s3://a/b"), "to": {"dataset": {"name": known}}});
    let words = ["cannot be written", "add ReadWriteMany to its accessModes"];
    refused::<DataMigrate>(client, of::<DataMigrate>("written", written), &words).await;
    let local = json!({"dataset": known, "backupPath": "local:///tmp"});
    refused::<DataBackup>(client, of::<DataBackup>("local", local), &["use pvc://claim/folder or a store"])
        .await;
    let pod = json!({"job": {"podSpec": {"containers": [{"name": "main", "image": "i"}]}}});
    let foreign =
        json!({"dataset": {"name": "sealed", "namespace": "b", "mountPath": "/data"}, "processor": pod});
    refused::<DataProcess>(client, of::<DataProcess>("foreign", foreign), &[grant]).await;

    for name in ["round-1", "round-2"] {
        loads.delete(name, &Default::default()).await.unwrap();
    }
    sealed.delete("sealed", &Default::default()).await.unwrap();
    datasets.delete(known, &Default::default()).await.unwrap();
    gone(&sealed, "sealed").await;
    gone(&datasets, known).await;
}

/// A change is judged as a new object is; what leaves the spec alone is nobody's business, nor is a finalizer.
async fn changes(client: &Client) {
    let datasets: Api<Dataset> = api(client, NAMESPACE);
    make(&datasets, dataset("changed", json!({}))).await;
    phase_is(&datasets, "changed", "Bound").await;
    let patch = |value: Value| {
        let datasets = datasets.clone();
        async move { datasets.patch("changed", &PatchParams::default(), &Patch::Merge(value)).await }
    };
    let bad = json!({"spec": {"mounts": [{"mountPoint": "gopher://bucket/x", "name": "x"}]}});
    let message = patch(bad).await.unwrap_err().to_string();
    assert!(message.contains("objects.headrace.io") && message.contains("gopher"), "{message}");
    let labelled = patch(json!({"metadata": {"labels": {"team": "ml"}}})).await.unwrap();
    assert_eq!(labelled.labels().get("team").map(String::as_str), Some("ml"));
    assert_eq!(labelled.spec.mounts[0].mount_point, "s3://bucket/x");
    datasets.delete("changed", &Default::default()).await.unwrap();
    gone(&datasets, "changed").await;
}
