//! The daemon's life: log, listen, work, stop.
//!
//! The API is bound first, so that a second agent is refused before it touches the kernel. SIGTERM or
//! SIGINT ends everything in order; a second one ends it at once.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use agent_core::Limits;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use crate::api::query::{Link, Query, channel};
use crate::api::{ApiError, Listeners};
use crate::config::{AgentConfig, OperatorConfig, PlanChoice};
use crate::doctor::operator::Standing;
use crate::engine::{Engine, EngineConfig, EngineError, Wish};
use crate::heap;
use crate::metrics::{self, CoreTotals, ExporterError, Metrics, Refresh};
use crate::mounts::Namespace;
use crate::probe::{Plan, ProbeConfig};
use crate::report::connect::{Address, ConnectError};
use crate::report::credential::Means;
use crate::report::reporter::{self, ReporterConfig};

/// Two threads are enough for clients; the engine has its own.
const API_THREADS: usize = 2;

/// Exit status of a process ended by SIGINT, by the shell's convention.
const INTERRUPTED: u8 = 130;

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("starting the agent's threads failed: {0}; look at ulimit -u and the cgroup's pids.max")]
    Threads(io::Error),
    #[error("listening for SIGTERM and SIGINT failed: {0}; this is a fault of the machine")]
    Signals(io::Error),
    #[error("the log filter {filter:?} cannot be read: {reason}; use a level such as info, or agent=debug")]
    Log { filter: String, reason: String },
    #[error(
        "the agent's loop has ended by itself; its log says why. This is a fault: report it with the log"
    )]
    Ended,
    #[error("the kernel gives no random numbers: {0}; this is a fault of the machine")]
    Random(io::Error),
    #[error(transparent)]
    Operator(#[from] ConnectError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Exporter(#[from] ExporterError),
}

/// Descriptors the agent can use: a few for each prefetch thread, and the programs and maps of the probe.
const DESCRIPTORS: u64 = 8_192;

/// The usual soft limit of 1,024 is made for select(2), which nothing here calls. Where it cannot be raised,
/// what runs out says so.
fn more_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(DESCRIPTORS, |most| most.min(DESCRIPTORS));
    if limit.current.is_some_and(|current| current < wanted) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    }
}

/// Runs the daemon until it is told to stop.
pub fn run(config: AgentConfig) -> Result<ExitCode, RunError> {
    let filter = EnvFilter::try_new(&config.log)
        .map_err(|error| RunError::Log { filter: config.log.clone(), reason: error.to_string() })?;
    // A second call (tests that run several agents in one process) keeps the first subscriber.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // What cannot be logged would be told on stderr, by a macro that panics when that fails too.
        .log_internal_errors(false)
        .try_init();
    more_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(API_THREADS)
        .enable_all()
        .build()
        .map_err(RunError::Threads)?;
    let ended = runtime.block_on(daemon(config));
    // After a second signal tasks may be anywhere: they get a blink, then the process ends.
    runtime.shutdown_timeout(Duration::from_millis(100));
    ended
}

async fn daemon(config: AgentConfig) -> Result<ExitCode, RunError> {
    let AgentConfig {
        watch,
        mounts_of,
        state,
        api,
        metrics: metrics_addr,
        observe_only,
        memory_percent,
        plan,
        log: _,
        operator,
    } = config;
    let namespace = mounts_of.map_or_else(Namespace::default, Namespace::of);
    let standing = Standing::default();
    let reporter = operator
        .map(|operator| reporter(operator, memory_percent, observe_only, namespace, &standing))
        .transpose()?;
    let mut signals = Signals::new().map_err(RunError::Signals)?;
    let listeners = Listeners::bind(&api).await?;
    tracing::info!("answering at {}", api.socket.display());
    if let Some(addr) = listeners.tcp_addr() {
        tracing::info!("answering at {addr}: every local user may ask there");
    }
    let (stopping, stop) = watch::channel(false);
    let metrics = Metrics::new();
    let (link, side) = channel();
    let exporter = match metrics_addr {
        Some(addr) => {
            let refresh = refresh(link.clone(), metrics.clone());
            let (addr, exporter) = metrics::serve(addr, metrics.clone(), refresh, stop.clone()).await?;
            tracing::info!("metrics at http://{addr}/metrics");
            Some(exporter)
        }
        None => None,
    };
    let limits = Limits { memory_percent, prefetch: !observe_only, ..Limits::default() };
    let wish = if watch.is_empty() { Wish::Remote } else { Wish::Named(watch) };
    let probe = ProbeConfig { plan: forced(plan), ..ProbeConfig::default() };
    let config = EngineConfig { wish, namespace, state, limits, probe, standing };
    let (engine, sources) = Engine::build(config, metrics.clone(), side)?;
    heap::give_back();
    let mut engine = engine.start(sources, stop.clone())?;
    let reporting = match reporter {
        Some(reporter) => {
            let session = random()?;
            Some(tokio::spawn(reporter::run(reporter, link.clone(), session, stop.clone())))
        }
        None => None,
    };
    let serving = listeners.serve(link, metrics, namespace, stop);
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => {
            // Serving ends by itself only when it failed.
            ended?;
        }
        () = engine.ended() => return Err(RunError::Ended),
        name = signals.next() => tracing::info!("{name}: stopping"),
    }
    // Without receivers there is nothing left to stop.
    let _ = stopping.send(true);
    let orderly = async {
        let served = serving.await;
        engine.ended().await;
        if let Some(exporter) = exporter {
            let _ = exporter.await;
        }
        if let Some(reporting) = reporting {
            let _ = reporting.await;
        }
        served
    };
    tokio::select! {
        served = orderly => {
            served?;
            Ok(ExitCode::SUCCESS)
        }
        name = signals.next() => {
            tracing::warn!("{name} again: stopping at once");
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

/// What `--operator` and its companions mean.
fn reporter(
    operator: OperatorConfig,
    memory_percent: u8,
    observe_only: bool,
    namespace: Namespace,
    standing: &Standing,
) -> Result<ReporterConfig, RunError> {
    let OperatorConfig { url, node, authority, token, certificate } = operator;
    let address = Address::parse(&url)?;
    let means = match certificate {
        Some((certificate, key)) => Means::Files { certificate, key },
        None => Means::Token(token),
    };
    standing.expect(&address.to_string());
    let standing = standing.clone();
    Ok(ReporterConfig { address, node, authority, means, memory_percent, observe_only, namespace, standing })
}

/// Names this life of the agent.
fn random() -> Result<u64, RunError> {
    let mut bytes = [0; 8];
    let read = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    read.map_err(|errno| RunError::Random(errno.into()))?;
    Ok(u64::from_ne_bytes(bytes).max(1))
}

fn forced(choice: PlanChoice) -> Option<Plan> {
    match choice {
        PlanChoice::Auto => None,
        PlanChoice::Fentry => Some(Plan::Function),
        PlanChoice::BtfTracepoint => Some(Plan::BtfTracepoint),
        PlanChoice::RawTracepoint => Some(Plan::RawTracepoint),
        PlanChoice::Kprobe => Some(Plan::Kprobe),
    }
}

/// Copies the core's totals into the metrics, before each scrape.
fn refresh(link: Link, metrics: Metrics) -> Refresh {
    Arc::new(move || {
        let (link, metrics) = (link.clone(), metrics.clone());
        Box::pin(async move {
            let node = link.ask(|reply| Query::Node { reply }).await;
            let ledger = link.ask(|reply| Query::Ledger { reply }).await;
            match (node, ledger) {
                (Ok(node), Ok(ledger)) => metrics.set_core(Some(&CoreTotals {
                    node: &node.view,
                    ledger: &ledger,
                    drops_per_cpu: &node.drops_per_cpu,
                    plan: &node.plan.plan,
                    memory_pressure: node.memory_pressure,
                })),
                (Err(_), _) | (_, Err(_)) => metrics.set_core(None),
            }
        })
    })
}

/// SIGTERM and SIGINT, whichever comes.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
