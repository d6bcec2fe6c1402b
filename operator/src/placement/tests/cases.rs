//! Single situations, each with what a person would expect of it.

use super::*;
use crate::inventory::{DatasetId, NodeId};

const MB: u64 = 1_000_000;

/// Nodes n0… of three zones with three racks each, with room; one Dataset of 64 pieces.
fn cluster(nodes: u32, chunks: u32, replicas: Replicas) -> World {
    let node = |at: u32| ANode {
        zone: (at % 3) as u8,
        rack: (at / 3 % 3) as u8,
        chunks: 10_000,
        ready: true,
        tainted: false,
        fast: true,
    };
    let dataset = ADataset {
        chunks,
        quota: None,
        replicas,
        sharing: Sharing::Shared,
        only_fast: false,
        tolerates: false,
    };
    World { nodes: (0..nodes).map(node).collect(), datasets: vec![dataset], uses: Vec::new() }
}

fn only(inventory: &Inventory) -> DatasetId {
    inventory.datasets().next().unwrap().0
}

fn on(inventory: &Inventory, placement: &Placement, node: &str) -> usize {
    let id = inventory.node_id(node).unwrap();
    placement.holders(only(inventory)).filter(|h| h.node == id).count()
}

#[test]
fn an_idle_dataset_moves_nothing() {
    for replicas in [Replicas::Auto, Replicas::Fixed(2)] {
        let inventory = fold(cluster(9, 256, replicas).facts());
        let (_, moves) = settle(&inventory, &mut Placement::default(), 0, &Limits::default());
        assert!(moves.is_empty());
    }
}

#[test]
fn copies_follow_readers() {
    let mut world = cluster(9, 256, Replicas::Auto);
    world.uses = vec![(4, 0, Some(50 * MB as u32), 1, 0)];
    let inventory = fold(world.facts());
    let mut placement = Placement::default();
    let (_, moves) = settle(&inventory, &mut placement, 0, &Limits::default());
    assert_eq!(on(&inventory, &placement, "n4"), 64);
    assert_eq!(moves.len(), 64, "one reader: one copy");
    let words = moves[0].reason.to_string();
    assert!(words.contains("read here: 27.9 passes") && words.contains("in the store"), "{words}");
    // A slow reader that will not get through it in the horizon is not worth a move that nobody shares.
    world.uses = vec![(4, 0, Some(MB as u32 / 2), 1, 0)];
    let (_, moves) = settle(&fold(world.facts()), &mut Placement::default(), 0, &Limits::default());
    assert!(moves.is_empty(), "{moves:?}");
}

#[test]
fn a_crowd_gets_a_copy_each_and_reads_the_store_once() {
    let mut world = cluster(60, 256, Replicas::Auto);
    world.uses = (0..60).map(|node| (node, 0, None, 1, 0)).collect();
    let mut inventory = fold(world.facts());
    let mut placement = Placement::default();
    let (steps, moves) = settle(&inventory, &mut placement, 0, &Limits::default());
    assert_eq!(moves.len(), 60 * 64);
    assert!(steps < 8, "{steps}");
    // Round by round: who has nobody to ask reads the store.
    let mut flights = Flights::default();
    let limits = PlanLimits { per_node: 4, in_all: 10_000, ..PlanLimits::default() };
    let (mut store, mut rounds) = (BTreeMap::<u32, u32>::new(), 0);
    let mut served: BTreeMap<NodeId, u32> = BTreeMap::new();
    loop {
        let told = plan(&inventory, &placement, &[], &mut flights, &limits, Millis(rounds));
        if told.is_empty() {
            break;
        }
        let again = plan(&inventory, &placement, &[], &mut flights, &limits, Millis(rounds));
        assert!(again.is_empty(), "told twice");
        for (node, instruction) in told {
            let Instruction::Fetch { id, chunks, ask, .. } = instruction else { panic!() };
            assert!(!ask.contains(&node) && ask.len() <= 4);
            // A node that is asked for what it has not got yet fetches it itself, and is asked for it by others.
            let mut way = vec![node];
            way.extend(ask);
            let has = |n: &NodeId| {
                !inventory.dataset(only(&inventory)).unwrap().holders_of(&chunks[0]).iter().all(|h| h.0 != *n)
            };
            match way.iter().position(has) {
                Some(at) => way.truncate(at + 1),
                None => *store.entry(chunks[0].start).or_default() += 1,
            }
            way.iter().skip(1).for_each(|peer| *served.entry(*peer).or_default() += 1);
            flights.end(node, id);
            for node in way {
                told_arrives(&mut inventory, node, &chunks);
            }
        }
        rounds += 1;
        assert!(rounds < 100);
    }
    assert!(flights.is_empty());
    assert!(store.len() == 64 && store.values().all(|n| *n == 1), "each piece once: {store:?}");
    let most = served.values().max().unwrap();
    assert!(*most <= 64 * 4, "no node serves for all: {most}");
}

fn told_arrives(inventory: &mut Inventory, node: NodeId, chunks: &[crate::inventory::Chunks]) {
    let dataset = inventory.datasets().next().unwrap().1.name().clone();
    let node = inventory.node(node).unwrap();
    let (session, sequence) = node.told().unwrap();
    let part = DatasetReport::holds(dataset, Version(7), Tier::Cache, &chunks.iter().cloned().collect());
    let report = Report { session, sequence: sequence + 1, datasets: vec![part], ..Report::default() };
    let fact = Fact::Report { node: node.name().clone(), report };
    inventory.apply(fact, Millis(2));
}

#[test]
fn declared_copies_go_apart() {
    let mut world = cluster(27, 256, Replicas::Fixed(3));
    world.uses = vec![(4, 0, Some(50 * MB as u32), 1, 0)];
    let inventory = fold(world.facts());
    let mut placement = Placement::default();
    settle(&inventory, &mut placement, 0, &Limits::default());
    let mut zones: BTreeMap<u32, BTreeSet<_>> = BTreeMap::new();
    for holder in placement.holders(only(&inventory)) {
        let zone = inventory.node(holder.node).unwrap().zone().unwrap().clone();
        zones.entry(holder.chunks.start).or_default().insert(zone);
    }
    assert!(zones.len() == 64 && zones.values().all(|z| z.len() == 3), "{zones:?}");
    assert_eq!(on(&inventory, &placement, "n4"), 64, "the reader's node is one of them");
}

/// Two readers of one zone, and one of another whose node is not ready: a neighbour of it holds for it.
fn a_neighbour_holds_for_one_that_cannot() -> World {
    let mut world = cluster(4, 256, Replicas::Fixed(2));
    let places = [(0, 0), (0, 1), (1, 0), (1, 0)];
    for (node, (zone, rack)) in world.nodes.iter_mut().zip(places) {
        (node.zone, node.rack) = (zone, rack);
    }
    world.nodes[3].ready = false;
    // 2.1, 1 and 5 passes.
    world.uses = vec![(0, 0, Some(3_760_000), 0, 0), (1, 0, None, 1, 0), (3, 0, Some(8_950_000), 0, 0)];
    world
}

#[test]
fn declared_copies_stay_though_they_come_in_another_turn() {
    let mut inventory = fold(a_neighbour_holds_for_one_that_cannot().facts());
    let mut placement = Placement::default();
    let (_, moves) = settle(&inventory, &mut placement, 0, &Limits::default());
    let node = |name: &str| inventory.node_id(name).unwrap();
    let first: Vec<_> = moves.iter().filter(|m| m.piece == 0).map(|m| m.node).collect();
    assert_eq!(first, [node("n0"), node("n2")]);
    assert_eq!([on(&inventory, &placement, "n0"), on(&inventory, &placement, "n2")], [64, 64]);
    // Once its bytes are there, n2 comes first; beside it n0, which has them, saves no more than n1, which has not.
    arrive(&mut inventory, &placement);
    let mut forgot = Placement::default();
    let (_, moves) = settle(&inventory, &mut forgot, 0, &Limits::default());
    assert_eq!(moves[0].node, inventory.node_id("n2").unwrap());
    assert!(moves.iter().all(|m| m.bytes == 0), "{:?}", moves.iter().find(|m| m.bytes > 0));
    assert_eq!(shown(&inventory, &forgot), shown(&inventory, &placement));
}

#[test]
fn declared_copies_stay_though_the_reader_has_moved() {
    let mut world = cluster(9, 256, Replicas::Fixed(1));
    world.uses = vec![(4, 0, Some(50 * MB as u32), 0, 0)];
    let mut placement = Placement::default();
    let mut inventory = fold(world.facts());
    settle(&inventory, &mut placement, 0, &Limits::default());
    assert_eq!(on(&inventory, &placement, "n4"), 64);
    // Now another reads. Who remembers moves nothing, and neither does who forgot.
    world.uses = vec![(4, 0, None, 0, 256), (5, 0, Some(50 * MB as u32), 0, 0)];
    inventory = fold(world.facts());
    let (_, moves) = settle(&inventory, &mut placement, 0, &Limits::default());
    assert!(moves.is_empty());
    let mut forgot = Placement::default();
    let (_, moves) = settle(&inventory, &mut forgot, 0, &Limits::default());
    assert!(moves.iter().all(|m| m.bytes == 0), "{:?}", moves.iter().find(|m| m.bytes > 0));
    assert_eq!(shown(&inventory, &forgot), shown(&inventory, &placement));
}

#[test]
fn the_idle_make_room_first_and_the_read_stay() {
    let mut world = cluster(1, 256, Replicas::Auto);
    world.datasets = vec![world.datasets[0].clone(); 3];
    world.nodes[0].chunks = 600;
    world.uses = vec![(0, 0, Some(40 * MB as u32), 1, 0), (0, 1, Some(50 * MB as u32), 1, 0)];
    let mut inventory = fold(world.facts());
    let mut placement = Placement::default();
    let (at, _) = settle(&inventory, &mut placement, 0, &Limits::default());
    let d = |inventory: &Inventory, n: &str| inventory.dataset_id(n).unwrap();
    let given =
        |p: &Placement, i: &Inventory, n| p.given_to(NodeId(i.node_id("n0").unwrap().0), d(i, n)) / CHUNK;
    assert_eq!((given(&placement, &inventory, "ns/d0"), given(&placement, &inventory, "ns/d1")), (255, 255));
    // The first falls idle, a third is read: it gets the first one's room as its traces fade.
    let demand = |dataset: &str, rate| DatasetReport {
        dataset: dataset.into(),
        demand: Some(Demand { readers: 1, rate, ..Demand::default() }),
        ..DatasetReport::default()
    };
    let datasets = vec![demand("ns/d0", 0), demand("ns/d2", 45 * MB)];
    let report = Report { session: 1, sequence: 2, datasets, ..Report::default() };
    inventory.apply(Fact::Report { node: "n0".into(), report }, Millis(9));
    inventory.apply(Fact::PodEnded { pod: "p0-0-0".into() }, Millis(9));
    let mut releases = Vec::new();
    for minute in 1..40 {
        let step = placement.step(&inventory, Millis((at + 60 * minute) * SECOND), &Limits::default());
        check(&inventory, &placement);
        releases.extend(step.releases);
    }
    assert_eq!(given(&placement, &inventory, "ns/d1"), 255, "what is read stays");
    assert_eq!(given(&placement, &inventory, "ns/d2"), 255);
    assert!(releases.iter().all(|r| r.dataset == d(&inventory, "ns/d0") && r.because == Because::MadeRoom));
    // Each release is told once, and what is wanted again is not.
    let told =
        plan(&inventory, &placement, &releases, &mut Flights::default(), &PlanLimits::default(), Millis(1));
    let dropped = told.iter().filter(|(_, i)| matches!(i, Instruction::Release { .. })).count();
    assert_eq!(dropped, releases.len());
}

#[test]
fn the_same_is_asked_by_the_same_name() {
    let mut world = cluster(9, 256, Replicas::Auto);
    world.uses = (0..5).map(|node| (node, 0, None, 1, 0)).collect();
    let inventory = fold(world.facts());
    let run = || {
        let mut placement = Placement::default();
        settle(&inventory, &mut placement, 0, &Limits::default());
        let mut flights = Flights::default();
        plan(&inventory, &placement, &[], &mut flights, &PlanLimits::default(), Millis(0))
    };
    let (one, two) = (run(), run());
    assert!(!one.is_empty() && one == two);
    let ids: BTreeSet<u64> = one.iter().map(|(_, i)| i.id()).collect();
    assert_eq!(ids.len(), one.len());
    // A restarted operator is told what is under way, and does not ask for it again.
    let mut placement = Placement::default();
    settle(&inventory, &mut placement, 0, &Limits::default());
    let mut flights = Flights::default();
    for (node, instruction) in &one {
        flights.begin(*node, instruction.id(), Millis(0));
    }
    let limits = PlanLimits::default();
    assert!(plan(&inventory, &placement, &[], &mut flights, &limits, Millis(1)).is_empty());
    // Nobody answers: it is told again.
    assert_eq!(
        plan(&inventory, &placement, &[], &mut flights, &limits, Millis(limits.patience_ms)).len(),
        one.len()
    );
}

#[test]
fn an_agents_restart_moves_nothing_and_a_lost_node_does() {
    let mut world = cluster(9, 256, Replicas::Fixed(2));
    world.uses = vec![(4, 0, Some(50 * MB as u32), 1, 0)];
    let mut inventory = fold(world.facts());
    let mut placement = Placement::default();
    let (at, _) = settle(&inventory, &mut placement, 0, &Limits::default());
    inventory.apply(Fact::NodeSilent { node: "n4".into() }, Millis(at * SECOND));
    let step = placement.step(&inventory, Millis(at * SECOND + SILENCE_MS), &Limits::default());
    assert!(step.moves.is_empty() && step.releases.is_empty());
    let step = placement.step(&inventory, Millis(at * SECOND + SILENCE_MS + 1), &Limits::default());
    assert!(step.releases.iter().all(|r| r.because == Because::NodeLost) && step.releases.len() == 64);
    assert_eq!(step.moves.len(), 64, "and others take over at once");
}
