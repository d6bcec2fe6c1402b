//! The slow store, mounted: right bytes, right counts, its two personalities, and nothing left behind.
//!
//! Needs root and /dev/fuse; without them every test fails with the sentence that says so.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::bench::lab::drop_caches;
use tests::clock;
use tests::hygiene::{self, Folder, Ward};
use tests::reader::itinerary::Workload;
use tests::reader::walk::Walk;
use tests::store::content::{Content, Salt};
use tests::store::journal::{Entry, Request};
use tests::store::tree::below;
use tests::store::{Control, Mounted, StoreConfig, Tree, TreeSpec};

/// A store that answers at once: these tests are about what it answers.
fn quick(tree: &str) -> StoreConfig {
    StoreConfig {
        tree: tree.parse().unwrap(),
        latency: Duration::from_micros(200),
        bandwidth: None,
        ..StoreConfig::default()
    }
}

/// In this order: the mount goes before the folder that it covers.
fn mounted(config: &StoreConfig) -> (Folder, Mounted) {
    let folder = Folder::new().unwrap();
    let mounted = config.mount(folder.path()).unwrap_or_else(|error| panic!("{error}"));
    (folder, mounted)
}

/// The journal follows the answer by a moment: waits until nothing is under way.
fn reads(mounted: &Mounted) -> u64 {
    let given_up = Instant::now() + Duration::from_secs(10);
    while mounted.shelf().journal().counters().waiting > 0 && Instant::now() < given_up {
        std::thread::sleep(Duration::from_millis(1));
    }
    mounted.shelf().journal().counters().of(std::process::id(), Request::Read).requests
}

fn mount_points() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

#[test]
fn every_byte_and_every_request_is_accounted_for() {
    let config = quick("small:3x20x40k");
    let (folder, mounted) = mounted(&config);
    let tree = Tree::build(&config.tree, config.seed).unwrap();
    let mut walk = Walk::new(folder.path(), &tree, config.seed);
    walk.listings().unwrap();
    let outcome = walk.outcome();
    assert_eq!((outcome.files, outcome.bytes, outcome.wrong), (60, 60 * 40_000, 0));
    assert_eq!(reads(&mounted), 60);
    let counters = mounted.shelf().journal().counters();
    let own = std::process::id();
    assert_eq!(counters.of(own, Request::Read).bytes, 60 * 40_000);
    assert_eq!(counters.of(own, Request::Lookup).requests, 63, "a look-up for every file and folder");
    assert!(counters.of(own, Request::List).requests >= 4);

    // Every byte of a file, not just samples.
    let (id, node) = tree.files().nth(17).unwrap();
    let bytes = fs::read(below(folder.path(), &tree.path(id))).unwrap();
    assert_eq!(bytes.len() as u64, node.size());
    assert!(Content::new(config.seed).holds(Salt::of(config.seed, &tree.path(id)), 0, &bytes));
    assert_eq!(reads(&mounted), 60, "the second read came from memory");
    mounted.shelf().reset();
    assert_eq!(mounted.shelf().journal().counters().requests(), 0);
}

#[test]
fn large_files_are_sparse_and_right_everywhere() {
    let config = quick("large:4Gi");
    let (folder, _mounted) = mounted(&config);
    let file = fs::File::open(folder.path().join("data.bin")).unwrap();
    let content = Content::new(config.seed);
    let salt = Salt::of(config.seed, b"data.bin");
    let mut page = [0; 4096];
    for offset in [0, 4096, (1 << 31) + 8192, (4 << 30) - 4096] {
        file.read_exact_at(&mut page, offset).unwrap();
        assert!(content.holds(salt, offset, &page), "offset {offset}");
    }
    assert_eq!(file.read_at(&mut page, 4 << 30).unwrap(), 0);
}

#[test]
fn pages_survive_an_open_or_do_not() {
    for (keep_pages, charge_open, expected) in [(true, false, 1), (true, true, 1), (false, false, 3)] {
        let config = StoreConfig { keep_pages, charge_open, ..quick("small:1x1x40k") };
        let (folder, mounted) = mounted(&config);
        let tree = Tree::build(&config.tree, config.seed).unwrap();
        let (id, _) = tree.files().next().unwrap();
        let path = below(folder.path(), &tree.path(id));
        for _ in 0..3 {
            fs::read(&path).unwrap();
        }
        assert_eq!(reads(&mounted), expected, "keep_pages {keep_pages}, charge_open {charge_open}");
        let opens = mounted.shelf().journal().counters().of(std::process::id(), Request::Open).requests;
        let seen = if keep_pages && !charge_open { 0 } else { 3 };
        assert_eq!(opens, seen, "keep_pages {keep_pages}, charge_open {charge_open}");
    }
}

#[test]
fn look_ups_in_a_folder_overlap_unless_told_otherwise() {
    for parallel_dirops in [true, false] {
        let config =
            StoreConfig { parallel_dirops, latency: Duration::from_millis(20), ..quick("small:1x32x4k") };
        let (folder, mounted) = mounted(&config);
        let tree = Tree::build(&config.tree, config.seed).unwrap();
        fs::metadata(folder.path().join("part-000")).unwrap();
        mounted.shelf().reset();
        std::thread::scope(|scope| {
            for (id, _) in tree.files() {
                let path = below(folder.path(), &tree.path(id));
                scope.spawn(move || fs::metadata(path).unwrap());
            }
        });
        let most = mounted.shelf().journal().counters().most_waiting;
        // An answer is noted just after it was given: one look-up may seem to overlap the next.
        assert_eq!(most > 2, parallel_dirops, "{most} at once");
    }
}

#[test]
fn answers_take_the_latency_and_the_link() {
    let config = StoreConfig {
        latency: Duration::from_millis(20),
        bandwidth: Some(4_000_000),
        ..quick("small:1x4x40k")
    };
    let (folder, mounted) = mounted(&config);
    let tree = Tree::build(&config.tree, config.seed).unwrap();
    for (id, _) in tree.files() {
        fs::read(below(folder.path(), &tree.path(id))).unwrap();
    }
    reads(&mounted);
    for entry in mounted.shelf().journal().record().entries {
        let charged = match entry.request {
            Request::Read | Request::List => 20_000_000 + entry.bytes * 250,
            Request::Lookup => 20_000_000,
            Request::Open | Request::Other => 0,
        };
        assert!(entry.answered - entry.arrived >= charged, "{entry:?}");
        assert!(entry.answered <= clock::now());
    }
}

#[test]
fn a_local_directory_is_served_with_its_bytes() {
    let local = tempfile::tempdir().unwrap();
    fs::create_dir(local.path().join("inner")).unwrap();
    let bytes: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    fs::write(local.path().join("inner/numbers"), &bytes).unwrap();
    let config = StoreConfig { tree: TreeSpec::Local(local.path().to_owned()), ..quick("small:1x1x1") };
    let (folder, _mounted) = mounted(&config);
    assert!(fs::read(folder.path().join("inner/numbers")).unwrap() == bytes);
    assert!(fs::metadata(folder.path().join("absent")).is_err());
    assert!(fs::write(folder.path().join("new"), b"").is_err(), "the store is read-only");
}

/// Starts the binary and waits until it has mounted.
fn spawned(at: &Path, control: &Path) -> Ward {
    let mut child = Command::new(env!("CARGO_BIN_EXE_slow-store"))
        .args(["--tree", "small:1x4x4k", "--latency", "1ms", "--mount"])
        .arg(at)
        .arg("--control")
        .arg(control)
        .arg("--with-parent")
        .stdout(Stdio::piped())
        .spawn()
        .map(Ward::new)
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.child().stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("mounted"), "slow-store did not mount: run as root, with /dev/fuse");
    child
}

#[test]
fn the_binary_answers_questions_and_leaves_nothing_behind() {
    let folder = Folder::new().unwrap();
    let (at, socket) = (folder.path().join("mnt"), folder.path().join("control"));
    fs::create_dir(&at).unwrap();
    let mut child = spawned(&at, &socket);
    let control = Control::at(&socket);
    fs::metadata(at.join("part-000")).unwrap();
    let asked = control.journal().unwrap().entries;
    let own = |entry: &&Entry| entry.by == std::process::id() && entry.request == Request::Lookup;
    assert_eq!(asked.iter().filter(own).count(), 1);
    assert_eq!(control.counters().unwrap().of(std::process::id(), Request::Lookup).requests, 1);
    control.reset().unwrap();
    assert_eq!(control.counters().unwrap().requests(), 0);
    assert!(child.end(), "it ends by itself after SIGTERM");
    assert!(child.child().wait().unwrap().success());
    assert!(!mount_points().contains(at.to_str().unwrap()));
    assert!(!socket.exists());
    assert!(control.counters().unwrap_err().to_string().contains("is slow-store running"));
}

#[test]
fn what_a_killed_run_left_is_taken_away() {
    // No process has this number: it is above the largest that Linux gives.
    let abandoned = PathBuf::from("/tmp/headrace-run-4194305/0");
    let at = abandoned.join("mnt");
    fs::create_dir_all(&at).unwrap();
    let mut child = spawned(&at, &abandoned.join("control"));
    child.child().kill().unwrap();
    child.child().wait().unwrap();
    assert!(mount_points().contains(at.to_str().unwrap()));
    assert!(hygiene::remove_stale().unwrap().contains(&at));
    assert!(!mount_points().contains(at.to_str().unwrap()));
    assert!(!abandoned.exists());
}

#[test]
fn readers_are_processes_and_workers_share_an_order() {
    let config = quick("small:4x10x40k");
    let (folder, _mounted) = mounted(&config);
    drop_caches().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_bench-reader"))
        .args(["shuffled", "--workers", "4", "--tree", "small:4x10x40k", "--order", "3", "--mount"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let outcome: tests::reader::outcome::Outcome = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((outcome.files, outcome.bytes, outcome.processes.len()), (40, 1_600_000, 4));
    // The reader says that something is wrong when the bytes are not those of its seed.
    let output = Command::new(env!("CARGO_BIN_EXE_bench-reader"))
        .args(["directory", "--tree", "small:4x10x40k", "--seed", "2", "--mount"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(Workload::Directory.visits(&Tree::build(&config.tree, 1).unwrap(), &config.tree, 0).is_none());
}
