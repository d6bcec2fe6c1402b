//! Interrupted within one large file: it is gone on with where it was, and never with bytes that are not the source's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::Semaphore;
use worker::copy::{self, CopyError, Done, Ground, MEMORY};
use worker::entry::Entry;
use worker::large;
use worker::name::Name;
use worker::options::Settings;
use worker::parts::{LARGE, Parts};
use worker::place::Place;
use worker::place::bucket::{Bucket, Patience};
use worker::place::folder::Folder;
use worker::plan::Item;
use worker::stop::Stop;

use super::server::{KEY, SECRET, Server, put};
use super::spoiler::{Rule, Spoiler, Trouble};
use super::worker::{command, ended, folder, migrate, run};

/// What is done to a file.
type Change<'a> = &'a dyn Fn(&Path);

/// Three parts and some.
const SIZE: usize = (30 << 20) + 7;

fn bytes(seed: usize) -> Vec<u8> {
    (0..SIZE).map(|at| (at / 4096 + at % 251 + seed) as u8).collect()
}

fn bucket(at: std::net::SocketAddr, prefix: &str) -> Place {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let settings = Settings {
        access_key: Some(KEY.into()),
        secret_key: Some(SECRET.into()),
        region: Some("us-east-1".into()),
        endpoint: Some(format!("http://{at}")),
        ..Settings::default()
    };
    // The first trouble ends the try.
    let patience = Patience { retries: 0, silence: Duration::from_secs(20) };
    let prefix = Name::parse(prefix.as_bytes()).unwrap();
    Place::Bucket(Bucket::open("bucket", Some(&prefix), &settings, patience).unwrap())
}

fn at(path: &Path) -> Place {
    Place::Folder(Folder::open(path, None, false).unwrap())
}

fn ground(from: Place, to: Place) -> Ground {
    Ground {
        from,
        to,
        home: Name::parse(b".headrace-worker/x").unwrap(),
        process: 1,
        memory: Arc::new(Semaphore::new(MEMORY as usize)),
        interval: Duration::ZERO,
        stop: Stop::new().1,
    }
}

async fn item(ground: &Ground) -> Item {
    let name = Name::parse(b"large").unwrap();
    let seen = ground.from.look(&name).await.unwrap().unwrap();
    Item { entry: Entry { name: name.clone(), seen }, target: name, record: None }
}

/// Bytes that an earlier try had copied, and whether it was copied twice.
fn copied(result: Result<Done, CopyError>) -> (u64, bool) {
    match result {
        Ok(Done::Copied { kept, again, .. }) => (kept, again),
        other => panic!("{other:?}"),
    }
}

/// What lies at the target beside the files, by the end of its name.
fn partials(to: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![to.join(".headrace-worker")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if entry.path().to_str().unwrap().ends_with(end) {
                found.push(entry.path());
            }
        }
    }
    found
}

fn cut(store: std::net::SocketAddr, after: usize) -> Spoiler {
    let begins = "GET /bucket/from/large".into();
    Spoiler::start(store, vec![Rule { begins, trouble: Trouble::Cut(after), times: 1 }])
}

#[tokio::test]
async fn a_folder_goes_on_behind_the_last_part_that_is_right() {
    let server = Server::start();
    put(&server.bucket(), "from/large", &bytes(0));
    // What is done to the bytes that the first try left, and how many of them count.
    let flip = |path: &Path, at: usize| {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[at] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    let cases: [(&str, Change<'_>, u64); 5] = [
        ("nothing", &|_| {}, 2 * LARGE),
        ("a flipped bit", &|path| flip(path, LARGE as usize + 5), LARGE),
        (
            "a cut",
            &|path| std::fs::File::options().write(true).open(path).unwrap().set_len(LARGE + 9).unwrap(),
            LARGE,
        ),
        ("a loss", &|path| std::fs::remove_file(path).unwrap(), 0),
        ("zeros after a power cut", &|path| std::fs::write(path, vec![0; 20 << 20]).unwrap(), 0),
    ];
    for (what, change, kept) in cases {
        let to = tempfile::tempdir().unwrap();
        let spoiler = cut(server.at, 20 << 20);
        let first = ground(bucket(spoiler.at, "from"), at(to.path()));
        let item = item(&first).await;
        let broken = copy::file(&first, &item, 0).await;
        assert!(matches!(broken, Err(CopyError::Read(_))), "{broken:?}");
        assert!(!to.path().join("large").exists(), "half a file has no name");
        let [left] = &partials(to.path(), ".bytes")[..] else { panic!("{what}: nothing is kept") };
        change(left);
        let next = ground(bucket(server.at, "from"), at(to.path()));
        assert_eq!(copied(copy::file(&next, &item, 0).await), (kept, false), "{what}");
        assert!(std::fs::read(to.path().join("large")).unwrap() == bytes(0), "{what}");
        assert_eq!(partials(to.path(), ""), Vec::<PathBuf>::new(), "{what}");
    }
}

#[tokio::test]
async fn what_was_read_before_the_last_step_is_not_read_again() {
    let server = Server::start();
    put(&server.bucket(), "from/large", &bytes(0));
    let to = tempfile::tempdir().unwrap();
    // Everything came; then the store would not say whether it is still the same.
    let head = Rule {
        begins: "HEAD /bucket/from/large".into(),
        trouble: Trouble::status("500 Internal Server Error", ""),
        times: 1,
    };
    let first = ground(bucket(server.at, "from"), at(to.path()));
    let item = item(&first).await;
    let spoiler = Spoiler::start(server.at, vec![head]);
    let first = ground(bucket(spoiler.at, "from"), at(to.path()));
    assert!(matches!(copy::file(&first, &item, 0).await, Err(CopyError::Read(_))));
    // A store that gives nothing any more: only that it is the same.
    let get =
        Rule { begins: "GET ".into(), trouble: Trouble::status("500 Internal Server Error", ""), times: 99 };
    let spoiler = Spoiler::start(server.at, vec![get]);
    let next = ground(bucket(spoiler.at, "from"), at(to.path()));
    assert_eq!(copied(copy::file(&next, &item, 0).await), (SIZE as u64, false));
    assert!(std::fs::read(to.path().join("large")).unwrap() == bytes(0));
}

#[tokio::test]
async fn another_worker_or_another_content_is_not_gone_on_with() {
    let server = Server::start();
    put(&server.bucket(), "from/large", &bytes(0));
    let to = tempfile::tempdir().unwrap();
    let spoiler = cut(server.at, 20 << 20);
    let first = ground(bucket(spoiler.at, "from"), at(to.path()));
    let before = item(&first).await;
    copy::file(&first, &before, 0).await.unwrap_err();
    let [left] = &partials(to.path(), ".bytes")[..] else { panic!("nothing is kept") };

    // Whoever holds the file may still write into it.
    let held = std::fs::File::open(left).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let next = ground(bucket(server.at, "from"), at(to.path()));
    assert_eq!(copied(copy::file(&next, &before, 0).await), (0, false));
    assert!(std::fs::read(to.path().join("large")).unwrap() == bytes(0));
    assert_eq!(partials(to.path(), ".bytes").len(), 1, "it is not taken from under it");
    large::clear(&next, &[name_of(to.path(), left)], &[]).await.unwrap();
    assert!(left.exists());
    drop(held);

    // Buckets tell time in seconds.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    put(&server.bucket(), "from/large", &bytes(9));
    let after = item(&next).await;
    assert_ne!(before.entry.seen, after.entry.seen);
    assert_eq!(copied(copy::file(&next, &after, 0).await), (0, false));
    assert!(std::fs::read(to.path().join("large")).unwrap() == bytes(9));
    large::clear(&next, &[name_of(to.path(), left)], &[after]).await.unwrap();
    assert_eq!(partials(to.path(), ""), Vec::<PathBuf>::new(), "what nobody wants any more is gone");
}

fn name_of(root: &Path, path: &Path) -> Name {
    Name::parse(path.strip_prefix(root).unwrap().to_str().unwrap().as_bytes()).unwrap()
}

/// A try that the third part of the upload ended.
async fn half_sent(server: &Server, from: &Path) -> Item {
    let begins = "PUT /bucket/copy/large?partNumber=3".into();
    let trouble = Trouble::status("500 Internal Server Error", "");
    let spoiler = Spoiler::start(server.at, vec![Rule { begins, trouble, times: 1 }]);
    let first = ground(at(from), bucket(spoiler.at, "copy"));
    let item = item(&first).await;
    let broken = copy::file(&first, &item, 0).await;
    assert!(matches!(broken, Err(CopyError::Write(_))), "{broken:?}");
    assert_eq!(spoiler.spoiled.load(std::sync::atomic::Ordering::Relaxed), 1);
    assert!(!server.bucket().join("copy/large").exists());
    item
}

/// The document of the upload, changed.
fn document(server: &Server, change: impl FnOnce(&mut Parts)) {
    let copy = server.bucket().join("copy");
    let [list] = &partials(&copy, ".parts")[..] else { panic!("nothing is written down") };
    let mut parts = Parts::read(&std::fs::read(list).unwrap()).unwrap();
    change(&mut parts);
    std::fs::write(list, parts.written()).unwrap();
}

#[tokio::test]
async fn an_upload_is_gone_on_with() {
    let server = Server::start();
    let from = tempfile::tempdir().unwrap();
    put(from.path(), "large", &bytes(0));
    let item = half_sent(&server, from.path()).await;
    document(&server, |parts| assert_eq!(parts.done.len(), 2));
    // The source's beginning is not asked for again: it could not be had.
    let next = ground(at(from.path()), bucket(server.at, "copy"));
    assert_eq!(copied(copy::file(&next, &item, 0).await), (2 * LARGE, false));
    assert!(std::fs::read(server.bucket().join("copy/large")).unwrap() == bytes(0));
    assert_eq!(partials(&server.bucket().join("copy"), ""), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn an_upload_that_is_gone_or_wrong_begins_anew() {
    let server = Server::start();
    let from = tempfile::tempdir().unwrap();
    put(from.path(), "large", &bytes(0));
    let next = || ground(at(from.path()), bucket(server.at, "copy"));
    let there = || std::fs::read(server.bucket().join("copy/large")).unwrap() == bytes(0);

    let item = half_sent(&server, from.path()).await;
    document(&server, |parts| parts.upload = Some("00000000-0000-0000-0000-000000000000".into()));
    assert_eq!(copied(copy::file(&next(), &item, 0).await), (0, false), "the bucket has removed it");
    assert!(there());

    std::fs::remove_file(server.bucket().join("copy/large")).unwrap();
    let item = half_sent(&server, from.path()).await;
    // The store has other bytes than the source gave: found when it is read back, and not believed.
    document(&server, |parts| parts.done[0].digest[0] ^= 1);
    assert_eq!(copied(copy::file(&next(), &item, 0).await), (0, true));
    assert!(there());

    std::fs::remove_file(server.bucket().join("copy/large")).unwrap();
    let item = half_sent(&server, from.path()).await;
    let list = partials(&server.bucket().join("copy"), ".parts").remove(0);
    std::fs::write(list, "no document").unwrap();
    assert_eq!(copied(copy::file(&next(), &item, 0).await), (0, false));
    assert!(there());
    assert_eq!(partials(&server.bucket().join("copy"), ""), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn an_upload_that_nobody_read_back_is_read_and_not_sent_again() {
    let server = Server::start();
    let from = tempfile::tempdir().unwrap();
    put(from.path(), "large", &bytes(0));
    let unread = async || {
        let begins = "GET /bucket/copy/large".into();
        let trouble = Trouble::status("500 Internal Server Error", "");
        let spoiler = Spoiler::start(server.at, vec![Rule { begins, trouble, times: 1 }]);
        let first = ground(at(from.path()), bucket(spoiler.at, "copy"));
        let item = item(&first).await;
        assert!(matches!(copy::file(&first, &item, 0).await, Err(CopyError::Write(_))));
        item
    };
    let target = server.bucket().join("copy/large");
    let next = || ground(at(from.path()), bucket(server.at, "copy"));
    let item = unread().await;
    assert_eq!(copied(copy::file(&next(), &item, 0).await), (SIZE as u64, false));
    assert!(std::fs::read(&target).unwrap() == bytes(0));

    // What stands there by now is somebody else's, and as long.
    let item = unread().await;
    std::fs::write(&target, bytes(5)).unwrap();
    assert_eq!(copied(copy::file(&next(), &item, 0).await), (0, false));
    assert!(std::fs::read(&target).unwrap() == bytes(0));
    assert_eq!(partials(&server.bucket().join("copy"), ""), Vec::<PathBuf>::new());
}

/// A file that takes the program a while.
const LONG: usize = 192 << 20;

/// Starts the program and waits until it has written so much, or written down how far it is.
fn started(task: &str, result: &Path, is_so: impl Fn() -> bool) -> (std::process::Child, Pid) {
    let child = command(task, result).spawn().unwrap();
    let pid = Pid::from_raw(child.id() as i32).unwrap();
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not come so far");
        std::thread::sleep(Duration::from_millis(1));
    }
    (child, pid)
}

#[test]
fn a_worker_that_is_stopped_or_killed_in_a_file_goes_on_in_it() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let long: Vec<u8> = (0..LONG).map(|at| (at / 4096 + at % 253) as u8).collect();
    put(from.path(), "long", &long);
    let task = migrate(&folder(&from), &folder(&to));
    let length = || {
        let left = partials(to.path(), ".bytes");
        left.first().and_then(|path| std::fs::metadata(path).ok()).map_or(0, |file| file.len())
    };
    let result = tempfile::tempdir().unwrap();

    let (child, pid) = started(&task.to_string(), result.path(), || length() > 3 * LARGE);
    kill_process(pid, Signal::TERM).unwrap();
    let stopped = ended(child, result.path());
    assert_eq!(stopped.code, Some(143), "{}", stopped.log);
    assert_eq!(partials(to.path(), ".parts").len(), 1, "{}", stopped.log);
    let before = length();

    // Held up until it is time to write down how far it is, and then killed.
    let (child, pid) = started(&task.to_string(), result.path(), || length() > before + LARGE);
    kill_process(pid, Signal::STOP).unwrap();
    let noted = || std::fs::metadata(partials(to.path(), ".parts").remove(0)).unwrap().modified().unwrap();
    let then = noted();
    std::thread::sleep(Duration::from_millis(2_100));
    kill_process(pid, Signal::CONT).unwrap();
    let began = Instant::now();
    while noted() == then {
        assert!(began.elapsed() < Duration::from_secs(60), "it writes nothing down");
    }
    kill_process(pid, Signal::KILL).unwrap();
    assert_eq!(ended(child, result.path()).code, None);
    assert!(!to.path().join("long").exists());

    let done = run(&task).well();
    assert!(done.number("bytesKept") >= before / LARGE * LARGE, "{} of {before}", done.report);
    assert!(done.log.contains("of an earlier try"), "{}", done.log);
    assert!(std::fs::read(to.path().join("long")).unwrap() == long);
    assert_eq!(partials(to.path(), "").len(), 1, "the journal");
    assert_eq!(run(&task).well().number("filesThere"), 1);
}
