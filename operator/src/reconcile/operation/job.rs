//! The Job that does an operation's work, and what its state says. Pure.
//!
//! A Job is one try: it has no tries of its own, because the operation counts them. Its name holds run and try,
//! so that the same try is never started twice. What it needs to know comes as JSON in one variable, secrets
//! come from their Secrets, and nothing of either ever becomes a word of a shell.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, EnvVarSource, PersistentVolumeClaimVolumeSource, PodSpec, PodTemplateSpec,
    SecretKeySelector, Volume, VolumeMount,
};
use kube::ResourceExt;
use kube::api::ObjectMeta;
use operator_api::crd::common::{EncryptOption, PodMetadata};
use operator_api::crd::data_migrate::DataToMigrate;
use operator_api::crd::operation::Progress;
use operator_api::crd::{DataBackup, DataLoad, DataMigrate, DataProcess, Dataset};
use operator_api::validate::pod::VOLUME;
use serde_json::{Value, json};

use super::kind::Operation;
use super::timing::Outcome;
use crate::marks;
use crate::reconcile::dataset::targets;

/// What a mover or backup is told: see docs/operator.md.
const TASK: &str = "HEADRACE_TASK";

/// Seconds after which Kubernetes ends the pods of a Job whose operator is away; the operator's own limit is the
/// operation's and comes first.
const LONGEST: i64 = 31_536_000;

/// Who does the work.
#[derive(Debug)]
pub enum Worker<'a> {
    Agents(&'a DataLoad),
    /// A pod, or a sentence that says what is missing.
    Pod(Result<Box<PodTemplateSpec>, String>),
}

/// What making a pod needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Needs<'a> {
    /// Of the operator's own movers and backups, where it has one.
    pub image: Option<&'a str>,
    /// The operation's Datasets that are there, in the order of [`Operation::datasets`].
    pub datasets: &'a [Option<std::sync::Arc<Dataset>>],
}

/// An operation that knows who does its work.
pub trait Work: Operation {
    fn worker<'a>(&'a self, needs: Needs<'_>) -> Worker<'a>;
}

impl Work for DataLoad {
    fn worker<'a>(&'a self, _: Needs<'_>) -> Worker<'a> {
        Worker::Agents(self)
    }
}

impl Work for DataProcess {
    fn worker<'a>(&'a self, needs: Needs<'_>) -> Worker<'a> {
        Worker::Pod(process(self, needs).map(Box::new))
    }
}

impl Work for DataMigrate {
    fn worker<'a>(&'a self, needs: Needs<'_>) -> Worker<'a> {
        Worker::Pod(migrate(self, needs).map(Box::new))
    }
}

impl Work for DataBackup {
    fn worker<'a>(&'a self, needs: Needs<'_>) -> Worker<'a> {
        Worker::Pod(backup(self, needs).map(Box::new))
    }
}

/// The claim by which a namespace uses a Dataset.
fn claim(dataset: &Dataset, namespace: &str) -> Result<String, String> {
    let target = targets::of(dataset).into_iter().find(|target| target.namespace == namespace);
    target.map(|target| target.claim).ok_or_else(|| {
        format!(
            "namespace {namespace} may not use Dataset {}: its owner has to add a grant",
            dataset.name_any()
        )
    })
}

fn process(process: &DataProcess, needs: Needs<'_>) -> Result<PodTemplateSpec, String> {
    let namespace = process.namespace().unwrap_or_default();
    let dataset = needs.datasets.iter().flatten().next().ok_or("the Dataset does not exist")?;
    let processor = &process.spec.processor;
    let mut pod = match (&processor.job, &processor.script) {
        (Some(job), None) => job.pod_spec.clone(),
        (None, Some(script)) => {
            let mut command = script.command.clone();
            if command.is_empty() {
                command = vec!["sh".into(), "-c".into()];
            }
            command.push(verbatim(&script.source));
            let container = Container {
                name: "script".into(),
                image: Some(script.image.clone()),
                command: Some(command),
                env: Some(script.env.clone()),
                resources: script.resources.clone(),
                ..Container::default()
            };
            PodSpec { containers: vec![container], ..PodSpec::default() }
        }
        _ => return Err("processor must have a job or a script, and only one of them".into()),
    };
    if pod.restart_policy.is_none() {
        pod.restart_policy = Some("Never".into());
    }
    if processor.service_account_name.is_some() {
        pod.service_account_name = processor.service_account_name.clone();
    }
    let target = &process.spec.dataset;
    mount(&mut pod, claim(dataset, &namespace)?, &target.mount_path, target.sub_path.clone());
    Ok(template(pod, processor.pod_metadata.as_ref()))
}

/// The kubelet replaces `$(NAME)` in commands and variables: what is meant as it stands is written so.
fn verbatim(text: &str) -> String {
    text.replace('$', "$$")
}

/// Adds the Dataset's claim to every container.
fn mount(pod: &mut PodSpec, claim_name: String, path: &str, sub_path: Option<String>) {
    let source = PersistentVolumeClaimVolumeSource { claim_name, read_only: None };
    let volume = Volume { name: VOLUME.into(), persistent_volume_claim: Some(source), ..Volume::default() };
    pod.volumes.get_or_insert_default().push(volume);
    for container in pod.containers.iter_mut().chain(pod.init_containers.iter_mut().flatten()) {
        let mount = VolumeMount {
            name: VOLUME.into(),
            mount_path: path.into(),
            sub_path: sub_path.clone(),
            ..VolumeMount::default()
        };
        container.volume_mounts.get_or_insert_default().push(mount);
    }
}

fn migrate(migrate: &DataMigrate, needs: Needs<'_>) -> Result<PodTemplateSpec, String> {
    let namespace = migrate.namespace().unwrap_or_default();
    let spec = &migrate.spec;
    let mut datasets = needs.datasets.iter();
    let mut env = Vec::new();
    let mut volumes = Vec::new();
    let mut end = |side: &str, end: &DataToMigrate| -> Result<Value, String> {
        if let Some(target) = &end.dataset {
            let dataset = datasets.next().and_then(Option::as_ref);
            let dataset = dataset.ok_or_else(|| format!("Dataset {} does not exist", target.name))?;
            let at = format!("/headrace/{side}");
            volumes.push((side.to_owned(), claim(dataset, &namespace)?, at.clone()));
            return Ok(json!({"folder": at, "path": target.path, "version": target.version}));
        }
        let storage = end.external_storage.as_ref().ok_or_else(|| format!("{side} names nothing"))?;
        Ok(json!({"uri": storage.uri, "options": secrets(side, &storage.encrypt_options, &mut env)}))
    };
    let (from, to) = (end("from", &spec.from)?, end("to", &spec.to)?);
    let task = json!({"do": "migrate", "from": from, "to": to, "parallelism": spec.parallelism.unwrap_or(8)});
    let mut pod = tool(spec.image.as_deref().or(needs.image), &task, env)?;
    for (name, claim_name, path) in volumes {
        let source = PersistentVolumeClaimVolumeSource { claim_name, read_only: Some(name == "from") };
        let volume =
            Volume { name: name.clone(), persistent_volume_claim: Some(source), ..Volume::default() };
        pod.volumes.get_or_insert_default().push(volume);
        for container in &mut pod.containers {
            let mount =
                VolumeMount { name: name.clone(), mount_path: path.clone(), ..VolumeMount::default() };
            container.volume_mounts.get_or_insert_default().push(mount);
        }
    }
    pod.node_selector = Some(spec.node_selector.clone()).filter(|selector| !selector.is_empty());
    pod.tolerations = Some(spec.tolerations.clone()).filter(|tolerations| !tolerations.is_empty());
    for container in &mut pod.containers {
        container.resources = spec.resources.clone();
    }
    Ok(template(pod, spec.pod_metadata.as_ref()))
}

/// Options that are secrets, as variables; gives which option is in which variable.
fn secrets(side: &str, options: &[EncryptOption], env: &mut Vec<EnvVar>) -> BTreeMap<String, String> {
    let named = options.iter().enumerate().map(|(index, option)| {
        let name = format!("HEADRACE_{}_{index}", side.to_ascii_uppercase());
        let key = SecretKeySelector {
            name: option.value_from.secret_key_ref.name.clone(),
            key: option.value_from.secret_key_ref.key.clone(),
            optional: Some(false),
        };
        let value_from = Some(EnvVarSource { secret_key_ref: Some(key), ..EnvVarSource::default() });
        env.push(EnvVar { name: name.clone(), value_from, ..EnvVar::default() });
        (option.name.clone(), name)
    });
    named.collect()
}

fn backup(backup: &DataBackup, needs: Needs<'_>) -> Result<PodTemplateSpec, String> {
    let spec = &backup.spec;
    let dataset = needs.datasets.iter().flatten().next();
    let dataset = dataset.ok_or_else(|| format!("Dataset {} does not exist", spec.dataset))?;
    let mut kept =
        json!({"name": dataset.name_any(), "namespace": dataset.namespace(), "spec": dataset.spec});
    if let Some(status) = &dataset.status {
        kept["versions"] = json!(status.versions);
    }
    let task = json!({"do": "backup", "to": spec.backup_path, "include": spec.include, "dataset": kept});
    let mut pod = tool(spec.image.as_deref().or(needs.image), &task, Vec::new())?;
    if let Some(rest) = spec.backup_path.strip_prefix("pvc://") {
        let claim_name = rest.split('/').next().unwrap_or_default().to_owned();
        let source = PersistentVolumeClaimVolumeSource { claim_name, read_only: None };
        pod.volumes = Some(vec![Volume {
            name: "to".into(),
            persistent_volume_claim: Some(source),
            ..Volume::default()
        }]);
        for container in &mut pod.containers {
            let mount = VolumeMount {
                name: "to".into(),
                mount_path: "/headrace/to".into(),
                ..VolumeMount::default()
            };
            container.volume_mounts = Some(vec![mount]);
        }
    }
    Ok(template(pod, None))
}

/// The pod of a mover or backup.
fn tool(image: Option<&str>, task: &Value, mut env: Vec<EnvVar>) -> Result<PodSpec, String> {
    let image =
        image.ok_or("no image does this work: set spec.image, or start the operator with --worker-image")?;
    env.push(EnvVar { name: TASK.into(), value: Some(verbatim(&task.to_string())), ..EnvVar::default() });
    let container = Container {
        name: "worker".into(),
        image: Some(image.into()),
        env: Some(env),
        ..Container::default()
    };
    Ok(PodSpec {
        containers: vec![container],
        restart_policy: Some("Never".into()),
        // It talks to stores, not to the apiserver.
        automount_service_account_token: Some(false),
        ..PodSpec::default()
    })
}

fn template(pod: PodSpec, metadata: Option<&PodMetadata>) -> PodTemplateSpec {
    let metadata = metadata.map(|metadata| ObjectMeta {
        labels: Some(metadata.labels.clone()),
        annotations: Some(metadata.annotations.clone()),
        ..ObjectMeta::default()
    });
    PodTemplateSpec { metadata, spec: Some(pod) }
}

/// One try of a run.
pub fn job<K: Operation>(operation: &K, template: PodTemplateSpec, run: i64, attempt: i32) -> Job {
    let uid = operation.uid().unwrap_or_default();
    let labels = BTreeMap::from([
        (marks::MANAGED_BY.0.to_owned(), marks::MANAGED_BY.1.to_owned()),
        (marks::OPERATION_UID.to_owned(), uid.clone()),
    ]);
    Job {
        metadata: ObjectMeta {
            name: Some(marks::job(&operation.name_any(), &uid, run, attempt)),
            namespace: operation.namespace(),
            labels: Some(labels),
            // Goes with the operation. It blocks no deletion: saying so would ask for a right of its own.
            owner_references: operation.controller_owner_ref(&()).map(|mut owner| {
                owner.block_owner_deletion = None;
                vec![owner]
            }),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            active_deadline_seconds: Some(operation.timing().active_deadline_seconds.unwrap_or(LONGEST)),
            template,
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// What a Job's state says of its try. How far the work is, a Job does not say.
pub fn outcome(job: Option<&Job>) -> Outcome {
    let Some(job) = job else { return Outcome::Absent };
    let unknown = || Progress { percentage: "Unknown".into(), ..Progress::default() };
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let conditions: Vec<_> = conditions.filter(|condition| condition.status == "True").collect();
    let has = |type_: &str| conditions.iter().find(|condition| condition.type_ == type_);
    if has("Complete").is_some() {
        return Outcome::Succeeded(Progress { percentage: "100%".into(), ..Progress::default() });
    }
    if let Some(failed) = has("Failed") {
        let reason = failed.reason.as_deref().unwrap_or("no reason given");
        let message = failed.message.as_deref().unwrap_or_default();
        return Outcome::Failed(format!("Job {} failed: {reason}: {message}", job.name_any()));
    }
    if job.metadata.deletion_timestamp.is_some() {
        return Outcome::Failed(format!("Job {} was deleted before it ended", job.name_any()));
    }
    Outcome::Running(unknown())
}
