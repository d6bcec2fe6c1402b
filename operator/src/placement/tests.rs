//! What must hold of placement, on made-up clusters.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::inventory::matching::{selects, untolerated};
use crate::inventory::{
    CHUNK, Capacity, Change, ChunkSet, DatasetReport, DatasetSpec, Demand, Effect, Fact, Inventory, Millis,
    NodeFacts, Replicas, Report, Requirement, Sharing, Taint, Test, Tier, Toleration, Version, VersionFacts,
};

const SECOND: u64 = 1_000;

#[derive(Clone, Debug)]
struct ANode {
    zone: u8,
    rack: u8,
    chunks: u32,
    ready: bool,
    tainted: bool,
    fast: bool,
}

#[derive(Clone, Debug)]
struct ADataset {
    chunks: u32,
    quota: Option<u32>,
    replicas: Replicas,
    sharing: Sharing,
    only_fast: bool,
    tolerates: bool,
}

/// (node, Dataset, bytes a second, pods, chunks that are there already)
type Use = (usize, usize, Option<u32>, u8, u32);

#[derive(Clone, Debug)]
struct World {
    nodes: Vec<ANode>,
    datasets: Vec<ADataset>,
    uses: Vec<Use>,
}

fn worlds() -> impl Strategy<Value = World> {
    let node =
        (0..3u8, 0..3u8, 0..120u32, prop::bool::weighted(0.9), prop::bool::weighted(0.2), any::<bool>())
            .prop_map(|(zone, rack, chunks, ready, tainted, fast)| ANode {
                zone,
                rack,
                chunks,
                ready,
                tainted,
                fast,
            });
    let replicas = prop_oneof![3 => Just(Replicas::Auto), 1 => (0..4u32).prop_map(Replicas::Fixed)];
    let sharing = prop_oneof![5 => Just(Sharing::Shared), 1 => Just(Sharing::Exclusive)];
    let quota = prop::option::weighted(0.3, 0..80u32);
    let dataset = (1..90u32, quota, replicas, sharing, prop::bool::weighted(0.2), any::<bool>()).prop_map(
        |(chunks, quota, replicas, sharing, only_fast, tolerates)| ADataset {
            chunks,
            quota,
            replicas,
            sharing,
            only_fast,
            tolerates,
        },
    );
    let parts = (prop::collection::vec(node, 1..14), prop::collection::vec(dataset, 1..7));
    parts.prop_flat_map(|(nodes, datasets)| {
        let rate = prop::option::of(0..3_000_000u32);
        let one =
            (0..nodes.len(), 0..datasets.len(), rate, 0..4u8, prop_oneof![2 => Just(0u32), 1 => 0..90u32]);
        let uses = prop::collection::vec(one, 0..25);
        uses.prop_map(move |uses| World { nodes: nodes.clone(), datasets: datasets.clone(), uses })
    })
}

impl World {
    fn node_fact(&self, at: usize) -> Fact {
        let node = &self.nodes[at];
        let labels = [
            ("topology.kubernetes.io/zone".into(), format!("z{}", node.zone).into()),
            ("headrace.io/rack".into(), format!("r{}", node.rack).into()),
            ("disk".into(), if node.fast { "fast" } else { "slow" }.into()),
        ];
        let taint = Taint { key: "gpu".into(), value: "".into(), effect: Effect::NoSchedule };
        let taints = if node.tainted { vec![taint] } else { Vec::new() };
        let facts = NodeFacts { labels: labels.into(), taints, ready: node.ready, ..NodeFacts::default() };
        Fact::Node { node: format!("n{at}").into(), facts }
    }

    fn spec(&self, at: usize) -> DatasetSpec {
        let ADataset { quota, replicas, sharing, only_fast, tolerates, .. } = self.datasets[at].clone();
        let fast = vec![vec![Requirement { key: "disk".into(), test: Test::In(vec!["fast".into()]) }]];
        DatasetSpec {
            quota: quota.map(|q| u64::from(q) * CHUNK),
            replicas,
            sharing,
            nodes: if only_fast { fast } else { Vec::new() },
            tolerations: if tolerates { vec![Toleration::default()] } else { Vec::new() },
            ..DatasetSpec::default()
        }
    }

    fn facts(&self) -> Vec<Fact> {
        let mut facts: Vec<Fact> = (0..self.nodes.len()).map(|at| self.node_fact(at)).collect();
        for (at, dataset) in self.datasets.iter().enumerate() {
            let name: crate::inventory::Name = format!("ns/d{at}").into();
            facts.push(Fact::Dataset { dataset: name.clone(), spec: self.spec(at) });
            let bytes = Some(u64::from(dataset.chunks) * CHUNK - 77);
            facts.push(Fact::Version {
                dataset: name,
                facts: VersionFacts { version: Version(7), bytes, ..VersionFacts::default() },
            });
        }
        for (at, node) in self.nodes.iter().enumerate() {
            let mut parts: BTreeMap<usize, DatasetReport> = BTreeMap::new();
            for (_, dataset, rate, pods, there) in self.uses.iter().filter(|u| u.0 == at) {
                let part = parts.entry(*dataset).or_insert_with(|| {
                    let dataset = format!("ns/d{dataset}").into();
                    let there = (*there).min(self.datasets[0].chunks);
                    let change = Change {
                        version: Version(7),
                        tier: Tier::Cache,
                        removed: vec![],
                        added: vec![0..there],
                        partial: None,
                    };
                    DatasetReport { dataset, changes: vec![change], ..DatasetReport::default() }
                });
                let rate = rate.map(u64::from);
                part.demand = rate.map(|rate| Demand { readers: 1, rate, hit: 0, miss: 0 });
                for pod in 0..*pods {
                    facts.push(Fact::PodBound {
                        pod: format!("p{at}-{dataset}-{pod}").into(),
                        node: format!("n{at}").into(),
                        workload: "ns/Job/j".into(),
                        datasets: vec![format!("ns/d{dataset}").into()],
                    });
                }
            }
            let report = Report {
                session: 1,
                sequence: 1,
                whole: true,
                datasets: parts.into_values().collect(),
                capacity: Some(Capacity { ram: CHUNK, cache: u64::from(node.chunks) * CHUNK }),
                pressure: None,
            };
            facts.push(Fact::Report { node: format!("n{at}").into(), report });
        }
        facts
    }
}

fn fold(facts: impl IntoIterator<Item = Fact>) -> Inventory {
    let mut inventory = Inventory::default();
    // A version is learned of a Dataset that is declared.
    let (last, first): (Vec<_>, Vec<_>) = facts.into_iter().partition(|f| matches!(f, Fact::Version { .. }));
    for fact in first.into_iter().chain(last) {
        inventory.apply(fact, Millis(1));
    }
    inventory
}

/// Who should hold what, by names.
fn shown(inventory: &Inventory, placement: &Placement) -> BTreeSet<(String, u32, String)> {
    let holders = inventory.datasets().flat_map(|(id, d)| placement.holders(id).map(move |h| (d, h)));
    let name = |d: &crate::inventory::Dataset, h: &Holder| {
        (d.name().to_string(), h.chunks.start, inventory.node(h.node).unwrap().name().to_string())
    };
    holders.map(|(d, h)| name(d, &h)).collect()
}

fn check(inventory: &Inventory, placement: &Placement) {
    for (id, node) in inventory.nodes() {
        let capacity = node.capacity().unwrap();
        let most = if capacity.cache > 0 { capacity.cache } else { capacity.ram };
        let mut sum = 0;
        let mut alone = false;
        let mut here = 0;
        for (dataset_id, dataset) in inventory.datasets() {
            let spec = dataset.spec().unwrap();
            let pieces = Pieces::of(dataset.bytes().unwrap());
            let held: Vec<Holder> = placement.holders(dataset_id).filter(|h| h.node == id).collect();
            let bytes: u64 = held.iter().map(|h| pieces.bytes(&h.chunks)).sum();
            assert_eq!(bytes, placement.given_to(id, dataset_id));
            assert!(bytes <= spec.quota.unwrap_or(u64::MAX), "{} over quota", dataset.name());
            sum += bytes;
            if !held.is_empty() {
                let facts = node.facts().unwrap();
                assert!(facts.ready, "not ready");
                assert!(selects(&spec.nodes, &facts.labels), "not selected");
                assert!(untolerated(&facts.taints, &spec.tolerations).is_none(), "not tolerated");
                here += 1;
                alone |= spec.sharing == Sharing::Exclusive;
            }
            assert!(held.iter().all(|h| !h.reason.to_string().is_empty() && h.value >= 0.0));
        }
        assert_eq!(sum, placement.given(id));
        assert!(sum <= most, "{} holds {sum} of {most}", node.name());
        assert!(!alone || here == 1, "an exclusive Dataset is not alone");
    }
    for (id, dataset) in inventory.datasets() {
        let Replicas::Fixed(most) = dataset.spec().unwrap().replicas else { continue };
        let mut copies: BTreeMap<u32, u32> = BTreeMap::new();
        placement.holders(id).for_each(|h| *copies.entry(h.chunks.start).or_default() += 1);
        assert!(copies.values().all(|n| *n <= most));
    }
}

/// Steps until nothing moves; returns how many and what moved.
fn settle(inventory: &Inventory, placement: &mut Placement, start: u64, limits: &Limits) -> (u64, Vec<Move>) {
    let mut moves = Vec::new();
    for at in 0..400 {
        let step = placement.step(inventory, Millis(start + at * SECOND), limits);
        assert!(step.moves.len() <= limits.moves && step.seen <= limits.datasets);
        assert!(step.moves.iter().map(|m| m.bytes).sum::<u64>() <= limits.bytes || step.moves.len() == 1);
        for m in &step.moves {
            assert!(m.benefit > 0.0 && m.benefit >= MARGIN * m.cost, "{m:?}");
        }
        check(inventory, placement);
        let quiet = step.moves.is_empty() && step.releases.is_empty() && step.waiting == 0;
        moves.extend(step.moves);
        if quiet && at > 0 {
            return (at, moves);
        }
    }
    panic!("does not come to rest: {:?}", moves.iter().rev().take(9).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn it_keeps_within_bounds_and_comes_to_rest(world in worlds()) {
        let inventory = fold(world.facts());
        let mut placement = Placement::default();
        settle(&inventory, &mut placement, 0, &Limits::default());
    }

    #[test]
    fn a_small_step_is_bounded_too(world in worlds()) {
        let inventory = fold(world.facts());
        let limits = Limits { datasets: 2, moves: 3, bytes: 40 * CHUNK };
        settle(&inventory, &mut Placement::default(), 0, &limits);
    }

    #[test]
    fn the_order_of_facts_decides_nothing(world in worlds(), shuffle in any::<prop::sample::Index>()) {
        let facts = world.facts();
        let mut other = facts.clone();
        other.rotate_left(shuffle.index(facts.len()));
        other.reverse();
        let (one, two) = (fold(facts), fold(other));
        prop_assert_eq!(one.digest(), two.digest());
        let (mut first, mut second) = (Placement::default(), Placement::default());
        settle(&one, &mut first, 0, &Limits::default());
        settle(&two, &mut second, 0, &Limits::default());
        prop_assert_eq!(shown(&one, &first), shown(&two, &second));
    }

    #[test]
    fn a_lost_node_moves_only_what_it_held(mut world in worlds(), lost in any::<prop::sample::Index>()) {
        // With room for all: else what is lost may push out what is worth less.
        world.nodes.iter_mut().for_each(|n| n.chunks = 4_000);
        world.datasets.iter_mut().for_each(|d| (d.sharing, d.quota) = (Sharing::Shared, None));
        let mut inventory = fold(world.facts());
        let mut placement = Placement::default();
        let (steps, _) = settle(&inventory, &mut placement, 0, &Limits::default());
        let before = shown(&inventory, &placement);
        let name = format!("n{}", lost.index(world.nodes.len()));
        let gone: BTreeSet<_> = before.iter().filter(|(.., n)| *n == name).map(|(d, c, _)| (d.clone(), *c)).collect();
        let fact = Fact::Node { node: name.as_str().into(), facts: NodeFacts::default() };
        inventory.apply(fact, Millis(2));
        let (_, moves) = settle(&inventory, &mut placement, (steps + 1) * SECOND, &Limits::default());
        for m in &moves {
            let dataset = inventory.dataset(m.dataset).unwrap().name().to_string();
            prop_assert!(gone.contains(&(dataset, m.chunks.start)), "{:?} was not on {}", m, name);
        }
        let after = shown(&inventory, &placement);
        prop_assert!(before.iter().filter(|(.., n)| *n != name).all(|copy| after.contains(copy)));
    }

    #[test]
    fn what_is_in_place_stays_when_the_operator_forgets(mut world in worlds()) {
        world.nodes.iter_mut().for_each(|n| n.chunks = 4_000);
        // Pieces compete within a quota, Datasets for nodes where one of them is exclusive, and what is there already
        // changes who comes first: docs/placement.md.
        world.datasets.iter_mut().for_each(|d| (d.quota, d.sharing) = (None, Sharing::Shared));
        let mut inventory = fold(world.facts());
        let mut placement = Placement::default();
        settle(&inventory, &mut placement, 0, &Limits::default());
        arrive(&mut inventory, &placement);
        let (_, moves) = settle(&inventory, &mut Placement::default(), 0, &Limits::default());
        prop_assert!(moves.iter().all(|m| m.bytes == 0), "{:?}", moves.iter().find(|m| m.bytes > 0));
        let told = plan(&inventory, &placement, &[], &mut Flights::default(), &PlanLimits::default(), Millis(3));
        prop_assert!(told.is_empty(), "{told:?}");
    }
}

/// The agents have done what they were told.
fn arrive(inventory: &mut Inventory, placement: &Placement) {
    let mut reports: BTreeMap<crate::inventory::NodeId, Vec<DatasetReport>> = BTreeMap::new();
    for (id, dataset) in inventory.datasets() {
        let mut sets: BTreeMap<crate::inventory::NodeId, ChunkSet> = BTreeMap::new();
        placement.holders(id).for_each(|h| {
            sets.entry(h.node).or_default().insert(&h.chunks);
        });
        for (node, set) in sets {
            let part = DatasetReport::holds(dataset.name().clone(), Version(7), Tier::Cache, &set);
            reports.entry(node).or_default().push(part);
        }
    }
    for (node, datasets) in reports {
        let node = inventory.node(node).unwrap();
        let (session, sequence) = node.told().unwrap();
        let report = Report { session, sequence: sequence + 1, datasets, ..Report::default() };
        let fact = Fact::Report { node: node.name().clone(), report };
        inventory.apply(fact, Millis(2));
    }
}

mod cases;
