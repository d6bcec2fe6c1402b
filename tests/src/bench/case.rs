//! The rows of the first table: which store, which reader, and what the agent may have learned before.

use std::time::Duration;

use crate::reader::itinerary::Workload;
use crate::store::{StoreConfig, TreeSpec};

/// What the clock of a case measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timed {
    Whole,
    /// From the opening of this file (counted from 0) to the end.
    FromFile(usize),
    /// The second epoch of one process; caches are dropped between the two.
    SecondEpoch,
}

#[derive(Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    /// The row it belongs to: of several cases in one row the worst counts.
    pub row: &'static str,
    pub store: StoreConfig,
    pub workload: Workload,
    /// Runs with the agent before the timed ones, beginning with an empty state.
    pub lessons: Vec<Workload>,
    /// Whether each timed run leaves its state to the next; otherwise each starts from the lessons' state.
    pub carries: bool,
    pub timed: Timed,
    /// A case of the small-file table, which is also taken with open charged.
    pub small: bool,
}

const LATENCY: Duration = Duration::from_millis(5);
const LARGE: u64 = 200_000_000;
const SMALL: u64 = 60_000_000;

const EPOCH: Workload = Workload::Shuffled { epochs: 1, files: None, workers: 1 };

const fn few(files: usize) -> Workload {
    Workload::Shuffled { epochs: 1, files: Some(files), workers: 1 }
}

fn large(name: &'static str, size: u64, workload: Workload) -> Case {
    on(name, TreeSpec::Large { size }, LARGE, workload)
}

fn small(name: &'static str, workload: Workload) -> Case {
    let tree = TreeSpec::Small { dirs: 40, files: 100, size: 40_000 };
    Case { small: true, ..on(name, tree, SMALL, workload) }
}

fn on(name: &'static str, tree: TreeSpec, bandwidth: u64, workload: Workload) -> Case {
    Case {
        name,
        row: name,
        store: StoreConfig { tree, latency: LATENCY, bandwidth: Some(bandwidth), ..StoreConfig::default() },
        workload,
        lessons: Vec::new(),
        carries: false,
        timed: Timed::Whole,
        small: false,
    }
}

/// All of the first table, in its order.
pub fn first_light() -> Vec<Case> {
    let shared = |workers| Workload::Shuffled { epochs: 1, files: None, workers };
    let twice = Workload::Shuffled { epochs: 2, files: None, workers: 1 };
    let table = TreeSpec::Parquet { files: 200, columns: 20, column: 256 << 10 };
    let sparse = |name, files| Case { row: "sparse", ..small(name, few(files)) };
    let dropped = small("dropped", Workload::Directory);
    vec![
        large("sequential", 1 << 30, Workload::Sequential),
        large("mmap", 1 << 30, Workload::Mmap),
        large("strided", 4 << 30, Workload::Strided),
        small("directory", Workload::Directory),
        Case { timed: Timed::SecondEpoch, ..small("replay", twice) },
        small("shuffled-first", EPOCH),
        Case { lessons: vec![EPOCH], ..small("shuffled-known", EPOCH) },
        Case { lessons: vec![shared(4)], ..small("shuffled-workers", shared(4)) },
        Case { timed: Timed::FromFile(4), ..on("footer", table, LARGE, Workload::Footer) },
        sparse("sparse-50", 50),
        sparse("sparse-150", 150),
        sparse("sparse-600", 600),
        Case { lessons: vec![EPOCH, few(150), few(150)], carries: true, ..small("misled", few(150)) },
        Case { store: StoreConfig { keep_pages: false, ..dropped.store.clone() }, ..dropped },
        large("random", 4 << 30, Workload::Random { reads: 2_000 }),
    ]
}

/// The small-file cases on a store that charges for open.
pub fn open_charged() -> Vec<Case> {
    let charged =
        |case: Case| Case { store: StoreConfig { charge_open: true, ..case.store.clone() }, ..case };
    first_light().into_iter().filter(|case| case.small).map(charged).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_that_of_the_issue() {
        let rows: Vec<&str> = first_light().iter().map(|case| case.row).collect();
        for row in [
            "sequential",
            "mmap",
            "strided",
            "directory",
            "replay",
            "shuffled-first",
            "shuffled-known",
            "shuffled-workers",
            "footer",
            "sparse",
            "misled",
            "dropped",
            "random",
        ] {
            assert!(rows.contains(&row), "{row}");
        }
        for case in first_light() {
            let StoreConfig { latency, jitter, parallel_dirops, max_background, charge_open, .. } =
                case.store;
            assert_eq!((latency, jitter), (LATENCY, Duration::ZERO));
            assert_eq!((parallel_dirops, max_background, charge_open), (true, 64, false));
            assert_eq!(case.store.keep_pages, case.name != "dropped");
        }
        assert!(open_charged().iter().all(|case| case.store.charge_open && case.small));
    }
}
