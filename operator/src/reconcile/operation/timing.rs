//! When an operation starts, ends, is tried again and goes. Pure: time comes in.
//!
//! A run is written into the status before it is started, with its number: whoever leads next starts the same
//! run under the same name, and what is there already is not started twice.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use operator_api::crd::common::set_condition;
use operator_api::crd::operation::{
    OperationPhase, OperationRef, OperationStatus, Policy, Progress, ServedEvent, Timing, condition,
};
use operator_api::validate::schedule::Schedule;

use super::events::{Happened, count_from_here, is_another};
use crate::reconcile::sentence::{MOST, bounded};

/// Tries after the first, unless the operation says otherwise.
pub const BACKOFF_LIMIT: i32 = 3;

/// The wait before the first new try, and the longest: as a Job's pods have it.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LONGEST_BACKOFF: Duration = Duration::from_secs(360);

/// Seconds after which a run that has not ended has failed, unless the operation says otherwise.
pub const DEADLINE: i64 = 86_400;

/// How often what cannot be watched (events, a run's progress) is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Scheduled times looked at one by one; an operator that was away longer serves the present one.
const MAX_MISSED: usize = 128;

/// A time that lies further ahead is looked at again before: clocks change.
const LONGEST_SLEEP: Duration = Duration::from_secs(600);

/// What has become of the run that the status speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody has begun it.
    Absent,
    Running(Progress),
    Succeeded(Progress),
    Failed(String),
    /// As failed, and another try would be no better.
    Hopeless(String),
}

impl Outcome {
    pub fn has_ended(&self) -> bool {
        match self {
            Self::Absent | Self::Running(_) => false,
            Self::Succeeded(_) | Self::Failed(_) | Self::Hopeless(_) => true,
        }
    }
}

/// An operation to run after.
#[derive(Clone, Debug, PartialEq)]
pub struct Before {
    pub operation: OperationRef,
    pub policy: Policy,
    /// None: it is not there.
    pub status: Option<OperationStatus>,
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    pub timing: &'a Timing,
    pub status: OperationStatus,
    pub generation: Option<i64>,
    pub created: Timestamp,
    pub before: Vec<Before>,
    /// Another operation runs after this one, and may yet ask how it ended.
    pub awaited: bool,
    pub events: Happened,
    /// What speaks against the operation as it is written.
    pub invalid: Option<String>,
    /// What is needed to start; a sentence where it is not there.
    pub ready: Result<(), String>,
    /// What a run under way cannot go on without; a sentence where it is gone for good.
    pub lost: Option<String>,
    pub outcome: Outcome,
    pub now: Timestamp,
}

/// What to do after the status was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Start {
        run: i64,
        attempt: i32,
    },
    Stop {
        run: i64,
        attempt: i32,
    },
    /// Its time after the end is over.
    Delete,
}

/// What a person should hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    pub bad: bool,
    pub reason: &'static str,
    pub note: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub status: OperationStatus,
    pub act: Option<Act>,
    pub look_again: Option<Duration>,
    pub news: Option<News>,
}

/// The wait before try number `failures` + 1.
pub fn backoff(failures: i32) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(0).min(16);
    FIRST_BACKOFF.saturating_mul(1 << doublings).min(LONGEST_BACKOFF)
}

pub fn decide(seen: &Seen<'_>) -> Decision {
    let mut status = seen.status.clone();
    // It may come again, also where it was over while a run was under way.
    status.served_events.retain(|served| !seen.events.over.contains(&served.event));
    let decision = Decision { status, act: None, look_again: None, news: None };
    match seen.status.phase {
        // What is under way is of the spec that it was begun with.
        OperationPhase::Executing => running(seen, decision),
        OperationPhase::Complete | OperationPhase::Failed if seen.timing.policy == Policy::Once => {
            over(seen, decision)
        }
        // One that was to run once, and now is to run again.
        OperationPhase::Pending | OperationPhase::Complete | OperationPhase::Failed => {
            pending(seen, decision)
        }
    }
}

fn over(seen: &Seen<'_>, mut decision: Decision) -> Decision {
    let answered = seen.status.observed_generation;
    if answered.is_some() && answered != seen.generation {
        let had = decision.status.conditions.clone();
        let note = "its spec was changed after its run had begun, and that change is not run: make another operation; \
                    ttlSecondsAfterFinished alone still counts";
        say(seen, &mut decision.status, condition::WAITING, true, "Changed", note.into());
        if decision.status.conditions != had {
            decision.news = Some(News { bad: true, reason: "Changed", note: note.into() });
        }
    }
    // Who runs after it would wait for ever for one that has gone.
    if seen.awaited {
        decision.look_again = seen.timing.ttl_seconds_after_finished.map(|_| LOOK);
        return decision;
    }
    let Some(ttl) = seen.timing.ttl_seconds_after_finished else { return decision };
    let ended = seen.status.completion_time.as_ref().map_or(seen.now, |time| time.0);
    match until(add(ended, ttl), seen.now) {
        None => decision.act = Some(Act::Delete),
        Some(wait) => decision.look_again = Some(wait),
    }
    decision
}

fn running(seen: &Seen<'_>, mut decision: Decision) -> Decision {
    let (run, attempt) = (seen.status.run, seen.status.failures);
    let began = seen.status.start_time.as_ref().map_or(seen.now, |time| time.0);
    if let Some(why) = &seen.lost {
        decision.act = Some(Act::Stop { run, attempt });
        return give_up(seen, decision, began, why.clone());
    }
    let deadline = seen.timing.active_deadline_seconds.unwrap_or(DEADLINE);
    let left = until(add(began, deadline), seen.now);
    match (&seen.outcome, left) {
        // What cannot be begun ends too.
        (Outcome::Absent | Outcome::Running(_), None) => {
            decision.act = Some(Act::Stop { run, attempt });
            let why = format!("it did not end within {deadline} s and was stopped");
            return failed(seen, decision, began, why);
        }
        (Outcome::Absent, Some(left)) => {
            decision.look_again = Some(left.min(LOOK));
            // As it is begun: not with fewer nodes than it is for, nor another version.
            decision.act = seen.ready.is_ok().then_some(Act::Start { run, attempt });
            let (waits, why) = (seen.ready.is_err(), seen.ready.clone().err().unwrap_or_default());
            let reason = if waits { "NotReady" } else { "Started" };
            say(seen, &mut decision.status, condition::WAITING, waits, reason, why);
        }
        (Outcome::Running(progress), Some(left)) => {
            decision.look_again = Some(left.min(LOOK));
            decision.status.progress = Some(progress.clone());
        }
        (Outcome::Succeeded(progress), _) => return succeeded(seen, decision, began, progress.clone()),
        (Outcome::Failed(why), _) => return failed(seen, decision, began, why.clone()),
        (Outcome::Hopeless(why), _) => return hopeless(seen, decision, began, why),
    }
    decision
}

/// Ends the run whatever tries were left: waiting would only hide what a person has to change.
fn hopeless(seen: &Seen<'_>, mut decision: Decision, began: Timestamp, why: &str) -> Decision {
    decision.status.failures = seen.status.failures.saturating_add(1);
    give_up(seen, decision, began, format!("{why}; trying again would not help, and it is not tried again"))
}

fn succeeded(seen: &Seen<'_>, mut decision: Decision, began: Timestamp, progress: Progress) -> Decision {
    let status = &mut decision.status;
    status.progress = Some(progress);
    status.failures = 0;
    status.last_successful_time = Some(MicroTime(seen.now));
    ended(status, began, seen.now);
    status.phase =
        if seen.timing.policy == Policy::Once { OperationPhase::Complete } else { OperationPhase::Pending };
    let note = format!("run {} is done, after {}", status.run, status.duration.clone().unwrap_or_default());
    say(seen, status, condition::COMPLETE, true, "Done", note.clone());
    say(seen, status, condition::FAILED, false, "Done", String::new());
    decision.news = Some(News { bad: false, reason: "Complete", note });
    decision.look_again = Some(Duration::ZERO);
    decision
}

fn failed(seen: &Seen<'_>, mut decision: Decision, began: Timestamp, why: String) -> Decision {
    let failures = seen.status.failures.saturating_add(1);
    if failures > seen.timing.backoff_limit.unwrap_or(BACKOFF_LIMIT) {
        decision.status.failures = failures;
        return give_up(seen, decision, began, why);
    }
    let wait = backoff(failures);
    let status = &mut decision.status;
    status.failures = failures;
    status.phase = OperationPhase::Pending;
    status.next_attempt_time = Some(Time(add(seen.now, wait.as_secs() as i64)));
    let note = format!("try {failures} failed: {why}; it is tried again in {} s", wait.as_secs());
    say(seen, status, condition::WAITING, true, "BackOff", note.clone());
    decision.news = Some(News { bad: true, reason: "BackOff", note });
    decision.look_again = Some(wait);
    decision
}

fn give_up(seen: &Seen<'_>, mut decision: Decision, began: Timestamp, why: String) -> Decision {
    let status = &mut decision.status;
    ended(status, began, seen.now);
    status.phase =
        if seen.timing.policy == Policy::Once { OperationPhase::Failed } else { OperationPhase::Pending };
    let note = format!("run {} is given up: {why}", status.run);
    say(seen, status, condition::FAILED, true, "GivenUp", note.clone());
    say(seen, status, condition::COMPLETE, false, "GivenUp", String::new());
    say(seen, status, condition::WAITING, false, "GivenUp", String::new());
    status.failures = if status.phase == OperationPhase::Failed { status.failures } else { 0 };
    decision.news = Some(News { bad: true, reason: "Failed", note });
    decision.look_again = Some(LOOK);
    decision
}

fn ended(status: &mut OperationStatus, began: Timestamp, now: Timestamp) {
    status.completion_time = Some(Time(now));
    status.next_attempt_time = None;
    status.duration = Some(words(now.duration_since(began)));
}

fn pending(seen: &Seen<'_>, mut decision: Decision) -> Decision {
    decision.status.observed_generation = seen.generation;
    decision.status.phase = OperationPhase::Pending;
    count_from_here(&seen.timing.on, &seen.events, &mut decision.status.served_events);
    if seen.timing.suspend {
        return wait(seen, decision, "Suspended", "suspend is set: take it out to go on".into(), None);
    }
    if let Some(why) = &seen.invalid {
        return wait(seen, decision, "Invalid", why.clone(), Some(LOOK));
    }
    if let Some(next) = &seen.status.next_attempt_time {
        if let Some(left) = until(next.0, seen.now) {
            decision.look_again = Some(left.min(LONGEST_SLEEP));
            return decision;
        }
        if let Some(left) = until_those_ends(seen) {
            decision.look_again = Some(left.min(LONGEST_SLEEP));
            return decision;
        }
        return match &seen.ready {
            Ok(()) => begin(seen, decision, seen.status.run),
            Err(why) => wait(seen, decision, "NotReady", why.clone(), Some(LOOK)),
        };
    }
    // What waits is not yet served.
    let unserved = decision.clone();
    let due = match seen.timing.policy {
        Policy::Once => Due::Now,
        Policy::Cron => cron(seen, &mut decision.status),
        Policy::OnEvent => event(seen, &mut decision.status),
    };
    match due {
        Due::Never(why) => return wait(seen, decision, "NoTime", why, None),
        Due::At(time) => {
            let left = until(time, seen.now).unwrap_or(LOOK);
            return wait(
                seen,
                decision,
                "Scheduled",
                format!("the next run is at {time}"),
                Some(left.min(LONGEST_SLEEP)),
            );
        }
        Due::Event => {
            return wait(
                seen,
                decision,
                "NoEvent",
                "none of the events in on has happened since it was made, or since the last of them that it ran on".into(),
                Some(LOOK),
            );
        }
        Due::Now => {}
    }
    if let Some(why) = after(seen) {
        return wait(seen, unserved, "RunAfter", why, Some(LONGEST_SLEEP));
    }
    if let Some(left) = until_those_ends(seen) {
        let why = "what it runs after has ended well by a clock that is ahead of this one: it begins when that time has come";
        return wait(seen, unserved, "RunAfter", why.into(), Some(left.min(LONGEST_SLEEP)));
    }
    if let Err(why) = &seen.ready {
        return wait(seen, unserved, "NotReady", why.clone(), Some(LOOK));
    }
    let run = seen.status.run.saturating_add(1);
    begin(seen, decision, run)
}

enum Due {
    Now,
    At(Timestamp),
    Event,
    Never(String),
}

/// Serves the last scheduled time that has come; earlier ones that were missed are not made up for.
fn cron(seen: &Seen<'_>, status: &mut OperationStatus) -> Due {
    let text = seen.timing.schedule.as_deref().unwrap_or_default();
    let schedule = match Schedule::parse(text, seen.timing.time_zone.as_deref()) {
        Ok(schedule) => schedule,
        Err(error) => return Due::Never(error.to_string()),
    };
    let mut from = seen.status.last_schedule_time.as_ref().map_or(seen.created, |time| time.0);
    let mut due = None;
    for looked in 0.. {
        let Some(next) = schedule.next(from) else {
            return due
                .map_or_else(|| Due::Never(format!("schedule '{text}' has no next time")), |_| Due::Now);
        };
        if next > seen.now {
            if due.is_none() {
                return Due::At(next);
            }
            break;
        }
        due = Some(next);
        from = next;
        if looked >= MAX_MISSED {
            due = Some(seen.now);
            break;
        }
    }
    status.last_schedule_time = due.map(Time);
    Due::Now
}

/// Serves every event that is there and was not served.
fn event(seen: &Seen<'_>, status: &mut OperationStatus) -> Due {
    let mut new = false;
    for (event, mark) in seen.events.there.iter().filter(|(event, _)| seen.timing.on.contains(event)) {
        match status.served_events.iter_mut().find(|served| served.event == *event) {
            Some(served) if !is_another(served, mark) => {}
            Some(served) => {
                served.mark.clone_from(mark);
                new = true;
            }
            None => {
                status.served_events.push(ServedEvent { event: *event, mark: mark.clone() });
                new = true;
            }
        }
    }
    if new { Due::Now } else { Due::Event }
}

/// Why it has to wait for an operation before it. Each must have ended well since this one last began; one that runs once has
/// when it has ended well at all.
///
/// This one mostly begins in the second in which the one before it has ended, so times are kept in microseconds: whoever sees
/// an end and begins is later by more. Those that an operator of before wrote are in whole seconds, and an end in the second
/// of the beginning then is the one that was followed.
fn after(seen: &Seen<'_>) -> Option<String> {
    let last = seen.status.start_time.as_ref().map(|time| time.0.as_microsecond());
    seen.before.iter().find_map(|before| {
        let name = format!("{} {}", before.operation.kind.name(), before.operation.name);
        let Some(status) = &before.status else {
            return Some(format!("{name}, which it runs after, does not exist yet"));
        };
        let done = status.last_successful_time.as_ref().map(|time| time.0.as_microsecond());
        match (done, last) {
            (Some(done), Some(last)) if done > last => None,
            (Some(_), None) => None,
            (Some(_), Some(_)) if is_done_for_good(before, status) => None,
            (Some(_), Some(_)) => Some(format!(
                "{name}, which it runs after, has not ended well again since this one last began"
            )),
            _ if status.phase == OperationPhase::Failed => Some(format!(
                "{name}, which it runs after, has failed: make it anew, or take it out of runAfter"
            )),
            _ => Some(format!("{name}, which it runs after, is not complete")),
        }
    })
}

/// How long until no end before it is still to come by this clock. Whoever led before may have had one that is some
/// seconds ahead, and a beginning that is earlier than the end it follows would take that for another at its next time.
/// A new try asks too: what counts for the next time is when the last of them began.
fn until_those_ends(seen: &Seen<'_>) -> Option<Duration> {
    let ends = seen.before.iter().filter_map(|before| {
        let status = before.status.as_ref().filter(|status| !is_done_for_good(before, status))?;
        until(status.last_successful_time.as_ref()?.0, seen.now)
    });
    ends.max()
}

fn is_done_for_good(before: &Before, status: &OperationStatus) -> bool {
    before.policy == Policy::Once && status.phase == OperationPhase::Complete
}

fn begin(seen: &Seen<'_>, mut decision: Decision, run: i64) -> Decision {
    let status = &mut decision.status;
    if run != status.run {
        status.failures = 0;
    }
    status.run = run;
    status.phase = OperationPhase::Executing;
    status.start_time = Some(MicroTime(seen.now));
    status.completion_time = None;
    status.next_attempt_time = None;
    status.duration = None;
    status.progress = Some(Progress { percentage: "Unknown".into(), ..Progress::default() });
    say(seen, status, condition::WAITING, false, "Started", String::new());
    let attempt = status.failures;
    decision.act = Some(Act::Start { run, attempt });
    decision.look_again = Some(LOOK);
    decision
}

fn wait(
    seen: &Seen<'_>,
    mut decision: Decision,
    reason: &'static str,
    why: String,
    look_again: Option<Duration>,
) -> Decision {
    say(seen, &mut decision.status, condition::WAITING, true, reason, why);
    decision.look_again = look_again;
    decision
}

/// Sets a condition; a false one only where there was one.
fn say(seen: &Seen<'_>, status: &mut OperationStatus, type_: &str, is: bool, reason: &str, message: String) {
    if !is && !status.conditions.iter().any(|condition| condition.type_ == type_) {
        return;
    }
    let condition = Condition {
        type_: type_.into(),
        status: if is { "True" } else { "False" }.into(),
        reason: reason.into(),
        message: bounded(&message, MOST),
        observed_generation: status.observed_generation,
        last_transition_time: Time(seen.now),
    };
    set_condition(&mut status.conditions, condition);
}

fn add(time: Timestamp, seconds: i64) -> Timestamp {
    time.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// How long until then; none when it has come.
fn until(time: Timestamp, now: Timestamp) -> Option<Duration> {
    Duration::try_from(time.duration_since(now)).ok().filter(|left| !left.is_zero())
}

/// `2m10s`.
pub fn words(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m"),
    }
}
