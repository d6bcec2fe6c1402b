//! The Job that does an operation's work, and what its state says. Pure.
//!
//! A Job is one try: it has no tries of its own, because the operation counts them. Its name holds run and try,
//! so that the same try is never started twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{Container, PersistentVolumeClaim, PodSpec, PodTemplateSpec};
use kube::ResourceExt;
use kube::api::ObjectMeta;
use operator_api::crd::operation::{OperationPhase, OperationStatus, Progress};
use operator_api::crd::{DataBackup, DataLoad, DataMigrate, DataProcess, Dataset};
use operator_api::validate::pod::VOLUME;

use super::pod::{Mount, claim, mount, template, verbatim};
use super::task;
use super::timing::{BACKOFF_LIMIT, DEADLINE, Outcome};
use crate::marks;
use crate::watch::{Operation, Owned};

/// Why a Job has failed whose [`policy`] said so: the batch controller's word.
const BY_POLICY: &str = "PodFailurePolicy";

/// Who does the work.
#[derive(Debug)]
pub enum Worker<'a> {
    Agents(&'a DataLoad),
    /// A pod, or a sentence that says what is missing.
    Pod(Result<Box<PodTemplateSpec>, String>),
}

/// Why an operation cannot have its Datasets.
pub fn missing(own: &str, needed: &[(String, String)], found: &[Option<Arc<Dataset>>]) -> Option<String> {
    needed.iter().zip(found).find_map(|((namespace, name), found)| match found {
        None if namespace == own => Some(format!("Dataset {namespace}/{name} does not exist")),
        Some(dataset) if dataset.metadata.deletion_timestamp.is_some() && dataset.spec.admits(namespace, own) => {
            Some(format!("Dataset {namespace}/{name} is being deleted"))
        }
        Some(dataset) if dataset.spec.admits(namespace, own) => None,
        _ => Some(format!(
            "namespace {own} may not use Dataset {namespace}/{name}: its owner has to add a grant for {own} to spec.sharing.grants"
        )),
    })
}

/// A try whose Job the apiserver did not let be.
#[derive(Clone, Debug)]
pub struct Refused {
    pub run: i64,
    pub attempt: i32,
    pub why: String,
}

/// What making a pod needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Needs<'a> {
    /// Of the operator's own movers and backups, where it has one.
    pub image: Option<&'a str>,
    /// The operation's Datasets that are there, in the order of [`Operation::datasets`].
    pub datasets: &'a [Option<std::sync::Arc<Dataset>>],
    /// That the operator made.
    pub claims: &'a Owned<PersistentVolumeClaim>,
}

/// An operation that knows who does its work.
pub trait Work: Operation {
    fn worker<'a>(&'a self, needs: Needs<'_>) -> Worker<'a>;

    /// Whether its pod speaks the worker's language: says at its end what became of it, by exit status and message.
    fn answers(&self) -> bool {
        false
    }

    /// The Dataset, in its own namespace, whose AccessProfiles its pod is given.
    fn profiles(&self) -> Option<&str> {
        None
    }
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
        Worker::Pod(task::migrate(self, needs.image, needs.datasets, needs.claims).map(Box::new))
    }
    fn answers(&self) -> bool {
        true
    }
}

impl Work for DataBackup {
    fn worker<'a>(&'a self, needs: Needs<'_>) -> Worker<'a> {
        Worker::Pod(task::backup(self, needs.image, needs.datasets, needs.claims).map(Box::new))
    }
    fn answers(&self) -> bool {
        true
    }
    fn profiles(&self) -> Option<&str> {
        task::wanted(self)
    }
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
    let volume = Mount {
        volume: VOLUME.into(),
        claim: claim(dataset, &namespace, needs.claims)?,
        at: target.mount_path.clone(),
        sub_path: target.sub_path.clone(),
        read_only: None,
    };
    mount(&mut pod, volume);
    Ok(template(pod, processor.pod_metadata.as_ref()))
}

/// One try of a run.
pub fn job<K: Work>(operation: &K, template: PodTemplateSpec, run: i64, attempt: i32) -> Job {
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
            // The operator's own limit: Kubernetes keeps it where the operator is away.
            active_deadline_seconds: Some(operation.timing().active_deadline_seconds.unwrap_or(DEADLINE)),
            // What a person's own pod means by an exit status, nobody but they know.
            pod_failure_policy: operation.answers().then(policy),
            template,
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// Has the Job say by its reason that the worker ended with [`task::HOPELESS`]: the pod may be gone when it is looked at.
fn policy() -> PodFailurePolicy {
    let on_exit_codes = PodFailurePolicyOnExitCodesRequirement {
        container_name: Some(task::CONTAINER.into()),
        operator: "In".into(),
        values: vec![task::HOPELESS],
    };
    let rule = PodFailurePolicyRule {
        action: "FailJob".into(),
        on_exit_codes: Some(on_exit_codes),
        ..PodFailurePolicyRule::default()
    };
    PodFailurePolicy { rules: vec![rule] }
}

/// Whether it has not ended, and nobody has told it to.
pub fn goes_on(job: &Job) -> bool {
    matches!(outcome(Some(job)), Outcome::Running(_))
}

/// Whether a Job is of a try that a status without a run says is over. Of two watches the one of Jobs may be ahead: a
/// try that is still to come by that status may have begun.
pub fn is_stray<K: Work>(operation: &K, job: &str, uid: &str, status: &OperationStatus) -> bool {
    let tries = match status.phase {
        OperationPhase::Executing => 0,
        // Nothing of it begins any more.
        OperationPhase::Complete | OperationPhase::Failed => return true,
        OperationPhase::Pending if status.next_attempt_time.is_some() => status.failures,
        OperationPhase::Pending => {
            operation.timing().backoff_limit.unwrap_or(BACKOFF_LIMIT).saturating_add(1)
        }
    };
    (0..tries).any(|attempt| job == marks::job(&operation.name_any(), uid, status.run, attempt))
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
        let why = format!("Job {} failed: {reason}: {message}", job.name_any());
        return if reason == BY_POLICY { Outcome::Hopeless(why) } else { Outcome::Failed(why) };
    }
    if job.metadata.deletion_timestamp.is_some() {
        return Outcome::Failed(format!("Job {} was deleted before it ended", job.name_any()));
    }
    Outcome::Running(unknown())
}
