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

/// A Dataset of three mounts: a folder, a bucket, and one that nobody can list.
fn with_mounts(to: &Value, include: &Value, folder: &Path, at: std::net::SocketAddr) -> Value {
    let mut task = task(to);
    let secrets = bucket("FROM", "", at);
    task["include"] = include.clone();
    task["dataset"]["spec"] = json!({"mounts": [{"mountPoint": "pvc://c", "name": "f"},
        {"mountPoint": "s3://bucket/data", "name": "b"}, {"mountPoint": "juicefs://j", "name": "j"}]});
    task["mounts"] = json!([{"at": "/f", "folder": folder}, {"at": "/b", "options": secrets["options"]},
            {"at": "/j", "unreached": "nobody speaks it"}]);
    task
}

fn compared(file: &Path, against: &[&str], env: &[(&str, String)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headrace-worker"));
    command.env_clear().arg("restore").arg(file).envs(env.iter().map(|(name, value)| (name, value)));
    command.args(against.iter().flat_map(|place| ["--against", place])).output().unwrap()
}

#[test]
fn manifests_say_what_stores_held_and_a_restore_what_they_lack() {
    let server = Server::start();
    let (to, held) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir_all(held.path().join("in")).unwrap();
    std::fs::create_dir_all(server.bucket().join("data/x")).unwrap();
    for number in 0..20 {
        std::fs::write(held.path().join(format!("in/{number:02}")), "abc").unwrap();
    }
    std::fs::write(held.path().join("stays"), "abc").unwrap();
    std::fs::write(server.bucket().join("data/x/object"), "12345").unwrap();
    // S3 tells whole seconds.
    let before = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    std::fs::File::options()
        .write(true)
        .open(server.bucket().join("data/x/object"))
        .unwrap()
        .set_modified(before)
        .unwrap();
    let folder = json!({"folder": to.path()});
    let kept = keep(&with_mounts(&folder, &json!(["Manifests"]), held.path(), server.at)).well();
    let note = kept.report["note"].as_str().unwrap();
    assert!(note.contains("1 of 3 mounts have no manifest: /j: nobody speaks it"), "{note}");
    let file = only(to.path());
    let env = [
        ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ENDPOINT", format!("http://{}", server.at)),
    ];
    let f = format!("/f={}", held.path().display());
    let both = [f.as_str(), "b=s3://bucket/data"];
    let same = compared(&file, &both, &env);
    let said = String::from_utf8_lossy(&same.stdout).into_owned();
    assert_eq!(same.status.code(), Some(0), "{said}");
    for words in [
        "# manifest of /f (pvc://c): 21 files, 63 bytes",
        "# manifest of /b (s3://bucket/data): 1 files, 5 bytes",
        "# /j (juicefs://j) has no manifest: nobody speaks it",
        ": 21 files are as they were, 0 missing",
        ": 1 files are as they were, 0 missing",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("---"), "no object was asked for");

    std::fs::remove_dir_all(held.path().join("in")).unwrap();
    std::fs::write(held.path().join("stays"), "abcd").unwrap();
    std::fs::write(held.path().join("new"), "x").unwrap();
    std::fs::write(server.bucket().join("data/x/object"), "54321").unwrap();
    let other = compared(&file, &both, &env);
    let (said, told) = (String::from_utf8_lossy(&other.stdout), String::from_utf8_lossy(&other.stderr));
    assert_eq!(other.status.code(), Some(3), "{said}");
    for words in [
        "0 files are as they were, 20 missing, 1 of another size, 0 of the same size written anew, 1 more than then",
        "missing: in/00",
        "missing: in/15",
        "missing: and 4 more",
        "of another size: stays",
        "written anew: x/object",
    ] {
        assert!(said.contains(words) && told.contains(words), "{words}: {said}{told}");
    }
    assert!(!said.contains("in/16"), "sixteen are named: {said}");
    let unclear = compared(&file, &[held.path().to_str().unwrap()], &[]);
    assert_eq!(unclear.status.code(), Some(1));
    let why = String::from_utf8_lossy(&unclear.stderr).into_owned();
    assert!(why.contains("write MOUNT=PLACE") && why.contains("/f, /b"), "{why}");
}

#[test]
fn manifests_that_are_asked_for_and_cannot_be_had_are_no_backup() {
    let to = tempfile::tempdir().unwrap();
    let mut named = task(&json!({"folder": to.path()}));
    named["include"] = json!(["Manifests"]);
    named["mounts"] = json!([{"at": "/x", "unreached": "nobody speaks it"}]);
    let refused = keep(&named);
    assert_eq!(refused.code, Some(2));
    assert!(refused.error().contains("no mount of the Dataset can be listed"), "{}", refused.error());
    named["mounts"] = json!([{"at": "/x", "folder": "/nowhere/at/all"}]);
    let absent = keep(&named);
    assert_eq!(absent.code, Some(1), "a mount may come back");
    assert!(absent.error().contains("/x: it is not there"), "{}", absent.error());
    assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 0);
    named["include"] = json!([]);
    let kept = keep(&named).well();
    let note = kept.report["note"].as_str().unwrap();
    assert!(note.contains("1 of 1 mounts have no manifest: /x: it is not there"), "{note}");
    assert!(objects(&restore(&only(to.path()), &[])).len() == 2);
}
