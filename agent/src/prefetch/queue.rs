//! What is to be done next: orders wait here by deadline, run within their mount's depth, and are answered
//! once. Pure: no thread, no clock; `crew` holds it under a lock.
//!
//! A task that has not gone on for its life is answered `Failed` although its thread is still inside the kernel: it
//! stays as stuck, and a mount with too many of those is left alone until half of them have come back.

mod lane;

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use agent_core::{MountId, Nanos, OrderId, Outcome};
use rustc_hash::{FxHashMap, FxHasher};

use super::task::{Ending, Leash, Task};
use lane::{Job, Lane, State};

/// Bounds, all of them hard.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Orders taken in and not yet answered.
    pub orders: usize,
    /// Fetches under way at a mount until an order says otherwise, and at most.
    pub depth: u32,
    pub depth_max: u32,
    /// Listings under way at a mount, and in all.
    pub lists: u32,
    pub lists_in_all: u32,
    /// How long a task may run without going on, and how long an order that has a time may wait before it is stale.
    pub life: Nanos,
    /// Stuck tasks at which a mount is left alone.
    pub stuck: u32,
}

/// The deadline of what nobody waits for.
pub const NO_TIME: Nanos = Nanos(u64::MAX);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// A task handed to a thread.
#[derive(Clone, Debug)]
pub struct Started {
    pub ticket: Ticket,
    pub task: Arc<Task>,
    /// On which it tells that it goes on, and hears that nobody wants it any more.
    pub leash: Arc<Leash>,
}

/// An order with its end, to be told to the core.
#[derive(Debug)]
pub struct Answer {
    pub id: OrderId,
    pub task: Arc<Task>,
    pub ending: Ending,
}

/// Counts of what is here now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub queued: usize,
    pub in_flight: usize,
    pub stuck: usize,
}

#[derive(Debug)]
pub struct Queue {
    bounds: Bounds,
    jobs: FxHashMap<Ticket, Job>,
    by_order: FxHashMap<OrderId, Ticket>,
    alike: FxHashMap<u64, Vec<Ticket>>,
    lanes: FxHashMap<MountId, Lane>,
    /// Arrival, for staleness; entries of jobs that are gone are skipped.
    arrivals: VecDeque<(Nanos, Ticket)>,
    load: Load,
    listing: u32,
    next: u64,
}

impl Queue {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            jobs: FxHashMap::default(),
            by_order: FxHashMap::default(),
            alike: FxHashMap::default(),
            lanes: FxHashMap::default(),
            arrivals: VecDeque::new(),
            load: Load::default(),
            listing: 0,
            next: 0,
        }
    }

    pub fn load(&self) -> Load {
        self.load
    }

    /// Takes an order in, or answers it at once. An order like one that waits or runs joins it.
    pub fn submit(&mut self, id: OrderId, task: Task, deadline: Nanos, now: Nanos) -> Option<Answer> {
        let refused = |task, outcome| Some(Answer { id, task: Arc::new(task), ending: Ending::of(outcome) });
        let lane = self.lanes.entry(task.mount).or_default();
        if lane.forgotten {
            return refused(task, Outcome::Dropped);
        }
        if lane.left_alone {
            return refused(task, Outcome::Failed);
        }
        if self.by_order.len() >= self.bounds.orders || self.by_order.contains_key(&id) {
            return refused(task, Outcome::Dropped);
        }
        let alike = likeness(&task);
        let twins = self.alike.get(&alike).map(Vec::as_slice).unwrap_or_default();
        let twin = twins.iter().find(|twin| {
            let job = self.jobs.get(twin);
            job.is_some_and(|job| job.wanted() && job.task.same(&task))
        });
        if let Some(&ticket) = twin {
            self.by_order.insert(id, ticket);
            if let Some(job) = self.jobs.get_mut(&ticket) {
                job.orders.push(id);
                if deadline < job.deadline && matches!(job.state, State::Waiting) && !task.is_list() {
                    job.deadline = deadline;
                    lane.fetches.push(Reverse((deadline, ticket)));
                }
            }
            return None;
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        if task.is_list() {
            lane.lists.push_back(ticket);
        } else {
            lane.fetches.push(Reverse((deadline, ticket)));
        }
        // An instruction's, which nobody waits for: it may stand behind readers for as long as they go on.
        if deadline != NO_TIME {
            self.arrivals.push_back((now, ticket));
        }
        self.by_order.insert(id, ticket);
        self.alike.entry(alike).or_default().push(ticket);
        self.load.queued += 1;
        let job = Job { task: Arc::new(task), alike, orders: vec![id], deadline, state: State::Waiting };
        self.jobs.insert(ticket, job);
        None
    }

    pub fn set_depth(&mut self, mount: MountId, fetches: u32) {
        let depth = fetches.min(self.bounds.depth_max);
        self.lanes.entry(mount).or_default().depth = Some(depth);
    }

    /// The next task that may start: listings first (what they find is fetched after them), then the fetch
    /// with the earliest deadline among the mounts that have room.
    pub fn start(&mut self, now: Nanos) -> Option<Started> {
        let ticket = self.next_list().or_else(|| self.next_fetch())?;
        let job = self.jobs.get_mut(&ticket)?;
        let lane = self.lanes.entry(job.task.mount).or_default();
        if job.task.is_list() {
            lane.listing += 1;
            self.listing += 1;
        } else {
            lane.fetching += 1;
        }
        let leash = Arc::new(Leash::default());
        job.state = State::Running { since: now, steps: 0, leash: Arc::clone(&leash) };
        self.load.queued -= 1;
        self.load.in_flight += 1;
        Some(Started { ticket, task: Arc::clone(&job.task), leash })
    }

    fn next_list(&mut self) -> Option<Ticket> {
        if self.listing >= self.bounds.lists_in_all {
            return None;
        }
        let Self { jobs, lanes, bounds, .. } = self;
        lanes.values_mut().find_map(|lane| {
            if lane.left_alone || lane.listing >= bounds.lists {
                return None;
            }
            while let Some(ticket) = lane.lists.pop_front() {
                if jobs.get(&ticket).is_some_and(Job::waits) {
                    return Some(ticket);
                }
            }
            None
        })
    }

    fn next_fetch(&mut self) -> Option<Ticket> {
        let Self { jobs, lanes, bounds, .. } = self;
        let mut best: Option<(Nanos, Ticket, &mut Lane)> = None;
        for lane in lanes.values_mut() {
            if lane.left_alone || lane.fetching >= lane.depth.unwrap_or(bounds.depth) {
                continue;
            }
            while let Some(&Reverse((deadline, ticket))) = lane.fetches.peek() {
                // Cancelled, or waiting under an earlier deadline too.
                if jobs.get(&ticket).is_some_and(|job| job.waits() && job.deadline == deadline) {
                    break;
                }
                lane.fetches.pop();
            }
            if let Some(&Reverse((deadline, ticket))) = lane.fetches.peek()
                && best.as_ref().is_none_or(|(other, than, _)| (deadline, ticket) < (*other, *than))
            {
                best = Some((deadline, ticket, lane));
            }
        }
        let (_, ticket, lane) = best?;
        lane.fetches.pop();
        Some(ticket)
    }

    /// How many tasks could start now; no less than `start` would find.
    pub fn startable(&self) -> usize {
        let Self { lanes, bounds, .. } = self;
        let lists_left = bounds.lists_in_all.saturating_sub(self.listing) as usize;
        let open = lanes.values().filter(|lane| !lane.left_alone);
        let places = open.map(|lane| {
            let lists = bounds.lists.saturating_sub(lane.listing) as usize;
            let fetches = lane.depth.unwrap_or(bounds.depth).saturating_sub(lane.fetching) as usize;
            lane.lists.len().min(lists).min(lists_left) + lane.fetches.len().min(fetches)
        });
        places.sum::<usize>().min(self.load.queued)
    }

    /// A thread has come back with a task.
    pub fn finish(&mut self, ticket: Ticket, ending: Ending, answers: &mut Vec<Answer>) {
        let Some(job) = self.jobs.get(&ticket) else { return };
        let mount = job.task.mount;
        match job.state {
            State::Waiting => return,
            State::Running { .. } => self.leave_running(ticket),
            State::Stuck => {
                self.load.stuck -= 1;
                let lane = self.lanes.entry(job.task.mount).or_default();
                lane.stuck = lane.stuck.saturating_sub(1);
                if lane.stuck <= self.bounds.stuck / 2 {
                    lane.left_alone = false;
                }
            }
        }
        self.end(ticket, ending, answers);
        self.tidy(mount);
    }

    fn leave_running(&mut self, ticket: Ticket) {
        let Some(job) = self.jobs.get(&ticket) else { return };
        self.load.in_flight -= 1;
        let lane = self.lanes.entry(job.task.mount).or_default();
        if job.task.is_list() {
            lane.listing = lane.listing.saturating_sub(1);
            self.listing = self.listing.saturating_sub(1);
        } else {
            lane.fetching = lane.fetching.saturating_sub(1);
        }
    }

    /// Removes a job and answers all who wanted it.
    fn end(&mut self, ticket: Ticket, mut ending: Ending, answers: &mut Vec<Answer>) {
        self.unlike(ticket);
        let Some(job) = self.jobs.remove(&ticket) else {
            return;
        };
        for id in job.orders {
            self.by_order.remove(&id);
            answers.push(Answer { id, task: Arc::clone(&job.task), ending: ending.clone() });
            // The store was asked once.
            ending.bytes = 0;
        }
    }

    fn unlike(&mut self, ticket: Ticket) {
        let Some(job) = self.jobs.get(&ticket) else { return };
        if let Some(twins) = self.alike.get_mut(&job.alike) {
            twins.retain(|twin| *twin != ticket);
            if twins.is_empty() {
                self.alike.remove(&job.alike);
            }
        }
    }

    /// Withdraws an order. One that waits is answered here; one that runs alone is told to stop and answers
    /// when its thread comes back.
    pub fn cancel(&mut self, id: OrderId, answers: &mut Vec<Answer>) {
        let Some(&ticket) = self.by_order.get(&id) else {
            return;
        };
        let Some(job) = self.jobs.get_mut(&ticket) else {
            return;
        };
        if job.orders.len() == 1 {
            match &job.state {
                State::Waiting => {
                    let mount = job.task.mount;
                    self.load.queued -= 1;
                    self.end(ticket, Ending::of(Outcome::Dropped), answers);
                    self.compact(mount);
                }
                State::Running { leash, .. } => leash.stop(),
                State::Stuck => {}
            }
            return;
        }
        job.orders.retain(|order| *order != id);
        self.by_order.remove(&id);
        answers.push(Answer { id, task: Arc::clone(&job.task), ending: Ending::of(Outcome::Dropped) });
    }

    /// Cancelled tickets leave a lane when they reach its front; where they outnumber what waits, now.
    fn compact(&mut self, mount: MountId) {
        let Self { jobs, lanes, load, .. } = self;
        let Some(lane) = lanes.get_mut(&mount) else { return };
        if lane.fetches.len() + lane.lists.len() > 2 * load.queued + 1024 {
            lane.fetches.retain(|Reverse((_, ticket))| jobs.get(ticket).is_some_and(Job::waits));
            lane.lists.retain(|ticket| jobs.get(ticket).is_some_and(Job::waits));
        }
    }

    /// Drops all that waits at a mount and stops what runs there.
    pub fn forget(&mut self, mount: MountId, answers: &mut Vec<Answer>) {
        let theirs: Vec<Ticket> =
            self.jobs.iter().filter(|(_, job)| job.task.mount == mount).map(|(ticket, _)| *ticket).collect();
        self.drop_all(theirs, Outcome::Dropped, answers);
        if let Some(lane) = self.lanes.get_mut(&mount) {
            lane.forgotten = true;
        }
        self.tidy(mount);
    }

    /// The lane of a mount that has gone leaves with the last of its tasks, as does one that was made for a mount that had
    /// gone by then: its depth was never set.
    fn tidy(&mut self, mount: MountId) {
        let spent = |lane: &Lane| {
            let never_known = lane.depth.is_none() && lane.fetches.is_empty() && lane.lists.is_empty();
            lane.is_idle() && (lane.forgotten || never_known && !lane.left_alone)
        };
        if self.lanes.get(&mount).is_some_and(spent) {
            self.lanes.remove(&mount);
        }
    }

    fn drop_all(&mut self, tickets: Vec<Ticket>, outcome: Outcome, answers: &mut Vec<Answer>) {
        for ticket in tickets {
            match self.jobs.get(&ticket).map(|job| &job.state) {
                Some(State::Waiting) => {
                    self.load.queued -= 1;
                    self.end(ticket, Ending::of(outcome), answers);
                }
                Some(State::Running { leash, .. }) => leash.stop(),
                Some(State::Stuck) | None => {}
            }
        }
    }

    /// Answers what has waited for longer than its life, or run for as long without going on. A long task is no
    /// stuck one: ten gigabytes take a healthy store a minute.
    pub fn expire(&mut self, now: Nanos, answers: &mut Vec<Answer>) {
        let life = self.bounds.life;
        while let Some(&(arrived, ticket)) = self.arrivals.front() {
            let waits = self.jobs.get(&ticket).is_some_and(Job::waits);
            if waits && now.since(arrived) < life {
                break;
            }
            self.arrivals.pop_front();
            self.drop_all(if waits { vec![ticket] } else { Vec::new() }, Outcome::Dropped, answers);
        }
        let rests = |job: &mut Job| match &mut job.state {
            State::Running { since, steps, leash } => {
                let before = std::mem::replace(steps, leash.steps());
                if before != *steps {
                    *since = now;
                }
                now.since(*since) >= life
            }
            State::Waiting | State::Stuck => false,
        };
        let late: Vec<Ticket> =
            self.jobs.iter_mut().filter_map(|(ticket, job)| rests(job).then_some(*ticket)).collect();
        for ticket in late {
            self.abandon(ticket, answers);
        }
    }

    /// Answers a running task for its thread, which may never come back.
    fn abandon(&mut self, ticket: Ticket, answers: &mut Vec<Answer>) {
        self.leave_running(ticket);
        self.unlike(ticket);
        let Some(job) = self.jobs.get_mut(&ticket) else {
            return;
        };
        if let State::Running { leash, .. } = &job.state {
            leash.stop();
        }
        job.state = State::Stuck;
        self.load.stuck += 1;
        let mount = job.task.mount;
        for id in std::mem::take(&mut job.orders) {
            self.by_order.remove(&id);
            answers.push(Answer { id, task: Arc::clone(&job.task), ending: Ending::of(Outcome::Failed) });
        }
        let lane = self.lanes.entry(mount).or_default();
        lane.stuck += 1;
        if lane.stuck > self.bounds.stuck && !lane.left_alone {
            lane.left_alone = true;
            let waiting = lane.lists.drain(..).chain(lane.fetches.drain().map(|Reverse((_, ticket))| ticket));
            let waiting = waiting.collect();
            self.drop_all(waiting, Outcome::Failed, answers);
        }
    }

    /// Stops everything; nothing is answered any more.
    pub fn close(&mut self) {
        for job in self.jobs.values() {
            if let State::Running { leash, .. } = &job.state {
                leash.stop();
            }
        }
        self.lanes.clear();
        self.load.queued = 0;
    }
}

fn likeness(task: &Task) -> u64 {
    let mut hasher = FxHasher::default();
    task.mount.hash(&mut hasher);
    task.path.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
