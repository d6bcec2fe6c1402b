//! Recordings of real readers on the emulated store (tests/traces/README.md), run through the core again:
//! the pattern is told apart, it would have paid, and the ledger is the same byte for byte.

use agent_core::replay::{Replay, replay};
use agent_core::trace::Decoder;
use agent_core::view::{Predictor, Survival};
use agent_core::{Core, Limits, Observation};

macro_rules! trace {
    ($name:literal) => {
        include_bytes!(concat!("../../../../tests/traces/", $name, ".trace")).as_slice()
    };
}

fn replayed(trace: &[u8]) -> Replay {
    let first = replay(trace, Limits::default()).unwrap();
    let second = replay(trace, Limits::default()).unwrap();
    assert_eq!(first.to_string(), second.to_string());
    assert_eq!(first.flaws, []);
    first
}

/// Bytes that a predictor brought in and that were read, in time or late.
fn used(replay: &Replay, predictor: Predictor) -> u64 {
    let rows = replay.ledger.iter().filter(|row| row.predictor == predictor);
    rows.map(|row| row.fate.hit + row.fate.late).sum()
}

fn wasted(replay: &Replay) -> u64 {
    replay.ledger.iter().map(|row| row.fate.wasted).sum()
}

#[test]
fn directory() {
    let replay = replayed(trace!("directory"));
    assert!(used(&replay, Predictor::Directory) * 2 > replay.node.read_bytes, "{replay}");
}

/// The same by name, and in the order in which the files were made.
#[test]
fn other_orders_of_a_directory() {
    for (trace, name) in [(trace!("by-name"), "by name"), (trace!("by-age"), "by age")] {
        let replay = replayed(trace);
        assert!(used(&replay, Predictor::Directory) * 10 > replay.node.read_bytes * 8, "{name}: {replay}");
    }
}

/// Eight processes, each with every eighth file.
#[test]
fn interleaved_workers() {
    let replay = replayed(trace!("workers"));
    assert!(used(&replay, Predictor::Directory) * 2 > replay.node.read_bytes, "{replay}");
    assert!(wasted(&replay) * 20 < replay.node.read_bytes, "{replay}");
}

/// Part of a set, then the cache is emptied, then the same files in the same order.
#[test]
fn repeated() {
    let trace = trace!("repeated");
    let replay = replayed(trace);
    assert_eq!(replay.node.mounts[0].survival, Survival::Kept, "{replay}");
    assert!(replay.node.covered_bytes * 10 > replay.node.read_bytes * 8, "{replay}");
    let mut core = Core::new(Limits::default());
    for moment in Decoder::new(trace).unwrap() {
        let (at, observation) = moment.unwrap();
        // Its pattern is asked for while it runs.
        if !matches!(observation, Observation::Exit { .. }) {
            core.apply(&observation, at);
        }
    }
    assert_eq!(&*core.workloads()[0].pattern, "repetition");
}

#[test]
fn reverse() {
    let replay = replayed(trace!("reverse"));
    assert!(used(&replay, Predictor::Reverse) * 2 > replay.node.read_bytes, "{replay}");
    assert!(wasted(&replay) * 20 < replay.node.read_bytes, "{replay}");
}

#[test]
fn sequential() {
    let replay = replayed(trace!("sequential"));
    assert!(used(&replay, Predictor::Sequential) * 2 > replay.node.read_bytes, "{replay}");
}

#[test]
fn strided() {
    let replay = replayed(trace!("strided"));
    assert!(used(&replay, Predictor::Strided) * 2 > replay.node.read_bytes, "{replay}");
    assert!(wasted(&replay) * 20 < replay.node.read_bytes, "{replay}");
}

#[test]
fn shuffled() {
    let replay = replayed(trace!("shuffled"));
    assert!(used(&replay, Predictor::Epoch) > 0, "{replay}");
    assert!(replay.node.fetched_bytes <= replay.node.read_bytes * 3, "{replay}");
}

#[test]
fn footer() {
    let replay = replayed(trace!("footer"));
    assert!(used(&replay, Predictor::Shape) * 2 > replay.node.read_bytes, "{replay}");
}

#[test]
fn random() {
    let replay = replayed(trace!("random"));
    assert_eq!(replay.node.fetched_bytes, 0, "{replay}");
}
