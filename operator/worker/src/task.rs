//! What the worker is told to do: one JSON document, written by the operator, checked as if a stranger had written it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use operator_api::nested::{Nested, nested};
use serde::Deserialize;
use serde_json::Value;

use crate::name::{Name, shown};
use crate::options::{OptionError, Settings, settings};
use crate::uri::{bucket, relative, web};

/// The version of this language.
pub const VERSION: u64 = 1;

/// Characters of a task. The kernel takes no variable longer than 128 KiB.
const LONGEST: usize = 1 << 20;

const MOST_PARALLEL: u64 = 256;

#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    Migrate(Box<Migrate>),
    Backup(Box<Backup>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Migrate {
    pub from: End,
    pub to: End,
    /// The source's name, for its journal: the same in every try.
    pub source: String,
    /// The version that the source must be at.
    pub version: Option<String>,
    pub parallelism: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Backup {
    pub to: End,
    pub metadata: bool,
    pub manifests: bool,
    /// Manifests are asked for by name: none at all is a failure then.
    pub named: bool,
    /// Of the Dataset's mounts, in the order of its spec.
    pub mounts: Vec<Reach>,
    /// The Dataset, its name checked: it becomes a file's.
    pub namespace: String,
    pub name: String,
    pub spec: Value,
    pub versions: Value,
    /// Variables that hold AccessProfiles, one after another; none where they are not asked for.
    pub profiles: Option<Vec<String>>,
    /// Profiles that found no room in them.
    pub left_out: u64,
}

/// By what the pod reaches one of the Dataset's mounts; nothing of it: by the mount's own URL.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Reach {
    /// Where the mount is seen in the Dataset.
    pub at: String,
    /// Where its claim is mounted, and the folder in that.
    pub folder: Option<String>,
    pub path: Option<String>,
    /// Which option is in which variable.
    pub options: BTreeMap<String, String>,
    /// Why it cannot be reached.
    pub unreached: Option<String>,
}

/// One side of it.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    Folder {
        at: PathBuf,
        path: Option<Name>,
    },
    Bucket {
        bucket: String,
        prefix: Option<Name>,
        settings: Settings,
    },
    /// One file of a web server, which is named by scheme, host and port.
    Web {
        server: String,
        file: Name,
    },
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TaskError {
    #[error(
        "{variable} is not set: the operator sets it in the Jobs it makes; see docs/operator.md for what it holds"
    )]
    Missing { variable: String },
    #[error("the task is longer than {LONGEST} characters")]
    Long,
    #[error("the task is no JSON of the expected shape: {0}")]
    Shape(String),
    #[error(
        "the task is written in version {found}, and this worker knows version {VERSION}: give operator and worker \
         images of one release"
    )]
    Version { found: String },
    #[error("the task says do: {0}; this worker knows migrate and backup")]
    Unknown(String),
    #[error("{side}.{field} cannot be used: {why}")]
    End { side: &'static str, field: &'static str, why: String },
    #[error("{side}.options cannot be used: {source}")]
    Options { side: &'static str, source: OptionError },
    #[error("{}", .0.words())]
    Nested(Nested),
    #[error("from.version is asked for, and only a Dataset's folder has versions: take it out")]
    Versionless,
}

#[derive(Deserialize)]
struct RawMigrate {
    from: RawEnd,
    to: RawEnd,
    #[serde(default)]
    parallelism: Option<u64>,
}

#[derive(Deserialize)]
struct RawBackup {
    to: RawEnd,
    #[serde(default)]
    include: Vec<String>,
    dataset: RawDataset,
    #[serde(default)]
    mounts: Vec<Reach>,
    #[serde(default)]
    profiles: Option<RawProfiles>,
}

#[derive(Deserialize)]
struct RawDataset {
    name: String,
    namespace: String,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    versions: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawProfiles {
    variables: Vec<String>,
    #[serde(default)]
    left_out: u64,
}

#[derive(Deserialize)]
struct RawEnd {
    #[serde(default)]
    folder: Option<String>,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    version: Option<String>,
    /// Namespace and name of the Dataset that is mounted at `folder`, or the URL of the claim.
    #[serde(default)]
    dataset: Option<String>,
    #[serde(default)]
    uri: Option<String>,
    #[serde(default)]
    options: BTreeMap<String, String>,
}

/// Reads a task. `variable` gives the value of an environment variable: options name those that hold secrets.
pub fn parse(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Task, TaskError> {
    if text.len() > LONGEST {
        return Err(TaskError::Long);
    }
    let shape = |error: serde_json::Error| TaskError::Shape(error.to_string());
    let value: Value = serde_json::from_str(text).map_err(shape)?;
    if value["task"] != VERSION {
        let found = if value["task"].is_null() { "none".into() } else { value["task"].to_string() };
        return Err(TaskError::Version { found: shown(found.as_bytes()) });
    }
    match value["do"].as_str() {
        Some("migrate") => {
            let RawMigrate { from, to, parallelism } = serde_json::from_value(value).map_err(shape)?;
            let version = from.version.clone();
            let source = [&from.dataset, &from.folder, &from.path, &from.uri]
                .map(|part| part.as_deref().unwrap_or("-"));
            let source = source.join(" ");
            let mounted = [&from, &to].map(|side| side.dataset.as_deref().map(volume).map(str::to_owned));
            let from = end("from", from, variable)?;
            let to = end("to", to, variable)?;
            if let Some(how) = relation(&from, &to, mounted) {
                return Err(TaskError::Nested(how));
            }
            if version.is_some() && !matches!(from, End::Folder { .. }) {
                return Err(TaskError::Versionless);
            }
            let parallelism = parallelism.unwrap_or(8).clamp(1, MOST_PARALLEL);
            let parallelism = usize::try_from(parallelism).unwrap_or(8);
            Ok(Task::Migrate(Box::new(Migrate { from, to, source, version, parallelism })))
        }
        Some("backup") => {
            let RawBackup { to, include, dataset, mounts, profiles } =
                serde_json::from_value(value).map_err(shape)?;
            let to = end("to", to, variable)?;
            let wanted = |what: &str| include.is_empty() || include.iter().any(|one| one == what);
            for name in [&dataset.name, &dataset.namespace] {
                let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
                if name.is_empty() || name.len() > 253 || name.starts_with('.') || !name.chars().all(good) {
                    let why = "dataset.name and dataset.namespace must be names of Kubernetes objects";
                    return Err(TaskError::Shape(why.into()));
                }
            }
            let (variables, left_out) = profiles.map_or((None, 0), |raw| (Some(raw.variables), raw.left_out));
            Ok(Task::Backup(Box::new(Backup {
                to,
                metadata: wanted("Metadata"),
                manifests: wanted("Manifests"),
                named: !include.is_empty(),
                mounts,
                profiles: variables.filter(|_| wanted("Profiles")),
                left_out,
                namespace: dataset.namespace,
                name: dataset.name,
                spec: dataset.spec,
                versions: dataset.versions,
            })))
        }
        other => Err(TaskError::Unknown(shown(other.unwrap_or("nothing").as_bytes()))),
    }
}

fn end(side: &'static str, raw: RawEnd, variable: &dyn Fn(&str) -> Option<String>) -> Result<End, TaskError> {
    let RawEnd { folder, path, version: _, dataset: _, uri, options } = raw;
    match (folder, uri) {
        (Some(folder), None) => {
            let at = PathBuf::from(&folder);
            if !at.is_absolute() {
                return Err(TaskError::End { side, field: "folder", why: "it is no absolute path".into() });
            }
            let path = relative(path.as_deref().unwrap_or_default()).map_err(|why| TaskError::End {
                side,
                field: "path",
                why: why.to_string(),
            })?;
            Ok(End::Folder { at, path })
        }
        (None, Some(uri)) => {
            let mut values = BTreeMap::new();
            for (name, holder) in options {
                let value =
                    variable(&holder).ok_or(TaskError::Missing { variable: shown(holder.as_bytes()) })?;
                values.insert(name, value);
            }
            store(side, &uri, &values)
        }
        _ => Err(TaskError::Shape(format!("{side} must have a folder or a uri, and only one of them"))),
    }
}

/// A store that is reached by its URL, with the values of its options.
pub fn store(side: &'static str, uri: &str, values: &BTreeMap<String, String>) -> Result<End, TaskError> {
    if let Some(web) = web(uri) {
        let (server, file) = web.map_err(|why| TaskError::End { side, field: "uri", why })?;
        let wrong = |why: &str| TaskError::End { side, field: "uri", why: why.into() };
        if side != "from" {
            return Err(wrong("a web server is only read from: name an s3:// or a folder to write to"));
        }
        if !values.is_empty() {
            return Err(wrong("http:// and https:// take no options: only what anybody may read is copied"));
        }
        return Ok(End::Web { server, file });
    }
    let settings = settings(values).map_err(|source| TaskError::Options { side, source })?;
    let (bucket, prefix) = bucket(uri).map_err(|why| TaskError::End { side, field: "uri", why })?;
    Ok(End::Bucket { bucket, prefix, settings })
}

/// What is mounted, without the folder in it.
fn volume(dataset: &str) -> &str {
    match dataset.strip_prefix("pvc://").and_then(|rest| rest.find('/')) {
        Some(end) => dataset.get(.."pvc://".len() + end).unwrap_or(dataset),
        None => dataset,
    }
}

/// How `to` lies to `from`; none where neither holds the other. `mounted` says what is at the folders: one volume may be
/// mounted at two.
fn relation(from: &End, to: &End, mounted: [Option<String>; 2]) -> Option<Nested> {
    let text = |name: &Option<Name>| name.as_ref().and_then(Name::utf8).unwrap_or_default().to_owned();
    match (from, to) {
        (End::Folder { at, path }, End::Folder { at: to_at, path: to_path }) => {
            let [volume, to_volume] = mounted;
            if volume.is_some() && volume == to_volume {
                return nested(&text(path), &text(to_path));
            }
            let whole = |at: &Path, path| format!("{}/{}", at.to_string_lossy(), text(path));
            nested(&whole(at, path), &whole(to_at, to_path))
        }
        (
            End::Bucket { bucket, prefix, settings },
            End::Bucket { bucket: to_bucket, prefix: to_prefix, settings: to_settings },
        ) => {
            let one = bucket == to_bucket && settings.one_server(to_settings);
            if one { nested(&text(prefix), &text(to_prefix)) } else { None }
        }
        // What is written is never a web server, and a folder is in no bucket.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Result<Task, TaskError> {
        let variable = |name: &str| (name == "HEADRACE_TO_0").then(|| "https://h".to_owned());
        parse(&value.to_string(), &variable)
    }

    fn migrate() -> Value {
        json!({"task": 1, "do": "migrate", "from": {"folder": "/from", "path": "/train/", "version": "ab"},
               "to": {"uri": "s3://bucket/a/b", "options": {"endpoint": "HEADRACE_TO_0"}}})
    }

    #[test]
    fn a_migration_is_read() {
        let Task::Migrate(task) = read(&migrate()).unwrap() else { panic!() };
        assert_eq!((task.parallelism, task.version.as_deref()), (8, Some("ab")));
        let train = Name::parse(b"train").ok();
        assert_eq!(task.from, End::Folder { at: "/from".into(), path: train });
        let End::Bucket { bucket, prefix, settings } = task.to else { panic!() };
        assert_eq!((bucket.as_str(), prefix.unwrap().bytes()), ("bucket", &b"a/b"[..]));
        assert_eq!(settings.endpoint.as_deref(), Some("https://h"));
    }

    #[test]
    fn a_web_url_is_server_and_file() {
        let mut value = migrate();
        value["from"] = json!({"uri": "HTTPS://h.example:8443/a/b%20c.bin"});
        let Task::Migrate(task) = read(&value).unwrap() else { panic!() };
        let file = Name::parse(b"a/b c.bin").unwrap();
        assert_eq!(task.from, End::Web { server: "https://h.example:8443".into(), file });
    }

    #[test]
    fn each_wrong_field_is_named() {
        let says = |change: &dyn Fn(&mut Value), words: &str| {
            let mut value = migrate();
            change(&mut value);
            let said = read(&value).unwrap_err().to_string();
            assert!(said.contains(words), "{said}");
        };
        says(&|v| v["task"] = json!(2), "version 2");
        says(&|v| v["task"] = Value::Null, "version none");
        says(&|v| v["do"] = json!("dance\n"), "do: dance\\n;");
        says(&|v| v["from"]["folder"] = json!("from"), "from.folder");
        says(&|v| v["from"]["path"] = json!("/a/../../etc"), "from.path");
        says(&|v| v["from"] = json!({"uri": "https://user:geheim@h/x"}), "it has no host, or a user");
        says(&|v| v["from"] = json!({"uri": "https://h/x?token=geheim"}), "query");
        says(&|v| v["from"] = json!({"uri": "http:///x"}), "no host");
        says(&|v| v["from"] = json!({"uri": "http://h"}), "names no file");
        says(&|v| v["from"] = json!({"uri": "http://h/a/"}), "names a folder");
        says(&|v| v["from"] = json!({"uri": "http://h/a/%2e%2e/b"}), "names no file");
        says(&|v| v["to"] = json!({"uri": "https://h/x"}), "only read from");
        says(
            &|v| v["from"] = json!({"uri": "https://h/x", "options": {"a": "HEADRACE_TO_0"}}),
            "take no options",
        );
        says(&|v| v["from"] = json!({"uri": "https://h/x", "version": "v"}), "only a Dataset's folder");
        says(
            &|v| v["to"]["uri"] = json!("gs://x/y"),
            "to.uri cannot be used: the worker copies between s3://",
        );
        says(&|v| v["to"]["uri"] = json!("s3://user@x"), "to.uri");
        says(&|v| v["to"]["uri"] = json!("s3:///x"), "names no bucket");
        says(&|v| v["to"]["options"]["endpoint"] = json!("ELSE"), "ELSE is not set");
        says(&|v| v["to"] = json!({}), "folder or a uri");
        says(&|v| v["to"]["folder"] = json!("/x"), "only one of them");
        says(
            &|v| v["from"] = json!({"uri": "s3://b", "version": "x"}),
            "only a Dataset's folder has versions",
        );
        says(&|v| v["parallelism"] = json!(-1), "shape");
    }

    #[test]
    fn a_target_in_or_around_its_source_is_refused() {
        let volume =
            |at: &str, path: &str, named: &str| json!({"folder": at, "path": path, "dataset": named});
        let folder = |at: &str, path: &str| json!({"folder": at, "path": path});
        let bucket = |uri: &str| json!({"uri": uri});
        let at = |uri: &str| json!({"uri": uri, "options": {"endpoint": "HEADRACE_TO_0"}});
        let there = |uri: &str| json!({"uri": uri, "options": {"region": "REGION_A"}});
        let elsewhere = |uri: &str| json!({"uri": uri, "options": {"region": "REGION_B"}});
        let judged = |from: &Value, to: &Value| {
            let variable = |name: &str| match name {
                "HEADRACE_TO_0" => Some("https://h/".to_owned()),
                name => name.strip_prefix("REGION_").map(str::to_owned),
            };
            let task = json!({"task": 1, "do": "migrate", "from": from, "to": to});
            match parse(&task.to_string(), &variable) {
                Ok(_) => None,
                Err(TaskError::Nested(how)) => Some(how),
                Err(error) => panic!("{error}"),
            }
        };
        let (from, to) = ("/headrace/from", "/headrace/to");
        let cases = [
            (volume(from, "", "n/d"), volume(to, "/copy", "n/d"), Some(Nested::Inside)),
            (volume(from, "/", "n/d"), volume(to, "", "n/d"), Some(Nested::Same)),
            (volume(from, "a/b", "n/d"), volume(to, "a", "n/d"), Some(Nested::Around)),
            (volume(from, "a", "pvc://c/a"), volume(to, "a/b", "pvc://c/a/b"), Some(Nested::Inside)),
            (volume(from, "", "pvc://c"), volume(to, "copy", "pvc://c/copy"), Some(Nested::Inside)),
            (volume(from, "", "pvc://c"), volume(to, "copy", "pvc://d/copy"), None),
            (volume(from, "", "n/d"), volume(to, "copy", "n/e"), None),
            (volume(from, "a", "n/d"), volume(to, "ab", "n/d"), None),
            (folder("/x", "a"), folder("/x/a", "b"), Some(Nested::Inside)),
            (folder("/x", ""), folder("/y", "b"), None),
            (bucket("s3://b"), bucket("s3://b/copy"), Some(Nested::Inside)),
            (at("s3://b/x/"), at("s3://b/x"), Some(Nested::Same)),
            (there("s3://b/x"), bucket("s3://b"), Some(Nested::Around)),
            (there("s3://b"), elsewhere("s3://b/copy"), None),
            (bucket("s3://b"), at("s3://b/copy"), None),
            (bucket("s3://b"), folder("/b", "copy"), None),
        ];
        for (from, to, expected) in cases {
            assert_eq!(judged(&from, &to), expected, "{from} to {to}");
        }
    }

    #[test]
    fn a_backup_is_read() {
        let base = json!({"task": 1, "do": "backup", "to": {"folder": "/to"}, "include": ["Metadata"],
            "dataset": {"name": "d", "namespace": "n", "spec": {}}, "profiles": {"variables": ["P"]}});
        let Task::Backup(backup) = read(&base).unwrap() else { panic!() };
        assert!(backup.metadata && !backup.manifests && backup.profiles.is_none());
        for name in ["../x", "", ".x", "a/b", "A"] {
            let mut other = base.clone();
            other["dataset"]["name"] = json!(name);
            assert!(read(&other).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_text_ends_it(text in ".{0,200}") {
            let _ = parse(&text, &|_| None);
        }
    }
}
