//! From folder to folder: names, links, versions, what is there already, what cannot be.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::json;
use worker::place::folder::Folder;
use worker::plan;

use super::server::put;
use super::worker::{folder, migrate, run};

fn two() -> (tempfile::TempDir, tempfile::TempDir) {
    (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap())
}

#[test]
fn everything_arrives_and_a_second_time_only_looks() {
    let (from, to) = two();
    put(from.path(), "train/a", &[7; 3 << 20]);
    put(from.path(), "train/new\nline", b"x");
    put(from.path(), "empty", b"");
    std::fs::write(from.path().join(OsStr::from_bytes(b"\xff\xfe")), "bytes").unwrap();
    symlink("/etc/passwd", from.path().join("passwd")).unwrap();
    symlink("/etc", from.path().join("etc")).unwrap();
    let time = UNIX_EPOCH + Duration::new(1_700_000_000, 5);
    std::fs::File::options().write(true).open(from.path().join("empty")).unwrap().set_modified(time).unwrap();

    let task = migrate(&folder(&from), &folder(&to));
    let first = run(&task).well();
    assert_eq!((first.number("files"), first.number("leftOut")), (4, 2), "{}", first.report);
    assert_eq!(std::fs::read(to.path().join("train/a")).unwrap(), vec![7; 3 << 20]);
    assert_eq!(std::fs::read(to.path().join(OsStr::from_bytes(b"\xff\xfe"))).unwrap(), b"bytes");
    assert_eq!(std::fs::metadata(to.path().join("empty")).unwrap().modified().unwrap(), time);
    assert!(to.path().join("train/new\nline").is_file());
    assert!(!to.path().join("passwd").exists() && !to.path().join("etc").exists());

    let second = run(&task).well();
    assert_eq!((second.number("files"), second.number("filesThere")), (0, 4), "{}", second.report);
    assert_eq!(second.report["digest"], first.report["digest"]);

    // What is altered behind our back, size and time untouched, is found and made good; so is what changed.
    let victim = to.path().join("train/a");
    let stood = std::fs::metadata(&victim).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(&victim).unwrap();
    bytes[1 << 20] ^= 1;
    std::fs::write(&victim, bytes).unwrap();
    std::fs::File::options().write(true).open(&victim).unwrap().set_modified(stood).unwrap();
    put(from.path(), "empty", b"not any more");
    let third = run(&task).well();
    assert_eq!((third.number("files"), third.number("filesAgain")), (2, 1), "{} {}", third.report, third.log);
    assert_eq!(std::fs::read(&victim).unwrap(), vec![7; 3 << 20]);
    assert_ne!(third.report["digest"], first.report["digest"]);
    let left: Vec<_> = std::fs::read_dir(to.path().join(".headrace-worker")).unwrap().collect();
    assert_eq!(left.len(), 1, "one journal");
}

#[test]
fn a_target_in_its_source_is_refused_and_no_other_try_is_worth_it() {
    let (from, _) = two();
    put(from.path(), "train/a", b"a");
    let named = |path: &str| json!({"folder": from.path(), "path": path, "dataset": "ns/name"});
    for (source, target) in [("", "copy"), ("train", "train/copy"), ("train", "/"), ("/", "")] {
        let refused = run(&migrate(&named(source), &named(target)));
        assert_eq!(refused.code, Some(2), "{source} {target}: {}", refused.report);
        assert!(refused.error().contains("; name a"), "{}", refused.error());
    }
    let left: Vec<_> =
        std::fs::read_dir(from.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["train"], "nothing was begun");
}

#[test]
fn a_part_is_copied_and_a_target_that_was_one_is_no_source() {
    let (from, to) = two();
    let next = tempfile::tempdir().unwrap();
    put(from.path(), "train/x/a", b"a");
    put(from.path(), "other", b"b");
    let part = json!({"folder": from.path(), "path": "/train"});
    run(&migrate(&part, &json!({"folder": to.path(), "path": "deep/er"}))).well();
    assert_eq!(std::fs::read(to.path().join("deep/er/x/a")).unwrap(), b"a");
    assert!(!to.path().join("deep/er/other").exists());
    run(&migrate(&json!({"folder": to.path(), "path": "deep/er"}), &folder(&next))).well();
    run(&migrate(&json!({"folder": from.path(), "path": "train/x/a"}), &folder(&next))).well();
    assert!(next.path().join("x/a").is_file() && next.path().join("a").is_file());
    let nothing = run(&migrate(&json!({"folder": from.path(), "path": "none"}), &folder(&next)));
    assert!(
        nothing.code == Some(1) && nothing.error().contains("holds nothing at that path"),
        "{}",
        nothing.error()
    );
}

#[test]
fn only_the_version_that_was_asked_for_is_copied() {
    let (from, to) = two();
    put(from.path(), "train/a", b"a");
    put(from.path(), "b", b"b");
    let version = |at: &Path| plan::version(&Folder::open(at, None, false).unwrap().list(None).unwrap());
    let seen = version(from.path());
    let of = |version: &str| {
        migrate(&json!({"folder": from.path(), "path": "/train", "version": version}), &folder(&to))
    };
    let good = run(&of(&seen)).well();
    assert_eq!(good.number("files"), 1);
    put(from.path(), "b", b"bb");
    let bad = run(&of(&seen));
    assert_eq!(bad.code, Some(1));
    assert!(bad.error().contains(&seen) && bad.error().contains(&version(from.path())), "{}", bad.error());
}

#[test]
fn a_full_target_is_said_at_once_and_what_is_there_is_used() {
    let from = tempfile::tempdir().unwrap();
    for name in 0..8 {
        put(from.path(), &format!("f{name}"), &[name; 400 << 10]);
    }
    let small = Small::mount("size=1m");
    let mut task = migrate(&folder(&from), &json!({"folder": small.0.path()}));
    task["parallelism"] = json!(1);
    let full = run(&task);
    assert_eq!(full.code, Some(1));
    assert!(full.error().contains("the target is full"), "{}", full.error());
    let held = full.number("files");
    assert!((1..=2).contains(&held), "{}", full.report);
    let used: Vec<_> = std::fs::read_dir(small.0.path()).unwrap().collect();
    assert!(used.len() as u64 <= held + 1, "nothing half-made is left: {used:?}");
    rustix::mount::mount_remount(small.0.path(), MountFlags::empty(), "size=8m").unwrap();
    let whole = run(&task).well();
    assert_eq!(whole.number("filesThere") + whole.number("files"), 8);
    assert_eq!(whole.number("filesThere"), held, "{} {}", full.log, whole.log);
}

/// A file system of some bytes, gone with its guard.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(options: &str) -> Self {
        let at = tempfile::tempdir().unwrap();
        let options = std::ffi::CString::new(options).unwrap();
        rustix::mount::mount(
            "headrace-worker-test",
            at.path(),
            "tmpfs",
            MountFlags::empty(),
            options.as_c_str(),
        )
        .unwrap();
        Self(at)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

#[test]
fn links_at_the_target_are_not_written_through() {
    let (from, to) = two();
    let outside = tempfile::tempdir().unwrap();
    put(from.path(), "out/a", b"evil");
    put(from.path(), "good", b"good");
    symlink(outside.path(), to.path().join("out")).unwrap();
    let refused = run(&migrate(&folder(&from), &folder(&to)));
    assert_eq!((refused.code, refused.number("files"), refused.number("filesFailed")), (Some(1), 1, 1));
    assert!(refused.error().starts_with("out/a: it cannot be written: a link"), "{}", refused.error());
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_task_that_is_wrong_is_refused_with_a_sentence() {
    let (from, to) = two();
    let good = migrate(&folder(&from), &folder(&to));
    let says = |change: &dyn Fn(&mut serde_json::Value), code: i32, words: &str| {
        let mut task = good.clone();
        change(&mut task);
        let refused = run(&task);
        assert_eq!(refused.code, Some(code), "{}", refused.log);
        assert!(refused.error().contains(words), "{}", refused.error());
    };
    says(&|task| task["task"] = json!(9), 2, "images of one release");
    says(&|task| task["from"]["path"] = json!("../../etc"), 2, "from.path");
    says(
        &|task| task["to"] = json!({"uri": "s3://b", "options": {"region": "NOT_THERE"}}),
        2,
        "NOT_THERE is not set",
    );
    says(&|task| task["to"] = json!({"uri": "gs://b/x"}), 2, "s3://");
    says(&|task| task["from"]["folder"] = json!("/nowhere/at/all"), 1, "the source cannot be");
    says(&|task| task["to"]["folder"] = json!("/nowhere/at/all"), 1, "the target cannot be opened");
    // An empty Dataset is a Dataset.
    run(&good).well();
}
