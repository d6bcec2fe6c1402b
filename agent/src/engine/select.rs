//! All the waiting: for the ring buffer, for answers of the prefetch threads, for the mount table, for
//! questions, for time, for the end.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use agent_core::{Nanos, Observation};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::EngineError;
use super::seed::Counted;
use crate::api::query::Query;
use crate::mounts::MountWatch;
use crate::prefetch::Prefetch;
use crate::probe::Probe;

/// While records flow the ring is looked at this often instead of being woken for each.
const LOOK: Duration = Duration::from_millis(1);

/// The core's clock.
const TICK: Duration = Duration::from_millis(100);

/// What there is to do.
#[derive(Debug)]
pub enum Action {
    Records,
    Answers,
    Mounts,
    /// Pages that were found in the page cache.
    Counted(Nanos, Observation),
    Query(Query),
    Tick,
    Stop,
}

/// Descriptors to wait for, before there is a loop to wait in.
#[derive(Debug)]
pub struct Sources {
    /// None where the agent is blind.
    records: Option<OwnedFd>,
    answers: OwnedFd,
    mounts: MountWatch,
    counted: Counted,
}

impl Sources {
    pub fn new(
        probe: Option<&Probe>,
        prefetch: &Prefetch,
        mounts: MountWatch,
        counted: Counted,
    ) -> Result<Self, EngineError> {
        let failed = |source| EngineError::Wait { step: "copying a descriptor", source };
        Ok(Self {
            records: probe.map(|probe| probe.as_fd().try_clone_to_owned()).transpose().map_err(failed)?,
            answers: prefetch.as_fd().try_clone_to_owned().map_err(failed)?,
            mounts,
            counted,
        })
    }

    pub fn register(self, stop: watch::Receiver<bool>) -> Result<Waiting, EngineError> {
        let Self { records, answers, mounts, counted } = self;
        let changes = mounts
            .as_fd()
            .try_clone_to_owned()
            .map_err(|source| EngineError::Wait { step: "copying a descriptor", source })?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Waiting {
            records: records.map(|fd| registered(fd, Interest::READABLE, "the ring buffer")).transpose()?,
            answers: registered(answers, Interest::READABLE, "the eventfd")?,
            changes: registered(changes, Interest::PRIORITY, "the mount table")?,
            mounts,
            counted,
            tick,
            stop,
        })
    }
}

fn registered(fd: OwnedFd, interest: Interest, step: &'static str) -> Result<AsyncFd<OwnedFd>, EngineError> {
    // SAFETY: an OwnedFd always answers with the one descriptor that it owns, open until it is dropped; the
    // AsyncFd owns it and gives it out to nobody.
    let registered = unsafe { AsyncFd::register_with_interest(fd, interest) };
    registered.map_err(|error| EngineError::Wait { step, source: error.into() })
}

#[derive(Debug)]
pub struct Waiting {
    records: Option<AsyncFd<OwnedFd>>,
    answers: AsyncFd<OwnedFd>,
    changes: AsyncFd<OwnedFd>,
    mounts: MountWatch,
    counted: Counted,
    tick: Interval,
    stop: watch::Receiver<bool>,
}

impl Waiting {
    pub fn mount_watch(&self) -> &MountWatch {
        &self.mounts
    }

    /// The next thing to do. Dropping it half-way loses nothing: every source keeps what it has.
    pub async fn select(&mut self, queries: &mut mpsc::Receiver<Query>, busy: bool) -> Action {
        let Self { records, answers, changes, mounts: _, counted, tick, stop } = self;
        let records = async {
            let Some(records) = records else {
                return std::future::pending().await;
            };
            if busy {
                tokio::time::sleep(LOOK).await;
            } else if let Ok(mut ready) = records.readable().await {
                ready.clear_ready();
            }
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => Action::Stop,
            ready = answers.readable() => {
                if let Ok(mut ready) = ready {
                    ready.clear_ready();
                }
                Action::Answers
            }
            () = records => Action::Records,
            ready = changes.ready(Interest::PRIORITY) => {
                if let Ok(mut ready) = ready {
                    ready.clear_ready();
                }
                Action::Mounts
            }
            Some((at, observation)) = counted.recv() => Action::Counted(at, observation),
            Some(query) = queries.recv() => Action::Query(query),
            _ = tick.tick() => Action::Tick,
        }
    }
}
