//! Kept and restored: in a folder, in a bucket, damaged, with profiles handed over in parts.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::server::{KEY, SECRET, Server};
use super::worker::{Run, bucket, command, ended};

fn task(to: &Value) -> Value {
    json!({"task": 1, "do": "backup", "to": to, "include": [],
        "dataset": {"name": "d", "namespace": "n", "versions": [{"version": "0a", "current": true}],
            "spec": {"mounts": [{"mountPoint": "s3://b/x", "name": "x",
                "encryptOptions": [{"name": "k", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}]}},
        "profiles": {"variables": ["HEADRACE_PROFILES_0", "HEADRACE_PROFILES_1"], "leftOut": 1}})
}

fn profiles() -> Value {
    let spec = json!({"workload": {"kind": "Job", "name": "w"}, "dataset": {"name": "d"}, "data": "QUJD".repeat(9_000)});
    json!([{"metadata": {"name": "p", "namespace": "n", "labels": null}, "spec": spec}])
}

fn keep(task: &Value) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let text = profiles().to_string();
    let (first, second) = text.split_at(20_000);
    let mut command = command(&task.to_string(), folder.path());
    command.env("HEADRACE_PROFILES_0", first).env("HEADRACE_PROFILES_1", second);
    ended(command.spawn().unwrap(), folder.path())
}

fn restore(from: &Path, env: &[(&str, String)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headrace-worker"));
    command.env_clear().arg("restore").arg(from).envs(env.iter().map(|(name, value)| (name, value)));
    command.output().unwrap()
}

fn objects(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(
        text.contains("# version 0a, the current one") && text.contains("# 1 more AccessProfiles"),
        "{text}"
    );
    text.split("---\n").skip(1).map(|part| serde_saphyr::from_str(part).unwrap()).collect()
}

fn only(folder: &Path) -> PathBuf {
    let mut found = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let one = found.next().unwrap();
    assert!(found.next().is_none(), "nothing beside it");
    one
}

#[test]
fn a_backup_in_a_folder_is_restored_or_refused_whole() {
    let to = tempfile::tempdir().unwrap();
    let kept = keep(&task(&json!({"folder": to.path(), "path": "weekly/d"}))).well();
    assert!(
        kept.report["note"].as_str().unwrap().starts_with("1 AccessProfiles did not fit"),
        "{}",
        kept.report
    );
    let file = only(&to.path().join("weekly/d"));
    let name = file.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(name.starts_with("n.d.2") && name.ends_with(".headrace-backup"), "{name}");
    let objects = objects(&restore(&file, &[]));
    assert_eq!((objects.len(), &objects[0]["kind"]), (2, &json!("Dataset")));
    assert_eq!(objects[0]["spec"], task(&json!({}))["dataset"]["spec"]);
    assert_eq!(objects[1]["spec"], profiles()[0]["spec"]);

    let whole = std::fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for (damage, words) in [
        (&whole[..whole.len() - 9], "it was cut"),
        (&flipped[..], "it was altered"),
        (&b"PK"[..], "no headrace-backup"),
    ] {
        std::fs::write(&file, damage).unwrap();
        let refused = restore(&file, &[]);
        assert_eq!((refused.status.code(), refused.stdout.len()), (Some(1), 0));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(words) && said.contains("nothing of it is restored"), "{said}");
    }
    assert_eq!(restore(Path::new("/nowhere/x"), &[]).status.code(), Some(1));
    assert_eq!(restore(Path::new("gs://b/x"), &[]).status.code(), Some(1));
}

#[test]
fn a_backup_in_a_bucket_is_restored() {
    let server = Server::start();
    keep(&task(&bucket("TO", "s3://bucket/backups", server.at))).well();
    let file = only(&server.bucket().join("backups"));
    let uri = format!("s3://bucket/backups/{}", file.file_name().unwrap().to_str().unwrap());
    let env = [
        ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ENDPOINT", format!("http://{}", server.at)),
    ];
    assert_eq!(objects(&restore(Path::new(&uri), &env)).len(), 2);
    let none = restore(Path::new("s3://bucket/backups/none"), &env);
    assert!(!none.status.success() && String::from_utf8_lossy(&none.stderr).contains("not there"));
}

#[test]
fn what_was_not_handed_over_is_said() {
    let to = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let task = task(&json!({"folder": to.path()})).to_string();
    let refused = ended(command(&task, folder.path()).spawn().unwrap(), folder.path());
    assert_eq!(refused.code, Some(2));
    assert!(refused.error().contains("HEADRACE_PROFILES_0 is not set"), "{}", refused.error());
    assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 0, "nothing is kept");
}
