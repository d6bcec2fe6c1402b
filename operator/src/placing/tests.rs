//! What agents are told of placement, and when.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use super::term::{Act, Term};
use crate::ingest::{Hub, Limits, Progress, Standing, State, Wish, Work};
use crate::inventory::{
    Capacity, ChunkSet, DatasetReport, DatasetSpec, Demand, Fact, Inventory, Millis, Name, NodeFacts, Report,
    Sharing, Tier, Version, VersionFacts,
};
use crate::reconcile::agents::Agents;

const VERSION: Version = Version(7);
const DATASET: &str = "ns/hot";

/// 1 GiB.
const CHUNKS: u32 = 256;

/// Two nodes with room in two zones; one holds the Dataset, the other one reads it. Both have it on a mount.
fn world() -> Inventory {
    let mut inventory = Inventory::default();
    let mut tell = |fact| inventory.apply(fact, Millis(0));
    tell(Fact::Dataset { dataset: DATASET.into(), spec: DatasetSpec::default() });
    let bytes = Some(u64::from(CHUNKS) << 22);
    let facts = VersionFacts { version: VERSION, bytes, files: None, at: Millis(0) };
    tell(Fact::Version { dataset: DATASET.into(), facts });
    let mut whole = ChunkSet::default();
    whole.insert(&(0..CHUNKS));
    let held = DatasetReport::holds(DATASET.into(), VERSION, Tier::Ram, &whole);
    let demand = Some(Demand { readers: 1, rate: 100 << 20, hit: 0, miss: 1 << 30 });
    let read = DatasetReport { dataset: DATASET.into(), demand, ..DatasetReport::default() };
    for (node, zone, part) in [("holder", "a", held), ("reader", "b", read)] {
        let labels = [("topology.kubernetes.io/zone".into(), zone.into())].into();
        tell(Fact::Node {
            node: node.into(),
            facts: NodeFacts { labels, ready: true, ..NodeFacts::default() },
        });
        tell(Fact::Mounted { node: node.into(), datasets: vec![DATASET.into()] });
        let report = Report {
            session: 1,
            sequence: 1,
            whole: true,
            datasets: vec![part],
            capacity: Some(Capacity { ram: 64 << 30, cache: 0 }),
            pressure: None,
        };
        tell(Fact::Report { node: node.into(), report });
    }
    inventory
}

/// The desk as far as it matters: what stands, by identity.
#[derive(Default)]
struct Desk(BTreeMap<Box<str>, Standing>);

impl Desk {
    fn turn(&mut self, term: &mut Term, inventory: &Inventory, now: u64) -> Vec<Act> {
        let mut acts = term.settle(|_, id| self.0.get(id).cloned(), Millis(now));
        while term.step(inventory, Millis(now)) {}
        acts.extend(term.plan(inventory, Millis(now)));
        for act in &acts {
            match act {
                Act::Ask(wish) => drop(self.0.insert(wish.id.clone(), Standing::Sent)),
                Act::Forget { id, .. } => drop(self.0.remove(id)),
                Act::Withdraw { .. } => {}
            }
        }
        acts
    }

    fn end_all(&mut self, state: State) {
        let ended = Standing::Ended(Progress { state, ..Progress::default() });
        self.0.values_mut().for_each(|standing| *standing = ended.clone());
    }
}

fn asked(acts: &[Act]) -> Vec<&Wish> {
    acts.iter()
        .filter_map(|act| match act {
            Act::Ask(wish) => Some(wish),
            Act::Withdraw { .. } | Act::Forget { .. } => None,
        })
        .collect()
}

fn ids(acts: &[Act]) -> Vec<Box<str>> {
    let mut ids: Vec<_> = asked(acts).into_iter().map(|wish| wish.id.clone()).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn who_reads_is_told_to_fetch_a_few_at_a_time() {
    let (inventory, mut term, mut desk) = (world(), Term::default(), Desk::default());
    let first = desk.turn(&mut term, &inventory, 0);
    let wishes = asked(&first);
    assert_eq!(wishes.len(), 4, "{first:?}");
    for wish in &wishes {
        assert_eq!(&*wish.node, "reader");
        let Work::Fetch(extent, Tier::Ram) = &wish.work else { panic!("{wish:?}") };
        assert_eq!((&*extent.dataset, &*extent.path), (DATASET, &b""[..]));
        assert_eq!(extent.chunks.as_ref().unwrap().0, VERSION);
        assert!(wish.reason.starts_with("placed here: read here: "), "{}", wish.reason);
    }
    assert!(asked(&desk.turn(&mut term, &inventory, 3_000)).is_empty(), "the first ones are under way");
    // As these end, others follow, and none of them again before what has arrived can have been reported.
    let mut told = ids(&first);
    for round in 0..20 {
        desk.end_all(State::Done);
        told.extend(ids(&desk.turn(&mut term, &inventory, 3_000 + round * 100)));
    }
    assert_eq!(told.len(), 64, "each piece once");
    assert!(told.iter().all(|id| id.ends_with("/0")));
    // They have not arrived, or went again: another try has another identity.
    desk.end_all(State::Done);
    desk.turn(&mut term, &inventory, 10_000);
    let again = ids(&desk.turn(&mut term, &inventory, 100_000));
    assert_eq!(again.len(), 4);
    assert!(again.iter().all(|id| id.ends_with("/1")), "{again:?}");
}

#[test]
fn a_new_leader_meets_what_is_in_hand() {
    let inventory = world();
    let told = ids(&Desk::default().turn(&mut Term::default(), &inventory, 0));
    let (mut term, mut desk) = (Term::default(), Desk::default());
    let going = |id| ("reader".into(), id, Standing::Going(Progress::default()));
    let in_hand: Vec<_> = told.iter().cloned().map(going).collect();
    desk.0 = told.iter().map(|id| (id.clone(), Standing::Sent)).collect();
    assert!(term.adopt(&inventory, in_hand.clone(), Millis(0)).is_empty());
    assert!(asked(&desk.turn(&mut term, &inventory, 0)).is_empty(), "four are under way");
    // Told of again, nothing changes.
    assert!(term.adopt(&inventory, in_hand, Millis(100)).is_empty());
    desk.end_all(State::Done);
    let next = ids(&desk.turn(&mut term, &inventory, 1_000));
    assert_eq!(next.len(), 4);
    assert!(next.iter().all(|id| !told.contains(id)), "others come first: {next:?}");
    // An agent that names thousands leaves the others their share.
    let lies = (0..20_000_u64).map(|n| {
        let id = format!("place/{n:016x}/0").into();
        ("holder".into(), id, Standing::Going(Progress::default()))
    });
    term.adopt(&inventory, lies.collect(), Millis(1_000));
    desk.end_all(State::Done);
    assert_eq!(ids(&desk.turn(&mut term, &inventory, 2_000)).len(), 4);
}

#[test]
fn ends_of_earlier_tries_are_let_go() {
    let inventory = world();
    let told = ids(&Desk::default().turn(&mut Term::default(), &inventory, 0));
    let mut term = Term::default();
    let at = |id: &str, standing| vec![("reader".into(), id.into(), standing)];
    let plan = told[0].strip_suffix("/0").unwrap();
    let later = format!("{plan}/3");
    let going = || Standing::Going(Progress::default());
    assert_eq!(term.adopt(&inventory, at(&later, going()), Millis(0)), []);
    let ended = Standing::Ended(Progress { state: State::Done, ..Progress::default() });
    let forget = Act::Forget { node: "reader".into(), id: told[0].clone() };
    assert_eq!(term.adopt(&inventory, at(&told[0], ended), Millis(0)), [forget]);
    assert_eq!(term.adopt(&inventory, at(&told[0], going()), Millis(0)), []);
}

#[test]
fn who_comes_with_something_in_hand_while_it_is_planned_is_not_told_of_it_again() {
    let (inventory, mut term) = (world(), Term::default());
    while term.step(&inventory, Millis(0)) {}
    let mut acts = term.plan(&inventory, Millis(0));
    let told = ids(&acts);
    let (first, others) = told.split_first().unwrap();
    // In hand of an earlier life, under a later number.
    let plan = first.strip_suffix("/0").unwrap();
    let in_hand = ("reader".into(), format!("{plan}/3").into(), Standing::Going(Progress::default()));
    term.spare(&inventory, std::slice::from_ref(&in_hand), &mut acts);
    assert_eq!(ids(&acts), others);
    // The next turn counts it as under way, and has no place for another one.
    assert!(term.adopt(&inventory, vec![in_hand], Millis(1)).is_empty());
    assert!(term.plan(&inventory, Millis(1)).is_empty());
}

#[test]
fn what_should_not_come_any_more_is_taken_back() {
    let (mut inventory, mut term, mut desk) = (world(), Term::default(), Desk::default());
    let told = ids(&desk.turn(&mut term, &inventory, 0));
    // Its agent has no mount of it any more.
    inventory.apply(Fact::Mounted { node: "reader".into(), datasets: Vec::new() }, Millis(20_000));
    let mut back = Vec::new();
    for round in 0..3 {
        let acts = desk.turn(&mut term, &inventory, 80_000 + round * 3_000);
        assert!(asked(&acts).is_empty(), "{acts:?}");
        back.extend(acts.into_iter().filter_map(|act| match act {
            Act::Withdraw { node, id, why } => {
                assert_eq!((&*node, why), ("reader", "it should not be there any more"));
                Some(id)
            }
            Act::Ask(_) | Act::Forget { .. } => None,
        }));
    }
    back.sort_unstable();
    assert_eq!(back, told, "once each");
}

#[test]
fn what_does_not_end_is_taken_back_in_time() {
    let (inventory, mut term, mut desk) = (world(), Term::default(), Desk::default());
    desk.turn(&mut term, &inventory, 0);
    let late = desk.turn(&mut term, &inventory, 601_000);
    let withdrawn = late.iter().filter(|act| matches!(act, Act::Withdraw { .. })).count();
    assert_eq!(withdrawn, 4, "{late:?}");
    // The agent never says that it let go: others have the place after a minute.
    assert_eq!(asked(&desk.turn(&mut term, &inventory, 663_000)).len(), 4);
}

#[test]
fn loads_learn_whose_nodes_are_not_to_be_shared() {
    let nodes = ["holder", "reader"].map(Name::from);
    let kept_off = |hot, cold, dataset: &str| {
        let mut inventory = world();
        for (name, sharing) in [(DATASET, hot), ("ns/cold", cold)] {
            let spec = DatasetSpec { sharing, ..DatasetSpec::default() };
            inventory.apply(Fact::Dataset { dataset: name.into(), spec }, Millis(0));
        }
        let hub = Hub::new(Limits::default(), 1, Arc::new(RwLock::new(inventory)));
        super::turn(&hub, &mut Term::default());
        hub.kept_off(dataset, &nodes)
    };
    let by_hot = [(nodes[1].clone(), Name::from(DATASET))];
    assert_eq!(kept_off(Sharing::Shared, Sharing::Shared, "ns/cold"), []);
    assert_eq!(
        kept_off(Sharing::Exclusive, Sharing::Shared, "ns/cold"),
        by_hot,
        "it has the node for itself"
    );
    assert_eq!(kept_off(Sharing::Exclusive, Sharing::Shared, DATASET), []);
    assert_eq!(kept_off(Sharing::Shared, Sharing::Exclusive, "ns/cold"), by_hot, "it wants to be alone");
    assert_eq!(
        kept_off(Sharing::Shared, Sharing::Exclusive, DATASET),
        [],
        "nothing of the other is there yet"
    );
    assert_eq!(kept_off(Sharing::Shared, Sharing::Exclusive, "ns/third"), [], "it shares with the one there");
}

#[test]
fn loads_wait_until_placement_has_looked_at_whose_nodes_are_not_to_be_shared() {
    let tell = |hub: &Hub, name: &str, sharing| {
        let spec = DatasetSpec { sharing, ..DatasetSpec::default() };
        hub.inventory().write().unwrap().apply(Fact::Dataset { dataset: name.into(), spec }, Millis(0));
    };
    let hub = Hub::new(Limits::default(), 1, Arc::new(RwLock::new(world())));
    assert!(hub.knows_sharing(true), "all are shared");
    tell(&hub, DATASET, Sharing::Exclusive);
    assert!(!hub.knows_sharing(true));
    assert!(hub.knows_sharing(false), "it has waited long enough");
    let mut term = Term::default();
    super::turn(&hub, &mut term);
    assert!(hub.knows_sharing(true));
    tell(&hub, "ns/cold", Sharing::Exclusive);
    assert!(!hub.knows_sharing(false), "since that look; the next one is seconds away");
    super::turn(&hub, &mut term);
    assert!(hub.knows_sharing(true));
    // A look that is under way as the term ends.
    hub.admit(false);
    super::turn(&hub, &mut term);
    hub.admit(true);
    assert!(!hub.knows_sharing(true), "the next term begins with nothing");
    assert_eq!(hub.kept_off("ns/third", &["holder".into(), "reader".into()]), []);
}
