//! Recordings of a few observations against a scripted core: what it is told, and when.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::observation::{Actor, Entry, EntryKind, OrderId, Outcome, Via};
use crate::order::{Door, Extent};
use crate::trace::Encoder;
use crate::units::{FileKey, MountId, Pages, Reader};

/// Gives one batch of orders after each observation, and writes down all it is told.
#[derive(Default)]
struct Script {
    orders: VecDeque<Vec<Order>>,
    told: Vec<(Nanos, Observation)>,
}

impl Mind for Script {
    fn apply(&mut self, observation: &Observation, now: Nanos) {
        self.told.push((now, observation.clone()));
    }

    fn orders(&mut self, _now: Nanos) -> Vec<Order> {
        self.orders.pop_front().unwrap_or_default()
    }
}

impl Script {
    fn answers(&self) -> Vec<(u64, u64, Outcome, u64)> {
        let answer = |(at, observation): &(Nanos, Observation)| match observation {
            Observation::Fetched { id, outcome, bytes, .. } => Some((at.0, id.0, *outcome, *bytes)),
            _ => None,
        };
        self.told.iter().filter_map(answer).collect()
    }
}

const MS: u64 = 1_000_000;
const READER: Reader = Reader { tgid: 7, tid: 7 };

fn key(ino: u64) -> FileKey {
    FileKey { dev: 5, ino }
}

fn recording(stream: &[(u64, Observation)]) -> Vec<u8> {
    let (mut out, mut encoder) = (Vec::new(), Encoder::new());
    for (ms, observation) in stream {
        encoder.push(Nanos(ms * MS), observation, &mut out).unwrap();
    }
    encoder.finish(&mut out);
    out
}

fn mount() -> Observation {
    Observation::Mount {
        mount: MountId(1),
        dev: 5,
        source: "nas:/x".into(),
        fstype: "nfs4".into(),
        read_ahead_bytes: 1 << 17,
    }
}

fn sight(ino: u64, path: &str) -> Observation {
    Observation::Sight {
        file: key(ino),
        mount: MountId(1),
        path: path.as_bytes().into(),
        size: 40_000,
        mtime: 1,
    }
}

fn added(ino: u64, pages: Pages, by: Actor) -> Observation {
    Observation::Added { file: key(ino), pages, by }
}

fn access(ino: u64, pages: Pages) -> Observation {
    Observation::Access { file: key(ino), reader: READER, pages, via: Via::Read, count: 1, size: 40_000 }
}

fn miss(ino: u64, ms: u64) -> Observation {
    Observation::Miss { file: key(ino), latency: Nanos(ms * MS), bytes: 4096 }
}

fn fetch(id: u64, path: &str, deadline: u64) -> Order {
    Order::Fetch {
        id: OrderId(id),
        mount: MountId(1),
        path: path.as_bytes().into(),
        file: None,
        door: Door::Open,
        via: 7,
        extent: Extent::Whole { limit: u64::MAX },
        deadline: Nanos(deadline),
    }
}

fn list(id: u64, dir: &str, limit: usize) -> Order {
    Order::List { id: OrderId(id), mount: MountId(1), dir: dir.as_bytes().into(), limit, via: 7 }
}

fn run_script(stream: &[(u64, Observation)], orders: Vec<Vec<Order>>) -> (Script, Replay) {
    let mut script = Script { orders: orders.into(), ..Script::default() };
    let found = run(&recording(stream), &mut script).unwrap();
    (script, found)
}

#[test]
fn a_fetch_spares_the_reader_its_miss() {
    let stream = [
        (0, mount()),
        (1, miss(9, 8)),
        (20, sight(2, "d/b")),
        (21, added(2, 0..10, Actor::Thread(READER))),
        (29, miss(2, 8)),
        (30, access(2, 0..10)),
    ];
    let (script, found) = run_script(&stream, vec![vec![], vec![fetch(1, "d/b", 9)]]);
    // The store takes as long as the recorded miss did (three digits of it).
    let [(at, 1, Outcome::Done, 40_000)] = script.answers()[..] else {
        panic!("{script:?}", script = script.told)
    };
    assert!(at.abs_diff(9 * MS) < MS / 50, "{at}");
    let about_two: Vec<_> = script.told.iter().map(|(_, observation)| observation).collect();
    assert!(about_two.contains(&&added(2, 0..10, Actor::Agent)));
    assert!(!about_two.contains(&&added(2, 0..10, Actor::Thread(READER))), "it was there already");
    assert!(!about_two.contains(&&miss(2, 8)));
    assert_eq!(found.orders.fetched_bytes, 40_000);
    assert_eq!(found.span, Nanos(30 * MS));
}

#[test]
fn what_the_recorded_agent_did_is_undone() {
    let stream = [
        (0, mount()),
        (1, sight(2, "b")),
        (2, added(2, 0..10, Actor::Agent)),
        (
            3,
            Observation::Fetched {
                id: OrderId(77),
                outcome: Outcome::Done,
                file: Some(key(2)),
                size: 40_000,
                bytes: 40_000,
                took: Nanos(1),
            },
        ),
        (4, access(2, 0..4)),
        (5, access(2, 0..4)),
    ];
    let (script, found) = run_script(&stream, vec![]);
    assert_eq!(found.left_out, 2);
    let told: Vec<_> = script.told.into_iter().map(|(_, observation)| observation).collect();
    let bytes = 4 * 4096;
    let missed = Observation::Miss { file: key(2), latency: Nanos(5 * MS), bytes };
    let expected = [
        mount(),
        sight(2, "b"),
        added(2, 0..4, Actor::Thread(READER)),
        missed,
        access(2, 0..4),
        access(2, 0..4),
    ];
    assert_eq!(told, expected);
}

#[test]
fn dropped_caches_are_empty_in_the_replay_too() {
    let removed = |pages| Observation::Removed { file: key(2), pages, by: Actor::Thread(READER) };
    let stream = [
        (0, mount()),
        (1, sight(2, "b")),
        (2, added(2, 0..2, Actor::Thread(READER))),
        (3, added(2, 4..6, Actor::Thread(READER))),
        (50, removed(0..2)),
        (51, removed(4..6)),
    ];
    let (script, _) = run_script(&stream, vec![vec![], vec![fetch(1, "b", 9)]]);
    let removals: Vec<_> = script
        .told
        .iter()
        .filter_map(|(_, observation)| match observation {
            Observation::Removed { pages, .. } => Some(pages.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(removals, [0..2, 2..10]);
}

#[test]
fn orders_go_by_deadline_as_many_as_may() {
    let mut stream = vec![(0, mount())];
    stream.extend((1..=5).map(|ino| (60, sight(ino, &format!("{ino}")))));
    let depth = Order::Depth { mount: MountId(1), fetches: 1 };
    let orders = vec![
        depth,
        fetch(1, "1", 30),
        fetch(2, "2", 10),
        fetch(3, "3", 20),
        fetch(4, "4", 40),
        Order::Cancel { id: OrderId(3) },
        fetch(5, "none", 5),
    ];
    let (script, found) = run_script(&stream, vec![orders]);
    let ids: Vec<_> = script.answers().iter().map(|answer| (answer.1, answer.2)).collect();
    let done = |id| (id, Outcome::Done);
    assert_eq!(ids, [(3, Outcome::Dropped), (5, Outcome::Absent), done(2), done(1), done(4)]);
    assert_eq!((found.orders.done, found.orders.absent, found.orders.dropped), (3, 1, 1));
    let every: Vec<_> = script.answers().iter().skip(1).map(|answer| answer.0 / MS).collect();
    assert_eq!(every, [5, 10, 15, 20]);
}

#[test]
fn directories_are_as_listed_or_as_seen() {
    let entry = |name: &str, ino| Entry { name: name.as_bytes().into(), kind: EntryKind::File, ino };
    let listed = vec![entry("z", 9), entry("y", 8), entry("x", 7)];
    let listing = Observation::Listing {
        id: OrderId(70),
        mount: MountId(1),
        dir: (*b"listed").into(),
        outcome: Outcome::Done,
        complete: true,
        entries: listed.clone(),
    };
    let stream = [
        (0, mount()),
        (60, listing),
        (61, sight(9, "listed/z")),
        (62, sight(3, "seen/deep/b")),
        (63, sight(4, "seen/deep/a")),
        (90, Observation::Tick),
    ];
    let orders = vec![
        list(1, "listed", 2),
        list(2, "seen/deep", 10),
        list(3, "seen", 10),
        list(4, "none", 10),
        // Listed, never seen: as large as the one beside it.
        fetch(5, "listed/x", 1),
    ];
    let (script, _) = run_script(&stream, vec![orders]);
    let listings: Vec<_> = script
        .told
        .iter()
        .filter_map(|(_, observation)| match observation {
            Observation::Listing { outcome, complete, entries, .. } => {
                Some((*outcome, *complete, entries.clone()))
            }
            _ => None,
        })
        .collect();
    let deep = Entry { name: (*b"deep").into(), kind: EntryKind::Directory, ino: 0 };
    let expected = [
        (Outcome::Done, false, listed[..2].to_vec()),
        (Outcome::Done, true, vec![entry("a", 4), entry("b", 3)]),
        (Outcome::Done, true, vec![deep]),
        (Outcome::Absent, true, vec![]),
    ];
    assert_eq!(listings, expected);
    assert!(script.told.iter().any(|(_, observation)| *observation == added(7, 0..10, Actor::Agent)));
}

/// A core that never stops asking.
struct Insatiable(u64);

impl Mind for Insatiable {
    fn apply(&mut self, _: &Observation, _: Nanos) {}

    fn orders(&mut self, _: Nanos) -> Vec<Order> {
        self.0 += 2;
        vec![fetch(self.0, "b", self.0), fetch(self.0 + 1, "b", self.0)]
    }
}

#[test]
fn a_core_that_never_stops_asking_is_stopped() {
    let stream = [(0, mount()), (1, sight(2, "b")), (200, Observation::Tick)];
    let found = run(&recording(&stream), &mut Insatiable(0)).unwrap();
    assert!(found.orders.done > 0 && found.orders.dropped > 0);
}

#[test]
fn damage_is_told_to_the_core_and_to_the_person() {
    let stream: Vec<_> = (0..100).map(|n| (n, access(2, n..n + 1))).collect();
    let (mut bytes, mut encoder) = (Vec::new(), Encoder::new());
    for (ms, observation) in &stream {
        encoder.push(Nanos(ms * MS), observation, &mut bytes).unwrap();
        if ms % 10 == 9 {
            encoder.flush(&mut bytes);
        }
    }
    encoder.finish(&mut bytes);
    // Within the body of the first block.
    bytes[16 + 24 + 5] ^= 4;
    let mut script = Script::default();
    let found = run(&bytes, &mut script).unwrap();
    assert_eq!(found.observations, 90);
    assert!(script.told.iter().any(|(_, observation)| *observation == Observation::Lost { records: 10 }));
    assert!(found.to_string().contains("damage     block"), "{found}");
}

#[test]
fn two_runs_print_the_same() {
    let mut stream = vec![(0, mount())];
    for ino in 0..200 {
        stream.push((ino * 12, sight(ino, &format!("{}/{ino}", ino % 7))));
        stream.push((ino * 12 + 1, added(ino, 0..10, Actor::Thread(READER))));
        stream.push((ino * 12 + 9, miss(ino, 8)));
        stream.push((ino * 12 + 9, access(ino, 0..10)));
    }
    let bytes = recording(&stream);
    let text = || replay(&bytes, Limits::default()).unwrap().to_string();
    assert!(text().contains("801 observations over 2.397 s"), "{}", text());
    assert_eq!(text(), text());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn mangled_recordings_replay(edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)) {
        let mut stream = vec![(0, mount())];
        for ino in 0..30 {
            stream.push((ino, sight(ino, "a")));
            stream.push((ino, access(ino, 0..10)));
        }
        let mut bytes = recording(&stream);
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = replay(&bytes, Limits::default());
    }
}
