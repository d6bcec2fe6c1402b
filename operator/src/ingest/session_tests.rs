//! One stream after the other, through what it is told and what it answers.

use super::super::desk::Standing;
use super::super::directory::Folder;
use super::super::limits::Limits;
use super::super::work::{Extent, Wish, Work};
use super::*;
use crate::inventory::Tier;

fn hub(datasets: &[(&str, &str)]) -> Arc<Hub> {
    let hub = Hub::new(Limits::default(), 1, Arc::default());
    for (dataset, source) in datasets {
        put(&hub, dataset, source);
    }
    hub
}

fn put(hub: &Hub, dataset: &str, source: &str) {
    let folder = Folder { dataset: dataset.into(), source: source.into(), prefix: Name::default() };
    hub.directory().put(&dataset.into(), vec![folder]);
}

/// A node's agent comes.
fn come(hub: &Arc<Hub>, node: &str) -> Session {
    let hello = wire::Hello {
        least_version: 1,
        greatest_version: 1,
        node: node.into(),
        session: 1,
        ..Default::default()
    };
    Session::open(hub, &node.into(), hello).unwrap()
}

/// It has told what it has on its mounts.
fn bound(hub: &Arc<Hub>, node: &str, sources: &[&str]) -> Session {
    let mut session = come(hub, node);
    said(&mut session, on(sources));
    session
}

fn on(sources: &[&str]) -> Said {
    let source = |(number, source): (u32, &&str)| wire::Source {
        number,
        source: (*source).into(),
        fstype: "nfs4".into(),
        folders: Vec::new(),
    };
    Said::Sources(wire::Sources { sources: (1..).zip(sources).map(source).collect() })
}

/// What it says, and what is answered.
fn said(session: &mut Session, kind: Said) -> Vec<Told> {
    session.take(wire::Up { kind: Some(kind) }).unwrap();
    session.out.drain(..).filter_map(|down| down.kind).collect()
}

fn report(sequence: u64) -> Said {
    Said::Report(wire::Report { sequence, snapshot: sequence == 1, ..Default::default() })
}

/// With when its agent looked, and what its clock shows as it tells.
fn told_version(session: &mut Session, sequence: u64, version_low: u64, seen_ms: u64, clock_ms: u64) {
    let version =
        wire::Version { dataset: 1, version_low, bytes: 5, files: 1, seen_ms, ..Default::default() };
    let snapshot = sequence == 1;
    let report = wire::Report { sequence, snapshot, versions: vec![version], clock_ms, ..Default::default() };
    said(session, Said::Report(report));
}

fn current(hub: &Hub) -> u128 {
    let inventory = hub.inventory().read().unwrap();
    let dataset = inventory.dataset(inventory.dataset_id("a/b").unwrap()).unwrap();
    dataset.current().unwrap().version.0
}

/// One Dataset that is declared, and agents of three nodes that have it on a mount.
fn three() -> (Arc<Hub>, [Session; 3]) {
    let hub = hub(&[("a/b", "nas:/x")]);
    let fact = Fact::Dataset { dataset: "a/b".into(), spec: Default::default() };
    hub.inventory().write().unwrap().apply(fact, hub.now());
    let sessions = ["n1", "n2", "n3"].map(|node| bound(&hub, node, &["nas:/x"]));
    (hub, sessions)
}

#[test]
fn who_comes_before_every_dataset_is_known_is_told_of_all_at_once() {
    let hub = hub(&[("a/b", "nas:/x")]);
    hub.directory_is_whole(false);
    hub.instruct(wish("n1", "a/b")).unwrap();
    let mut session = come(&hub, "n1");
    session.out.clear();
    let bound = |told: Vec<Told>| {
        let names = |told| match told {
            Told::Bindings(told) => told.bindings.into_iter().map(|binding| binding.name).collect(),
            Told::Instruction(told) => vec![told.id],
            _ => Vec::new(),
        };
        told.into_iter().map(names).collect::<Vec<_>>()
    };
    assert_eq!(bound(said(&mut session, on(&["nas:/x", "nas:/y"]))), [[""; 0]; 0], "half a list");
    session.wake().unwrap();
    assert!(session.out.is_empty(), "an instruction names a Dataset by its binding's number");
    put(&hub, "a/c", "nas:/y");
    hub.directory_is_whole(true);
    session.wake().unwrap();
    let told = session.out.drain(..).filter_map(|down| down.kind).collect();
    assert_eq!(bound(told), [vec!["a/b", "a/c"], vec!["w"]]);
    session.wake().unwrap();
    assert!(session.out.is_empty(), "told again");
}

const MINUTE: u64 = 60_000;

#[test]
fn the_version_seen_last_is_current_whatever_agents_clocks_show() {
    let (hub, [mut ahead, mut right, mut behind]) = three();
    let now = hub.now().0;
    told_version(&mut ahead, 1, 1, now + 60 * MINUTE, now + 60 * MINUTE);
    told_version(&mut right, 1, 2, now + 5, now + 5);
    assert_eq!(current(&hub), 2, "one node's clock is an hour ahead");
    // Told by who is late and looked last.
    told_version(&mut behind, 1, 3, now - 10 * MINUTE + 9, now - 10 * MINUTE + 9);
    assert_eq!(current(&hub), 3, "one node's clock is ten minutes behind");
}

#[test]
fn after_a_restart_versions_come_in_any_order() {
    let now = Hub::new(Limits::default(), 1, Arc::default()).now().0;
    // Seen so long ago, and how wrong the clock is: the first one's version is the latest.
    let told = [(1, 5, -10), (2, 15, 60), (3, 25, 0)];
    for rotation in 0..told.len() {
        for backwards in [false, true] {
            let (hub, sessions) = three();
            let mut order: Vec<_> = sessions.into_iter().zip(told).collect();
            order.rotate_left(rotation);
            if backwards {
                order.reverse();
            }
            for (session, (version, ago, wrong)) in &mut order {
                let clock = now.checked_add_signed(*wrong * MINUTE as i64).unwrap();
                told_version(session, 1, *version, clock - *ago * MINUTE, clock);
            }
            assert_eq!(current(&hub), 1, "{rotation} {backwards}");
        }
    }
}

#[test]
fn nobody_claims_a_version_for_good() {
    for clock_ms in [0, 1, u64::MAX] {
        let (hub, [mut liar, mut honest, _]) = three();
        told_version(&mut honest, 1, 999, hub.now().0, hub.now().0);
        told_version(&mut liar, 1, 666, u64::MAX, clock_ms);
        told_version(&mut honest, 2, 999, hub.now().0, hub.now().0);
        assert_eq!(current(&hub), 999, "found again {clock_ms}");
    }
}

#[test]
fn an_agent_of_before_is_not_believed_about_the_future() {
    let (hub, [mut ahead, mut right, _]) = three();
    told_version(&mut ahead, 1, 1, hub.now().0 + 60 * MINUTE, 0);
    told_version(&mut right, 1, 2, hub.now().0, 0);
    assert_eq!(current(&hub), 2);
}

fn wish(node: &str, dataset: &str) -> Wish {
    let extent = Extent { dataset: dataset.into(), path: Box::default(), chunks: None };
    Wish {
        id: "w".into(),
        node: node.into(),
        work: Work::Fetch(extent, Tier::Ram),
        reason: "test".into(),
        useful_ms: 0,
        priority: 0,
        awaits_mount: false,
    }
}

#[test]
fn bindings_are_told_again_where_they_have_changed_and_only_there() {
    let hub = hub(&[("a/b", "nas:/x")]);
    let mut session = come(&hub, "n1");
    let mut told = |kind: Said| -> Vec<Vec<String>> {
        let bindings = said(&mut session, kind).into_iter().filter_map(|told| match told {
            Told::Bindings(told) => Some(told.bindings.into_iter().map(|one| one.name).collect()),
            _ => None,
        });
        bindings.collect()
    };
    assert_eq!(told(on(&["nas:/x"])), [["a/b"]]);
    put(&hub, "a/elsewhere", "other:/y");
    assert!(told(report(1)).is_empty(), "not on this agent's mounts");
    put(&hub, "a/c", "nas:/x");
    assert_eq!(told(report(2)), [["a/b", "a/c"]]);
    assert_eq!(hub.mounted("a/c"), ["n1".into()]);
    hub.directory().remove("a/b");
    assert_eq!(told(report(3)), [["a/c"]]);
    assert!(hub.mounted("a/b").is_empty());
}

/// The kubelet mounts a Dataset's folders one after the other, and a Dataset may be made on a file system that is there.
#[test]
fn what_awaits_a_mount_is_sent_when_all_of_the_dataset_is_there() {
    let hub = hub(&[]);
    let folder = |source: &str, prefix: &str| Folder {
        dataset: "a/b".into(),
        source: source.into(),
        prefix: prefix.into(),
    };
    hub.directory().put(&"a/b".into(), vec![folder("nas:/x", "x"), folder("nas:/y", "y")]);
    let mut session = come(&hub, "n1");
    let mut asked = |kind: Said| {
        said(&mut session, kind).iter().filter(|told| matches!(told, Told::Instruction(_))).count()
    };
    hub.instruct(Wish { awaits_mount: true, ..wish("n1", "a/b") }).unwrap();
    // One folder twice, on two file systems, is not both.
    assert_eq!(asked(on(&["nas:/x", "nas:/x/"])), 0);
    assert_eq!((asked(on(&["nas:/x"])), asked(on(&["nas:/x", "nas:/y"]))), (0, 1));
    hub.instruct(Wish { id: "late".into(), awaits_mount: true, ..wish("n1", "a/late") }).unwrap();
    assert_eq!(asked(report(1)), 0);
    put(&hub, "a/late", "nas:/x");
    assert_eq!(asked(report(2)), 1, "told of by the next report, and asked for with it");
}

#[test]
fn the_agent_of_a_node_that_was_deleted_comes_again_and_is_told_what_to_do() {
    let hub = hub(&[("a/b", "nas:/x")]);
    let mut deaf = bound(&hub, "n1", &["nas:/x"]);
    assert_eq!(hub.mounted("a/b"), ["n1".into()]);
    hub.lose("n1");
    assert!(hub.mounted("a/b").is_empty(), "nobody is asked who would not answer");
    assert_eq!(deaf.wake().unwrap_err().code(), tonic::Code::Aborted);
    assert_eq!(deaf.take(wire::Up { kind: Some(report(1)) }).unwrap_err().code(), tonic::Code::Aborted);
    assert_eq!((hub.counts().get(Tally::Lost), hub.counts().get(Tally::Replaced)), (2, 0));

    hub.instruct(wish("n1", "a/b")).unwrap();
    let mut again = bound(&hub, "n1", &["nas:/x"]);
    drop(deaf);
    assert_eq!(hub.standing("n1", "w"), Some(Standing::Sent));
    assert_eq!(hub.mounted("a/b"), ["n1".into()], "the former stream's end takes nothing from it");
    assert_eq!(again.wake().map_err(|status| status.code()), Ok(()));
}

#[test]
fn a_replica_that_does_not_lead_takes_nothing_in() {
    let hub = hub(&[("a/b", "nas:/x")]);
    let mut one = bound(&hub, "n1", &["nas:/x"]);
    let mut lost = bound(&hub, "n2", &["nas:/x"]);
    hub.lose("n2");
    hub.admit(false);
    for session in [&mut one, &mut lost] {
        let refused = session.take(wire::Up { kind: Some(report(1)) }).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
        assert_eq!(session.wake().unwrap_err().code(), tonic::Code::Unavailable);
    }
    assert_eq!(hub.counts().get(Tally::Reports), 0);
    let hello =
        wire::Hello { least_version: 1, greatest_version: 1, node: "n3".into(), ..Default::default() };
    let refused = Session::open(&hub, &"n3".into(), hello).unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "it led when the connection came");
}

fn learned(workload: &str, source: &str) -> Said {
    let (workload, source, profile) = (workload.into(), source.into(), vec![7; 9]);
    Said::Learned(wire::ProfileLearned { workload, source, profile, ..wire::ProfileLearned::default() })
}

#[test]
fn an_agent_teaches_only_of_file_systems_that_it_has_or_had() {
    let hub = hub(&[("a/b", "nas:/x")]);
    let known = |workload: &str| hub.profiles(|profiles| profiles.get(workload, "nas:/x").is_some());
    let mut liar = bound(&hub, "n1", &["nas:/else"]);
    said(&mut liar, learned("w", "nas:/x"));
    assert!(!known("w"));
    assert_eq!(hub.counts().get(Tally::ProfilesRefused), 1);

    let mut honest = bound(&hub, "n2", &["nas:/x"]);
    said(&mut honest, learned("w", "nas:/x"));
    assert!(known("w"));
    // The pod has ended, its volume is unmounted, and then its run is over; also on another stream.
    said(&mut honest, on(&[]));
    said(&mut honest, learned("late", "nas:/x"));
    assert!(known("late"));
    let mut honest = bound(&hub, "n2", &[]);
    said(&mut honest, learned("later", "nas:/x"));
    assert!(known("later"));
}

#[test]
fn where_pods_are_watched_an_agent_teaches_of_datasets_that_its_pods_use() {
    let hub = hub(&[("a/b", "nas:/x"), ("a/c", "nas:/x/c")]);
    hub.watch_pods(std::time::Instant::now());
    let known =
        |workload: &str, source: &str| hub.profiles(|profiles| profiles.get(workload, source).is_some());
    let tell = |fact| hub.inventory().write().unwrap().apply(fact, hub.now());
    let mut session = bound(&hub, "n1", &["nas:/x", "nas:/x/c", "other:/y"]);
    // Read by other ways than by claims, as far as is known: whoever has it on a mount may have learned of it.
    said(&mut session, learned("unclaimed", "nas:/x"));
    assert!(known("unclaimed", "nas:/x"));
    for (pod, dataset) in [("x", "a/b"), ("y", "a/c")] {
        tell(Fact::PodBound {
            pod: pod.into(),
            node: "n9".into(),
            datasets: vec![dataset.into()],
            workload: "b/Job/far".into(),
        });
    }
    said(&mut session, learned("early", "nas:/x"));
    assert!(!known("early", "nas:/x"));

    let node = Fact::Node { node: "n1".into(), facts: Default::default() };
    tell(node);
    tell(Fact::PodBound {
        pod: "p".into(),
        node: "n1".into(),
        datasets: vec!["a/b".into()],
        workload: "b/Job/w".into(),
    });
    said(&mut session, learned("w", "nas:/x"));
    said(&mut session, learned("w", "nas:/x/c"));
    assert!(known("w", "nas:/x") && !known("w", "nas:/x/c"), "no pod there uses a/c");
    // Whose it is: an agent names pods, and only those of its node count.
    let of = |workload: &str, pods: &[&str]| {
        let Said::Learned(told) = learned(workload, "nas:/x") else { unreachable!() };
        Said::Learned(wire::ProfileLearned { pods: pods.iter().map(|pod| (*pod).into()).collect(), ..told })
    };
    let owner = |workload: &str| {
        hub.profiles(|profiles| profiles.whose(workload, "nas:/x").map(|whose| whose.owner.to_string()))
    };
    tell(Fact::PodBound {
        pod: "q".into(),
        node: "n3".into(),
        datasets: vec!["a/b".into()],
        workload: "c/Job/else".into(),
    });
    // Of this node, and of another file system.
    tell(Fact::PodBound {
        pod: "r".into(),
        node: "n1".into(),
        datasets: vec!["other/d".into()],
        workload: "d/Job/other".into(),
    });
    said(&mut session, of("named", &["none", "q", "r", "p"]));
    let dataset = hub.profiles(|profiles| profiles.whose("named", "nas:/x").unwrap().dataset.to_string());
    assert_eq!(dataset, "a/b");
    said(&mut session, of("lie", &["q"]));
    assert_eq!((owner("named").as_deref(), owner("lie"), owner("w")), (Some("b/Job/w"), None, None));
    let nonsense = session.take(wire::Up { kind: Some(of("many", &["p"; 17])) }).unwrap_err();
    assert_eq!(nonsense.code(), tonic::Code::InvalidArgument, "{nonsense}");
    let mut session = bound(&hub, "n1", &["nas:/x", "nas:/x/c", "other:/y"]);

    tell(Fact::PodEnded { pod: "p".into() });
    said(&mut session, of("late", &["p"]));
    assert_eq!(owner("late").as_deref(), Some("b/Job/w"));
    tell(Fact::PodBound {
        pod: "s".into(),
        node: "n1".into(),
        datasets: vec!["a/b".into()],
        workload: "b/Job/next".into(),
    });
    said(&mut session, of("late", &["p", "s"]));
    assert_eq!(owner("late").as_deref(), Some("b/Job/next"), "it runs");
    // Where no Dataset lies nobody knows who uses it.
    said(&mut session, learned("w", "other:/y"));
    assert!(known("w", "other:/y"));

    let mut elsewhere = bound(&hub, "n2", &["nas:/x"]);
    said(&mut elsewhere, learned("w2", "nas:/x"));
    assert!(!known("w2", "nas:/x"), "the pod was on another node");
}
