//! Runs told twice, in parts, out of turn, and from the map.

use agent_common::plain::Plain as _;
use agent_common::record::{Head, VIA_READ};

use super::*;

const NOW: Nanos = Nanos(1);

fn record(seq: u32, count: u32, pages: std::ops::Range<u64>) -> Record {
    Record {
        head: Head { kind: KIND_ACCESS, how: VIA_READ, tid: 7, tgid: 7, dev: 1, ino: 2, ..Head::default() },
        start: pages.start,
        end: pages.end,
        touched: count,
        seq,
        count,
        ..Record::default()
    }
}

fn access(event: Option<ReadEvent>) -> Option<(std::ops::Range<u64>, u32)> {
    match event {
        Some(ReadEvent::Access { pages, count, .. }) => Some((pages, count)),
        None => None,
        Some(other) => panic!("{other:?}"),
    }
}

fn state(seq: u32, told: u32, run: &Record) -> ThreadState {
    let mut state = ThreadState::zeroed();
    state.id = 7 << 32 | 7;
    state.runs[0] =
        Run { start: run.start, end: run.end, count: run.count, touched: run.touched, ..Run::default() };
    state.origins[0] = Origin { ino: 2, dev: 1, seq, told, how: VIA_READ.into() };
    state
}

#[test]
fn only_the_difference_is_passed_on() {
    let mut told = Told::default();
    assert_eq!(access(told.record(&record(1, 1, 0..2), NOW)), Some((0..2, 1)));
    assert_eq!(access(told.record(&record(1, 1, 0..2), NOW)), None);
    assert_eq!(access(told.record(&record(1, 5, 0..10), NOW)), Some((2..10, 4)));
    // An older telling that was overtaken.
    assert_eq!(access(told.record(&record(1, 3, 0..6), NOW)), None);
    // The last page again.
    assert_eq!(access(told.record(&record(1, 6, 0..10), NOW)), Some((9..10, 1)));
    assert_eq!(access(told.record(&record(2, 1, 0..1), NOW)), Some((0..1, 1)));
}

#[test]
fn silent_growth_is_found_in_the_map() {
    let mut told = Told::default();
    told.record(&record(1, 1, 0..2), NOW);
    let mut found = Vec::new();
    told.state(7, Some(&state(1, 1, &record(1, 3, 0..6))), NOW, &mut found);
    assert_eq!(access(found.pop()), Some((2..6, 2)));
    // A newer run that has been told comes from the ring; one that has not only from here.
    told.state(7, Some(&state(2, 1, &record(2, 1, 50..51))), NOW, &mut found);
    assert_eq!(found, []);
    told.state(7, Some(&state(2, 0, &record(2, 1, 50..51))), NOW, &mut found);
    assert_eq!(access(found.pop()), Some((50..51, 1)));
}

#[test]
fn looks_grow_rarer_while_nothing_happens() {
    let mut told = Told::default();
    told.record(&record(1, 1, 0..2), Nanos(0));
    let same = state(1, 1, &record(1, 1, 0..2));
    let (mut now, mut looks) = (Nanos(0), 0);
    while now < Nanos::from_millis(10_000) {
        for tid in told.due(now, 10) {
            told.state(tid, Some(&same), now, &mut Vec::new());
            looks += 1;
        }
        now = now.plus(Nanos::from_millis(10));
    }
    assert!((10..20).contains(&looks), "{looks} looks in ten seconds");
    told.state(7, None, now, &mut Vec::new());
    told.state(7, None, now.plus(FIRST_LOOK), &mut Vec::new());
    assert_eq!(told.due(Nanos(u64::MAX), 10), [] as [u32; 0]);
}

#[test]
fn the_end_of_a_run_may_come_after_that_of_its_thread() {
    let mut told = Told::default();
    assert_eq!(access(told.record(&record(1, 3, 0..6), NOW)), Some((0..6, 3)));
    told.state(7, None, NOW, &mut Vec::new());
    assert_eq!(access(told.record(&record(1, 4, 0..8), NOW)), Some((6..8, 1)), "not the whole run again");
}

#[test]
fn runs_of_a_forgotten_device_are_over() {
    let mut told = Told::default();
    told.record(&record(1, 1, 0..2), NOW);
    told.forget_device(2);
    assert_eq!(access(told.record(&record(1, 2, 0..4), NOW)), Some((2..4, 1)), "another device's");
    told.forget_device(1);
    // What the thread had read and not told yet, from the ring and from the map.
    assert_eq!(access(told.record(&record(1, 5, 0..10), NOW)), None);
    let mut found = Vec::new();
    told.state(7, Some(&state(1, 2, &record(1, 9, 0..12))), NOW, &mut found);
    assert_eq!(found, []);
    // Its next run is of the file system that has the number now.
    assert_eq!(access(told.record(&record(2, 1, 0..1), NOW)), Some((0..1, 1)));
}

#[test]
fn memory_is_bounded() {
    let mut told = Told::default();
    for tid in 1..40_000 {
        let mut record = record(1, 1, 0..1);
        record.head.tid = tid;
        record.head.kind = KIND_ADDED;
        record.head.slot = SLOT_ADDED as u8;
        record.head.ino = u64::from(tid);
        told.record(&record, NOW);
    }
    assert!(told.threads.len() <= THREADS && told.adders.len() <= THREADS);
}

#[test]
fn any_bytes_are_a_record() {
    let mut told = Told::default();
    for fill in 0..=255 {
        let record = Record::from_bytes(&[fill; size_of::<Record>()]).expect("long enough");
        let _ = told.record(&record, NOW);
    }
}
