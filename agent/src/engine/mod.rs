//! The loop that joins everything: what the kernel tells goes to the core, what the core asks for goes to
//! the prefetch threads, what people ask is answered in between.
//!
//! `Engine::select` does all the waiting and names what is to be done; `Engine::step` does all the
//! changing and never waits. The loop has a thread of its own, so that a busy API never delays a prefetch.

mod keeper;

mod asked;

mod seed;

mod recorders;

mod sight;

mod roots;

mod select;

mod watches;

mod outside;

mod step;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use agent_core::{Core, Limits, Nanos, Observation};
use rustc_hash::FxHashMap;
use tokio::sync::watch;

use crate::api::answer::EdgeFacts;
use crate::api::query::EngineSide;
use crate::attribute::Attributor;
use crate::doctor::operator::Standing;
use crate::metrics::Metrics;
use crate::mounts::{MountError, MountWatch, Namespace, SelectError};
use crate::prefetch::{Prefetch, PrefetchConfig, PrefetchError};
use crate::pressure::Gauge;
use crate::probe::{Probe, ProbeConfig, ProbeError, ReadEvent};

use asked::Asked;
use keeper::Keeper;
use outside::Outside;
use recorders::Recorders;
use seed::Seeds;
use select::Sources;
use watches::Watches;

pub use watches::Wish;

#[derive(Debug)]
pub struct EngineConfig {
    pub wish: Wish,
    /// Whose mounts are watched.
    pub namespace: Namespace,
    pub state: PathBuf,
    pub limits: Limits,
    pub probe: ProbeConfig,
    /// How it stands with the operator, for `headrace doctor`.
    pub standing: Standing,
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Prefetch(#[from] PrefetchError),
    #[error(transparent)]
    Mounts(#[from] MountError),
    #[error(transparent)]
    Select(#[from] SelectError),
    #[error("waiting for the kernel failed at {step}: {source}; raise the limit of open files (ulimit -n)")]
    Wait { step: &'static str, source: io::Error },
}

/// A process that is to be looked at again.
#[derive(Clone, Copy, Debug)]
struct Turn {
    tgid: u32,
    /// It was not there at the last look.
    gone: bool,
}

impl Turn {
    fn of(tgid: u32) -> Self {
        Self { tgid, gone: false }
    }
}

/// The edges and the core, joined.
pub struct Engine {
    core: Core,
    /// None where the kernel takes no plan: everything else goes on.
    probe: Option<Probe>,
    prefetch: Prefetch,
    attributor: Attributor,
    pressure: Gauge,
    watches: Watches,
    keeper: Keeper,
    recorders: Recorders,
    seeds: Seeds,
    metrics: Metrics,
    side: EngineSide,
    edges: EdgeFacts,
    outside: Outside,
    standing: Standing,
    /// Processes that the core has been told of.
    told: FxHashMap<u32, Box<str>>,
    /// The same and some that have ended, in the order in which they are looked at again.
    turns: VecDeque<Turn>,
    asked: Asked,
    /// When records last came, when memory was last looked at.
    busy: Nanos,
    sampled: Nanos,
    events: Vec<ReadEvent>,
    answers: Vec<(Nanos, Observation)>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// Now, by the clock of the kernel's records.
fn now() -> Nanos {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    Nanos(secs.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0)))
}

/// The loop on its thread.
#[derive(Debug)]
pub struct Running {
    thread: std::thread::JoinHandle<()>,
    ended: tokio::sync::oneshot::Receiver<()>,
}

impl Running {
    /// Ends when the loop does.
    pub async fn ended(&mut self) {
        // The sender goes with the thread, whatever way it ends.
        let _ = (&mut self.ended).await;
    }

    /// Waits for the thread; call it when `ended` has returned.
    pub fn join(self) {
        let _ = self.thread.join();
    }
}

impl Engine {
    /// Attaches and prepares everything; nothing is left behind when a step fails.
    pub fn build(
        config: EngineConfig,
        metrics: Metrics,
        side: EngineSide,
    ) -> Result<(Self, Sources), EngineError> {
        let EngineConfig { wish, namespace, state, limits, probe, standing } = config;
        namespace.check()?;
        let mounts = MountWatch::open(namespace)?;
        let table = mounts.read()?;
        let wish = watches::by_points(wish, namespace, &table)?;
        let keeper = Keeper::start(&state, metrics.clone())
            .map_err(|source| EngineError::Wait { step: "starting the profile writer", source })?;
        let (probe, plan) = sight::open(probe)?;
        let watches = Watches::new(wish, namespace, probe.as_ref().map(Probe::asker));
        let prefetch = Prefetch::start(PrefetchConfig::new(std::sync::Arc::new(watches.places())))?;
        let edges = EdgeFacts { plan, observe_only: !limits.prefetch, ..EdgeFacts::default() };
        let (seeds, counted) = Seeds::start()
            .map_err(|source| EngineError::Wait { step: "starting the page counter", source })?;
        let sources = Sources::new(probe.as_ref(), &prefetch, mounts, counted)?;
        let mut engine = Self {
            core: Core::new(limits),
            probe,
            prefetch,
            attributor: Attributor::new("/proc"),
            pressure: Gauge::open(std::path::Path::new("/proc")),
            watches,
            keeper,
            recorders: Recorders::default(),
            seeds,
            metrics,
            side,
            edges,
            outside: Outside::default(),
            standing,
            told: FxHashMap::default(),
            turns: VecDeque::new(),
            asked: Asked::default(),
            busy: Nanos(0),
            sampled: Nanos(0),
            events: Vec::new(),
            answers: Vec::new(),
        };
        engine.remount(&table);
        engine.sample(now());
        Ok((engine, sources))
    }

    /// Runs the loop on a thread of its own until `stop` says so.
    pub fn start(self, sources: Sources, stop: watch::Receiver<bool>) -> Result<Running, EngineError> {
        let failed = |step| move |source| EngineError::Wait { step, source };
        let (ending, ended) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("headrace-engine".into())
            .spawn(move || {
                let _ending = ending;
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                match runtime {
                    Ok(runtime) => runtime.block_on(self.run(sources, stop)),
                    Err(error) => tracing::error!("the engine's loop cannot start: {error}"),
                }
            })
            .map_err(failed("starting the engine's thread"))?;
        Ok(Running { thread, ended })
    }

    async fn run(mut self, sources: Sources, stop: watch::Receiver<bool>) {
        let mut waiting = match sources.register(stop) {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::error!("{error}");
                return;
            }
        };
        // epoll asks a new descriptor once, and /proc/PID/mountinfo tells a change only once: what was mounted since the first
        // look, while the probe was loaded, would not be told again.
        self.look_at_mounts(&waiting);
        loop {
            let busy = self.is_busy();
            let action = waiting.select(&mut self.side.queries, busy).await;
            if !self.step(action, &waiting) {
                break;
            }
        }
        self.close();
    }

    /// Whether records have come so recently that looking again is cheaper than being woken.
    fn is_busy(&self) -> bool {
        now().since(self.busy) < Nanos(Duration::from_millis(50).as_nanos() as u64)
    }

    fn close(mut self) {
        self.core.close();
        self.keeper.save(self.core.changed_profiles());
        self.recorders.close();
        // The probe and the prefetch threads end by being dropped, the writer by having written.
        drop(self.probe);
        drop(self.prefetch);
        self.keeper.close();
    }
}
