//! The benchmark proves itself: with the all-knowing oracle in the agent's place the evidence must say so.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

use std::time::Duration;

use tests::bench::case::{Case, Timed};
use tests::bench::first_light::{Options, Runs, figures, run_case};
use tests::bench::lab::Subject;
use tests::reader::itinerary::Workload;
use tests::store::StoreConfig;

fn case(tree: &str, workload: Workload, timed: Timed) -> Case {
    Case {
        name: "proof",
        row: "proof",
        store: StoreConfig {
            tree: tree.parse().unwrap(),
            latency: Duration::from_millis(5),
            bandwidth: Some(60_000_000),
            ..StoreConfig::default()
        },
        workload,
        lessons: Vec::new(),
        carries: false,
        timed,
        small: true,
    }
}

fn taken(case: &Case, subject: Subject) -> Runs {
    let options = Options { subject, cases: Vec::new(), open_charged: false, repeats: 1 };
    run_case(case, &options, &mut Vec::new()).unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn an_oracle_is_faster_and_wastes_nothing() {
    let shuffled = Workload::Shuffled { epochs: 1, files: None, workers: 1 };
    let case = case("small:4x50x40k", shuffled, Timed::Whole);
    let runs = taken(&case, Subject::Oracle(32));
    let (without, with) = (runs.without[0], runs.with[0]);
    assert_eq!((without.evidence.fetched, without.evidence.covered), (0, 0));
    assert_eq!(with.evidence.read, 200 * 40_000);
    assert_eq!((with.evidence.early, with.evidence.omitted), (0, 0));
    // A machine may take a few pages back before they are read (docs/facts.md: DAMON's pageout).
    assert!(with.evidence.wasted * 100 <= with.evidence.read, "{:?}", with.evidence);
    assert!(with.evidence.fetched() > 0.5, "{:?}", with.evidence);
    assert!(with.seconds < without.seconds);
    let metrics: Vec<String> =
        figures("proof", &runs, case.timed).into_iter().map(|figure| figure.metric).collect();
    for metric in ["speedup", "of_limit", "waste", "fetched", "coverage"] {
        assert!(metrics.iter().any(|name| name == metric), "{metric}");
    }
}

#[test]
fn an_oracle_for_another_order_is_seen_to_waste() {
    // The oracle believes in the whole epoch; the reader quits after ten files.
    let few = Workload::Shuffled { epochs: 1, files: Some(10), workers: 1 };
    let store =
        tests::bench::lab::StoreProcess::start(&case("small:4x50x40k", few, Timed::Whole).store).unwrap();
    let folder = tests::hygiene::Folder::new().unwrap();
    let whole = Workload::Shuffled { epochs: 1, files: None, workers: 1 };
    tests::bench::lab::drop_caches().unwrap();
    store.control().reset().unwrap();
    let oracle = tests::bench::lab::Companion::start(&Subject::Oracle(16), &store, folder.path(), whole, 1)
        .unwrap()
        .unwrap();
    let mut reader = store.read(few, 1).unwrap();
    let outcome = reader.epoch().unwrap();
    reader.finish().unwrap();
    oracle.settle();
    let id = oracle.id();
    oracle.stop();
    let record = store.control().journal().unwrap();
    let evidence = tests::bench::evidence::Evidence::weigh(&record, &outcome, Some(id), false);
    assert_eq!(evidence.read, 400_000);
    assert!(evidence.fetched() > 3.0 && evidence.waste() > 2.0, "{evidence:?}");
}

#[test]
fn a_second_epoch_is_timed_alone() {
    let twice = Workload::Shuffled { epochs: 2, files: None, workers: 1 };
    let runs = taken(&case("small:2x20x40k", twice, Timed::SecondEpoch), Subject::None);
    assert_eq!(runs.without[0].evidence.read, 40 * 40_000, "one epoch, from an empty cache");
    assert!(runs.with.is_empty());
}
