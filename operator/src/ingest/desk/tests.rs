//! The desk, wish by wish: what is sent once, what waits again, what is taken back, and that all of it is bounded.

use super::*;
use crate::ingest::work::Extent;
use crate::inventory::{Tier, Version};

fn wish(id: &str, priority: u32) -> Wish {
    let extent = Extent { dataset: "a/b".into(), path: Box::default(), chunks: None };
    let work = Work::Fetch(extent, Tier::Ram);
    Wish {
        id: id.into(),
        node: "n1".into(),
        work,
        reason: "test".into(),
        useful_ms: 0,
        priority,
        awaits_mount: false,
    }
}

fn progress(state: State) -> Progress {
    Progress { state, bytes: 7, ..Progress::default() }
}

fn sent(desk: &mut Desk) -> Vec<String> {
    let name = |due| match due {
        Due::Instruct(wish) => wish.id.to_string(),
        Due::Withdraw(id) => format!("-{id}"),
    };
    desk.due("n1", 10, |_| true).into_iter().map(name).collect()
}

#[test]
fn agents_that_have_nothing_in_hand_take_no_room() {
    let mut desk = Desk::default();
    assert_eq!(desk.attach(&"n1".into(), Vec::new()), 0);
    assert!(desk.nodes.is_empty());
    assert_eq!(desk.attach(&"n1".into(), vec![("a".into(), progress(State::Running))]), 1);
    assert_eq!(desk.nodes.len(), 1);
}

#[test]
fn the_same_wish_is_sent_once() {
    let mut desk = Desk::default();
    assert_eq!(desk.instruct(wish("a", 0)), Ok(Placed::New));
    assert_eq!(desk.instruct(wish("b", 5)), Ok(Placed::New));
    assert_eq!(desk.instruct(wish("a", 0)), Ok(Placed::Known(Standing::Waiting)));
    assert_eq!(sent(&mut desk), ["b", "a"]);
    assert_eq!(desk.instruct(wish("a", 0)), Ok(Placed::Known(Standing::Sent)));
    assert!(sent(&mut desk).is_empty());
    assert!(!desk.progress(&"n1".into(), "a".into(), progress(State::Running)));
    assert!(desk.progress(&"n1".into(), "a".into(), progress(State::Done)));
    // Late words change nothing.
    assert!(!desk.progress(&"n1".into(), "a".into(), progress(State::Running)));
    assert_eq!(desk.standing("n1", "a"), Some(&Standing::Ended(progress(State::Done))));
    desk.forget("n1", "a");
    assert_eq!(desk.standing("n1", "a"), None);
}

#[test]
fn after_a_restart_what_the_agent_has_is_not_sent_again() {
    // Made again before the agent comes, and after.
    let mut desk = Desk::default();
    desk.instruct(wish("before", 0)).unwrap();
    desk.instruct(wish("fresh", 0)).unwrap();
    let in_hand = ["before", "after", "done"]
        .map(|id| (id.into(), progress(if id == "done" { State::Done } else { State::Running })));
    assert_eq!(desk.attach(&"n1".into(), in_hand.to_vec()), 3);
    assert!(matches!(desk.instruct(wish("after", 0)), Ok(Placed::Known(Standing::Going(_)))));
    assert!(matches!(desk.instruct(wish("done", 0)), Ok(Placed::Known(Standing::Ended(_)))));
    assert_eq!(sent(&mut desk), ["fresh"]);
}

#[test]
fn why_something_ended_stays_where_hello_leaves_it_out() {
    let (mut desk, n1) = (Desk::default(), Name::from("n1"));
    desk.instruct(wish("a", 0)).unwrap();
    sent(&mut desk);
    let refused = Progress { detail: "no room".into(), ..progress(State::Refused) };
    desk.progress(&n1, "a".into(), refused.clone());
    desk.attach(&n1, hand(&["a", "b"], State::Refused));
    assert_eq!(desk.standing("n1", "a"), Some(&Standing::Ended(refused.clone())));
    desk.progress(&n1, "b".into(), refused.clone());
    assert_eq!(desk.standing("n1", "b"), Some(&Standing::Ended(refused)), "and comes where it was not there");
}

#[test]
fn what_got_lost_on_its_way_is_sent_again() {
    let mut desk = Desk::default();
    desk.instruct(wish("a", 0)).unwrap();
    assert_eq!(sent(&mut desk), ["a"]);
    desk.attach(&"n1".into(), vec![]);
    assert_eq!(sent(&mut desk), ["a"]);
}

#[test]
fn a_withdrawal_reaches_what_was_sent() {
    let mut desk = Desk::default();
    desk.instruct(wish("a", 0)).unwrap();
    sent(&mut desk);
    desk.instruct(wish("b", 0)).unwrap();
    desk.withdraw("n1", "a");
    desk.withdraw("n1", "b");
    desk.withdraw("n1", "c");
    let mut told = sent(&mut desk);
    told.sort();
    assert_eq!(told, ["-a", "-c"], "what is not known here may be known there");
    assert!(sent(&mut desk).is_empty());
    assert!(desk.unasked("").is_empty(), "{:?}", desk.unasked(""));
    assert_eq!(
        desk.standing("n1", "b"),
        Some(&Standing::Ended(Progress { state: State::Dropped, ..Progress::default() }))
    );
}

#[test]
fn what_is_called_off_waits_for_no_agent() {
    let mut desk = Desk::default();
    desk.instruct(wish("bound/u1/a", 0)).unwrap();
    assert_eq!(sent(&mut desk), ["bound/u1/a"]);
    for id in ["bound/u1/b", "bound/u1/c", "bound/u2/a"] {
        desk.instruct(wish(id, 0)).unwrap();
    }
    desk.progress(&"n1".into(), "bound/u1/c".into(), progress(State::Done));
    assert!(desk.call_off("n1", "bound/u1/"));
    assert!(!desk.call_off("n2", "bound/u2/") && !desk.call_off("n1", "bound/u1/c"));
    assert_eq!(desk.standing("n1", "bound/u1/c"), Some(&Standing::Ended(progress(State::Done))));
    // The agent that had one begins anew: only what is wanted is brought in.
    desk.attach(&"n1".into(), vec![]);
    let told = sent(&mut desk);
    assert!(!told.contains(&"bound/u1/a".into()) && told.contains(&"bound/u2/a".into()), "{told:?}");
    assert_eq!(desk.open(), 1);
}

#[test]
fn what_is_under_way_is_known_until_it_ends() {
    let mut desk = Desk::default();
    let mut part = wish("a", 0);
    part.work = Work::Fetch(
        Extent { dataset: "a/b".into(), path: Box::default(), chunks: Some((Version(1), vec![2..4, 9..10])) },
        Tier::Ram,
    );
    desk.instruct(part).unwrap();
    desk.instruct(wish("of unknown size", 0)).unwrap();
    let one = |bytes| vec![(Name::from("n1"), Name::from("a/b"), bytes)];
    assert_eq!(desk.under_way(), one(3 * CHUNK));
    sent(&mut desk);
    desk.progress(&"n1".into(), "a".into(), progress(State::Running));
    assert_eq!(desk.under_way(), one(3 * CHUNK - 7));
    desk.progress(&"n1".into(), "a".into(), progress(State::Done));
    assert_eq!(desk.under_way(), []);
    let going = Progress { bytes_total: 100, ..progress(State::Running) };
    desk.progress(&"n1".into(), "of unknown size".into(), going);
    assert_eq!(desk.under_way(), one(93));
}

#[test]
fn everything_is_bounded() {
    let mut desk = Desk::default();
    for n in 0..OPEN {
        desk.instruct(wish(&n.to_string(), 0)).unwrap();
    }
    assert_eq!(desk.instruct(wish("more", 0)), Err(DeskError::Full("n1".into())));
    assert_eq!(desk.instruct(wish("", 0)), Err(DeskError::Identity(0)));
    for n in 0..OPEN {
        desk.progress(&"n1".into(), n.to_string().into(), progress(State::Done));
    }
    assert_eq!(desk.nodes["n1"].entries.len(), ENDED);
    assert_eq!(desk.instruct(wish("more", 0)), Ok(Placed::New));
}

fn pin(id: &str) -> Wish {
    let fetch = wish(id, 0);
    Wish { work: Work::Pin(fetch.work.extent().clone(), Tier::Ram), ..fetch }
}

fn hand(ids: &[&str], state: State) -> Vec<(Box<str>, Progress)> {
    ids.iter().map(|id| ((*id).into(), progress(state))).collect()
}

#[test]
fn a_pin_outlives_its_agent() {
    let mut desk = Desk::default();
    desk.instruct(pin("pin")).unwrap();
    desk.instruct(wish("fetch", 0)).unwrap();
    sent(&mut desk);
    for id in ["pin", "fetch"] {
        desk.progress(&"n1".into(), id.into(), progress(State::Done));
    }
    assert_eq!(desk.open(), 0);
    desk.attach(&"n1".into(), hand(&["pin"], State::Done));
    assert!(sent(&mut desk).is_empty(), "it is held");
    desk.attach(&"n1".into(), vec![]);
    assert_eq!((desk.open(), sent(&mut desk)), (1, vec!["pin".into()]));
    desk.progress(&"n1".into(), "pin".into(), progress(State::Done));
    assert_eq!(desk.open(), 0);
    // That it has ended before must not make room of it.
    desk.attach(&"n1".into(), vec![]);
    for n in 0..ENDED {
        desk.instruct(wish(&n.to_string(), 0)).unwrap();
        desk.progress(&"n1".into(), n.to_string().into(), progress(State::Done));
    }
    assert_eq!(desk.standing("n1", "pin"), Some(&Standing::Waiting));
}

#[test]
fn a_withdrawn_pin_ends_whatever_got_lost() {
    let n1 = Name::from("n1");
    let mut desk = Desk::default();
    desk.instruct(pin("load/a")).unwrap();
    sent(&mut desk);
    desk.progress(&n1, "load/a".into(), progress(State::Done));
    desk.withdraw("n1", "load/a");
    assert_eq!(sent(&mut desk), ["-load/a"]);
    assert!(desk.unasked("load/").is_empty(), "the agent was told");
    assert!(desk.nodes["n1"].entries.is_empty(), "nobody asks for it any more");
    // The stream broke before that was heard: whoever looks after what nobody asked for is told of it again.
    desk.attach(&n1, hand(&["load/a"], State::Done));
    assert_eq!(
        desk.unasked("load/"),
        [(n1.clone(), "load/a".into(), Standing::Ended(progress(State::Done)))]
    );
    desk.withdraw("n1", "load/a");
    assert_eq!(sent(&mut desk), ["-load/a"]);
    // What was withdrawn under way does not begin anew with the agent.
    desk.instruct(pin("load/b")).unwrap();
    sent(&mut desk);
    desk.withdraw("n1", "load/b");
    desk.attach(&n1, vec![]);
    sent(&mut desk);
    assert_eq!((desk.open(), sent(&mut desk)), (0, vec![]));
}

#[test]
fn what_was_forgotten_is_withdrawn_all_the_same() {
    let mut desk = Desk::default();
    desk.instruct(pin("old")).unwrap();
    desk.progress(&"n1".into(), "old".into(), progress(State::Done));
    desk.forget("n1", "old");
    desk.withdraw("n1", "old");
    assert!(sent(&mut desk).is_empty(), "a node without anything");
    desk.instruct(wish("new", 0)).unwrap();
    sent(&mut desk);
    desk.withdraw("n1", "old");
    assert_eq!(sent(&mut desk), ["-old"]);
    assert_eq!(desk.open(), 1);
}

#[test]
fn pins_that_are_held_are_not_forgotten_for_what_ends_after_them() {
    let mut desk = Desk::default();
    desk.instruct(pin("pin")).unwrap();
    desk.progress(&"n1".into(), "pin".into(), progress(State::Done));
    let mut others = 0;
    let mut pass = |desk: &mut Desk| {
        for _ in 0..ENDED {
            others += 1;
            let id = others.to_string();
            desk.instruct(wish(&id, 0)).unwrap();
            desk.progress(&"n1".into(), id.into(), progress(State::Done));
        }
    };
    pass(&mut desk);
    pass(&mut desk);
    assert!(desk.standing("n1", "pin").is_some());
    assert_eq!(desk.nodes["n1"].entries.len(), ENDED + 1);
    desk.attach(&"n1".into(), vec![]);
    assert_eq!(sent(&mut desk), ["pin"]);
    // Let go of, it ends as others do.
    desk.progress(&"n1".into(), "pin".into(), progress(State::Done));
    pass(&mut desk);
    desk.withdraw("n1", "pin");
    pass(&mut desk);
    assert_eq!(desk.standing("n1", "pin"), None);
    assert_eq!(desk.nodes["n1"].entries.len(), ENDED);
}

#[test]
fn what_awaits_a_mount_waits_for_that_and_for_nothing_else() {
    let mut desk = Desk::default();
    desk.instruct(Wish { awaits_mount: true, ..wish("bound/p/1", 9) }).unwrap();
    desk.instruct(wish("load/u/1", 0)).unwrap();
    let due = |desk: &mut Desk, mounted: bool| {
        let due = desk.due("n1", 10, |dataset| mounted && **dataset == *"a/b").into_iter();
        due.map(|due| match due {
            Due::Instruct(wish) => wish.id.to_string(),
            Due::Withdraw(id) => format!("-{id}"),
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(due(&mut desk, false), ["load/u/1"]);
    assert_eq!(due(&mut desk, true), ["bound/p/1"]);
    assert!(due(&mut desk, true).is_empty(), "once");
    // Its pod ends before anything was mounted: nobody is told.
    desk.instruct(Wish { awaits_mount: true, ..wish("bound/q/1", 9) }).unwrap();
    assert!(desk.call_off("n1", "bound/q/"));
    assert!(due(&mut desk, true).is_empty());
}

#[test]
fn of_what_has_ended_no_chunks_are_kept_but_of_pins() {
    let mut desk = Desk::default();
    let n1 = Name::from("n1");
    for _ in 0..2 {
        for wish in [wish("fetch", 0), pin("pin")] {
            desk.instruct(wish).unwrap();
        }
        sent(&mut desk);
        for id in ["fetch", "pin"] {
            desk.progress(&n1, id.into(), progress(State::Partly));
        }
        let kept = |id: &str| desk.nodes["n1"].entries[id].wish.is_some();
        assert!(!kept("fetch") && kept("pin"), "a pin may come to be held yet");
        assert!(desk.unasked("").is_empty(), "it was asked for all the same");
    }
    desk.withdraw("n1", "pin");
    assert!(desk.nodes["n1"].entries["pin"].wish.is_none());
}

#[test]
fn of_a_node_that_is_gone_is_remembered_what_somebody_asks_about() {
    let mut desk = Desk::default();
    let n1 = Name::from("n1");
    desk.attach(&n1, hand(&["strange"], State::Done));
    for id in ["ended", "open", "loading"] {
        desk.instruct(wish(id, 0)).unwrap();
    }
    desk.progress(&n1, "ended".into(), progress(State::Done));
    desk.lose("n1", Millis(1));
    assert_eq!((desk.standing("n1", "strange"), desk.open()), (None, 0));
    assert!(matches!(desk.standing("n1", "open"), Some(Standing::Ended(end)) if end.state == State::Failed));
    let asks = |desk: &mut Desk, at| {
        let known = desk.instruct(wish("loading", 0)).unwrap();
        assert!(matches!(known, Placed::Known(Standing::Ended(_))), "{known:?}");
        desk.lose("another", Millis(at));
        desk.nodes["n1"].entries.len()
    };
    assert_eq!(asks(&mut desk, GONE_MS), 3, "not yet");
    assert_eq!(asks(&mut desk, 1 + GONE_MS), 1);
    assert_eq!(asks(&mut desk, 1 + 2 * GONE_MS), 1);
    assert_eq!(desk.nodes["n1"].ended.len(), 1);
    desk.lose("another", Millis(1 + 3 * GONE_MS));
    assert!(desk.nodes.is_empty());
    // Of one that has come again nothing is forgotten.
    desk.instruct(wish("a", 0)).unwrap();
    desk.lose("n1", Millis(0));
    desk.attach(&n1, hand(&["a"], State::Running));
    desk.lose("another", Millis(GONE_MS));
    assert!(desk.standing("n1", "a").is_some());
}

#[test]
fn how_pods_beginnings_ended_is_not_learned_from_agents() {
    let mut desk = Desk::default();
    desk.instruct(wish("bound/p/1", 0)).unwrap();
    desk.attach(&"n1".into(), hand(&["bound/p/1", "bound/p/2", "load/u/1"], State::Done));
    desk.attach(&"n1".into(), hand(&["bound/p/1", "bound/p/3"], State::Running));
    let there = |id: &str| desk.standing("n1", id).is_some();
    assert!(there("bound/p/1") && there("load/u/1") && there("bound/p/3") && !there("bound/p/2"));
    assert!(sent(&mut desk).is_empty(), "nothing is sent twice");
}
