//! To a bucket and back.

use serde_json::json;

use super::server::{Server, put};
use super::worker::{bucket, folder, migrate, run};

/// More than one part, and no multiple of one.
const LARGE: usize = (20 << 20) + 7;

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at * 7 + at / 251) as u8).collect()
}

#[test]
fn there_and_back_and_a_flipped_byte_is_found() {
    let server = Server::start();
    let (from, back) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    put(from.path(), "large", &bytes(LARGE));
    put(from.path(), "deep/er/sm all+ü%41", b"small");
    put(from.path(), "empty", b"");
    let task = migrate(&folder(&from), &bucket("TO", "s3://bucket/copy", server.at));
    let first = run(&task).well();
    assert_eq!((first.number("files"), first.number("bytes")), (3, LARGE as u64 + 5), "{}", first.report);
    assert_eq!(std::fs::read(server.bucket().join("copy/large")).unwrap(), bytes(LARGE));
    let second = run(&task).well();
    assert_eq!((second.number("filesThere"), &second.report["digest"]), (3, &first.report["digest"]));

    // The disk behind the store alters a byte; ETag and size stay as they were.
    let behind = server.bucket().join("copy/large");
    let mut altered = bytes(LARGE);
    altered[12 << 20] ^= 0x40;
    std::fs::write(&behind, altered).unwrap();
    let third = run(&task).well();
    assert_eq!((third.number("files"), third.number("filesAgain")), (1, 1), "{} {}", third.report, third.log);
    assert_eq!(std::fs::read(&behind).unwrap(), bytes(LARGE));

    let home = migrate(&bucket("FROM", "s3://bucket/copy", server.at), &folder(&back));
    let down = run(&home).well();
    assert_eq!(
        (down.number("files"), &down.report["digest"]),
        (3, &first.report["digest"]),
        "{}",
        down.report
    );
    assert_eq!(std::fs::read(back.path().join("large")).unwrap(), bytes(LARGE));
    assert_eq!(std::fs::read(back.path().join("deep/er/sm all+ü%41")).unwrap(), b"small");
    assert_eq!(run(&home).well().number("filesThere"), 3);

    // A single object, and a whole bucket beside.
    let one = tempfile::tempdir().unwrap();
    run(&migrate(&bucket("FROM", "s3://bucket/copy/deep/er/sm all+ü%41", server.at), &folder(&one))).well();
    assert_eq!(std::fs::read(one.path().join("sm all+ü%41")).unwrap(), b"small");
    let none = run(&migrate(&bucket("FROM", "s3://bucket/nothing", server.at), &folder(&one)));
    assert!(none.code == Some(1) && none.error().contains("holds nothing"), "{}", none.error());
}

#[test]
fn marks_of_folders_are_no_files() {
    let server = Server::start();
    std::fs::create_dir_all(server.bucket().join("copy/empty-folder")).unwrap();
    put(&server.bucket(), "copy/a", b"a");
    let to = tempfile::tempdir().unwrap();
    let copied = run(&migrate(&bucket("FROM", "s3://bucket", server.at), &folder(&to))).well();
    assert_eq!(copied.number("files"), 1, "{} {}", copied.report, copied.log);
    assert_eq!(std::fs::read(to.path().join("copy/a")).unwrap(), b"a");
}

#[test]
fn from_bucket_to_bucket() {
    let server = Server::start();
    put(&server.bucket(), "from/x/a", &bytes(9 << 20));
    put(&server.bucket(), "from/b", b"b");
    let task =
        migrate(&bucket("FROM", "s3://bucket/from", server.at), &bucket("TO", "s3://bucket/to", server.at));
    let copied = run(&task).well();
    assert_eq!(copied.number("files"), 2);
    assert_eq!(std::fs::read(server.bucket().join("to/x/a")).unwrap(), bytes(9 << 20));
    put(&server.bucket(), "from/b", b"newer");
    let again = run(&task).well();
    assert_eq!((again.number("files"), again.number("filesThere")), (1, 1), "{}", again.report);
    assert_eq!(std::fs::read(server.bucket().join("to/b")).unwrap(), b"newer");
}

#[test]
fn what_a_bucket_cannot_hold_is_said_and_the_rest_is_copied() {
    let server = Server::start();
    let from = tempfile::tempdir().unwrap();
    put(from.path(), "new\nline", b"x");
    put(from.path(), "good", b"x");
    let refused = run(&migrate(&folder(&from), &bucket("TO", "s3://bucket/copy", server.at)));
    assert_eq!((refused.code, refused.number("files")), (Some(1), 1), "{}", refused.report);
    assert!(
        refused.error().starts_with("new\\nline: it cannot be written: the store cannot hold"),
        "{}",
        refused.error()
    );
}

#[test]
fn wrong_keys_and_buckets_are_said_without_the_keys() {
    let server = Server::start();
    let from = tempfile::tempdir().unwrap();
    put(from.path(), "a", b"a");
    let mut to = bucket("TO", "s3://bucket/copy", server.at);
    to["options"]["secret_access_key"] = json!("HEADRACE_TO_0");
    let denied = run(&migrate(&folder(&from), &to));
    assert!(denied.code == Some(1) && denied.error().contains("access is denied"), "{}", denied.error());
    let absent = run(&migrate(&folder(&from), &bucket("TO", "s3://elsewhere/copy", server.at)));
    assert_eq!(absent.code, Some(1), "{}", absent.log);
}
