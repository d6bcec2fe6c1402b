//! The inventory through its one way in, compared with what was put in.

use super::fold::MAX_STRANGE_MS;
use super::*;

const GIB: u64 = 1 << 30;

fn name(text: &str) -> Name {
    text.into()
}

fn labels(rack: &str, zone: &str) -> Labels {
    let zone_key = "topology.kubernetes.io/zone";
    [("headrace.io/rack".into(), rack.into()), (zone_key.into(), zone.into())].into()
}

fn node(node: &str, rack: &str, zone: &str) -> Fact {
    let facts = NodeFacts { labels: labels(rack, zone), ready: true, ..NodeFacts::default() };
    Fact::Node { node: name(node), facts }
}

fn dataset(dataset: &str) -> Fact {
    Fact::Dataset { dataset: name(dataset), spec: DatasetSpec::default() }
}

fn version(dataset: &str, version: u128, bytes: u64) -> Fact {
    let (bytes, files, at) = (Some(bytes), Some(10), Millis(version as u64));
    Fact::Version {
        dataset: name(dataset),
        facts: VersionFacts { version: Version(version), bytes, files, at },
    }
}

fn change(tier: Tier, removed: &[Chunks], added: &[Chunks]) -> Change {
    Change { version: Version(1), tier, removed: removed.to_vec(), added: added.to_vec(), partial: None }
}

fn report(node: &str, sequence: u64, dataset: &str, changes: Vec<Change>) -> Fact {
    let demand = Some(Demand { readers: 1, rate: 100, hit: 30, miss: 10 });
    let datasets = vec![DatasetReport { dataset: name(dataset), changes, demand, learned: None }];
    let report = Report { session: 7, sequence, whole: sequence == 1, datasets, ..Report::default() };
    Fact::Report { node: name(node), report }
}

fn bound(pod: &str, node: &str, workload: &str, datasets: &[&str]) -> Fact {
    let datasets = datasets.iter().map(|d| name(d)).collect();
    Fact::PodBound { pod: name(pod), node: name(node), workload: name(workload), datasets }
}

fn fold(facts: impl IntoIterator<Item = Fact>) -> Inventory {
    let mut inventory = Inventory::default();
    for fact in facts {
        inventory.apply(fact, Millis(1));
    }
    inventory
}

fn sample() -> Vec<Fact> {
    vec![
        node("n1", "r1", "a"),
        node("n2", "r1", "a"),
        node("n3", "r2", "a"),
        node("n4", "r9", "b"),
        dataset("x/d"),
        version("x/d", 1, GIB),
        report("n1", 1, "x/d", vec![change(Tier::Ram, &[], &[0..64]), change(Tier::Cache, &[], &[32..128])]),
        report("n2", 1, "x/d", vec![change(Tier::Cache, &[], &[100..200])]),
        bound("p", "n4", "x/Job/j", &["x/d"]),
    ]
}

#[test]
fn bytes_are_where_agents_say() {
    let inventory = fold(sample());
    let (_, d) = inventory.datasets().next().unwrap();
    let [n1, n2, n3, n4] = ["n1", "n2", "n3", "n4"].map(|n| inventory.node_id(n).unwrap());
    assert_eq!((d.resident(n1, Tier::Ram), d.resident(n1, Tier::Cache)), (64 * CHUNK, 96 * CHUNK));
    assert_eq!(d.holders_of(&(120..124)), [(n1, 0, 4), (n2, 0, 4)]);
    let sum = d.summary();
    assert_eq!((sum.cached, sum.holders, sum.readers, sum.pods), (200 * CHUNK, 2, 2, 1));
    assert_eq!(sum.hit_share(), Some(0.75));
    assert_eq!(sum.cached_share(), Some(200.0 / 256.0));
    let want = Want { dataset: inventory.dataset_id("x/d").unwrap(), first: None };
    let scoring = inventory.scoring(&[want]);
    let standing = |id| inventory.standing(&scoring, id);
    let most = Standing { ram: 64 * CHUNK, cache: 64 * CHUNK, rack: 100 * CHUNK, ..Standing::default() };
    assert_eq!(standing(n1), most);
    assert_eq!(standing(n3), Standing { zone: 228 * CHUNK, ..Standing::default() });
    assert_eq!(standing(n4), Standing { coming: GIB, ..Standing::default() });
    let first: ChunkSet = [190..210].into_iter().collect();
    let scoring = inventory.scoring(&[Want { first: Some(&first), ..want }]);
    assert_eq!(inventory.standing(&scoring, n2).local(), 10 * CHUNK);
    assert_eq!(inventory.standing(&scoring, n1), Standing { rack: 10 * CHUNK, ..Standing::default() });
    assert_eq!(scoring.wanted(), Some(20 * CHUNK));
}

/// What is there of chunks that are not whole counts, and is never made more of than it can be.
#[test]
fn bytes_of_broken_chunks_count_once() {
    let partial = |tier, bytes| Change { partial: Some(bytes), ..change(tier, &[], &[]) };
    let facts = |n2: Change| {
        let held = vec![change(Tier::Ram, &[], &[0..64]), partial(Tier::Ram, 32 * CHUNK)];
        let mut facts = sample();
        facts.truncate(6);
        facts.extend([report("n1", 1, "x/d", held), report("n2", 1, "x/d", vec![n2])]);
        facts
    };
    let inventory = fold(facts(partial(Tier::Ram, 80 * CHUNK)));
    let (id, d) = inventory.datasets().next().unwrap();
    let [n1, n2] = ["n1", "n2"].map(|n| inventory.node_id(n).unwrap());
    assert_eq!((d.resident(n1, Tier::Ram), d.resident(n2, Tier::Ram)), (96 * CHUNK, 80 * CHUNK));
    let sum = d.summary();
    // Those of n2 may all be among those of n1.
    assert_eq!((sum.cached, sum.ram, sum.holders), (96 * CHUNK, 176 * CHUNK, 2));
    assert!(d.holders_of(&(0..256)).iter().all(|(id, ..)| *id == n1), "no chunk of n2 is whole");
    let local = |inventory: &Inventory, id, node, first: Option<&ChunkSet>| {
        let scoring = inventory.scoring(&[Want { dataset: id, first }]);
        inventory.standing(&scoring, node).local()
    };
    assert_eq!(local(&inventory, id, n2, None), 80 * CHUNK);
    // Half of what n1 has not whole is wanted first, and none of what it has: a sixth of it is there.
    let first: ChunkSet = [64..160].into_iter().collect();
    assert_eq!(local(&inventory, id, n1, Some(&first)), 16 * CHUNK);
    assert_eq!(local(&inventory, id, n2, Some(&first)), 30 * CHUNK);

    // A lie: no more than there is. What left is gone, and so is the node that has nothing more.
    let lie = fold(facts(partial(Tier::Cache, 1 << 60)));
    let (id, d) = lie.datasets().next().unwrap();
    assert_eq!((d.resident(n2, Tier::Cache), d.summary().cached), (GIB, GIB));
    assert_eq!(local(&lie, id, n2, Some(&first)), 96 * CHUNK);
    let mut facts = facts(partial(Tier::Ram, 80 * CHUNK));
    facts.push(report("n2", 2, "x/d", vec![partial(Tier::Ram, 0)]));
    let emptied = fold(facts);
    assert_eq!(
        (emptied.digest() == inventory.digest(), emptied.datasets().next().unwrap().1.summary().holders),
        (false, 1)
    );
}

#[test]
fn what_is_unknown_is_not_zero() {
    let inventory = fold([dataset("x/d"), report("n1", 1, "x/d", vec![change(Tier::Ram, &[], &[0..2])])]);
    let (id, d) = inventory.datasets().next().unwrap();
    let sum = d.summary();
    assert_eq!((sum.bytes, sum.cached_share(), sum.cached), (None, None, 2 * CHUNK));
    assert_eq!(Dataset::bytes(d), None);
    assert_eq!(inventory.scoring(&[Want { dataset: id, first: None }]).wanted(), None);
    let n1 = inventory.node(inventory.node_id("n1").unwrap()).unwrap();
    assert!(n1.facts().is_none() && n1.capacity().is_none() && n1.pressure().is_none());
    assert_eq!(fold([dataset("x/d")]).datasets().next().unwrap().1.summary().hit_share(), None);
}

#[test]
fn the_order_of_independent_facts_does_not_matter() {
    let facts = sample();
    let wanted = fold(facts.clone()).digest();
    for rotation in 0..facts.len() {
        let mut rotated = facts.clone();
        rotated.rotate_left(rotation);
        // A version is learned of what is known.
        rotated.sort_by_key(|fact| matches!(fact, Fact::Version { .. }));
        assert_eq!(fold(rotated.clone()).digest(), wanted);
        rotated.reverse();
        rotated.sort_by_key(|fact| matches!(fact, Fact::Version { .. }));
        assert_eq!(fold(rotated).digest(), wanted);
    }
    let less = &facts[..facts.len() - 1];
    assert_ne!(fold(less.iter().cloned()).digest(), wanted);
}

#[test]
fn deltas_and_a_snapshot_of_their_sum_are_equal() {
    let steps = [
        report("n1", 1, "x/d", vec![change(Tier::Ram, &[], &[0..10])]),
        report("n1", 2, "x/d", vec![change(Tier::Ram, &[2..4], &[20..30])]),
    ];
    let whole = report("n1", 1, "x/d", vec![change(Tier::Ram, &[], &[0..2, 4..10, 20..30])]);
    let mut inventory = fold(steps.clone());
    assert_eq!(inventory.digest(), fold([whole.clone()]).digest());
    // Told again, told with a hole, told anew.
    assert_eq!(inventory.apply(steps[1].clone(), Millis(2)).fate, Fate::Known);
    let gap = report("n1", 4, "x/d", vec![change(Tier::Ram, &[0..1], &[])]);
    assert_eq!(inventory.apply(gap, Millis(2)).fate, Fate::AskWhole);
    let Fact::Report { node, report: mut anew } = whole else { unreachable!() };
    (anew.session, anew.sequence) = (8, 40);
    let digest = inventory.digest();
    assert_eq!(inventory.apply(Fact::Report { node, report: anew }, Millis(3)).fate, Fate::Taken);
    assert_eq!(inventory.digest(), digest);
    assert_eq!(inventory.node(inventory.node_id("n1").unwrap()).unwrap().told(), Some((8, 40)));
    let first = report("n9", 2, "x/d", Vec::new());
    assert_eq!(inventory.apply(first, Millis(3)).fate, Fate::AskWhole);
    assert!(inventory.node_id("n9").is_none());
}

#[test]
fn what_is_gone_leaves_nothing() {
    let mut inventory = fold(sample());
    for gone in ["n1", "n2", "n3", "n4"] {
        inventory.apply(Fact::NodeGone { node: name(gone) }, Millis(2));
    }
    assert_eq!(inventory.datasets().next().unwrap().1.summary().holders, 0);
    inventory.apply(Fact::PodEnded { pod: name("p") }, Millis(2));
    inventory.apply(Fact::DatasetGone { dataset: name("x/d") }, Millis(2));
    assert_eq!(inventory.digest(), Inventory::default().digest());
    assert_eq!(inventory.counts(), (0, 0, 0));
    assert_eq!(inventory.workloads.count(), 0);
}

/// Users of a Dataset, by names.
fn users(inventory: &Inventory, dataset: &str) -> Vec<(String, String)> {
    let dataset = inventory.dataset(inventory.dataset_id(dataset).unwrap()).unwrap();
    let users = dataset.users().map(|(workload, node)| {
        let node = inventory.node(node).unwrap().name().to_string();
        (inventory.workload(workload).unwrap().to_string(), node)
    });
    users.collect()
}

#[test]
fn a_workload_is_known_by_its_pods_and_as_long_as_they_are() {
    let mut inventory = fold([
        dataset("x/d"),
        dataset("x/e"),
        bound("1", "n1", "x/Job/j", &["x/d", "x/e"]),
        bound("2", "n1", "x/Job/j", &["x/d"]),
        bound("3", "n2", "x/Job/j", &["x/d"]),
        bound("4", "n1", "x/Pod/4", &["x/d"]),
    ]);
    let pair = |workload: &str, node: &str| (workload.to_owned(), node.to_owned());
    let (one, two) = (pair("x/Job/j", "n1"), pair("x/Job/j", "n2"));
    assert_eq!(users(&inventory, "x/d"), [one.clone(), two.clone(), pair("x/Pod/4", "n1")]);
    assert_eq!(users(&inventory, "x/e"), std::slice::from_ref(&one));
    assert_eq!(inventory.workloads.count(), 2);
    // Told again: nothing is counted twice.
    assert_eq!(inventory.apply(bound("4", "n1", "x/Pod/4", &["x/d"]), Millis(2)).fate, Fate::Known);
    for (pod, left) in
        [("4", vec![one.clone(), two.clone()]), ("1", vec![one, two.clone()]), ("2", vec![two])]
    {
        inventory.apply(Fact::PodEnded { pod: name(pod) }, Millis(2));
        assert_eq!(users(&inventory, "x/d"), left, "without {pod}");
    }
    assert_eq!(users(&inventory, "x/e"), []);
    // Another owner took the pod in; then its node is no more, and the pod a moment later.
    inventory.apply(bound("3", "n2", "x/Job/heir", &["x/d"]), Millis(2));
    assert_eq!(users(&inventory, "x/d"), [pair("x/Job/heir", "n2")]);
    assert_eq!(inventory.workloads.count(), 1);
    inventory.apply(Fact::NodeGone { node: name("n2") }, Millis(2));
    inventory.apply(Fact::PodEnded { pod: name("3") }, Millis(2));
    assert_eq!(users(&inventory, "x/d"), []);
    assert_eq!((inventory.workloads.count(), inventory.counts()), (0, (0, 2, 0)));
}

#[test]
fn a_pod_that_changed_hands_before_a_restart_does_not_change_the_digest() {
    let digest = |workload| fold([dataset("x/d"), bound("p", "n1", workload, &["x/d"])]).digest();
    assert_eq!(digest("x/ReplicaSet/r"), digest("x/Pod/p"));
}

#[test]
fn a_version_that_is_gone_does_not_count() {
    let mut inventory = fold(sample());
    let revision = inventory.revision();
    inventory.apply(version("x/d", 2, 5), Millis(2));
    let (_, d) = inventory.datasets_since(revision).next().unwrap();
    assert_eq!((d.summary().cached, d.bytes(), d.versions().len()), (0, Some(5), 2));
    assert_eq!(inventory.datasets_since(inventory.revision()).count(), 0);
    // Learned again with less: what lies beyond was never there.
    inventory.apply(version("x/d", 1, 10 * CHUNK), Millis(2));
    let unknown = VersionFacts { version: Version(1), at: Millis(1), ..VersionFacts::default() };
    let stale = Fact::Version { dataset: name("x/d"), facts: unknown };
    assert_eq!(inventory.apply(stale, Millis(2)).fate, Fate::Known);
}

#[test]
fn an_agent_that_lies_is_bounded() {
    let mut inventory = fold([dataset("x/d"), version("x/d", 1, 10 * CHUNK)]);
    let backwards = Chunks { start: 7, end: 3 };
    let lie = change(
        Tier::Ram,
        std::slice::from_ref(&backwards),
        &[backwards.clone(), 8..4_000_000, u32::MAX..u32::MAX],
    );
    assert_eq!(inventory.apply(report("n1", 1, "x/d", vec![lie]), Millis(1)).refused, 3);
    assert_eq!(inventory.datasets().next().unwrap().1.summary().ram, 2 * CHUNK);
    let flood = (0..200_000u32).map(|i| i * 2..i * 2 + 1).collect::<Vec<_>>();
    let parts = (0..1000).map(|i| {
        let changes = vec![change(Tier::Cache, &[], &flood[..if i < 40 { flood.len() } else { 1 }])];
        DatasetReport { dataset: format!("x/lie-{i}").into(), changes, ..DatasetReport::default() }
    });
    let report = Report { session: 7, sequence: 2, datasets: parts.collect(), ..Report::default() };
    let applied = inventory.apply(Fact::Report { node: name("n1"), report }, Millis(1));
    assert!(applied.undeclared == 1000 && applied.refused > 100_000, "{applied:?}");
    assert!(inventory.counts().1 <= 258);
    let (_, n1) = inventory.nodes().next().unwrap();
    assert!(n1.spans <= 65_536, "{}", n1.spans);
}

#[test]
fn a_silent_node_is_old_news_until_it_speaks() {
    let mut inventory = fold(sample());
    let id = inventory.node_id("n1").unwrap();
    assert_eq!(inventory.apply(Fact::NodeSilent { node: name("n1") }, Millis(9)).fate, Fate::Taken);
    assert_eq!(inventory.apply(Fact::NodeSilent { node: name("n1") }, Millis(11)).fate, Fate::Known);
    assert_eq!(inventory.node(id).unwrap().silent(), Some(Millis(9)));
    inventory.apply(report("n1", 2, "x/d", Vec::new()), Millis(12));
    assert_eq!(inventory.node(id).unwrap().silent(), None);
    assert_eq!(inventory.node(id).unwrap().heard(), Some(Millis(12)));
}

#[test]
fn an_agent_that_comes_again_after_its_node_was_deleted_is_not_kept_for_good() {
    let mut inventory = fold(sample());
    let before = inventory.counts();
    let mut comes_again = |node: &str, at| {
        inventory.apply(Fact::NodeGone { node: name(node) }, at);
        inventory.apply(report(node, 1, "x/d", vec![change(Tier::Ram, &[], &[0..4])]), at);
        inventory.apply(Fact::NodeSilent { node: name(node) }, at);
        inventory.counts().0 - before.0
    };
    assert_eq!(comes_again("s0", Millis(1)), 1, "what it held is old news for a while");
    for at in 1..100 {
        assert!(comes_again(&format!("s{at}"), Millis(1 + at * MAX_STRANGE_MS / 2)) <= 3, "{at}");
    }
    assert_eq!(inventory.node_id("s96"), None);
    assert!(
        inventory.node_id("n1").is_some(),
        "one that the API server knows stays, however long it is silent"
    );
}

#[test]
fn who_uses_a_dataset_is_known_a_while_longer() {
    let used = |inventory: &Inventory, node| inventory.used_on(node, "x/d");
    let mut inventory = fold(sample());
    assert!(used(&inventory, "n4") && !used(&inventory, "n1") && !used(&inventory, "n9"));
    inventory.apply(Fact::PodEnded { pod: name("p") }, Millis(2));
    assert!(used(&inventory, "n4"), "what its agent learned is told when the run is over");
    inventory.apply(Fact::NodeGone { node: name("n4") }, Millis(3));
    assert!(!used(&inventory, "n4"));
}

#[test]
fn what_a_node_held_goes_with_its_last_mount() {
    let whole = || change(Tier::Ram, &[], &[0..4]);
    let mounted = |datasets: &[&str]| Fact::Mounted {
        node: name("n1"),
        datasets: datasets.iter().map(|dataset| name(dataset)).collect(),
    };
    let mut inventory = fold([
        node("n1", "r1", "a"),
        dataset("a/one"),
        dataset("a/two"),
        version("a/one", 1, GIB),
        version("a/two", 1, GIB),
        mounted(&["a/one", "a/two"]),
        bound("p", "n1", "a/Pod/p", &["a/one"]),
        report("n1", 1, "a/one", vec![whole()]),
        report("n1", 2, "a/two", vec![whole()]),
    ]);
    let held = |inventory: &Inventory| {
        ["a/one", "a/two"].map(|dataset| {
            let dataset = inventory.dataset(inventory.dataset_id(dataset).unwrap()).unwrap();
            dataset.resident(inventory.node_id("n1").unwrap(), Tier::Ram)
        })
    };
    let all = held(&inventory);
    assert!(all[0] > 0 && all[0] == all[1]);
    inventory.apply(mounted(&["a/two"]), Millis(2));
    assert_eq!(held(&inventory), [0, all[1]]);
    assert!(inventory.used_on("n1", "a/one"), "its pod is there yet");
    inventory.apply(report("n1", 3, "a/one", vec![whole()]), Millis(3));
    assert_eq!(held(&inventory), all, "mounted again");
}
