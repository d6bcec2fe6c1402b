//! What deploy/crd refuses, in the apiserver's own judgement: each field missing, huge, negative or of the wrong kind
//! (`schemas`, from the schemas themselves), and here by hand what rules and patterns are for, and in which words.

use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use operator_api::crd::{AccessProfile, DataBackup, DataLoad, DataMigrate, DataProcess, Dataset};
use serde_json::{Value, json};

use super::given;
use super::schemas::every_fault_of_every_field_is_refused_by_name;
use super::stage::{dataset, object, with};

/// Nothing is made there: all of it are dry runs.
const NAMESPACE: &str = "default";

/// Each is refused, and the refusal names these words; `base` itself is let in.
async fn refused<K: Resource<DynamicType = ()>>(client: &Client, base: Value, cases: &[(Value, &str)]) {
    let resource = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &resource);
    let try_it = PostParams { dry_run: true, ..PostParams::default() };
    let of = |spec: Value| -> DynamicObject {
        object(json!({"apiVersion": resource.api_version, "kind": resource.kind,
            "metadata": {"name": "judged"}, "spec": spec}))
    };
    api.create(&try_it, &of(base.clone())).await.unwrap_or_else(|error| panic!("{base}: {error}"));
    for (extra, words) in cases {
        let mut spec = with(base.clone(), extra.clone());
        // Null stands for a field that is missing.
        spec.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let answer = api.create(&try_it, &of(spec)).await;
        let message = answer.map_or_else(|error| error.to_string(), |_| "nothing was refused".into());
        assert!(message.contains(words), "{} {extra}: '{message}' does not name '{words}'", resource.kind);
    }
}

fn long(bytes: usize) -> String {
    "x".repeat(bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_schema_lets_in_is_refused_and_named() {
    given::asked(|client| async move {
        by_hand(&client).await;
        every_fault_of_every_field_is_refused_by_name(&client).await;
    })
    .await;
}

async fn by_hand(client: &Client) {
    datasets(client).await;
    operations(client).await;
    profiles(client).await;

    // A name that no label could hold.
    let resource = ApiResource::erase::<Dataset>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &resource);
    let try_it = PostParams { dry_run: true, ..PostParams::default() };
    let answer = api.create(&try_it, &object(dataset("with.dots", json!({})))).await;
    assert!(answer.unwrap_err().to_string().contains("becomes a label"));
    // A field that does not exist is not silently dropped where the client asks, as kubectl does.
    let strict = PatchParams::apply("tests").dry_run().validation_strict();
    let patch = Patch::Apply(dataset("misspelt", json!({"mount": []})));
    let answer = api.patch("misspelt", &strict, &patch).await;
    let message = answer.unwrap_err().to_string();
    assert!(message.contains("spec.mount: field not declared"), "{message}");
}

async fn datasets(client: &Client) {
    let mount =
        |extra: Value| json!({"mounts": [with(json!({"mountPoint": "s3://bucket/x", "name": "x"}), extra)]});
    let tier = |extra: Value| {
        let level = with(json!({"mediumtype": "SSD", "quota": "1Gi"}), extra);
        json!({"cache": {"tieredstore": {"levels": [level]}}})
    };
    let many: Vec<_> = (0..200).map(|n| json!({"mountPoint": "s3://a/b", "name": format!("m{n}")})).collect();
    let cases = [
        (json!({"mounts": null}), "mounts"),
        (json!({"mounts": []}), "mounts"),
        (json!({"mounts": "one"}), "mounts"),
        (json!({"mounts": many}), "mounts"),
        (json!({"mounts": [{"name": "x"}]}), "mountPoint"),
        (json!({"mounts": [{"mountPoint": "s3://bucket/x"}]}), "a mount needs a name"),
        (mount(json!({"mountPoint": 7})), "mountPoint"),
        (mount(json!({"mountPoint": format!("s3://{}", long(3000))})), "mountPoint"),
        (mount(json!({"mountPoint": "no url"})), "mountPoint"),
        (mount(json!({"path": "a/../b"})), "path must be absolute"),
        (mount(json!({"name": "a b"})), "name"),
        (mount(json!({"readOnly": "yes"})), "readOnly"),
        (mount(json!({"options": {"a": 1}})), "options"),
        (mount(json!({"encryptOptions": [{"name": "k"}]})), "valueFrom"),
        (
            mount(json!({"encryptOptions": [{"name": "k", "valueFrom": {"secretKeyRef": {"name": "s"}}}]})),
            "key",
        ),
        (
            json!({"mounts": [{"mountPoint": "s3://a/b", "name": "x"}, {"mountPoint": "s3://c/d", "name": "x"}]}),
            "two mounts have one name",
        ),
        (json!({"cache": "all"}), "cache"),
        (json!({"cache": {"replicas": 0}}), "replicas must be"),
        (json!({"cache": {"replicas": -3}}), "replicas must be"),
        (json!({"cache": {"replicas": 9_999_999_999_i64}}), "replicas must be"),
        (json!({"cache": {"replicas": "many"}}), "replicas must be"),
        (json!({"cache": {"quota": "-1Gi"}}), "quota"),
        (json!({"cache": {"quota": "lots"}}), "quota"),
        (json!({"cache": {"placement": "Anywhere"}}), "placement"),
        (json!({"cache": {"nodeSelector": ["a"]}}), "nodeSelector"),
        (json!({"cache": {"tieredstore": {"levels": []}}}), "levels"),
        (tier(json!({"mediumtype": "TAPE"})), "mediumtype"),
        (tier(json!({"quota": "-5"})), "quota"),
        (tier(json!({"low": "0.9", "high": "0.5"})), "low must not be above high"),
        (json!({"accessModes": ["Sometimes"]}), "accessModes"),
        (
            json!({"accessModes": ["ReadOnlyMany", "ReadWriteOncePod"]}),
            "ReadWriteOncePod stands beside another",
        ),
        (json!({"versionPolicy": {"follow": "Pinned"}}), "version goes with"),
        (json!({"versionPolicy": {"version": "v"}}), "version goes with"),
        (json!({"versionPolicy": {"intervalSeconds": -1}}), "intervalSeconds"),
        (json!({"retention": {"versions": 0}}), "versions"),
        (json!({"retention": {"versions": 1_000_000}}), "versions"),
        (json!({"retention": {"idleSeconds": 99_999_999_999_i64}}), "idleSeconds"),
        (json!({"sharing": {"grants": [{}]}}), "namespace"),
        (json!({"sharing": {"grants": [{"namespace": "B"}]}}), "namespace"),
        (json!({"sharing": {"grants": [{"namespace": "b"}, {"namespace": "b"}]}}), "Duplicate"),
        (json!({"sharing": {"grants": [{"namespace": "b", "claimName": "No"}]}}), "claimName"),
    ];
    let base = json!({"mounts": [{"mountPoint": "s3://bucket/x", "name": "x"}]});
    refused::<Dataset>(client, base, &cases).await;
}

async fn operations(client: &Client) {
    let timings = [
        (json!({"policy": "Cron"}), "schedule goes with"),
        (json!({"schedule": "* * * * *"}), "schedule goes with"),
        (json!({"policy": "Cron", "schedule": long(200)}), "schedule"),
        (json!({"timeZone": "Europe/Berlin"}), "timeZone goes with"),
        (json!({"policy": "OnEvent"}), "on goes with"),
        (json!({"on": ["NodeAdded"]}), "on goes with"),
        (json!({"policy": "OnEvent", "on": ["Sunrise"]}), "on"),
        (json!({"policy": "Never"}), "policy"),
        (json!({"suspend": "no"}), "suspend"),
        (json!({"backoffLimit": -1}), "backoffLimit"),
        (json!({"backoffLimit": 1_000_000}), "backoffLimit"),
        (json!({"ttlSecondsAfterFinished": -1}), "ttlSecondsAfterFinished"),
        (json!({"activeDeadlineSeconds": 0}), "activeDeadlineSeconds"),
        (json!({"runAfter": [{"kind": "Pod", "name": "p"}]}), "kind"),
        (json!({"runAfter": [{"kind": "DataLoad"}]}), "name"),
    ];
    let load = json!({"dataset": {"name": "d"}});
    refused::<DataLoad>(client, load.clone(), &timings).await;
    let cases = [
        (json!({"dataset": null}), "dataset"),
        (json!({"dataset": {}}), "name"),
        (json!({"dataset": "d"}), "dataset"),
        (json!({"target": [{"path": "x"}]}), "path must be absolute"),
        (json!({"target": [{"path": "/a/../b"}]}), "path must be absolute"),
        (json!({"target": [{"path": "/x", "replicas": 0}]}), "replicas"),
        (json!({"version": "a b"}), "version"),
        (json!({"priority": 101}), "priority"),
        (json!({"priority": -1}), "priority"),
        (json!({"replicas": 0}), "replicas"),
        (json!({"replicas": 5_000_000}), "replicas"),
        (json!({"pin": 1}), "pin"),
    ];
    refused::<DataLoad>(client, load, &cases).await;

    let pod = json!({"job": {"podSpec": {"containers": [{"name": "main", "image": "i"}]}}});
    let process = json!({"dataset": {"name": "d", "mountPath": "/data"}, "processor": pod});
    refused::<DataProcess>(client, process.clone(), &timings).await;
    let script = json!({"script": {"image": "i", "source": "true"}});
    let cases = [
        (json!({"processor": null}), "processor"),
        (json!({"processor": {}}), "only one"),
        (json!({"processor": with(script.clone(), pod.clone())}), "only one"),
        (json!({"processor": {"job": {}}}), "podSpec"),
        (json!({"processor": {"script": {"image": "i"}}}), "source"),
        (json!({"dataset": {"name": "d"}}), "mountPath"),
        (json!({"dataset": {"name": "d", "mountPath": "data"}}), "mountPath"),
        (json!({"dataset": {"name": "d", "mountPath": "/data", "subPath": "../x"}}), "subPath"),
    ];
    refused::<DataProcess>(client, process, &cases).await;

    let store = |uri: &str| json!({"externalStorage": {"uri": uri}});
    let migrate = json!({"from": {"dataset": {"name": "d"}}, "to": store("s3://b/c")});
    refused::<DataMigrate>(client, migrate.clone(), &timings).await;
    let both = with(store("s3://b/c"), json!({"dataset": {"name": "d"}}));
    let cases = [
        (json!({"from": null}), "from"),
        (json!({"to": null}), "to"),
        (json!({"to": {}}), "only one"),
        (json!({"to": both}), "only one"),
        (json!({"to": store("here")}), "uri"),
        (json!({"to": {"dataset": {"name": "e", "version": "v"}}}), "cannot be chosen"),
        (json!({"from": {"dataset": {"name": "d", "path": "../x"}}}), "path must be absolute"),
        (json!({"parallelism": 0}), "parallelism"),
        (json!({"parallelism": 100_000}), "parallelism"),
        (json!({"image": "two words"}), "image"),
    ];
    refused::<DataMigrate>(client, migrate, &cases).await;

    let backup = json!({"dataset": "d", "backupPath": "s3://b/c"});
    refused::<DataBackup>(client, backup.clone(), &timings).await;
    let cases = [
        (json!({"dataset": null}), "dataset"),
        (json!({"dataset": long(64)}), "dataset"),
        (json!({"backupPath": null}), "backupPath"),
        (json!({"backupPath": "folder"}), "backupPath"),
        (json!({"include": ["Everything"]}), "include"),
        (json!({"include": ["Profiles", "Profiles"]}), "Duplicate"),
    ];
    refused::<DataBackup>(client, backup, &cases).await;
}

async fn profiles(client: &Client) {
    let profile = json!({"workload": {"kind": "Job", "name": "train"}, "dataset": {"name": "d"}, "data": ""});
    let cases = [
        (json!({"workload": null}), "workload"),
        (json!({"workload": {"kind": "Job"}}), "name"),
        (json!({"dataset": {}}), "name"),
        (json!({"data": 7}), "data"),
        (json!({"data": long(2 << 20)}), "data"),
        (json!({"first": [{"start": -1, "count": 1}]}), "start"),
        (json!({"first": [{"start": 0, "count": 0}]}), "count"),
    ];
    refused::<AccessProfile>(client, profile, &cases).await;
}
