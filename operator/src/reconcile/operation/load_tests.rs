//! Who is asked for what by a DataLoad, and what its nodes may hold.

use std::collections::BTreeMap;
use std::time::Duration;

use operator_api::crd::DataLoad;
use operator_api::crd::operation::OperationPhase;
use serde_json::json;

use super::load::{self, Ground};
use super::timing::Outcome;
use crate::inventory::{CHUNK, Name, Version};
use crate::reconcile::agents::Standing;

fn a_load(spec: serde_json::Value) -> DataLoad {
    serde_json::from_value(json!({"metadata": {"name": "l", "namespace": "a", "uid": "u"}, "spec": spec}))
        .unwrap()
}

fn nodes(count: usize) -> Vec<Name> {
    (0..count).map(|i| format!("node-{i}").into()).collect()
}

#[test]
fn a_whole_dataset_goes_round_the_nodes_in_pieces() {
    let load = a_load(json!({"dataset": {"name": "d"}, "replicas": 2}));
    let candidates = nodes(4);
    let ground = Ground {
        dataset: "a/d".into(),
        candidates: &candidates,
        kept_off: &[],
        version: Some((Version(7), Some(10 * CHUNK + 1))),
        quota: None,
    };
    assert_eq!(load::obstacle(&load, &ground), None);
    let wishes = load::plan(&load, 1, 0, &ground);
    let mut copies = [0; 11];
    let mut by_node: BTreeMap<Name, u32> = BTreeMap::new();
    for wish in &wishes {
        let (version, ranges) = wish.chunks.clone().unwrap();
        assert_eq!(version, Version(7));
        for chunk in ranges.into_iter().flatten() {
            copies[chunk as usize] += 1;
            *by_node.entry(wish.node.clone()).or_default() += 1;
        }
    }
    assert_eq!(copies, [2; 11]);
    assert!(by_node.values().all(|&chunks| (4..=7).contains(&chunks)), "{by_node:?}");
    let ids: std::collections::BTreeSet<_> = wishes.iter().map(|wish| (&wish.node, &wish.id)).collect();
    assert_eq!(ids.len(), wishes.len());
    assert!(wishes.iter().all(|wish| wish.id.len() <= 128));
    assert_eq!(wishes, load::plan(&load, 1, 0, &ground), "the same after a restart");
}

#[test]
fn an_end_is_no_end_of_another_piece_or_version() {
    let load = a_load(json!({"dataset": {"name": "d"}}));
    let ids = |count: usize, version: u128| {
        let candidates = nodes(count);
        let version = Some((Version(version), Some(100 * CHUNK)));
        let ground =
            Ground { dataset: "a/d".into(), candidates: &candidates, kept_off: &[], version, quota: None };
        load::plan(&load, 1, 0, &ground).into_iter().map(|wish| wish.id).collect::<Vec<_>>()
    };
    let asked = ids(4, 7);
    // Whoever leads next plans with the agents that are back, or finds that the stores have changed.
    for other in [ids(3, 7), ids(4, 8)] {
        assert!(asked.iter().all(|id| !other.contains(id)), "{asked:?} and {other:?}");
    }
}

#[test]
fn what_was_begun_before_waits_for_agents_to_come_back() {
    let (early, late) = (Some(Duration::from_secs(5)), Some(Duration::from_secs(20)));
    assert!(load::settles(OperationPhase::Executing, early));
    assert!(!load::settles(OperationPhase::Executing, late));
    assert!(!load::settles(OperationPhase::Pending, early), "nobody has any of it in hand");
}

#[test]
fn paths_go_whole_to_as_many_nodes_as_asked() {
    let load = a_load(json!({"dataset": {"name": "d"}, "pin": true, "priority": 80,
        "target": [{"path": "/train/", "replicas": 3}, {"path": "/val"}]}));
    let candidates = nodes(4);
    let ground =
        Ground { dataset: "a/d".into(), candidates: &candidates, kept_off: &[], version: None, quota: None };
    let wishes = load::plan(&load, 2, 1, &ground);
    let of = |path: &str| {
        wishes
            .iter()
            .filter(|w| w.path == path)
            .map(|w| w.node.clone())
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!((of("train").len(), of("val").len(), wishes.len()), (3, 1, 4));
    assert!(wishes.iter().all(|wish| wish.pin && wish.chunks.is_none()));
    assert!(wishes[0].priority > wishes[3].priority);
    let few = nodes(2);
    let ground = Ground { candidates: &few, ..ground };
    assert!(load::obstacle(&load, &ground).unwrap().contains("3 nodes are to hold it, and the agents of 2"));
}

#[test]
fn a_load_that_its_nodes_may_not_hold_waits_with_the_reason() {
    let candidates = nodes(4);
    let ground = |quota, bytes| Ground {
        dataset: "a/d".into(),
        candidates: &candidates,
        kept_off: &[],
        version: Some((Version(7), bytes)),
        quota,
    };
    let twice = a_load(json!({"dataset": {"name": "d"}, "replicas": 2}));
    let size = Some(40 << 30);
    assert_eq!(load::obstacle(&twice, &ground(Some(20 << 30), size)), None, "20 GiB a node");
    let why = load::obstacle(&twice, &ground(Some(19 << 30), size)).unwrap();
    assert!(why.contains("up to 20.0GiB on a node, and its cache lets a node hold 19.0GiB"), "{why}");
    assert_eq!(load::obstacle(&twice, &ground(None, size)), None);
    assert_eq!(load::obstacle(&twice, &ground(Some(1), None)), None, "nobody knows yet");
    let part = a_load(json!({"dataset": {"name": "d"}, "target": [{"path": "/first", "replicas": 2}]}));
    assert_eq!(load::obstacle(&part, &ground(Some(1), size)), None);
    // It is what plan gives, also where it is cut into fewer pieces than there are nodes.
    for (count, replicas) in [(1, 1_u64), (4, 3), (300, 1), (1_000, 3), (256, 17)] {
        let candidates = nodes(count);
        let ground = |quota| Ground {
            dataset: "a/d".into(),
            candidates: &candidates,
            kept_off: &[],
            version: Some((Version(7), Some(1_024 * CHUNK))),
            quota,
        };
        let load = a_load(json!({"dataset": {"name": "d"}, "replicas": replicas}));
        let mut given: BTreeMap<Name, u64> = BTreeMap::new();
        for wish in load::plan(&load, 1, 0, &ground(None)) {
            let chunks: u64 = wish.chunks.unwrap().1.iter().map(|c| u64::from(c.end - c.start)).sum();
            *given.entry(wish.node).or_default() += chunks * CHUNK;
        }
        let most = given.into_values().max().unwrap();
        let piece = replicas * CHUNK;
        assert_eq!(load::obstacle(&load, &ground(Some(most))), None, "{count} nodes, {replicas} copies");
        assert!(load::obstacle(&load, &ground(Some(most - piece - 1))).is_some(), "{count}, {replicas}");
    }
}

#[test]
fn a_load_is_asked_for_whole_or_not_at_all() {
    let candidates = nodes(256);
    let version = Some((Version(7), Some(1_000 * CHUNK)));
    let ground =
        Ground { dataset: "a/d".into(), candidates: &candidates, kept_off: &[], version, quota: None };
    // As many pieces as nodes would be 4,352 wishes: they are cut less fine.
    let whole = a_load(json!({"dataset": {"name": "d"}, "replicas": 17}));
    assert_eq!(load::obstacle(&whole, &ground), None);
    let wishes = load::plan(&whole, 1, 0, &ground);
    let mut copies = [0; 1_000];
    wishes
        .iter()
        .flat_map(|wish| wish.chunks.clone().unwrap().1)
        .flatten()
        .for_each(|c| copies[c as usize] += 1);
    assert!(copies == [17; 1_000] && wishes.len() <= 4_096, "{} wishes", wishes.len());

    let targets = |count: usize| (0..count).map(|i| json!({"path": format!("/{i}")})).collect::<Vec<_>>();
    let many = |count| a_load(json!({"dataset": {"name": "d"}, "replicas": 17, "target": targets(count)}));
    assert_eq!(load::obstacle(&many(240), &ground), None);
    assert_eq!(load::plan(&many(240), 1, 0, &ground).len(), 240 * 17);
    let why = load::obstacle(&many(256), &ground).unwrap();
    assert!(why.contains("4352 parts to load") && why.contains("fewer targets or replicas"), "{why}");
    assert_eq!(load::plan(&many(256), 1, 0, &ground), [], "nothing that would pass for all of it");
}

#[test]
fn a_version_that_is_not_there_is_said() {
    let text = Version(9).text();
    let load = a_load(json!({"dataset": {"name": "d"}, "version": text}));
    let candidates = nodes(1);
    let ground = |version| Ground {
        dataset: "a/d".into(),
        candidates: &candidates,
        kept_off: &[],
        version,
        quota: None,
    };
    assert_eq!(load::obstacle(&load, &ground(Some((Version(9), None)))), None);
    assert!(load::obstacle(&load, &ground(Some((Version(8), None)))).unwrap().contains("any more"));
    assert!(load::obstacle(&load, &ground(None)).unwrap().contains("no agent has told"));
}

#[test]
fn a_load_is_done_when_every_wish_is() {
    let at = |standing| (Name::from("n"), standing);
    let going = |bytes, total| at(Standing::Going { bytes, total });
    let end = at(Standing::Done { bytes: 100 });
    assert_eq!(load::outcome(&[]), Outcome::Absent, "nobody was asked: nothing is done");
    let Outcome::Running(progress) = load::outcome(&[end.clone(), going(50, 100)]) else { panic!("it runs") };
    assert_eq!((progress.percentage.as_str(), progress.bytes_total), ("75%", Some(200)));
    let Outcome::Running(progress) = load::outcome(&[end.clone(), going(100, 100)]) else {
        panic!("it runs")
    };
    assert_eq!(progress.percentage, "99%");
    let Outcome::Running(progress) = load::outcome(&[end.clone(), at(Standing::Waiting)]) else {
        panic!("it runs")
    };
    assert_eq!((progress.percentage.as_str(), progress.bytes_total), ("100B of Unknown", None));
    let bad = at(Standing::Failed { bytes: 3, why: "no room".into() });
    assert!(matches!(load::outcome(&[bad.clone(), going(1, 2)]), Outcome::Running(_)), "the others go on");
    assert_eq!(load::outcome(&[end, bad]), Outcome::Failed("node n: no room".into()));
}

#[test]
fn nodes_that_are_another_datasets_are_left_out_with_their_reason() {
    let load = a_load(json!({"dataset": {"name": "d"}, "replicas": 2}));
    let candidates = nodes(1);
    let kept_off: Vec<(Name, Name)> = ["m", "n"].map(|node| (node.into(), "b/alone".into())).into();
    let version = Some((Version(7), Some(4 * CHUNK)));
    let ground =
        Ground { dataset: "a/d".into(), candidates: &candidates, kept_off: &kept_off, version, quota: None };
    let why = load::obstacle(&load, &ground).unwrap();
    for words in [
        "the agents of 1 have",
        "node m, where Dataset b/alone is placed or loaded and 1 more",
        "nodeSelector",
    ] {
        assert!(why.contains(words), "{why}");
    }
    let ground = Ground { kept_off: &kept_off[..1], ..ground };
    assert!(load::left_out(&ground).unwrap().contains("b/alone is placed or loaded, because"));
    assert_eq!(load::left_out(&Ground { kept_off: &[], ..ground }), None);
    // It is said of what goes on, and of what went well.
    let standings = [("m".into(), Standing::Done { bytes: 1 })];
    let Outcome::Succeeded(progress) = load::noted(load::outcome(&standings), Some(&"why".into())) else {
        panic!("not done")
    };
    assert_eq!(progress.note.as_deref(), Some("why"));
}
