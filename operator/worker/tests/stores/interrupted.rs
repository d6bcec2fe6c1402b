//! Killed, told to stop, started again; and journals that are damaged.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::server::{Server, put};
use super::worker::{Run, bucket, command, ended, folder, migrate, run};

/// So many that a copy takes longer than the journal's interval.
const FILES: usize = 4_000;

fn many() -> tempfile::TempDir {
    let from = tempfile::tempdir().unwrap();
    for number in 0..FILES {
        put(from.path(), &format!("{}/{number}", number % 10), number.to_string().repeat(50).as_bytes());
    }
    from
}

fn journals(to: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(to.join(".headrace-worker")).into_iter().flatten().flatten() {
        let inside =
            std::fs::read_dir(folder.path()).into_iter().flatten().flatten().map(|entry| entry.path());
        found.extend(inside.filter(|path| path.extension().is_some_and(|end| end == "journal")));
    }
    found.sort();
    found
}

/// Starts it, and signals it as soon as it has written something down.
fn interrupt(task: &str, to: &Path, signal: Signal) -> Run {
    let result = tempfile::tempdir().unwrap();
    let child = command(task, result.path()).spawn().unwrap();
    let began = Instant::now();
    while journals(to).is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60), "it writes nothing down");
        std::thread::sleep(Duration::from_millis(1));
    }
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), signal).unwrap();
    ended(child, result.path())
}

#[test]
fn a_killed_worker_goes_on_where_it_was() {
    let (from, to) = (many(), tempfile::tempdir().unwrap());
    let task = migrate(&folder(&from), &folder(&to)).to_string();
    let killed = interrupt(&task, to.path(), Signal::KILL);
    assert_eq!(killed.code, None, "it came to its end before it was killed: {}", killed.log);
    let rest = run(&serde_json::from_str(&task).unwrap()).well();
    assert!(rest.number("filesThere") > 0, "{}", rest.report);
    assert_eq!(rest.number("filesThere") + rest.number("files"), FILES as u64);
    assert_eq!(journals(to.path()).len(), 1);
    for number in [0, 1_234, FILES - 1] {
        let name = format!("{}/{number}", number % 10);
        assert_eq!(
            std::fs::read(to.path().join(&name)).unwrap(),
            std::fs::read(from.path().join(&name)).unwrap()
        );
    }
    // Nothing but the files and the journal.
    let state = std::fs::read_dir(to.path().join(".headrace-worker")).unwrap().flatten().next().unwrap();
    let left = std::fs::read_dir(state.path()).unwrap().flatten().filter(|entry| entry.path().is_dir());
    assert!(left.map(|folder| std::fs::read_dir(folder.path()).unwrap().count()).all(|count| count == 0));
}

#[test]
fn a_worker_that_is_told_to_stop_says_so_and_goes_on_later() {
    let (from, to) = (many(), tempfile::tempdir().unwrap());
    let task = migrate(&folder(&from), &folder(&to));
    let stopped = interrupt(&task.to_string(), to.path(), Signal::TERM);
    assert_eq!(stopped.code, Some(143), "{}", stopped.log);
    assert!(stopped.error().contains("told to stop"), "{}", stopped.error());
    let done = stopped.number("files");
    let rest = run(&task).well();
    // What was done was written down, to the last file.
    assert_eq!(
        (rest.number("filesThere"), rest.number("files")),
        (done, FILES as u64 - done),
        "{}",
        rest.report
    );
}

#[test]
fn a_damaged_journal_costs_what_it_told_of_and_nothing_else() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in ["a", "b", "c"] {
        put(from.path(), name, name.as_bytes());
    }
    let task = migrate(&folder(&from), &folder(&to));
    run(&task).well();
    let journal = journals(to.path()).pop().unwrap();
    let whole = std::fs::read(&journal).unwrap();
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 4;
    let newer =
        String::from_utf8(whole.clone()).unwrap().replace("\"version\":1", "\"version\":2").into_bytes();
    for (damage, words) in [
        (whole[..whole.len() / 2].to_vec(), "it was cut"),
        (flipped, "it was altered"),
        (newer, "use a newer image"),
        (Vec::new(), "it is no headrace-journal"),
    ] {
        let journal = journals(to.path()).pop().unwrap();
        std::fs::write(&journal, damage).unwrap();
        let again = run(&task).well();
        assert_eq!((again.number("files"), again.number("filesThere")), (3, 0), "{}", again.report);
        assert!(again.log.contains(words), "{}", again.log);
        assert_eq!(journals(to.path()).len(), 1, "the damaged one is gone");
    }
    assert_eq!(run(&task).well().number("filesThere"), 3);
}

#[test]
fn a_worker_killed_on_its_way_to_a_bucket_goes_on_too() {
    let server = Server::start();
    let from = tempfile::tempdir().unwrap();
    for number in 0..600 {
        put(from.path(), &format!("f{number}"), number.to_string().repeat(100).as_bytes());
    }
    put(from.path(), "large", &[5; 24 << 20]);
    let mut task = migrate(&folder(&from), &bucket("TO", "s3://bucket/copy", server.at));
    task["parallelism"] = serde_json::json!(2);
    let killed = interrupt(&task.to_string(), &server.bucket().join("copy"), Signal::KILL);
    assert_eq!(killed.code, None, "it came to its end before it was killed: {}", killed.log);
    let rest = run(&task).well();
    assert!(rest.number("filesThere") > 0, "{}", rest.report);
    assert_eq!(rest.number("filesThere") + rest.number("files"), 601);
    assert_eq!(std::fs::read(server.bucket().join("copy/large")).unwrap(), vec![5; 24 << 20]);
    assert_eq!(journals(&server.bucket().join("copy")).len(), 1);
    assert_eq!(run(&task).well().number("filesThere"), 601);
}
