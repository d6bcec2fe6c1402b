//! What runs again and again after another that does: ends and beginnings within one second, and clocks that differ.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use super::*;

/// As the apiserver keeps it.
fn kept(status: &OperationStatus) -> OperationStatus {
    serde_json::from_value(serde_json::to_value(status).unwrap()).unwrap()
}

fn plus(time: Timestamp, millis: i64) -> Timestamp {
    time.checked_add(SignedDuration::from_millis(millis)).unwrap()
}

/// One that runs again and again, and last ended well at that time.
fn before(done: Timestamp) -> Vec<Before> {
    let status =
        OperationStatus { last_successful_time: Some(MicroTime(done)), ..OperationStatus::default() };
    vec![Before {
        operation: OperationRef { kind: OperationKind::DataProcess, name: "one".into() },
        policy: Policy::Cron,
        status: Some(kept(&status)),
    }]
}

fn cron() -> Timing {
    Timing { schedule: Some("*/5 * * * *".into()), ..timing(Policy::Cron) }
}

fn on_event() -> Timing {
    Timing { on: vec![Event::NewVersion], ..timing(Policy::OnEvent) }
}

/// Looks at a moment, at what the apiserver has kept.
fn look_at(life: &mut Life, now: Timestamp) -> Option<Act> {
    life.now = now;
    life.status = kept(&life.status);
    life.look().act
}

#[test]
fn an_end_in_the_second_of_the_beginning_is_followed_once() {
    let night = plus(start(), 300_000);
    for policy in [cron(), on_event()] {
        let mut life = Life::new(policy);
        life.look();
        life.events.there = vec![(Event::NewVersion, "1".into())];
        life.before = before(plus(night, 200));
        // 50 ms later, in the same second.
        assert_eq!(look_at(&mut life, plus(night, 250)), Some(Act::Start { run: 1, attempt: 0 }));
        life.outcome = done();
        look_at(&mut life, plus(night, 5_000));
        life.events.there = vec![(Event::NewVersion, "2".into())];
        assert_eq!(look_at(&mut life, plus(night, 300_000)), None, "the night before is not this one");
        assert!(life.reason("Waiting").contains("has not ended well again"), "{}", life.reason("Waiting"));
        life.before = before(plus(night, 310_900));
        assert_eq!(
            look_at(&mut life, plus(night, 310_950)),
            Some(Act::Start { run: 2, attempt: 0 }),
            "without delay"
        );
    }
}

#[test]
fn another_end_in_the_second_of_the_beginning_is_followed_too() {
    let night = plus(start(), 300_000);
    let mut life = Life::new(on_event());
    life.look();
    life.events.there = vec![(Event::NewVersion, "1".into())];
    life.before = before(plus(night, 200));
    assert_eq!(look_at(&mut life, plus(night, 250)), Some(Act::Start { run: 1, attempt: 0 }));
    life.outcome = done();
    look_at(&mut life, plus(night, 800));
    life.before = before(plus(night, 900));
    life.events.there = vec![(Event::NewVersion, "2".into())];
    assert_eq!(look_at(&mut life, plus(night, 950)), Some(Act::Start { run: 2, attempt: 0 }));
    // What an operator of before wrote is in whole seconds: an end in that of the beginning was followed.
    let whole = |time: Timestamp| Timestamp::from_second(time.as_second()).unwrap();
    life.outcome = done();
    look_at(&mut life, plus(night, 1_500));
    life.status.start_time = life.status.start_time.map(|time| MicroTime(whole(time.0)));
    life.before = before(whole(plus(night, 900)));
    life.events.there = vec![(Event::NewVersion, "3".into())];
    assert_eq!(look_at(&mut life, plus(night, 2_000)), None);
    life.before = before(plus(night, 2_100));
    assert_eq!(look_at(&mut life, plus(night, 2_200)), Some(Act::Start { run: 3, attempt: 0 }));
}

#[test]
fn no_beginning_is_earlier_than_the_end_that_it_follows() {
    let night = plus(start(), 300_000);
    let mut life = Life::new(cron());
    // Of who led before, whose clock was ahead.
    life.before = before(plus(night, 8_000));
    life.now = plus(night, 500);
    let decision = life.look();
    assert_eq!((decision.act, decision.look_again), (None, Some(Duration::from_millis(7_500))));
    assert!(life.reason("Waiting").contains("a clock that is ahead"), "{}", life.reason("Waiting"));
    assert_eq!(look_at(&mut life, plus(night, 8_000)), Some(Act::Start { run: 1, attempt: 0 }));
    // What has ended once and for all is followed at any time.
    let mut life = Life::new(timing(Policy::Once));
    life.before = before(plus(start(), 8_000));
    life.before[0].policy = Policy::Once;
    life.before[0].status.as_mut().unwrap().phase = OperationPhase::Complete;
    assert_eq!(look_at(&mut life, start()), Some(Act::Start { run: 1, attempt: 0 }));
}

proptest! {
    /// Each night one ends at some moment; what runs after it is looked at before and after, by clocks that differ, fails
    /// and is tried again: it begins once after each end, and never before.
    #[test]
    fn each_end_is_followed_once(
        nights in proptest::collection::vec((0_i64..3_000, 0_i64..1_500, -8_000_i64..8_000, 0_u8..3), 1..12),
        events in any::<bool>(),
    ) {
        let mut life = Life::new(if events { on_event() } else { cron() });
        life.look();
        let mut ended: Option<Timestamp> = None;
        for (night, (end, look, ahead, failures)) in nights.into_iter().enumerate() {
            let run = i64::try_from(night).unwrap();
            let began = plus(start(), (run + 1) * 300_000);
            life.events.there = vec![(Event::NewVersion, run.to_string())];
            if let Some(ended) = ended {
                life.before = before(ended);
                prop_assert_eq!(look_at(&mut life, began), None, "night {} begins before its end", run);
            }
            let end = plus(began, 10_000 + end);
            ended = Some(plus(end, ahead));
            life.before = before(plus(end, ahead));
            let mut now = plus(end, look);
            let mut act = look_at(&mut life, now);
            if act.is_none() {
                now = plus(now, 8_000);
                act = look_at(&mut life, now);
            }
            prop_assert_eq!(act, Some(Act::Start { run: run + 1, attempt: 0 }));
            for _ in 0..failures {
                life.outcome = failed();
                look_at(&mut life, plus(now, 500));
                life.outcome = Outcome::Absent;
                now = plus(now, 41_000);
                prop_assert!(look_at(&mut life, now).is_some(), "a new try");
            }
            life.outcome = done();
            look_at(&mut life, plus(now, 1_000));
            prop_assert_eq!(look_at(&mut life, plus(now, 2_000)), None);
        }
    }
}
