//! What waits and runs: a job, and the lane of the mount it belongs to.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use agent_core::{Nanos, OrderId};

use super::Ticket;
use crate::prefetch::task::{Leash, Task};

#[derive(Debug)]
pub struct Job {
    pub task: Arc<Task>,
    pub alike: u64,
    /// Those who want it; the first one's answer carries the bytes.
    pub orders: Vec<OrderId>,
    pub deadline: Nanos,
    pub state: State,
}

#[derive(Debug)]
pub enum State {
    Waiting,
    /// `since`: its start, or when it was last seen to have gone on, which was at `steps`.
    Running {
        since: Nanos,
        steps: u64,
        leash: Arc<Leash>,
    },
    /// Answered, but the kernel has not given the thread back.
    Stuck,
}

#[derive(Debug, Default)]
pub struct Lane {
    pub depth: Option<u32>,
    pub fetches: BinaryHeap<Reverse<(Nanos, Ticket)>>,
    pub lists: VecDeque<Ticket>,
    pub fetching: u32,
    pub listing: u32,
    pub stuck: u32,
    pub left_alone: bool,
    /// Its mount has gone.
    pub forgotten: bool,
}

impl Job {
    pub fn waits(&self) -> bool {
        matches!(self.state, State::Waiting)
    }

    /// Whether another order may join it.
    pub fn wanted(&self) -> bool {
        match &self.state {
            State::Waiting => true,
            State::Running { leash, .. } => !leash.is_stopped(),
            State::Stuck => false,
        }
    }
}

impl Lane {
    pub fn is_idle(&self) -> bool {
        self.fetching == 0 && self.listing == 0 && self.stuck == 0
    }
}
