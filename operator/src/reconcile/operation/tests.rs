//! Tables of what was seen and what follows; and operations acted out on a clock of their own.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use operator_api::crd::operation::{
    Event, OperationKind, OperationPhase, OperationRef, OperationStatus, Policy, Progress, Timing,
};
use proptest::prelude::*;

use super::events::Happened;
use super::timing::{Act, Before, Decision, Outcome, Seen, backoff, decide};

mod chains;
mod loads;

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
    awaited: bool,
    generation: i64,
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
            awaited: false,
            generation: 1,
        }
    }

    fn look(&mut self) -> Decision {
        let decision = decide(&Seen {
            timing: &self.timing,
            status: self.status.clone(),
            generation: Some(self.generation),
            created: start(),
            before: self.before.clone(),
            awaited: self.awaited,
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
    // No version was known so far, so the first that is counts as new.
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
fn the_version_that_is_there_first_is_no_event_and_the_next_one_is() {
    let is = |version: &str| Happened {
        there: vec![(Event::NewVersion, version.into())],
        version: Some(version.into()),
        ..Happened::default()
    };
    let on = || Timing { on: vec![Event::NewVersion], ..timing(Policy::OnEvent) };
    let mut life = Life::new(on());
    life.events = is("v1");
    assert_eq!(life.look().act, None);
    assert!(life.reason("Waiting").starts_with("NoEvent: none of the events"), "{}", life.reason("Waiting"));
    // A new life of the operator, in which agents tell later.
    life.events = Happened::default();
    assert_eq!(life.look().act, None);
    life.events = is("v2");
    assert_eq!(life.look().act, Some(Act::Start { run: 1, attempt: 0 }));
    // First seen while it can run for no reason at all, and while agents were not back yet.
    for suspend in [true, false] {
        let mut life = Life::new(on());
        (life.timing.suspend, life.invalid) = (suspend, (!suspend).then(|| "no".into()));
        life.events.version = Some("v1".into());
        life.look();
        (life.timing.suspend, life.invalid) = (false, None);
        life.events = is("v1");
        assert_eq!(life.look().act, None, "it was there before");
        life.events = is("v2");
        assert!(life.look().act.is_some());
    }
    // One that has run once counts from when it is to run on events.
    let mut life = Life::new(timing(Policy::Once));
    life.events = is("v1");
    life.look();
    life.end(done());
    life.timing = on();
    life.generation = 2;
    assert_eq!(life.look().act, None);
    life.events = is("v2");
    assert_eq!(life.look().act, Some(Act::Start { run: 2, attempt: 0 }));
}

#[test]
fn a_run_that_nobody_has_in_hand_goes_on_as_it_would_begin() {
    let mut life = Life::new(timing(Policy::Once));
    assert!(life.look().act.is_some());
    // Another leads now, and what was asked for is gone with the one before.
    life.ready = Err("2 nodes are to hold it, and there is 1".into());
    assert_eq!(life.after(5).act, None);
    assert_eq!(life.reason("Waiting"), "NotReady: 2 nodes are to hold it, and there is 1");
    life.ready = Ok(());
    assert_eq!(life.after(5).act, Some(Act::Start { run: 1, attempt: 0 }));
    assert_eq!(life.reason("Waiting"), "");
    life.ready = Err("never".into());
    assert_eq!(
        life.after(90_000).act,
        Some(Act::Stop { run: 1, attempt: 0 }),
        "it waits no longer than its deadline"
    );
}

#[test]
fn it_runs_after_all_of_them_and_says_for_which_it_waits() {
    let before = |name: &str, status: Option<OperationStatus>| Before {
        operation: OperationRef { kind: OperationKind::DataProcess, name: name.into() },
        policy: Policy::Once,
        status,
    };
    let good = OperationStatus {
        phase: OperationPhase::Complete,
        last_successful_time: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(start())),
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
fn who_is_awaited_stays_beyond_its_time() {
    let mut life = Life::new(Timing { ttl_seconds_after_finished: Some(0), ..timing(Policy::Once) });
    life.look();
    life.awaited = true;
    life.end(done());
    assert_eq!(life.after(3_600).act, None);
    life.awaited = false;
    assert_eq!(life.look().act, Some(Act::Delete));
}

#[test]
fn again_and_again_after_one_that_runs_once_or_again_and_again_itself() {
    let time = |seconds: i64| {
        let at = start().checked_add(SignedDuration::from_secs(seconds)).unwrap();
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(at))
    };
    let before = |policy, phase, done| Before {
        operation: OperationRef { kind: OperationKind::DataProcess, name: "one".into() },
        policy,
        status: Some(OperationStatus {
            phase,
            last_successful_time: time(done),
            ..OperationStatus::default()
        }),
    };
    let cron = || Timing { schedule: Some("*/5 * * * *".into()), ..timing(Policy::Cron) };
    let mut life = Life::new(cron());
    life.before = vec![before(Policy::Once, OperationPhase::Complete, 0)];
    for run in 1..4 {
        assert_eq!(
            life.after(300).act,
            Some(Act::Start { run, attempt: 0 }),
            "it has ended well, once and for all"
        );
        life.end(done());
    }
    let mut life = Life::new(cron());
    life.before = vec![before(Policy::Cron, OperationPhase::Pending, 0)];
    assert_eq!(life.after(300).act, Some(Act::Start { run: 1, attempt: 0 }));
    life.end(done());
    assert_eq!(life.after(300).act, None);
    assert!(life.reason("Waiting").contains("has not ended well again since"), "{}", life.reason("Waiting"));
    life.before = vec![before(Policy::Cron, OperationPhase::Pending, 600)];
    assert_eq!(life.look().act, Some(Act::Start { run: 2, attempt: 0 }));
}

#[test]
fn what_was_changed_after_it_had_begun_is_not_passed_for_done() {
    let mut life = Life::new(timing(Policy::Once));
    life.look();
    life.generation = 2;
    life.look();
    assert_eq!(life.status.observed_generation, Some(1), "the run is of the spec it was begun with");
    life.end(done());
    let news = life.look().news.unwrap();
    assert_eq!((life.status.phase, life.status.observed_generation), (OperationPhase::Complete, Some(1)));
    assert_eq!((news.bad, news.reason), (true, "Changed"));
    assert!(life.reason("Waiting").contains("make another operation"));
    assert_eq!(life.look().news, None, "said once");
    // It is to run at times now.
    life.timing = Timing { schedule: Some("*/5 * * * *".into()), ..timing(Policy::Cron) };
    life.generation = 3;
    assert_eq!(life.look().act, None);
    assert_eq!((life.status.phase, life.status.observed_generation), (OperationPhase::Pending, Some(3)));
    assert_eq!(life.after(300).act, Some(Act::Start { run: 2, attempt: 0 }));
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

#[test]
fn what_an_apiserver_or_a_pod_says_at_length_fits_into_the_status() {
    let long = "ö".repeat(5_000);
    let bounded = |life: &Life| {
        assert!(!life.status.conditions.is_empty());
        life.status.conditions.iter().all(|condition| condition.message.len() <= 1_024)
    };
    for outcome in [Outcome::Failed(long.clone()), Outcome::Hopeless(long.clone())] {
        let mut life = Life::new(timing(Policy::Once));
        life.look();
        life.end(outcome);
        assert!(bounded(&life));
    }
    let mut life = Life::new(timing(Policy::Once));
    life.ready = Err(long);
    life.look();
    assert!(bounded(&life));
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
