//! From what agents and the cluster tell to what a Dataset's status is made of.

use std::ops::Range;
use std::sync::{Arc, RwLock};

use operator_api::crd::dataset_status::{MAX_READERS, ReaderStatus};

use super::measure::{Measure, Measured};
use super::measured::Ledger;
use crate::inventory::{
    CHUNK, Capacity, Change, DatasetReport, DatasetSpec, Demand, Fact, Inventory, Millis, Report, Tier,
    Version, VersionFacts,
};

const CURRENT: Version = Version(2);
const FORMER: Version = Version(1);

/// `ns/d` has ten chunks. Facts come in as they would; a status is asked for at the end.
struct World {
    inventory: Arc<RwLock<Inventory>>,
    ledger: Ledger,
    sequence: u64,
}

/// What a node's agent tells of `ns/d`.
#[derive(Clone, Debug, Default)]
struct Told {
    readers: u32,
    hit: u64,
    miss: u64,
    ram: Vec<Range<u32>>,
    cache: Vec<Range<u32>>,
    former: Vec<Range<u32>>,
    capacity: Option<Capacity>,
}

impl World {
    fn new() -> Self {
        let inventory: Arc<RwLock<Inventory>> = Arc::default();
        let ledger = Ledger::new(inventory.clone());
        let mut world = Self { inventory, ledger, sequence: 0 };
        world.spec(None);
        for version in [FORMER, CURRENT] {
            let (bytes, files, at) = (Some(10 * CHUNK), Some(3), Millis(version.0 as u64));
            let facts = VersionFacts { version, bytes, files, at };
            world.apply(Fact::Version { dataset: "ns/d".into(), facts });
        }
        world
    }

    fn apply(&mut self, fact: Fact) {
        self.inventory.write().unwrap().apply(fact, Millis(1));
    }

    fn spec(&mut self, quota: Option<u64>) {
        let spec = DatasetSpec { quota, ..DatasetSpec::default() };
        self.apply(Fact::Dataset { dataset: "ns/d".into(), spec });
    }

    fn told(&mut self, node: &str, told: Told) {
        let Told { readers, hit, miss, ram, cache, former, capacity } = told;
        let change = |version, tier, added| Change { version, tier, removed: Vec::new(), added };
        let changes = vec![
            change(CURRENT, Tier::Ram, ram),
            change(CURRENT, Tier::Cache, cache),
            change(FORMER, Tier::Cache, former),
        ];
        let demand = Some(Demand { readers, rate: u64::from(readers), hit, miss });
        let datasets = vec![DatasetReport { dataset: "ns/d".into(), changes, demand, learned: None }];
        self.sequence += 1;
        let (session, sequence) = (1, self.sequence);
        let report = Report { session, sequence, whole: true, datasets, capacity, pressure: None };
        self.apply(Fact::Report { node: node.into(), report });
    }

    fn reads(&mut self, node: &str, readers: u32) {
        self.told(node, Told { readers, ..Told::default() });
    }

    fn silent(&mut self, node: &str) {
        self.apply(Fact::NodeSilent { node: node.into() });
    }

    fn bound(&mut self, pod: &str, node: &str, workload: &str) {
        let (pod, node, workload) = (pod.into(), node.into(), workload.into());
        self.apply(Fact::PodBound { pod, node, workload, datasets: vec!["ns/d".into()] });
    }

    fn ended(&mut self, pod: &str) {
        self.apply(Fact::PodEnded { pod: pod.into() });
    }

    fn measure(&self) -> Measure {
        self.ledger.dataset("ns", "d").unwrap()
    }

    fn readers(&self) -> Vec<ReaderStatus> {
        self.measure().readers
    }
}

fn reader(namespace: &str, workload: &str, nodes: i32) -> ReaderStatus {
    ReaderStatus { workload: workload.into(), namespace: Some(namespace.into()), nodes }
}

#[test]
fn readers_are_workloads_with_pods_where_it_is_read() {
    let mut world = World::new();
    for node in ["n1", "n2", "n3"] {
        world.reads(node, 1);
    }
    world.reads("quiet", 0);
    world.bound("1", "n1", "ns/Job/wide");
    world.bound("2", "n2", "ns/Job/wide");
    world.bound("3", "n2", "ns/Job/wide");
    world.bound("4", "n3", "guest/Pod/alone");
    world.bound("5", "n3", "ns/Job/b");
    world.bound("6", "quiet", "ns/Job/b");
    world.bound("7", "quiet", "ns/Job/waits");
    world.bound("8", "untold", "ns/Job/waits");
    let wide = reader("ns", "Job/wide", 2);
    let (alone, b) = (reader("guest", "Pod/alone", 1), reader("ns", "Job/b", 1));
    assert_eq!(world.readers(), [wide, alone.clone(), b.clone()]);

    world.silent("n1");
    world.silent("n3");
    assert_eq!(world.readers(), [reader("ns", "Job/wide", 1)], "a silent agent tells of nobody");
    world.reads("n3", 1);
    world.reads("n2", 0);
    assert_eq!(world.readers(), [alone, b], "the one that stopped reading is gone");
}

#[test]
fn a_reader_goes_with_its_last_pod_and_with_its_node() {
    let mut world = World::new();
    world.reads("n1", 1);
    world.reads("n2", 1);
    for (pod, node) in [("1", "n1"), ("2", "n1"), ("3", "n2")] {
        world.bound(pod, node, "ns/Job/j");
    }
    world.ended("1");
    assert_eq!(world.readers(), [reader("ns", "Job/j", 2)]);
    world.ended("2");
    assert_eq!(world.readers(), [reader("ns", "Job/j", 1)]);
    world.apply(Fact::NodeGone { node: "n2".into() });
    assert_eq!(world.readers(), []);
    world.reads("n2", 1);
    assert_eq!(world.readers(), [reader("ns", "Job/j", 1)], "the node came back, its pod had stayed");
    world.ended("3");
    assert_eq!(world.readers(), []);
}

#[test]
fn of_many_readers_those_on_most_nodes_are_named() {
    let mut world = World::new();
    world.reads("n1", 1);
    world.reads("n2", 1);
    for at in 0..MAX_READERS + 4 {
        world.bound(&format!("p{at}"), "n1", &format!("ns/Job/{at:02}"));
    }
    world.bound("far", "n2", "ns/Job/18");
    let readers = world.readers();
    assert_eq!(readers.len(), MAX_READERS);
    assert_eq!(readers[0], reader("ns", "Job/18", 2));
    assert_eq!(readers[1], reader("ns", "Job/00", 1));
    assert_eq!(readers[MAX_READERS - 1], reader("ns", "Job/14", 1));
}

#[test]
fn a_workload_on_several_nodes_is_one_reader() {
    let mut world = World::new();
    let count = |world: &World| world.measure().reader_count;
    world.reads("n1", 1);
    world.reads("n2", 1);
    assert_eq!(count(&world), 1, "two agents see one each: it may be the same");
    world.bound("1", "n1", "ns/Job/j");
    world.bound("2", "n2", "ns/Job/j");
    assert_eq!(count(&world), 1);
    world.bound("3", "n2", "ns/Pod/alone");
    assert_eq!(count(&world), 2, "pods tell of two");
    world.reads("n1", 3);
    assert_eq!(count(&world), 3, "one agent sees three, two of them in no pod");
    world.silent("n1");
    assert_eq!(count(&world), 2);
    for node in ["n1", "n2"] {
        world.reads(node, 0);
    }
    assert_eq!(count(&world), 0);
}

#[test]
fn readers_beyond_the_list_are_counted() {
    let mut world = World::new();
    world.reads("n1", 1);
    for at in 0..MAX_READERS + 4 {
        world.bound(&format!("p{at}"), "n1", &format!("ns/Job/{at}"));
    }
    assert_eq!(world.measure().reader_count, MAX_READERS as i32 + 4);
}
