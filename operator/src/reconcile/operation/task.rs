//! What the worker is told, and what it answers: the language of docs/operator.md. Pure.
//!
//! What it needs to know comes as JSON in one variable, secrets come from their Secrets, and nothing of either ever
//! becomes a word of a shell.

use k8s_openapi::api::core::v1::{Container, EnvVar, PersistentVolumeClaim, Pod, PodSpec, PodTemplateSpec};
use kube::ResourceExt;
use operator_api::crd::common::EncryptOption;
use operator_api::crd::data_backup::BackupContent;
use operator_api::crd::data_migrate::DataToMigrate;
use operator_api::crd::operation::Progress;
use operator_api::crd::{AccessProfile, DataBackup, DataMigrate, Dataset};
use serde::Deserialize;
use serde_json::{Value, json};

use super::pod::{Mount, claim, mount, secrets, template, verbatim};
use super::reach;
use crate::watch::Owned;

/// The version of the language. A worker of another one says so and does nothing.
const VERSION: u32 = 1;

/// The task's variable.
const TASK: &str = "HEADRACE_TASK";

/// The worker's container.
pub const CONTAINER: &str = "worker";

/// The worker's exit status where another try cannot help.
pub const HOPELESS: i32 = 2;

/// Bytes of a variable: the kernel takes 128 KiB with its name.
const MOST_VARIABLE: usize = 120 << 10;

/// Bytes of all profiles in one Job: an object of etcd may have 1.5 MiB, and the kernel starts no program with more
/// than 2 MiB of variables.
const MOST_PROFILES: usize = 768 << 10;

/// Bytes of an answer's sentence that go into a status.
const MOST_SENTENCE: usize = 1_000;

type Found = Option<std::sync::Arc<Dataset>>;

pub fn migrate(
    migrate: &DataMigrate,
    image: Option<&str>,
    datasets: &[Found],
    claims: &Owned<PersistentVolumeClaim>,
) -> Result<PodTemplateSpec, String> {
    let namespace = migrate.namespace().unwrap_or_default();
    let spec = &migrate.spec;
    let mut datasets = datasets.iter();
    let (mut env, mut mounts) = (Vec::new(), Vec::new());
    let mut end = |side: &str, end: &DataToMigrate| -> Result<Value, String> {
        if let Some(target) = &end.dataset {
            let dataset = datasets.next().and_then(Option::as_ref);
            let dataset = dataset.ok_or_else(|| format!("Dataset {} does not exist", target.name))?;
            let at = mounted(side, claim(dataset, &namespace, claims)?, &mut mounts);
            let named = format!("{}/{}", dataset.namespace().unwrap_or_default(), dataset.name_any());
            return Ok(
                json!({"folder": at, "path": target.path, "version": target.version, "dataset": named}),
            );
        }
        let storage = end.external_storage.as_ref().ok_or_else(|| format!("{side} names nothing"))?;
        Ok(store(side, &storage.uri, &storage.encrypt_options, &mut env, &mut mounts))
    };
    let (from, to) = (end("from", &spec.from)?, end("to", &spec.to)?);
    let parallelism = spec.parallelism.unwrap_or(8);
    let task = json!({"task": VERSION, "do": "migrate", "from": from, "to": to, "parallelism": parallelism});
    let mut pod = tool(spec.image.as_deref().or(image), &task, env)?;
    for one in mounts {
        mount(&mut pod, one);
    }
    pod.node_selector = Some(spec.node_selector.clone()).filter(|selector| !selector.is_empty());
    pod.tolerations = Some(spec.tolerations.clone()).filter(|tolerations| !tolerations.is_empty());
    for container in &mut pod.containers {
        container.resources = spec.resources.clone();
    }
    Ok(template(pod, spec.pod_metadata.as_ref()))
}

pub fn backup(
    backup: &DataBackup,
    image: Option<&str>,
    datasets: &[Found],
    claims: &Owned<PersistentVolumeClaim>,
) -> Result<PodTemplateSpec, String> {
    let spec = &backup.spec;
    let dataset = datasets.iter().flatten().next();
    let dataset = dataset.ok_or_else(|| format!("Dataset {} does not exist", spec.dataset))?;
    let mut kept =
        json!({"name": dataset.name_any(), "namespace": dataset.namespace(), "spec": dataset.spec});
    if let Some(status) = &dataset.status {
        kept["versions"] = json!(status.versions);
    }
    let (mut env, mut mounts) = (Vec::new(), Vec::new());
    let to = store("to", &spec.backup_path, &spec.encrypt_options, &mut env, &mut mounts);
    let mut task =
        json!({"task": VERSION, "do": "backup", "to": to, "include": spec.include, "dataset": kept});
    if spec.include.is_empty() || spec.include.contains(&BackupContent::Manifests) {
        task["mounts"] = reach::of(dataset, claims, &mut env, &mut mounts).into();
    }
    let mut pod = tool(spec.image.as_deref().or(image), &task, env)?;
    for one in mounts {
        mount(&mut pod, one);
    }
    Ok(template(pod, None))
}

/// Has a claim mounted for one side; gives where.
fn mounted(side: &str, claim: String, mounts: &mut Vec<Mount>) -> String {
    let at = format!("/headrace/{side}");
    let read_only = Some(side == "from");
    mounts.push(Mount { volume: side.into(), claim, at: at.clone(), sub_path: None, read_only });
    at
}

/// One side that is no Dataset: a claim's folder, or a store and which of its options is in which variable.
fn store(
    side: &str,
    uri: &str,
    options: &[EncryptOption],
    env: &mut Vec<EnvVar>,
    mounts: &mut Vec<Mount>,
) -> Value {
    if let Some(rest) = uri.strip_prefix("pvc://") {
        let (claim, path) = rest.split_once('/').unwrap_or((rest, ""));
        return json!({"folder": mounted(side, claim.into(), mounts), "path": path, "dataset": uri});
    }
    json!({"uri": uri, "options": secrets(side, options.iter(), false, env)})
}

/// The pod of a mover or backup.
fn tool(image: Option<&str>, task: &Value, mut env: Vec<EnvVar>) -> Result<PodSpec, String> {
    let image =
        image.ok_or("no image does this work: set spec.image, or start the operator with --worker-image")?;
    env.push(EnvVar { name: TASK.into(), value: Some(verbatim(&task.to_string())), ..EnvVar::default() });
    let container = Container {
        name: CONTAINER.into(),
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

/// The Dataset whose AccessProfiles a backup holds.
pub fn wanted(backup: &DataBackup) -> Option<&str> {
    let include = &backup.spec.include;
    (include.is_empty() || include.contains(&BackupContent::Profiles)).then_some(&*backup.spec.dataset)
}

/// The profiles that a backup is given, newest first, as far as there is room.
#[derive(Debug, Default)]
pub struct Profiles {
    kept: Vec<(Option<k8s_openapi::jiff::Timestamp>, String)>,
    bytes: usize,
    pub left_out: usize,
}

impl Profiles {
    /// `namespace` is the Dataset's, and the backup's: a Dataset's owner is not shown what others run.
    pub fn add(&mut self, dataset: &str, namespace: &str, profile: &AccessProfile) {
        let of = &profile.spec.dataset;
        if of.name != dataset || of.namespace_from(namespace) != namespace {
            return;
        }
        let metadata =
            json!({"name": profile.name_any(), "namespace": namespace, "labels": profile.labels()});
        let text = verbatim(&json!({"metadata": metadata, "spec": profile.spec}).to_string());
        self.bytes += text.len() + 1;
        self.kept.push((profile.spec.learned_at.as_ref().map(|time| time.0), text));
        if self.bytes > MOST_PROFILES {
            // Seldom, and of at most a few thousand.
            self.kept.sort_by(|(a, _), (b, _)| b.cmp(a));
            while self.bytes > MOST_PROFILES
                && let Some((_, text)) = self.kept.pop()
            {
                self.bytes -= text.len() + 1;
                self.left_out += 1;
            }
        }
    }

    /// Hands them over in variables beside the task, which names them.
    pub fn give(self, template: &mut PodTemplateSpec) {
        let texts: Vec<_> = self.kept.into_iter().map(|(_, text)| text).collect();
        let text = format!("[{}]", texts.join(","));
        let mut rest = text.as_str();
        let mut variables = Vec::new();
        while !rest.is_empty() {
            let mut end = rest.floor_char_boundary(MOST_VARIABLE);
            // A doubled dollar stands for one: its halves stay together.
            let dollars =
                rest.get(..end).unwrap_or(rest).bytes().rev().take_while(|byte| *byte == b'$').count();
            if end < rest.len() && dollars % 2 == 1 {
                end -= 1;
            }
            let (part, after) = rest.split_at(end);
            let name = format!("HEADRACE_PROFILES_{}", variables.len());
            variables.push(EnvVar { name, value: Some(part.into()), ..EnvVar::default() });
            rest = after;
        }
        let names: Vec<_> = variables.iter().map(|variable| variable.name.clone()).collect();
        let containers = template.spec.iter_mut().flat_map(|spec| &mut spec.containers);
        for env in containers.filter_map(|container| container.env.as_mut()) {
            let told = env.iter_mut().find(|variable| variable.name == TASK);
            if let Some(text) = told.and_then(|variable| variable.value.as_mut())
                && let Ok(mut task) = serde_json::from_str::<Value>(&text.replace("$$", "$"))
            {
                task["profiles"] = json!({"variables": names, "leftOut": self.left_out});
                *text = verbatim(&task.to_string());
            }
            env.extend(variables.clone());
        }
    }
}

/// What the worker said at its end. Somebody else's image may say anything, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    result: u32,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    bytes_there: u64,
    #[serde(default)]
    bytes_total: Option<u64>,
    #[serde(default)]
    note: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

/// What became of a try whose Job is over, in the worker's own words where it had some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Nothing,
    Done(Progress),
    Failed(String),
}

pub fn said(pods: &[Pod]) -> Said {
    let statuses = pods.iter().filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref()).flatten();
    let ended = statuses
        .filter(|status| status.name == CONTAINER)
        .filter_map(|status| status.state.as_ref()?.terminated.as_ref()?.message.as_deref());
    ended.filter_map(answer).next().unwrap_or(Said::Nothing)
}

fn answer(text: &str) -> Option<Said> {
    // A list of the right length would be taken for the fields, one after another.
    let object: serde_json::Map<String, Value> = serde_json::from_str(text).ok()?;
    let answer: Answer = serde_json::from_value(Value::Object(object)).ok()?;
    let Answer { result: 1, bytes, bytes_there, bytes_total, note, error } = answer else { return None };
    let sentence = |text: String| {
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        line.get(..line.floor_char_boundary(MOST_SENTENCE)).unwrap_or_default().to_owned()
    };
    if let Some(error) = error {
        return Some(Said::Failed(sentence(error)));
    }
    let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    Some(Said::Done(Progress {
        percentage: "100%".into(),
        bytes_done: Some(number(bytes.saturating_add(bytes_there))),
        bytes_total: bytes_total.map(number),
        note: note.map(sentence),
    }))
}
