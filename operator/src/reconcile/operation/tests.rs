//! Tables of what was seen and what follows; and operations acted out on a clock of their own.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use operator_api::crd::DataLoad;
use operator_api::crd::operation::{
    Event, OperationKind, OperationPhase, OperationRef, OperationStatus, Policy, Progress, Timing,
};
use proptest::prelude::*;
use serde_json::json;

use super::events::Happened;
use super::load::{self, Ground};
use super::timing::{Act, Before, Decision, Outcome, Seen, backoff, decide};
use crate::inventory::{CHUNK, Name, Version};
use crate::reconcile::agents::Standing;

fn start() -> Timestamp {
    "2026-11-24T09:00:30Z".parse().unwrap()
}

/// One operation on a clock.
struct Life {
    timing: Timing,
    status: OperationStatus,
    now: Timestamp,
    outcome: Outcome,
    events: Happened,
    before: Vec<Before>,
    invalid: Option<String>,
    ready: Result<(), String>,
    lost: Option<String>,
}

impl Life {
    fn new(timing: Timing) -> Self {
        Self {
            timing,
            status: OperationStatus::default(),
            now: start(),
            outcome: Outcome::Absent,
            events: Happened::default(),
            before: Vec::new(),
            invalid: None,
            ready: Ok(()),
            lost: None,
        }
    }

    fn look(&mut self) -> Decision {
        let decision = decide(&Seen {
            timing: &self.timing,
            status: self.status.clone(),
            generation: Some(1),
            created: start(),
            before: self.before.clone(),
            events: self.events.clone(),
            invalid: self.invalid.clone(),
            ready: self.ready.clone(),
            lost: self.lost.clone(),
            outcome: self.outcome.clone(),
            now: self.now,
        });
        self.status = decision.status.clone();
        if self.status.phase != OperationPhase::Executing {
            self.outcome = Outcome::Absent;
        }
        decision
    }

    fn after(&mut self, seconds: i64) -> Decision {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
        self.look()
    }

    fn reason(&self, type_: &str) -> String {
        let condition = self.status.conditions.iter().find(|c| c.type_ == type_ && c.status == "True");
        condition.map(|c| format!("{}: {}", c.reason, c.message)).unwrap_or_default()
    }

    fn end(&mut self, outcome: Outcome) -> Decision {
        self.outcome = outcome;
        self.look()
    }
}

fn done() -> Outcome {
    Outcome::Succeeded(Progress { percentage: "100%".into(), ..Progress::default() })
}

fn failed() -> Outcome {
    Outcome::Failed("the store is shut".into())
}

fn hopeless() -> Outcome {
    Outcome::Hopeless("the task is none".into())
}

fn timing(policy: Policy) -> Timing {
    Timing { policy, ..Timing::default() }
}

#[test]
fn once_runs_once_and_goes_after_its_time() {
    let mut life = Life::new(Timing { ttl_seconds_after_finished: Some(60), ..timing(Policy::Once) });
    assert_eq!(life.look().act, Some(Act::Start { run: 1, attempt: 0 }));
    // Started again after a restart: the same run.
    assert_eq!(life.look().act, Some(Act::Start { run: 1, attempt: 0 }));
    life.now = life.now.checked_add(SignedDuration::from_secs(130)).unwrap();
    life.end(done());
    assert_eq!(
        (life.status.phase, life.status.duration.as_deref()),
        (OperationPhase::Complete, Some("2m10s"))
    );
    assert_eq!(life.after(59).act, None);
    assert_eq!(life.after(1).act, Some(Act::Delete));
}

#[test]
fn what_is_wrong_is_said_and_not_begun_and_what_runs_goes_on() {
    let mut life = Life::new(timing(Policy::Once));
    life.invalid = Some("from and to are the same".into());
    assert_eq!(life.look().act, None);
    assert_eq!(life.reason("Waiting"), "Invalid: from and to are the same");
    life.invalid = None;
    assert_eq!(life.look().act, Some(Act::Start { run: 1, attempt: 0 }));
    life.invalid = Some("somebody has changed it".into());
    life.outcome = Outcome::Running(Progress::default());
    assert_eq!((life.look().act, life.status.phase), (None, OperationPhase::Executing));
}

#[test]
fn failures_wait_longer_each_time_and_end() {
    let mut life = Life::new(Timing { backoff_limit: Some(2), ..timing(Policy::Once) });
    life.look();
    assert_eq!(life.end(failed()).look_again, Some(Duration::from_secs(10)));
    assert!(life.reason("Waiting").starts_with("BackOff: try 1 failed: the store is shut"));
    assert_eq!(life.after(9).act, None);
    assert_eq!(life.after(1).act, Some(Act::Start { run: 1, attempt: 1 }));
    assert_eq!(life.end(failed()).look_again, Some(Duration::from_secs(20)));
    assert_eq!(life.after(20).act, Some(Act::Start { run: 1, attempt: 2 }));
    let decision = life.end(failed());
    assert_eq!((life.status.phase, life.status.failures), (OperationPhase::Failed, 3));
    assert!(decision.news.unwrap().note.contains("given up"));
    assert_eq!(life.after(1_000_000).act, None);
    assert_eq!(
        (backoff(1), backoff(6), backoff(i32::MAX)),
        (Duration::from_secs(10), Duration::from_secs(320), Duration::from_secs(360))
    );
}

#[test]
fn what_no_try_would_help_is_not_tried_again() {
    let mut life = Life::new(Timing { backoff_limit: Some(5), ..timing(Policy::Once) });
    life.look();
    life.end(failed());
    life.after(10);
    let decision = life.end(hopeless());
    assert_eq!((life.status.phase, life.status.failures, decision.act), (OperationPhase::Failed, 2, None));
    assert!(life.status.next_attempt_time.is_none());
    let why = "run 1 is given up: the task is none; trying again would not help";
    assert!(life.reason("Failed").contains(why), "{}", life.reason("Failed"));
    assert!(decision.news.unwrap().bad);
    assert_eq!(life.after(1_000_000).act, None);
    // Its next time is another run: by then somebody may have changed it.
    let mut life = Life::new(Timing { schedule: Some("*/5 * * * *".into()), ..timing(Policy::Cron) });
    life.look();
    assert_eq!(life.after(270).act, Some(Act::Start { run: 1, attempt: 0 }));
    life.end(hopeless());
    assert_eq!((life.status.phase, life.after(10).act), (OperationPhase::Pending, None));
    assert_eq!(life.after(300).act, Some(Act::Start { run: 2, attempt: 0 }));
}

#[test]
fn what_does_not_end_is_stopped_and_counts_as_failed() {
    let mut life = Life::new(Timing {
        active_deadline_seconds: Some(100),
        backoff_limit: Some(0),
        ..timing(Policy::Once)
    });
    life.look();
    life.outcome = Outcome::Running(Progress::default());
    assert_eq!(life.after(99).act, None);
    assert_eq!(life.after(1).act, Some(Act::Stop { run: 1, attempt: 0 }));
    assert_eq!(life.status.phase, OperationPhase::Failed);
    assert!(life.reason("Failed").contains("100 s"));
    // Nor does what nobody can begin.
    let mut life = Life::new(Timing {
        active_deadline_seconds: Some(100),
        backoff_limit: Some(0),
        ..timing(Policy::Once)
    });
    life.look();
    assert_eq!(life.after(99).act, Some(Act::Start { run: 1, attempt: 0 }));
    assert_eq!(life.after(1).act, Some(Act::Stop { run: 1, attempt: 0 }));
    assert_eq!(life.status.phase, OperationPhase::Failed);
}

#[test]
fn cron_serves_each_time_once_and_the_last_of_those_missed() {
    let mut life = Life::new(Timing { schedule: Some("*/5 * * * *".into()), ..timing(Policy::Cron) });
    let decision = life.look();
    assert_eq!((decision.act, decision.look_again), (None, Some(Duration::from_secs(270))));
    assert_eq!(life.after(270).act, Some(Act::Start { run: 1, attempt: 0 }));
    life.end(done());
    assert_eq!(life.status.phase, OperationPhase::Pending);
    assert_eq!(life.look().act, None, "09:05 is served");
    // Away for an hour: one run, not twelve.
    assert_eq!(life.after(3600).act, Some(Act::Start { run: 2, attempt: 0 }));
    life.end(done());
    assert_eq!(life.look().act, None);
    // A clock that was set back serves nothing again.
    assert_eq!(life.after(-600).act, None);
    // Away for years.
    assert_eq!(life.after(100_000_000).act, Some(Act::Start { run: 3, attempt: 0 }));
}

#[test]
fn events_are_served_once_each() {
    let on = vec![Event::NewVersion, Event::DatasetIdle];
    let mut life = Life::new(Timing { on, ..timing(Policy::OnEvent) });
    life.events.there = vec![(Event::NodeAdded, "n".into())];
    assert_eq!(life.look().act, None, "not asked for");
    life.events.there = vec![(Event::NewVersion, "v1".into())];
    assert!(life.look().act.is_some());
    life.end(done());
    assert_eq!(life.look().act, None);
    life.events.there.push((Event::DatasetIdle, "idle".into()));
    assert_eq!(life.look().act, Some(Act::Start { run: 2, attempt: 0 }));
    life.end(done());
    // A new life of the operator, in which nobody has told of anything yet.
    let told = std::mem::take(&mut life.events);
    assert_eq!(life.look().act, None);
    life.events = told;
    assert_eq!(life.look().act, None, "served before");
    // Read again, and idle again.
    life.events.there.pop();
    life.events.over.push(Event::DatasetIdle);
    assert_eq!(life.look().act, None);
    life.events.over.clear();
    life.events.there.push((Event::DatasetIdle, "idle".into()));
    assert_eq!(life.look().act, Some(Act::Start { run: 3, attempt: 0 }));
    // The same while a run is under way.
    life.events.over.push(life.events.there.pop().unwrap().0);
    life.look();
    life.events.over.clear();
    life.end(done());
    life.events.there.push((Event::DatasetIdle, "idle".into()));
    assert_eq!(life.look().act, Some(Act::Start { run: 4, attempt: 0 }));
    life.end(done());
    life.events.there[0].1 = "v2".into();
    assert_eq!(life.look().act, Some(Act::Start { run: 5, attempt: 0 }));
}

#[test]
fn it_runs_after_all_of_them_and_says_for_which_it_waits() {
    let before = |name: &str, status: Option<OperationStatus>| Before {
        operation: OperationRef { kind: OperationKind::DataProcess, name: name.into() },
        status,
    };
    let good = OperationStatus {
        phase: OperationPhase::Complete,
        last_successful_time: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(start())),
        ..OperationStatus::default()
    };
    let bad = OperationStatus { phase: OperationPhase::Failed, ..OperationStatus::default() };
    let mut life = Life::new(timing(Policy::Once));
    for (status, words) in [
        (None, "does not exist yet"),
        (Some(OperationStatus::default()), "is not complete"),
        (Some(bad), "has failed"),
    ] {
        life.before = vec![before("one", Some(good.clone())), before("two", status)];
        assert_eq!(life.look().act, None);
        assert!(life.reason("Waiting").contains("DataProcess two") && life.reason("Waiting").contains(words));
    }
    life.before = vec![before("one", Some(good.clone())), before("two", Some(good))];
    assert_eq!(life.look().act, Some(Act::Start { run: 1, attempt: 0 }));
    assert_eq!(life.reason("Waiting"), "");
}

#[test]
fn a_time_that_waits_for_something_is_not_lost() {
    let mut life = Life::new(Timing { schedule: Some("*/5 * * * *".into()), ..timing(Policy::Cron) });
    life.ready = Err("Dataset a/d does not exist".into());
    assert_eq!(life.after(300).act, None);
    assert!(life.reason("Waiting").contains("does not exist"));
    life.ready = Ok(());
    assert_eq!(life.look().act, Some(Act::Start { run: 1, attempt: 0 }));
}

#[test]
fn a_dataset_that_goes_ends_the_run_and_suspend_starts_none() {
    let mut life = Life::new(timing(Policy::Once));
    life.timing.suspend = true;
    assert_eq!(life.look().act, None);
    life.timing.suspend = false;
    life.look();
    life.lost = Some("Dataset a/d is being deleted".into());
    assert_eq!(life.look().act, Some(Act::Stop { run: 1, attempt: 0 }));
    assert_eq!(life.status.phase, OperationPhase::Failed);
}

proptest! {
    /// Whatever happens, a run and try is started only after it was written down, numbers only grow, and what is
    /// over stays over.
    #[test]
    fn runs_are_numbered_and_never_run_twice(
        policy in prop_oneof![Just(Policy::Once), Just(Policy::Cron), Just(Policy::OnEvent)],
        steps in proptest::collection::vec((0_u8..8, 0_i64..700), 1..60),
    ) {
        let mut life = Life::new(Timing {
            policy,
            schedule: Some("*/2 * * * *".into()).filter(|_| policy == Policy::Cron),
            on: if policy == Policy::OnEvent { vec![Event::NewVersion] } else { vec![] },
            backoff_limit: Some(2),
            ..Timing::default()
        });
        let mut ended = BTreeMap::new();
        let mut last = (0, 0);
        for (step, seconds) in steps {
            match step {
                0 if life.status.phase == OperationPhase::Executing => life.outcome = done(),
                1 if life.status.phase == OperationPhase::Executing => life.outcome = failed(),
                2 => life.events.there = vec![(Event::NewVersion, seconds.to_string())],
                3 => life.ready = Err("no".into()),
                4 => life.ready = Ok(()),
                5 if life.status.phase == OperationPhase::Executing => life.outcome = hopeless(),
                _ => {}
            }
            let before = (life.status.run, life.status.failures);
            if life.outcome.has_ended() {
                prop_assert!(ended.insert(before, ()).is_none(), "{before:?} ended twice");
            }
            let was_over = life.status.phase.is_over();
            let decision = life.after(seconds);
            prop_assert!(!was_over || life.status.phase.is_over());
            if let Some(Act::Start { run, attempt }) = decision.act {
                prop_assert_eq!((run, attempt), (life.status.run, life.status.failures));
                prop_assert!((run, attempt) >= last);
                prop_assert!(!ended.contains_key(&(run, attempt)));
                last = (run, attempt);
            }
        }
    }
}

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
        version: Some((Version(7), Some(10 * CHUNK + 1))),
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
        let ground = Ground { dataset: "a/d".into(), candidates: &candidates, version };
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
    let ground = Ground { dataset: "a/d".into(), candidates: &candidates, version: None };
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
fn a_load_is_asked_for_whole_or_not_at_all() {
    let candidates = nodes(256);
    let version = Some((Version(7), Some(1_000 * CHUNK)));
    let ground = Ground { dataset: "a/d".into(), candidates: &candidates, version };
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
    let ground = |version| Ground { dataset: "a/d".into(), candidates: &candidates, version };
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
