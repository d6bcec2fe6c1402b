//! The operator's own view: facts in the inventory, claims and profiles told; what scheduling sees of them.

use std::sync::{Arc, RwLock};

use crate::inventory::{
    CHUNK, Capacity, ChunkSet, Chunks, DatasetReport, DatasetSpec, Fact, First, Inventory, Millis, Name,
    NodeFacts, Report, Tier, Version, VersionFacts,
};
use crate::schedule::bound::Needs;
use crate::schedule::extender::scores::Scores;
use crate::schedule::picture::Picture;
use crate::schedule::reach::{Holding, View};

const VERSION: Version = Version(7);

fn chunks(runs: &[std::ops::Range<u32>]) -> ChunkSet {
    let mut set = ChunkSet::default();
    for run in runs {
        assert!(set.insert(run));
    }
    set
}

fn node(name: &str, labels: &[(&str, &str)]) -> Fact {
    let labels = labels.iter().map(|(key, value)| (Name::from(*key), Name::from(*value))).collect();
    Fact::Node { node: name.into(), facts: NodeFacts { labels, ready: true, ..NodeFacts::default() } }
}

fn report(name: &str, dataset: &str, tier: Tier, set: &ChunkSet, sequence: u64) -> Fact {
    let holds = DatasetReport::holds(dataset.into(), VERSION, tier, set);
    let report =
        Report { session: 1, sequence, whole: sequence == 1, datasets: vec![holds], ..Report::default() };
    Fact::Report { node: name.into(), report }
}

fn apply(inventory: &RwLock<Inventory>, facts: impl IntoIterator<Item = Fact>) {
    let mut inventory = inventory.write().unwrap();
    for fact in facts {
        inventory.apply(fact, Millis(0));
    }
}

fn first(version: Version, runs: &[Chunks]) -> Vec<First> {
    First::new(version, runs.iter().cloned()).into_iter().collect()
}

/// `ml/train` has 100 chunks: the first half in b's memory, all of them in c's cache.
fn told() -> (Arc<RwLock<Inventory>>, Picture) {
    let inventory = Arc::new(RwLock::new(Inventory::default()));
    let rack = |rack| ("headrace.io/rack", rack);
    apply(
        &inventory,
        [
            node("a", &[rack("1"), ("topology.kubernetes.io/zone", "z")]),
            node("b", &[rack("1"), ("topology.kubernetes.io/zone", "z")]),
            node("c", &[]),
            Fact::Dataset { dataset: "ml/train".into(), spec: DatasetSpec::default() },
            Fact::Version {
                dataset: "ml/train".into(),
                facts: VersionFacts {
                    version: VERSION,
                    bytes: Some(100 * CHUNK),
                    files: None,
                    at: Millis(0),
                },
            },
            report("b", "ml/train", Tier::Ram, &chunks(&[0..50]), 1),
            report("c", "ml/train", Tier::Cache, &chunks(&[0..100]), 1),
            report("ghost", "ml/train", Tier::Cache, &chunks(&[0..100]), 1),
        ],
    );
    let picture = Picture::new(inventory.clone());
    picture.set_dataset(
        &"ml/train".into(),
        "u1",
        vec![("ml".into(), "train".into()), ("guest".into(), "lent".into())],
    );
    picture.set_claim("ml", "train", "u1");
    picture.set_claim("guest", "lent", "u1");
    (inventory, picture)
}

fn train() -> [Name; 1] {
    ["ml/train".into()]
}

#[test]
fn bytes_are_where_reports_say_and_only_on_nodes_that_are() {
    let (_, picture) = told();
    let reach = picture.reach(&train(), None);
    assert_eq!(reach.expected, 100 * CHUNK);
    assert_eq!(
        reach.holdings,
        [
            Holding { node: 1, memory: 50 * CHUNK, ..Holding::default() },
            Holding { node: 2, cache: 100 * CHUNK, ..Holding::default() }
        ]
    );
    let name = |index| reach.nodes.get(index).map(|node| node.name.to_string());
    assert_eq!((name(1), name(2), name(3)), (Some("b".into()), Some("c".into()), None));
    assert_eq!(reach.nodes.rack(0), reach.nodes.rack(1));
    assert_eq!(picture.reach(&["ml/unknown".into()], None).holdings, []);
}

#[test]
fn what_nodes_were_told_to_bring_in_counts_as_coming() {
    let (inventory, picture) = told();
    let before = picture.generation(&train());
    let told = |node: &str, chunks: u64| (node.into(), "ml/train".into(), chunks * CHUNK);
    picture.set_coming([told("a", 30), told("b", 40), told("b", 20), told("nobody", 1)]);
    assert_ne!(picture.generation(&train()), before);
    let holdings = picture.reach(&train(), None).holdings;
    assert_eq!(holdings[0], Holding { node: 0, coming: 30 * CHUNK, ..Holding::default() });
    // Never more than it lacks.
    assert_eq!(holdings[1], Holding { node: 1, memory: 50 * CHUNK, coming: 50 * CHUNK, cache: 0 });
    // A pod that is bound reads all of it, and what was told on its account is not counted beside that.
    let workload = "ml/Job/t".into();
    let pod = Fact::PodBound { pod: "p".into(), node: "a".into(), workload, datasets: train().to_vec() };
    inventory.write().unwrap().apply(pod, Millis(0));
    assert_eq!(picture.reach(&train(), None).holdings[0].coming, 100 * CHUNK);
    picture.set_coming([]);
    assert_eq!(picture.reach(&train(), None).holdings[1].coming, 0);
}

#[test]
fn a_profile_makes_the_bytes_count_that_are_read_first() {
    let (_, picture) = told();
    let scores = |workload| {
        let scores = Scores::of(&picture.reach(&train(), workload));
        (0..3).map(|node| scores.get(node)).collect::<Vec<_>>()
    };
    assert_eq!(scores(Some("ml/Job/t")), [2, 5, 8]);
    let before = picture.generation(&train());
    picture.set_profile("ml/Job/t", &"ml/train".into(), first(VERSION, &[0..10]));
    assert_ne!(picture.generation(&train()), before);
    assert_eq!(scores(Some("ml/Job/t")), [3, 10, 8]);
    assert_eq!(scores(Some("ml/Job/other")), [2, 5, 8]);
    // Learned on a version that is gone: the same chunks are other bytes.
    picture.set_profile("ml/Job/t", &"ml/train".into(), first(Version(99), &[0..10]));
    assert_eq!(scores(Some("ml/Job/t")), [2, 5, 8]);
    picture.set_profile("ml/Job/t", &"ml/train".into(), Vec::new());
    assert_eq!(scores(Some("ml/Job/t")), [2, 5, 8]);
}

#[test]
fn the_generation_changes_with_what_bears_on_the_dataset() {
    let (inventory, picture) = told();
    let other: [Name; 1] = ["ml/other".into()];
    let now = || (picture.generation(&train()), picture.generation(&other));
    let before = now();
    assert_eq!(now(), before);
    apply(&inventory, [report("b", "ml/train", Tier::Ram, &chunks(&[50..60]), 2)]);
    assert_ne!(now().0, before.0);
    assert_eq!(now().1, before.1, "not with what bears on another");
    let before = now();
    picture.tick();
    assert_eq!(now(), before, "nor with time");
    apply(&inventory, [node("d", &[])]);
    picture.tick();
    assert_ne!(now().1, before.1);
    assert_eq!(picture.nodes().named("d"), Some(3));
}

#[test]
fn nodes_that_come_go_and_change_are_taken_over_at_the_next_tick() {
    let (inventory, picture) = told();
    apply(&inventory, [Fact::NodeGone { node: "a".into() }, node("b", &[("kubernetes.io/os", "windows")])]);
    picture.tick();
    let nodes = picture.nodes();
    assert_eq!((nodes.named("a"), nodes.named("b"), nodes.named("c")), (None, Some(0), Some(1)));
    assert_eq!(nodes.unmountable(), 1);
    let reason = nodes.get(0).and_then(|node| node.unmountable.clone()).unwrap();
    assert!(reason.contains("does not run Linux"), "{reason}");
    let held: Vec<u32> = picture.reach(&train(), None).holdings.iter().map(|holding| holding.node).collect();
    assert_eq!(held, [0, 1]);
    apply(&inventory, [node("b", &[("headrace.io/mount", "disabled")])]);
    picture.tick();
    let reason = picture.nodes().get(0).and_then(|node| node.unmountable.clone()).unwrap();
    assert!(reason.contains("headrace.io/mount=disabled"), "{reason}");
}

#[test]
fn claims_follow_their_dataset_and_the_own_namespace_goes_first() {
    let (_, picture) = told();
    let of = |namespace, claim| picture.dataset(namespace, claim).map(|name| name.to_string());
    let wanted = |namespace, claim| picture.wanted_by(namespace, claim).map(|name| name.to_string());
    assert_eq!(of("ml", "train").as_deref(), Some("ml/train"));
    assert_eq!(of("guest", "lent").as_deref(), Some("ml/train"));
    assert_eq!(of("guest", "train"), None);
    picture.set_dataset(&"guest/lent".into(), "u2", vec![("guest".into(), "lent".into())]);
    picture.set_dataset(&"guest/lent".into(), "u2", vec![("guest".into(), "lent".into())]);
    assert_eq!(wanted("guest", "lent").as_deref(), Some("guest/lent"));
    assert_eq!(of("guest", "lent").as_deref(), Some("ml/train"), "whose it is, whoever wants it");
    picture.set_claim("guest", "lent", "u2");
    assert_eq!(of("guest", "lent").as_deref(), Some("guest/lent"));
    picture.drop_dataset("guest/lent");
    assert_eq!(wanted("guest", "lent").as_deref(), Some("ml/train"));
    assert_eq!(of("guest", "lent"), None, "it was made for the one that is gone");
    picture.set_claim("guest", "lent", "u1");
    assert_eq!(of("guest", "lent").as_deref(), Some("ml/train"));
    picture.set_dataset(&"ml/train".into(), "u1", vec![("ml".into(), "train".into())]);
    assert_eq!((of("guest", "lent"), wanted("guest", "lent")), (None, None));
    picture.drop_claim("ml", "train");
    picture.drop_claim("ml", "train");
    assert_eq!((of("ml", "train"), wanted("ml", "train").as_deref()), (None, Some("ml/train")));
    picture.set_claim("ml", "train", "u1");
    picture.drop_dataset("ml/train");
    picture.drop_dataset("ml/train");
    assert_eq!(of("ml", "train"), None);
}

#[test]
fn a_node_begins_with_what_its_profile_says_or_the_beginning_and_not_with_what_it_has() {
    let (inventory, picture) = told();
    let missing = |node: &str, workload| picture.missing("ml/train", node, workload);
    assert_eq!(missing("a", None), Some((VERSION, vec![0..100])));
    assert_eq!(missing("b", None), Some((VERSION, vec![50..100])));
    assert_eq!(missing("c", None), None);
    assert_eq!(missing("nobody", None), None);
    picture.set_profile("ml/Job/t", &"ml/train".into(), first(VERSION, &[90..91, 40..60]));
    assert_eq!(missing("a", Some("ml/Job/t")), Some((VERSION, vec![40..60, 90..91])));
    assert_eq!(missing("b", Some("ml/Job/t")), Some((VERSION, vec![50..60, 90..91])));
    let capacity = Some(Capacity { ram: 40 * CHUNK, cache: 0 });
    let report = Report { session: 2, sequence: 1, whole: true, capacity, ..Report::default() };
    apply(&inventory, [Fact::Report { node: "a".into(), report }]);
    assert_eq!(missing("a", None), Some((VERSION, vec![0..10])), "a quarter of its memory");
    assert_eq!(
        missing("a", Some("ml/Job/t")),
        Some((VERSION, vec![40..49, 90..91])),
        "what is read first of it"
    );
}

#[test]
fn namespaces_that_ask_for_it_are_left_alone() {
    let (_, picture) = told();
    assert!(!picture.opted_out("ml"));
    picture.leave_alone("ml", true);
    assert!(picture.opted_out("ml"));
    picture.leave_alone("ml", false);
    assert!(!picture.opted_out("ml"));
}
