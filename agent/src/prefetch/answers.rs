//! Answers on their way back to the event loop: a list, and an eventfd that is readable while it holds any.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use agent_core::{Nanos, Observation, Outcome};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::queue::Answer;

/// Answers given so far, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    pub done: u64,
    pub absent: u64,
    pub refused: u64,
    pub failed: u64,
    pub dropped: u64,
    /// Bytes asked of the stores.
    pub bytes: u64,
    /// Fetches that asked for something.
    pub fetches: u64,
}

#[derive(Debug, Default)]
struct Given {
    waiting: Vec<(Nanos, Observation)>,
    outcomes: Outcomes,
}

#[derive(Debug)]
pub struct Answers {
    given: Mutex<Given>,
    wake: OwnedFd,
}

impl Answers {
    pub fn new() -> Result<Self, Errno> {
        Ok(Self {
            given: Mutex::default(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    pub fn give(&self, answers: impl IntoIterator<Item = Answer>, now: Nanos) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let Given { waiting, outcomes } = &mut *given;
        let quiet = waiting.is_empty();
        for Answer { id, task, ending } in answers {
            let count = match ending.outcome() {
                Outcome::Done => &mut outcomes.done,
                Outcome::Absent => &mut outcomes.absent,
                Outcome::Refused => &mut outcomes.refused,
                Outcome::Failed => &mut outcomes.failed,
                Outcome::Dropped => &mut outcomes.dropped,
            };
            *count += 1;
            outcomes.bytes += ending.bytes;
            outcomes.fetches += u64::from(ending.bytes > 0);
            waiting.push((now, task.answer(id, ending)));
        }
        if quiet && !waiting.is_empty() {
            // Only fails when the counter is full, and then the descriptor is readable anyway.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }

    pub fn drain(&self, into: &mut Vec<(Nanos, Observation)>) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        // Only fails when nothing was written.
        let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
        into.append(&mut given.waiting);
    }

    pub fn outcomes(&self) -> Outcomes {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).outcomes
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
