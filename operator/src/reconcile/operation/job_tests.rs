//! The Jobs of operations: what they are given, when they end for good, and what their state says.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::runtime::watcher::Event;
use operator_api::crd::{DataMigrate, DataProcess, Dataset};
use serde_json::json;

use super::job::{self, Needs, Work, Worker};
use super::timing::Outcome;
use crate::marks;
use crate::watch::Owned;

fn dataset() -> std::sync::Arc<Dataset> {
    let dataset = json!({"metadata": {"name": "d", "namespace": "b", "uid": "u"}, "spec": {
        "mounts": [{"mountPoint": "s3://x/y", "name": "y"}],
        "sharing": {"grants": [{"namespace": "a", "claimName": "data"}]}}});
    std::sync::Arc::new(serde_json::from_value(dataset).unwrap())
}

/// The claims that are known, with one for the Dataset of that uid.
fn claims(namespace: &str, name: &str, uid: &str) -> Owned<PersistentVolumeClaim> {
    let claims = Owned::by(marks::DATASET_UID);
    let labels = json!({marks::DATASET_UID: uid});
    let claim = json!({"metadata": {"name": name, "namespace": namespace, "labels": labels}});
    claims.apply(&Event::Apply(serde_json::from_value(claim).unwrap()));
    claims
}

#[test]
fn a_job_that_may_have_begun_meanwhile_is_no_stray() {
    let process: DataProcess = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "a", "uid": "0123456789"},
        "spec": {"dataset": {"name": "d", "mountPath": "/data"}, "backoffLimit": 1,
                 "processor": {"script": {"image": "busybox", "source": "true"}}}
    }))
    .unwrap();
    let strays = |status: serde_json::Value| {
        let status = serde_json::from_value(status).unwrap();
        let names = [(1, 0), (2, 0), (2, 1), (3, 0)];
        let jobs = names.map(|(run, attempt)| (run, attempt, format!("p-01234567-{run}-{attempt}")));
        let stray = |(run, attempt, job): (i64, i32, String)| {
            job::is_stray(&process, &job, "0123456789", &status).then_some((run, attempt))
        };
        jobs.into_iter().filter_map(stray).collect::<Vec<_>>()
    };
    assert_eq!(strays(json!({"phase": "Executing", "run": 2})), []);
    // The run is over; the next one may have begun, and its status be on its way here.
    assert_eq!(strays(json!({"phase": "Pending", "run": 2})), [(2, 0), (2, 1)]);
    let again =
        json!({"phase": "Pending", "run": 2, "failures": 1, "nextAttemptTime": "2026-11-30T00:00:00Z"});
    assert_eq!(strays(again), [(2, 0)], "the second try may have begun");
    assert_eq!(strays(json!({"phase": "Failed", "run": 2})).len(), 4);
}

#[test]
fn a_process_sees_its_dataset_by_its_own_namespaces_claim() {
    let process: DataProcess = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "a", "uid": "0123456789"},
        "spec": {"dataset": {"name": "d", "namespace": "b", "mountPath": "/data"},
                 "processor": {"script": {"image": "busybox", "source": "echo $(rm -rf /)"}}}
    }))
    .unwrap();
    let datasets = [Some(dataset())];
    let worker = |claims: &Owned<_>| {
        let Worker::Pod(pod) = process.worker(Needs { image: None, datasets: &datasets, claims }) else {
            panic!("no pod")
        };
        pod
    };
    let template = worker(&claims("a", "data", "u")).unwrap();
    // By its name it would do: a person's own claim is not known at all, another Dataset's is marked as that one's.
    for others in [Owned::by(marks::DATASET_UID), claims("a", "data", "v"), claims("b", "data", "u")] {
        let why = worker(&others).unwrap_err();
        assert!(why.starts_with("claim a/data of Dataset d is not there yet, or is another's"), "{why}");
    }
    let pod = template.spec.clone().unwrap();
    assert_eq!(pod.volumes.unwrap()[0].persistent_volume_claim.as_ref().unwrap().claim_name, "data");
    assert_eq!(
        pod.containers[0].command.as_ref().unwrap(),
        &["sh", "-c", "echo $$(rm -rf /)"],
        "the kubelet makes one $ of two"
    );
    let job = job::job(&process, *template, 3, 1);
    assert_eq!(job.metadata.name.as_deref(), Some("p-01234567-3-1"));
    let spec = job.spec.unwrap();
    assert_eq!((spec.backoff_limit, spec.pod_failure_policy), (Some(0), None), "its exit status is its own");
    assert_eq!(job.metadata.owner_references.unwrap()[0].kind, "DataProcess");
}

#[test]
fn secrets_are_named_and_user_text_stays_out_of_arguments() {
    let migrate: DataMigrate = serde_json::from_value(json!({
        "metadata": {"name": "m", "namespace": "a"},
        "spec": {"from": {"externalStorage": {"uri": "s3://b/$(x)", "encryptOptions": [
                    {"name": "secret", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}},
                 "to": {"dataset": {"name": "d", "namespace": "b"}}}
    }))
    .unwrap();
    let datasets = [Some(dataset())];
    let (own, another) = (claims("a", "data", "u"), claims("a", "data", "v"));
    let needs = Needs { image: Some("mover:1"), datasets: &datasets, claims: &own };
    let Worker::Pod(Ok(template)) = migrate.worker(needs) else { panic!("no pod") };
    let spec = serde_json::to_value(job::job(&migrate, (*template).clone(), 1, 0).spec.unwrap()).unwrap();
    let code = i32::from(worker::run::HOPELESS);
    let codes = json!({"containerName": spec["template"]["spec"]["containers"][0]["name"], "operator": "In", "values": [code]});
    assert_eq!(spec["podFailurePolicy"], json!({"rules": [{"action": "FailJob", "onExitCodes": codes}]}));
    assert_eq!(spec["template"]["spec"]["restartPolicy"], "Never", "the apiserver asks for it");
    let container = &template.spec.unwrap().containers[0];
    assert_eq!((&container.command, &container.args), (&None, &None));
    let env = container.env.as_ref().unwrap();
    assert_eq!(env[0].value_from.as_ref().unwrap().secret_key_ref.as_ref().unwrap().key, "k");
    let task: serde_json::Value = serde_json::from_str(env[1].value.as_ref().unwrap()).unwrap();
    assert_eq!(task["from"]["options"]["secret"], "HEADRACE_FROM_0");
    let Worker::Pod(Err(why)) = migrate.worker(Needs { image: None, ..needs }) else { panic!("no image") };
    assert!(why.contains("--worker-image"));
    let Worker::Pod(Err(why)) = migrate.worker(Needs { claims: &another, ..needs }) else {
        panic!("another's claim would be mounted")
    };
    assert!(why.contains("is another's"), "{why}");
}

#[test]
fn a_jobs_state_is_told_as_it_is() {
    let job = |status: serde_json::Value| {
        serde_json::from_value::<Job>(json!({"metadata": {"name": "j"}, "status": status})).unwrap()
    };
    assert_eq!(job::outcome(None), Outcome::Absent);
    assert!(matches!(job::outcome(Some(&job(json!({"active": 1})))), Outcome::Running(_)));
    // Not yet true.
    assert!(matches!(
        job::outcome(Some(&job(json!({"conditions": [{"type": "FailureTarget", "status": "True"}]})))),
        Outcome::Running(_)
    ));
    assert!(matches!(
        job::outcome(Some(&job(json!({"conditions": [{"type": "Complete", "status": "True"}]})))),
        Outcome::Succeeded(_)
    ));
    let failed = job(
        json!({"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "m"}]}),
    );
    assert_eq!(job::outcome(Some(&failed)), Outcome::Failed("Job j failed: BackoffLimitExceeded: m".into()));
    let failed = job(
        json!({"conditions": [{"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": "m"}]}),
    );
    assert_eq!(job::outcome(Some(&failed)), Outcome::Hopeless("Job j failed: PodFailurePolicy: m".into()));
}
