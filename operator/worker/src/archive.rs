//! A backup as bytes: what it holds, how it is read again. Pure.
//!
//! One sealed document: a line each for the Dataset, its versions, every file of its mounts and every AccessProfile. What
//! comes out of it are objects for the apiserver, as it would take them from anybody: neither uids nor owners nor status.

use serde_json::{Value, json};

use crate::manifest::{self, Manifest};
use crate::sealed::{Format, SealError};
use crate::task::Backup;

/// Version 1 had no manifests.
pub const FORMAT: Format = Format { name: "headrace-backup", version: 2 };

/// Bytes of an archive that are read: [`manifest::MOST_BYTES`], less than one MiB of profiles, and the Dataset.
pub const MOST_BYTES: u64 = 64 << 20;

/// Characters of a comment's line: no longer URL is admitted.
const LONGEST: usize = 3_000;

const API: &str = "headrace.io/v1alpha1";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    #[error("the backup cannot be used: {0}; nothing of it is restored")]
    Seal(#[from] SealError),
    #[error("the backup's line {0} is none that this program wrote; nothing of it is restored")]
    Line(usize),
    #[error(
        "the profiles handed over are no list of AccessProfiles: {0}; operator and worker must be of one release"
    )]
    Profiles(String),
}

/// What a backup holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    /// Namespace and name.
    pub dataset: String,
    /// When it was made.
    pub made: String,
    /// Profiles that found no room.
    pub left_out: u64,
    /// Objects, the Dataset first.
    pub objects: Vec<Value>,
    /// Versions as status had them.
    pub versions: Vec<Value>,
    /// Of the Dataset's mounts, those that could not be listed among them.
    pub manifests: Vec<Manifest>,
}

/// Gives the archive, and how many profiles are in it. `profiles` is what the variables hold, one behind the other;
/// `manifests` are [`manifest::Lines`].
pub fn write(
    task: &Backup,
    profiles: Option<&str>,
    manifests: Vec<String>,
    made: &str,
) -> Result<(Vec<u8>, usize), ArchiveError> {
    let mut lines = Vec::new();
    if task.metadata {
        let metadata = json!({"name": task.name, "namespace": task.namespace});
        let dataset = json!({"apiVersion": API, "kind": "Dataset", "metadata": metadata, "spec": task.spec});
        lines.push(json!({"object": dataset}).to_string());
    }
    if task.manifests {
        for version in task.versions.as_array().into_iter().flatten() {
            lines.push(json!({"version": version}).to_string());
        }
    }
    lines.extend(manifests);
    let mut count = 0;
    if let Some(text) = profiles {
        let wrong = |error: serde_json::Error| ArchiveError::Profiles(error.to_string());
        let list: Vec<Value> = serde_json::from_str(text).map_err(wrong)?;
        for profile in list {
            let profile = bare(&profile).ok_or_else(|| ArchiveError::Profiles("one is none".into()))?;
            lines.push(json!({"object": profile}).to_string());
            count += 1;
        }
    }
    let about = json!({
        "dataset": format!("{}/{}", task.namespace, task.name), "made": made, "leftOut": task.left_out});
    Ok((FORMAT.seal(about, &lines), count))
}

/// An AccessProfile as one would write it.
fn bare(profile: &Value) -> Option<Value> {
    let metadata = profile["metadata"].as_object()?;
    let kept = ["name", "namespace", "labels"];
    let metadata: serde_json::Map<String, Value> = metadata
        .iter()
        .filter(|(key, value)| kept.contains(&key.as_str()) && !value.is_null())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    metadata.get("name")?.as_str()?;
    let spec = profile["spec"].as_object()?;
    Some(json!({"apiVersion": API, "kind": "AccessProfile", "metadata": metadata, "spec": spec}))
}

pub fn read(bytes: &[u8]) -> Result<Content, ArchiveError> {
    let (about, lines) = FORMAT.open(bytes)?;
    let text = |key: &str| about[key].as_str().unwrap_or_default().to_owned();
    let mut content = Content {
        dataset: text("dataset"),
        made: text("made"),
        left_out: about["leftOut"].as_u64().unwrap_or(0),
        ..Content::default()
    };
    for (at, line) in lines.into_iter().enumerate() {
        let wrong = || ArchiveError::Line(at + 2);
        let value: Value = serde_json::from_str(line).map_err(|_| wrong())?;
        if value["object"].is_object() {
            let object = &value["object"];
            // Nothing else was ever put in; kubectl would apply anything.
            let ours = matches!(object["kind"].as_str(), Some("Dataset" | "AccessProfile"));
            if !ours || object["apiVersion"] != API || !object["metadata"]["name"].is_string() {
                return Err(wrong());
            }
            content.objects.push(object.clone());
        } else if value["version"].is_object() {
            content.versions.push(value["version"].clone());
        } else {
            manifest::read(&value, &mut content.manifests).ok_or_else(wrong)?;
        }
    }
    Ok(content)
}

/// What kubectl takes: one document after another, and what a person should know in comments; `remarks` are some more.
pub fn yaml(content: &Content, remarks: &[String]) -> String {
    let Content { dataset, made, left_out, objects, versions, manifests: _ } = content;
    let line = |text: String| comment(&text);
    let mut text = line(format!("Backup of Dataset {dataset}, made {made}: {} objects", objects.len()));
    if *left_out > 0 {
        text += &line(format!("{left_out} more AccessProfiles did not fit into it; they are learned anew"));
    }
    for version in versions {
        let name = version["version"].as_str().unwrap_or("?");
        let current = if version["current"] == true { ", the current one" } else { "" };
        let bytes =
            version["totalBytes"].as_u64().map_or_else(String::new, |bytes| format!(", {bytes} bytes"));
        text += &line(format!("version {name}{current}{bytes}"));
    }
    text.extend(remarks.iter().map(|remark| comment(remark)));
    for object in objects {
        text += "---\n";
        text += &document(object);
    }
    text
}

/// One line, whatever is in it.
fn comment(text: &str) -> String {
    let text: String = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("# {text}\n")
}

fn document(object: &Value) -> String {
    // What does not come back as it went in is written as JSON, which is YAML too.
    let mut text = match serde_saphyr::to_string(object) {
        Ok(text) if serde_saphyr::from_str::<Value>(&text).is_ok_and(|read| read == *object) => text,
        Ok(_) | Err(_) => object.to_string(),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::task::End;

    fn task() -> Backup {
        Backup {
            to: End::Folder { at: "/to".into(), path: None },
            metadata: true,
            manifests: true,
            named: false,
            mounts: vec![],
            namespace: "n".into(),
            name: "d".into(),
            spec: json!({"mounts": [{"mountPoint": "s3://b/x", "name": "no"}], "accessModes": []}),
            versions: json!([{"version": "ab", "current": true, "totalBytes": 7}]),
            profiles: Some(vec![]),
            left_out: 2,
        }
    }

    fn profile(name: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "n", "uid": "u", "ownerReferences": [{}],
               "managedFields": [], "resourceVersion": "1"},
               "spec": {"workload": {"kind": "Job", "name": "w"}, "dataset": {"name": "d"}, "data": "AAAA"}})
    }

    #[test]
    fn what_went_in_comes_out_for_kubectl() {
        let profiles = json!([profile("p"), profile("q")]).to_string();
        let files = [json!({"manifest": {"at": "/x", "url": "s3://b", "files": 1}}), json!(["a", 1, 2])];
        let files = files.map(|line| line.to_string()).to_vec();
        let (bytes, count) = write(&task(), Some(&profiles), files, "2026-11-24T00:00:00Z").unwrap();
        assert_eq!(count, 2);
        let content = read(&bytes).unwrap();
        assert_eq!((content.objects.len(), content.versions.len(), content.left_out), (3, 1, 2));
        assert_eq!((&*content.manifests[0].head.at, content.manifests[0].entries.len()), ("/x", 1));
        assert_eq!(content.objects[1]["metadata"], json!({"name": "p", "namespace": "n"}));
        let text = yaml(&content, &["a\nremark".to_owned()]);
        assert!(
            text.starts_with("# Backup of Dataset n/d, made 2026-11-24T00:00:00Z: 3 objects\n"),
            "{text}"
        );
        assert!(
            text.contains("# 2 more AccessProfiles")
                && text.contains("\n# a remark\n")
                && text.contains("# version ab, the current one, 7 bytes")
        );
        let documents: Vec<Value> =
            text.split("---\n").skip(1).map(|part| serde_saphyr::from_str(part).unwrap()).collect();
        assert_eq!(documents, content.objects);
        assert_eq!(documents[0]["spec"], task().spec);
    }

    #[test]
    fn what_is_damaged_or_foreign_restores_nothing() {
        let (bytes, _) = write(&task(), None, vec![], "now").unwrap();
        assert!(matches!(read(&bytes[..bytes.len() / 2]), Err(ArchiveError::Seal(SealError::Cut))));
        let secret = json!({"object": {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}});
        let bytes = FORMAT.seal(Value::Null, &[secret.to_string()]);
        assert_eq!(read(&bytes), Err(ArchiveError::Line(2)));
        for bad in ["", "{}", "[1]", "[{\"metadata\":{}}]"] {
            assert!(write(&task(), Some(bad), vec![], "now").is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_the_same_text_in_yaml(text in "\\PC{0,40}|[ \n\t:#\"'|>-]{0,12}|true|null|1e3|0x1f|~") {
            let object = json!({"kind": "Dataset", "spec": {"value": text, "list": [text]}});
            let read: Value = serde_saphyr::from_str(&document(&object)).unwrap();
            prop_assert_eq!(read, object);
        }

        #[test]
        fn no_bytes_end_it(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }
    }
}
