//! Datasets and operations from their making to their end, by an operator that has the rights of deploy/rbac and
//! uses each of them; then another replica goes on, and one that was killed is made up for.

use std::time::{Duration, Instant, SystemTime};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use operator::certs::vault::{Kept, Vault};
use operator::certs::{Authority, KubeVault};
use operator_api::crd::Dataset;
use serde_json::json;
use tests::cluster::audit;
use tests::cluster::fleet::{Fleet, Spec};
use tests::cluster::wait::{Seen, until};
use tests::hygiene::Folder;

use super::agent::{self, Home};
use super::judged;
use super::rights;
use super::stage::{
    LIMIT, NAMESPACE, Replica, Stage, USER, api, claim_is_bound, dataset, free, gone, make, namespace,
    object, phase_is, said, says,
};
use super::stores;
use super::told;
use super::work;

const MANY: usize = 30;

/// kube-controller-manager looks at every claim anew each 15 s.
const ROUND: Duration = Duration::from_secs(17);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datasets_and_operations_live_and_end_with_no_right_too_many() {
    let stage = Stage::shared().await;
    let _turn = stage.turn().await;
    let client = stage.client().await;
    let access = stage.operator().await;
    let folder = Folder::new().unwrap();
    for name in ["a", "b", "leaving"] {
        namespace(&client, name).await;
    }
    let [listen, scheduling] = [free(), free()];
    stage.webhooks(scheduling).await;
    let one = Replica::start(&access, "one", Some([listen, scheduling])).await;
    let fleet = Fleet::join(client.clone(), Spec::new("life", 3)).await.unwrap();

    at_once(stage, &client).await;
    let home = Home::make(&client, folder.path(), "life-1").await;
    let stuck = agent::start(home, &format!("https://{listen}"), "nas:/stuck", "b/halted", true).await;
    tokio::join!(
        shared_and_deleted(&client),
        a_namespace_goes(&client),
        work::jobs(&client),
        work::loads(&client, folder.path(), listen),
        work::deleted_while_loading(&client, &stuck),
        told::runs_as_agents_tell(&client, folder.path(), listen),
        judged::what_cannot_work_is_refused(&client),
        volumes_are_made_anew(&client),
        stores::every_kubelet_can_mount_a_folder(&client),
        foreign_claims_stay(&client),
        made_of_an_export(&client),
    );

    // Another takes over at once from one that is asked to end, and at the Lease's end from one that was killed.
    worn_authority(&client).await;
    let two = Replica::start(&access, "two", Some([free(), free()])).await;
    one.end().await;
    let datasets: Api<Dataset> = api(&client, "a");
    make(&datasets, dataset("second-term", json!({}))).await;
    phase_is(&datasets, "second-term", "Bound").await;
    make(&datasets, dataset("orphan", json!({}))).await;
    claim_is_bound(&api(&client, "a"), "orphan").await;
    two.kill();
    // Nobody sees it go.
    let loose = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    datasets.patch("orphan", &PatchParams::default(), &loose).await.unwrap();
    datasets.delete("orphan", &DeleteParams::default()).await.unwrap();
    gone(&datasets, "orphan").await;
    assert!(api::<PersistentVolumeClaim>(&client, "a").get_opt("orphan").await.unwrap().is_some());
    let three = Replica::start(&access, "three", None).await;
    make(&datasets, dataset("third-term", json!({}))).await;
    phase_is(&datasets, "third-term", "Bound").await;
    let lease = api::<Lease>(&client, NAMESPACE).get("headrace-operator").await.unwrap();
    assert_eq!(lease.spec.unwrap().holder_identity.as_deref(), Some("three"));

    datasets.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    until("no Dataset and no volume is left", LIMIT, async || {
        let left = datasets.list(&ListParams::default()).await?.items.len();
        let volumes = volumes.list(&ListParams::default()).await?.items.len();
        Ok(if left + volumes == 0 { Seen::Done(()) } else { Seen::NotYet(format!("{left}, {volumes}")) })
    })
    .await
    .unwrap();
    fleet.leave().await.unwrap();
    three.end().await;
    rights::are_minimal(&stage.plane.audit_log()).await;
}

/// Many Datasets at once, each with its claim bound, for few requests.
async fn at_once(stage: &Stage, client: &Client) {
    let datasets: Api<Dataset> = api(client, "a");
    let (begun, since) = (Instant::now(), Timestamp::now().to_string());
    for number in 0..MANY {
        make(&datasets, dataset(&format!("many-{number}"), json!({}))).await;
    }
    for number in 0..MANY {
        claim_is_bound(&api(client, "a"), &format!("many-{number}")).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let requests = audit::requests(&stage.plane.audit_log(), USER, &since).unwrap();
    println!("{MANY} Datasets bound after {seconds:.1} s, {} requests", audit::total(&requests));
    assert!(audit::total(&requests) <= MANY as u64 * 12, "{requests:?}");
    let bound = phase_is(&datasets, "many-0", "Bound").await;
    let unknown = serde_json::to_value(bound.status.unwrap()).unwrap();
    assert_eq!(unknown["cacheStates"]["cached"], "Unknown", "nobody has measured: {unknown}");
    assert!(unknown.get("cachedBytes").is_none(), "{unknown}");
}

/// With another namespace, under another name; deletion waits for the pod that uses the claim, and for nothing else.
async fn shared_and_deleted(client: &Client) {
    let datasets: Api<Dataset> = api(client, "a");
    let claims: Api<PersistentVolumeClaim> = api(client, "b");
    let grants = json!({"sharing": {"grants": [{"namespace": "b", "claimName": "from-a"}]}});
    make(&datasets, dataset("shared", grants)).await;
    claim_is_bound(&claims, "from-a").await;
    phase_is(&datasets, "shared", "Bound").await;
    let pods: Api<Pod> = api(client, "b");
    let pod = json!({"metadata": {"name": "user"}, "spec": {
        "containers": [{"name": "main", "image": "registry.invalid/none"}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "from-a"}}]}});
    make(&pods, pod).await;
    until("the pod is scheduled", LIMIT, async || {
        let node = pods.get("user").await?.spec.and_then(|spec| spec.node_name);
        Ok(node.map_or(Seen::NotYet("no node".into()), |_| Seen::Done(())))
    })
    .await
    .unwrap();
    datasets.delete("shared", &DeleteParams::default()).await.unwrap();
    let waiting = said(&datasets, "shared", "Terminating", "claim b/from-a is in use").await;
    assert!(!waiting.finalizers().is_empty());
    pods.delete("user", &DeleteParams::default().grace_period(0)).await.unwrap();
    gone(&datasets, "shared").await;
    gone(&claims, "from-a").await;
}

/// A namespace that goes takes its Dataset with it, and its claim on another's; that one says so, and lends again
/// when the namespace is back.
async fn a_namespace_goes(client: &Client) {
    let datasets: Api<Dataset> = api(client, "leaving");
    let claims: Api<PersistentVolumeClaim> = api(client, "leaving");
    let lenders: Api<Dataset> = api(client, "a");
    make(&datasets, dataset("d", json!({}))).await;
    let grants = json!({"sharing": {"grants": [{"namespace": "leaving"}]}});
    make(&lenders, dataset("lent", grants)).await;
    claim_is_bound(&claims, "d").await;
    claim_is_bound(&claims, "lent").await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.delete("leaving", &DeleteParams::default()).await.unwrap();
    gone(&namespaces, "leaving").await;
    said(&lenders, "lent", "Ready", "namespace leaving does not exist").await;
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    until("no volume of that namespace is left", LIMIT, async || {
        let of_it = |volume: &PersistentVolume| {
            let claim = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
            claim.and_then(|claim| claim.namespace.as_deref()) == Some("leaving")
        };
        let left = volumes.list(&ListParams::default()).await?.items.into_iter().filter(of_it).count();
        Ok(if left == 0 { Seen::Done(()) } else { Seen::NotYet(format!("{left} are")) })
    })
    .await
    .unwrap();
    namespace(client, "leaving").await;
    claim_is_bound(&claims, "lent").await;
    phase_is(&lenders, "lent", "Bound").await;
    lenders.delete("lent", &DeleteParams::default()).await.unwrap();
    gone(&lenders, "lent").await;
    gone(&claims, "lent").await;
}

/// What somebody deletes comes back.
async fn volumes_are_made_anew(client: &Client) {
    let claims: Api<PersistentVolumeClaim> = api(client, "a");
    let old = claims.get("many-1").await.unwrap().uid();
    claims.delete("many-1", &DeleteParams::default()).await.unwrap();
    until("the claim is another, and bound", LIMIT, async || {
        let claim = claims.get_opt("many-1").await?;
        let bound = |claim: &PersistentVolumeClaim| {
            claim.uid() != old && claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound")
        };
        let seen = format!("{:?}", claim.as_ref().map(|claim| &claim.status));
        Ok(if claim.as_ref().is_some_and(bound) { Seen::Done(()) } else { Seen::NotYet(seen) })
    })
    .await
    .unwrap();
}

/// Claims of others that have the names a Dataset wants, at home and in another namespace, and would fit its volumes:
/// nothing is made that could be bound to them, and their pods are not steered. When they are gone, ours are made.
async fn foreign_claims_stay(client: &Client) {
    let datasets: Api<Dataset> = api(client, "a");
    let wanted = [("a", "taken"), ("b", "data-pg-0")];
    let mut before = Vec::new();
    for (namespace, name) in wanted {
        let foreign = json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"],
            "storageClassName": "none", "resources": {"requests": {"storage": "1Gi"}}}});
        before.push(make(&api::<PersistentVolumeClaim>(client, namespace), foreign).await);
    }
    let taken = dataset(
        "taken",
        json!({"accessModes": ["ReadWriteOnce"],
            "sharing": {"grants": [{"namespace": "b", "claimName": "data-pg-0"}]}}),
    );
    make(&datasets, taken.clone()).await;
    let told =
        said(&datasets, "taken", "Ready", "claim a/taken exists and is not Headrace's; it is left alone");
    let told = serde_json::to_value(told.await.status).unwrap();
    let blocked = told["volumes"].as_array().unwrap().iter().all(|volume| volume["phase"] == "Blocked");
    assert!(blocked && told["phase"] == "Failed" && told["volumes"][1].is_object(), "{told}");
    assert_eq!(volumes_for(client, &wanted).await, Vec::<String>::new());

    let pod: Pod = object(json!({"metadata": {"name": "postgres"}, "spec": {
        "containers": [{"name": "main", "image": "registry.invalid/none", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data-pg-0"}}]}}));
    let try_out = PostParams { dry_run: true, ..PostParams::default() };
    let judged = api::<Pod>(client, "b").create(&try_out, &pod).await.unwrap();
    let mount = &judged.spec.as_ref().unwrap().containers[0].volume_mounts.as_ref().unwrap()[0];
    assert!(judged.annotations().is_empty() && mount.mount_propagation.is_none(), "{judged:?}");

    tokio::time::sleep(ROUND).await;
    let untouched = async || {
        for ((namespace, name), before) in wanted.into_iter().zip(&before) {
            let after = api::<PersistentVolumeClaim>(client, namespace).get(name).await.unwrap();
            assert_eq!(after.metadata.resource_version, before.metadata.resource_version, "it was touched");
            assert_eq!(after.spec.unwrap().volume_name, None);
        }
    };
    untouched().await;
    let still = datasets.get("taken").await.unwrap();
    assert!(says(&still, "Ready").contains("is left alone"), "{:?}", still.status);
    datasets.delete("taken", &DeleteParams::default()).await.unwrap();
    gone(&datasets, "taken").await;
    untouched().await;

    make(&datasets, taken).await;
    phase_is(&datasets, "taken", "Failed").await;
    for (namespace, name) in wanted {
        let claims = api::<PersistentVolumeClaim>(client, namespace);
        claims.delete(name, &DeleteParams::default()).await.unwrap();
    }
    phase_is(&datasets, "taken", "Bound").await;
    for (namespace, name) in wanted {
        let claim = api::<PersistentVolumeClaim>(client, namespace).get(name).await.unwrap();
        assert_eq!(claim.labels()["headrace.io/dataset"], "taken");
        claim_is_bound(&api(client, namespace), name).await;
    }
    assert_eq!(volumes_for(client, &wanted).await.len(), 2);
    datasets.delete("taken", &DeleteParams::default()).await.unwrap();
    gone(&datasets, "taken").await;
}

/// From a manifest that was exported while the operator's finalizer was there: another manager owns it.
async fn made_of_an_export(client: &Client) {
    let datasets: Api<Dataset> = api(client, "a");
    let mut exported = dataset("exported", json!({}));
    exported["metadata"]["finalizers"] = json!(["tests.headrace.io/kept", "headrace.io/volumes"]);
    make(&datasets, exported).await;
    phase_is(&datasets, "exported", "Bound").await;
    datasets.delete("exported", &DeleteParams::default()).await.unwrap();
    until("only the finalizer of others is left", LIMIT, async || {
        let found = datasets.get("exported").await?;
        let left = found.finalizers() == ["tests.headrace.io/kept"];
        Ok(if left { Seen::Done(()) } else { Seen::NotYet(format!("{:?}", found.finalizers())) })
    })
    .await
    .unwrap();
    let loose = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    datasets.patch("exported", &PatchParams::default(), &loose).await.unwrap();
    gone(&datasets, "exported").await;
}

/// Volumes that name one of these claims.
async fn volumes_for(client: &Client, claims: &[(&str, &str)]) -> Vec<String> {
    let volumes = Api::<PersistentVolume>::all(client.clone()).list(&ListParams::default()).await.unwrap();
    let names_one = |volume: &PersistentVolume| {
        let claim = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        let claim = claim.and_then(|claim| Some((claim.namespace.as_deref()?, claim.name.as_deref()?)));
        claim.is_some_and(|claim| claims.contains(&claim))
    };
    volumes.items.iter().filter(|volume| names_one(volume)).map(ResourceExt::name_any).collect()
}

/// Puts an authority into the Secret that nears its end: whoever starts next makes another.
async fn worn_authority(client: &Client) {
    let vault = KubeVault::new(client.clone(), NAMESPACE, "headrace-authority");
    let found = vault.load().await.unwrap().expect("the first replica has made one");
    let nine_years = Duration::from_secs(3_600 * 24 * 365 * 9 + 3_600 * 24 * 30);
    let old = Authority::create(SystemTime::now() - nine_years).unwrap();
    let kept = Kept { authority: old.credential(), former: Vec::new() };
    assert!(vault.store(&kept, Some(&found)).await.unwrap());
}
