//! The one narrow door between the API and the engine.
//!
//! `channel()` makes both sides: the engine keeps the `EngineSide`, takes a `Query` when its loop comes
//! round and answers into the query's `reply`; everyone who asks holds a `Link`. Both directions are
//! bounded, and an engine that does not answer in time is an `AskError`, never a hang.

use std::sync::Arc;
use std::time::Duration;

use agent_core::view::{Explanation, FileView, Happening, LedgerRow, NodeView, WorkloadView};
use agent_core::{FileKey, MountId, OrderId, Outcome, Pages, Reading, Stir};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::recording::RecordSink;
use crate::doctor::Check;
use crate::metrics::histograms::Encoded;
use crate::mounts::Spot;

/// Questions waiting for the engine. More than every client's at once would be a flood: they wait.
const QUERIES: usize = 64;

/// Happenings kept for a slow client before it loses some: about a second of a busy node.
const HAPPENINGS: usize = 4096;

/// How long the engine may take. Its longest step is tens of milliseconds; ten times that and more.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is asked, and where the answer goes. An asker that has left makes `send` fail: ignore it.
#[derive(Debug)]
pub enum Query {
    Node {
        reply: oneshot::Sender<NodeAnswer>,
    },
    Workloads {
        reply: oneshot::Sender<Vec<WorkloadView>>,
    },
    /// Files whose path starts with the prefix, most read bytes first.
    Files {
        select: Selection,
        reply: oneshot::Sender<Vec<FileView>>,
    },
    /// `file` first; where it is absent or unknown, `path`.
    Explain {
        file: Option<FileKey>,
        mount: Option<MountId>,
        path: Box<[u8]>,
        reply: oneshot::Sender<Option<Explanation>>,
    },
    Ledger {
        reply: oneshot::Sender<Vec<LedgerRow>>,
    },
    Histograms {
        reply: oneshot::Sender<Vec<Encoded>>,
    },
    /// The checks only a running agent can make; the machine's own are added by the API.
    Doctor {
        reply: oneshot::Sender<Vec<Check>>,
    },
    /// Record into `sink` until it says that it is over. A refusal is a sentence for the person.
    Record {
        sink: RecordSink,
        reply: oneshot::Sender<Result<(), Box<str>>>,
    },
    /// The reporter's.
    Outside(OutsideQuery),
}

/// What the reporter asks and brings.
#[derive(Debug)]
pub enum OutsideQuery {
    /// What has stirred since the last such question; `again`: all that is resident.
    Stirred { limit: usize, again: bool, reply: oneshot::Sender<Stirring> },
    /// Profiles that changed, and those that would be of use.
    Profiles { reply: oneshot::Sender<Exchange> },
    /// What others learned of a workload.
    Teach { workload: Box<str>, source: Box<str>, profile: Vec<u8> },
    /// Work for the prefetch edge, and what of earlier work is not wanted any more; each errand's end comes by `ends`,
    /// once.
    Errands { errands: Vec<Errand>, unwanted: Vec<OrderId>, ends: mpsc::Sender<ErrandEnd> },
}

#[derive(Clone, Debug, Default)]
pub struct Stirring {
    pub stir: Stir,
    pub readings: Vec<Reading>,
}

#[derive(Clone, Debug, Default)]
pub struct Exchange {
    pub learned: Vec<Learned>,
    /// (workload, source).
    pub wanted: Vec<(Box<str>, Box<str>)>,
}

/// A profile that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    pub workload: Box<str>,
    pub source: Box<str>,
    pub profile: Vec<u8>,
    /// Pods that the workload runs or lately ran in, by uid, the latest first.
    pub pods: Vec<Box<str>>,
}

/// Pages of one file to be brought in, or let go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    pub id: OrderId,
    pub mount: MountId,
    /// From the root of the file system.
    pub path: Box<[u8]>,
    pub pages: Vec<Pages>,
    pub let_go: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrandEnd {
    pub id: OrderId,
    pub outcome: Outcome,
}

/// Which files are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// `None` means every mount.
    pub mount: Option<MountId>,
    /// Of the path relative to the file system's root.
    pub prefix: Box<[u8]>,
    /// Rows at most.
    pub limit: usize,
}

/// The core's view of the node and what only the edges know.
#[derive(Clone, Debug, Default)]
pub struct NodeAnswer {
    pub view: NodeView,
    pub plan: PlanSummary,
    /// Records dropped by the kernel, indexed by CPU.
    pub drops_per_cpu: Vec<u64>,
    pub places: Vec<Place>,
    pub observe_only: bool,
    /// Bytes.
    pub memory_total: u64,
    /// PSI memory, some avg10, in hundredths of a per cent.
    pub memory_pressure: u32,
}

/// Where a watched file system is mounted, as the agent sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub mount: MountId,
    /// As `FileKey::dev`.
    pub dev: u32,
    /// What of it is mounted where: mostly one mount, of the whole; none shows what another does.
    pub seen: Vec<Seen>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The mount point.
    pub point: Box<[u8]>,
    /// The folder of the file system that is mounted there, "/" for all of it.
    pub root: Box<[u8]>,
    /// None: that mount has gone, and one that may show the same is being asked about.
    pub spot: Option<Spot>,
}

/// How the kernel is being watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanSummary {
    /// Empty while nothing is attached.
    pub plan: Box<str>,
    pub hooks: Vec<Box<str>>,
    /// What this plan cannot see, one sentence each.
    pub unseen: Vec<Box<str>>,
    /// Better plans the kernel did not take, with the reason.
    pub refused: Vec<(Box<str>, Box<str>)>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    #[error(
        "the agent's engine has too many questions waiting: it is overloaded; ask again in a few seconds, \
         and if that does not help look at its log"
    )]
    Busy,
    #[error(
        "the agent's engine did not answer within {} s: it is overloaded or stuck; ask again, and if that \
         does not help look at its log and restart it", PATIENCE.as_secs()
    )]
    Silent,
    #[error("the agent's engine has ended: the agent is shutting down, or it failed and its log says why")]
    Gone,
}

/// The askers' side.
#[derive(Clone, Debug)]
pub struct Link {
    queries: mpsc::Sender<Query>,
    happenings: broadcast::Sender<Arc<Happening>>,
    patience: Duration,
}

/// The engine's side.
#[derive(Debug)]
pub struct EngineSide {
    pub queries: mpsc::Receiver<Query>,
    /// `send` fails when nobody listens: that is no fault. Ask `receiver_count` before building events.
    pub happenings: broadcast::Sender<Arc<Happening>>,
}

/// Both sides of the door.
pub fn channel() -> (Link, EngineSide) {
    channel_with(PATIENCE)
}

/// As `channel`, with another patience (for tests of a dead engine).
pub fn channel_with(patience: Duration) -> (Link, EngineSide) {
    let (asks, queries) = mpsc::channel(QUERIES);
    let (happenings, _) = broadcast::channel(HAPPENINGS);
    let link = Link { queries: asks, happenings: happenings.clone(), patience };
    (link, EngineSide { queries, happenings })
}

impl Link {
    /// Asks, and waits a bounded time for the answer.
    pub async fn ask<T>(&self, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> Result<T, AskError> {
        let (reply, answer) = oneshot::channel();
        let deadline = tokio::time::Instant::now() + self.patience;
        match tokio::time::timeout_at(deadline, self.queries.send(query(reply))).await {
            Err(_) => return Err(AskError::Busy),
            Ok(Err(_)) => return Err(AskError::Gone),
            Ok(Ok(())) => {}
        }
        match tokio::time::timeout_at(deadline, answer).await {
            Err(_) => Err(AskError::Silent),
            Ok(Err(_)) => Err(AskError::Gone),
            Ok(Ok(answer)) => Ok(answer),
        }
    }

    /// Brings something that has no answer; waits a bounded time for room.
    pub async fn tell(&self, query: Query) -> Result<(), AskError> {
        match tokio::time::timeout(self.patience, self.queries.send(query)).await {
            Err(_) => Err(AskError::Busy),
            Ok(Err(_)) => Err(AskError::Gone),
            Ok(Ok(())) => Ok(()),
        }
    }

    /// What happens from now on.
    pub fn listen(&self) -> broadcast::Receiver<Arc<Happening>> {
        self.happenings.subscribe()
    }
}
