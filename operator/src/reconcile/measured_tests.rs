//! From what agents and the cluster tell to what a Dataset's status is made of.

use std::ops::Range;
use std::sync::{Arc, RwLock};

use operator_api::crd::dataset_status::{MAX_NODES, MAX_READERS, NodeStatus, ReaderStatus};

use super::measure::{Measure, Measured};
use super::measured::Ledger;
use crate::inventory::{
    CHUNK, Capacity, Change, DatasetReport, DatasetSpec, Demand, Fact, Inventory, Millis, Report, Tier,
    Version, VersionFacts,
};
use crate::placement::SILENCE_MS;

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
        let ledger = Ledger::new(inventory.clone()).with_clock(|| Millis(1));
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
        let change =
            |version, tier, added| Change { version, tier, removed: Vec::new(), added, partial: None };
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

fn signed(chunks: u64) -> i64 {
    i64::try_from(chunks * CHUNK).unwrap()
}

#[test]
fn nodes_are_told_with_their_bytes_those_with_most_first() {
    let mut world = World::new();
    world.told("n1", Told { ram: vec![0..4], ..Told::default() });
    // In both tiers: there once.
    world.told("n2", Told { ram: vec![0..4], cache: vec![2..7], ..Told::default() });
    world.told("n3", Told { cache: vec![6..10], ..Told::default() });
    world.told("former", Told { former: vec![0..10], ..Told::default() });
    world.told("empty", Told::default());
    let node = |node: &str, chunks: u64, percent| NodeStatus {
        node: node.into(),
        cached_bytes: signed(chunks),
        percent: Some(percent),
    };
    let measure = world.measure();
    assert_eq!(measure.nodes, [node("n2", 7, 70), node("n1", 4, 40), node("n3", 4, 40)]);
    assert_eq!((measure.node_count, measure.reporting), (3, 5));
    world.silent("n2");
    let measure = world.measure();
    assert_eq!((measure.nodes.len(), measure.node_count, measure.reporting), (3, 3, 4), "old news is kept");
}

#[test]
fn a_node_that_is_lost_counts_no_more_while_others_tell() {
    let mut world = World::new();
    world.told("lost", Told { readers: 1, hit: 50, miss: 50, ram: vec![0..10], ..Told::default() });
    world.told("n2", Told { ram: vec![0..2], ..Told::default() });
    world.bound("1", "lost", "ns/Job/j");
    world.silent("lost");
    let measure = world.measure();
    assert_eq!(
        (measure.cached_bytes, measure.hit_share),
        (Some(signed(10)), Some(0.5)),
        "silent for a moment"
    );
    world.ledger = Ledger::new(world.inventory.clone()).with_clock(|| Millis(1 + SILENCE_MS + 1));
    let measure = world.measure();
    assert_eq!((measure.cached_bytes, measure.hit_share), (Some(signed(2)), None));
    assert_eq!((measure.nodes.len(), measure.reader_count, measure.reporting), (1, 0, 1));
    assert!(measure.idle_seconds.is_some());
    world.silent("n2");
    let measure = world.measure();
    assert_eq!((measure.cached_bytes, measure.reporting), (Some(signed(10)), 0), "the last that was told");
    assert_eq!(measure.idle_seconds, None, "who reads is not known");
}

/// Its agents have nothing to tell of it; that nobody reads is known all the same.
#[test]
fn a_dataset_of_which_nothing_is_held_or_read_is_idle() {
    let mut world = World::new();
    assert_eq!(world.measure().idle_seconds, None, "no agent has it on a mount");
    for node in ["n1", "n2", "elsewhere"] {
        world.apply(Fact::Report {
            node: node.into(),
            report: Report { session: 1, sequence: 1, whole: true, ..Report::default() },
        });
        let datasets = if node == "elsewhere" { vec!["ns/e".into()] } else { vec!["ns/d".into()] };
        world.apply(Fact::Mounted { node: node.into(), datasets });
    }
    let measure = world.measure();
    assert_eq!((measure.reporting, measure.reader_count, measure.cached_bytes), (2, 0, Some(0)));
    assert_eq!((measure.idle_seconds, measure.capacity_bytes), (Some(0), None));
    world.silent("n1");
    world.silent("n2");
    assert_eq!(world.measure().idle_seconds, None);
}

#[test]
fn the_number_of_nodes_goes_beyond_the_list() {
    let mut world = World::new();
    for at in 0..MAX_NODES + 3 {
        world.told(&format!("n{at:02}"), Told { ram: vec![0..1], ..Told::default() });
    }
    world.told("zz", Told { ram: vec![0..2], ..Told::default() });
    let measure = world.measure();
    assert_eq!((measure.nodes.len(), measure.node_count), (MAX_NODES, MAX_NODES as i32 + 4));
    assert_eq!((&*measure.nodes[0].node, &*measure.nodes[1].node), ("zz", "n00"));
}

#[test]
fn bytes_on_two_nodes_are_cached_once() {
    let mut world = World::new();
    for node in ["n1", "n2"] {
        world.told(node, Told { ram: vec![0..4], former: vec![0..10], ..Told::default() });
    }
    let measure = world.measure();
    assert_eq!(measure.cached_bytes, Some(signed(4)));
    assert_eq!((measure.total_bytes, measure.file_num), (Some(signed(10)), Some(3)));
    assert_eq!(measure.versions[0].cached_bytes, measure.cached_bytes);
    assert_eq!(measure.version, Some(CURRENT.text()));
    world.told("n2", Told { cache: vec![3..6], ..Told::default() });
    assert_eq!(world.measure().cached_bytes, Some(signed(6)));
}

#[test]
fn a_quota_bounds_what_each_node_may_hold() {
    let mut world = World::new();
    let room = |ram: u64, cache: u64| Told {
        capacity: Some(Capacity { ram: ram * CHUNK, cache: cache * CHUNK }),
        ..Told::default()
    };
    world.told("small", room(1, 1));
    world.told("large", room(4, 4));
    assert_eq!(world.measure().capacity_bytes, Some(signed(10)));
    world.spec(Some(3 * CHUNK));
    assert_eq!(world.measure().capacity_bytes, Some(signed(5)));
    world.told("untold", Told::default());
    assert_eq!(world.measure().capacity_bytes, None, "one node's room is unknown, and so is the sum");
    world.told("untold", room(0, 0));
    for node in ["small", "large", "untold"] {
        assert_eq!(world.measure().capacity_bytes, Some(signed(5)));
        world.silent(node);
    }
    assert_eq!(world.measure().capacity_bytes, None, "nobody tells any more");
}

#[test]
fn hits_are_a_share_of_what_all_nodes_read() {
    let mut world = World::new();
    world.told("n1", Told::default());
    assert_eq!(world.measure().hit_share, None, "nobody reads");
    world.told("n1", Told { readers: 1, hit: 90, miss: 10, ..Told::default() });
    assert_eq!(world.measure().hit_share, Some(0.9));
    world.told("n2", Told { readers: 1, hit: 0, miss: 100, ..Told::default() });
    assert_eq!(world.measure().hit_share, Some(0.45));
}

#[test]
fn of_what_nobody_told_nothing_is_measured() {
    let inventory: Arc<RwLock<Inventory>> = Arc::default();
    let ledger = Ledger::new(inventory.clone());
    assert_eq!(ledger.dataset("ns", "d"), None);
    let declared = Fact::Dataset { dataset: "ns/d".into(), spec: DatasetSpec::default() };
    let workload = "ns/Job/j".into();
    let pod = Fact::PodBound { pod: "1".into(), node: "n1".into(), workload, datasets: vec!["ns/d".into()] };
    for fact in [declared, pod] {
        inventory.write().unwrap().apply(fact, Millis(1));
        assert_eq!(ledger.dataset("ns", "d"), None);
    }
}
