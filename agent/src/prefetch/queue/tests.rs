//! The queue against a clock that only moves when told.

use super::*;
use crate::prefetch::task::What;
use agent_core::{Door, Extent};
use proptest::prelude::*;

const BOUNDS: Bounds =
    Bounds { orders: 8, depth: 2, depth_max: 4, lists: 1, lists_in_all: 2, life: Nanos(100), stuck: 2 };

fn fetch(mount: u32, name: u64) -> Task {
    let what = What::Fetch { file: None, door: Door::Open, extent: Extent::Whole { limit: 1 } };
    Task { mount: MountId(mount), path: name.to_string().into_bytes().into(), via: 0, what }
}

fn list(mount: u32, name: u64) -> Task {
    Task { what: What::List { limit: 1 }, ..fetch(mount, name) }
}

fn submit(queue: &mut Queue, id: u64, task: Task, deadline: u64) -> Option<Outcome> {
    queue.submit(OrderId(id), task, Nanos(deadline), Nanos(0)).map(|answer| answer.ending.outcome())
}

fn names(queue: &mut Queue) -> Vec<String> {
    let started = std::iter::from_fn(|| queue.start(Nanos(0)));
    started.map(|started| String::from_utf8_lossy(&started.task.path).into_owned()).collect()
}

fn ids(answers: &mut Vec<Answer>) -> Vec<(u64, Outcome)> {
    answers.drain(..).map(|answer| (answer.id.0, answer.ending.outcome())).collect()
}

#[test]
fn depth_is_a_mounts_own_and_listings_have_their_own_bound() {
    let mut queue = Queue::new(BOUNDS);
    for (id, mount, deadline) in [(1, 1, 30), (2, 1, 20), (3, 1, 10), (4, 2, 15)] {
        assert_eq!(submit(&mut queue, id, fetch(mount, id), deadline), None);
    }
    for id in [5, 6, 7] {
        assert_eq!(submit(&mut queue, id, list(3, id), 0), None);
    }
    assert_eq!(queue.startable(), 4);
    assert_eq!(names(&mut queue), ["5", "3", "4", "2"]);
    assert_eq!(queue.load(), Load { queued: 3, in_flight: 4, stuck: 0 });
    queue.set_depth(MountId(1), 1000);
    assert_eq!(names(&mut queue), ["1"]);
    assert_eq!(submit(&mut queue, 8, fetch(2, 8), 0), None);
    assert_eq!(submit(&mut queue, 9, fetch(2, 9), 0), Some(Outcome::Dropped), "the queue is full");
}

#[test]
fn a_mount_that_has_gone_leaves_nothing_behind() {
    let mut queue = Queue::new(BOUNDS);
    let mut answers = Vec::new();
    for (id, mount) in [(1, 1), (2, 2)] {
        assert_eq!(submit(&mut queue, id, fetch(mount, id), id), None);
    }
    let running: Vec<Started> = std::iter::from_fn(|| queue.start(Nanos(0))).collect();
    queue.forget(MountId(1), &mut answers);
    assert_eq!(queue.lanes.len(), 2, "its task runs still");
    // What is asked of it now would wait in a lane that nobody looks into; that is not its store's failing.
    assert_eq!(submit(&mut queue, 3, fetch(1, 3), 3), Some(Outcome::Dropped));
    queue.set_depth(MountId(2), 2);
    for started in running {
        queue.finish(started.ticket, Ending::of(Outcome::Dropped), &mut answers);
    }
    assert!(queue.lanes.keys().eq([&MountId(2)]));
}

#[test]
fn the_stuck_are_answered_once_and_a_mount_of_them_left_alone() {
    let mut queue = Queue::new(BOUNDS);
    let mut answers = Vec::new();
    queue.set_depth(MountId(1), 3);
    for id in 1..=4 {
        assert_eq!(submit(&mut queue, id, fetch(1, id), id), None);
    }
    let started: Vec<Started> = std::iter::from_fn(|| queue.start(Nanos(50))).collect();
    assert_eq!(started.len(), 3);
    queue.expire(Nanos(149), &mut answers);
    assert_eq!(ids(&mut answers), [(4, Outcome::Dropped)], "it has waited for longer than its life");
    assert!(queue.submit(OrderId(5), fetch(1, 5), Nanos(5), Nanos(149)).is_none());
    queue.expire(Nanos(150), &mut answers);
    let mut told = ids(&mut answers);
    told.sort_by_key(|(id, _)| *id);
    assert_eq!(told, [1, 2, 3, 5].map(|id| (id, Outcome::Failed)));
    assert!(started.iter().all(|started| started.leash.is_stopped()));
    assert_eq!(submit(&mut queue, 6, fetch(1, 6), 6), Some(Outcome::Failed));
    assert_eq!(submit(&mut queue, 7, fetch(2, 7), 7), None);
    for (returned, alone) in [(0, true), (1, false)] {
        queue.finish(started[returned].ticket, Ending::of(Outcome::Done), &mut answers);
        assert_eq!(ids(&mut answers), []);
        assert_eq!(submit(&mut queue, 10, fetch(1, 10), 6).is_some(), alone);
    }
    assert_eq!(queue.load().stuck, 1);
}

#[test]
fn what_goes_on_lives_and_what_has_no_time_waits() {
    let mut queue = Queue::new(BOUNDS);
    let mut answers = Vec::new();
    for (id, deadline) in [(1, 1), (2, 2), (3, u64::MAX), (4, 4)] {
        assert_eq!(submit(&mut queue, id, fetch(1, id), deadline), None);
    }
    let started: Vec<Started> = std::iter::from_fn(|| queue.start(Nanos(0))).collect();
    assert_eq!(started.len(), 2);
    for (now, told) in [(90, vec![]), (180, vec![(4, Outcome::Dropped), (2, Outcome::Failed)]), (270, vec![])]
    {
        started[0].leash.step();
        queue.expire(Nanos(now), &mut answers);
        assert_eq!(ids(&mut answers), told, "at {now}");
    }
    queue.expire(Nanos(369), &mut answers);
    assert_eq!(ids(&mut answers), []);
    assert_eq!(names(&mut queue), ["3"], "what nobody waits for is not stale");
    queue.expire(Nanos(370), &mut answers);
    let mut told = ids(&mut answers);
    told.sort_by_key(|(id, _)| *id);
    assert_eq!(told, [(1, Outcome::Failed), (3, Outcome::Failed)], "they go on no more");
}

#[test]
fn one_of_two_like_orders_may_be_cancelled() {
    let mut queue = Queue::new(BOUNDS);
    let mut answers = Vec::new();
    submit(&mut queue, 1, fetch(1, 1), 1);
    submit(&mut queue, 2, fetch(1, 1), 2);
    let started = queue.start(Nanos(0)).expect("a task");
    submit(&mut queue, 3, fetch(1, 1), 3);
    assert!(queue.start(Nanos(0)).is_none());
    queue.cancel(OrderId(1), &mut answers);
    assert_eq!(ids(&mut answers), [(1, Outcome::Dropped)]);
    assert!(!started.leash.is_stopped());
    queue.cancel(OrderId(2), &mut answers);
    queue.cancel(OrderId(3), &mut answers);
    assert_eq!(ids(&mut answers), [(2, Outcome::Dropped)]);
    assert!(started.leash.is_stopped(), "nobody wants it any more");
    assert_eq!(submit(&mut queue, 4, fetch(1, 1), 3), None);
    assert!(queue.start(Nanos(0)).is_some(), "a stopped one is no twin");
    queue.finish(started.ticket, Ending::of(Outcome::Dropped), &mut answers);
    assert_eq!(ids(&mut answers), [(3, Outcome::Dropped)]);
}

#[derive(Clone, Debug)]
enum Step {
    Submit { name: u64, mount: u32, list: bool, deadline: u64 },
    Cancel(u64),
    Start,
    Finish(usize),
    GoOn(usize),
    Pass(u64),
    Depth { mount: u32, fetches: u32 },
    Forget(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6u64, 0..3u32, any::<bool>(), prop_oneof![3 => 0..50u64, 1 => Just(u64::MAX)])
            .prop_map(|(name, mount, list, deadline)| Step::Submit { name, mount, list, deadline }),
        1 => (0..60u64).prop_map(Step::Cancel),
        4 => Just(Step::Start),
        3 => (0..8usize).prop_map(Step::Finish),
        2 => (0..8usize).prop_map(Step::GoOn),
        1 => (0..60u64).prop_map(Step::Pass),
        1 => (0..3u32, 0..6u32).prop_map(|(mount, fetches)| Step::Depth { mount, fetches }),
        1 => (0..3u32).prop_map(Step::Forget),
    ]
}

proptest! {
    #[test]
    fn every_order_is_answered_exactly_once(steps in prop::collection::vec(step(), 0..200)) {
        let mut queue = Queue::new(BOUNDS);
        let (mut answers, mut running, mut now, mut next) = (Vec::new(), Vec::new(), 0, 0);
        for step in steps {
            match step {
                Step::Submit { name, mount, list: is_list, deadline } => {
                    let task = if is_list { list(mount, name) } else { fetch(mount, name) };
                    answers.extend(queue.submit(OrderId(next), task, Nanos(deadline), Nanos(now)));
                    next += 1;
                }
                Step::Cancel(id) => queue.cancel(OrderId(id), &mut answers),
                Step::Start => {
                    let could = queue.startable();
                    let started = queue.start(Nanos(now));
                    prop_assert!(started.is_none() || could > 0);
                    running.extend(started);
                }
                Step::Finish(which) if which < running.len() => {
                    let started: Started = running.swap_remove(which);
                    queue.finish(started.ticket, Ending::of(Outcome::Done), &mut answers);
                }
                Step::Finish(_) => {}
                Step::GoOn(which) => {
                    if let Some(started) = running.get(which) {
                        started.leash.step();
                    }
                }
                Step::Pass(time) => {
                    now += time;
                    queue.expire(Nanos(now), &mut answers);
                }
                Step::Depth { mount, fetches } => queue.set_depth(MountId(mount), fetches),
                Step::Forget(mount) => queue.forget(MountId(mount), &mut answers),
            }
            let load = queue.load();
            prop_assert_eq!(load.in_flight + load.stuck, running.len());
        }
        for started in running {
            queue.finish(started.ticket, Ending::of(Outcome::Done), &mut answers);
        }
        queue.expire(Nanos(now + 1000), &mut answers);
        // What has no time waits for as long as its mount is there.
        for mount in 0..3 {
            queue.forget(MountId(mount), &mut answers);
        }
        prop_assert_eq!(queue.load(), Load::default());
        let mut told: Vec<u64> = answers.iter().map(|answer| answer.id.0).collect();
        told.sort_unstable();
        prop_assert_eq!(told, (0..next).collect::<Vec<u64>>());
    }
}
