//! What the agent counts, and how it is shown.
//!
//! `Metrics` is made once and passed to whoever counts; names, units and labels are in `names` alone. The
//! core counts for itself: its totals are copied in when Prometheus asks (`set_core`), so that no step of
//! the engine pays for being watched. `histograms` keeps latencies with exact merging for the API.

pub mod names;

pub mod histograms;

mod bounded;

mod exporter;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agent_core::view::{LedgerRow, NodeView, Predictor};
use agent_core::{Nanos, Observation, Outcome};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};

pub use exporter::{ExporterError, Refresh, serve};
use names::Name;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPredictor {
    predictor: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByFate {
    predictor: &'static str,
    fate: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCpu {
    cpu: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCode {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlanLabels {
    plan: String,
    version: String,
}

/// What became of a profile's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileOutcome {
    Stored,
    /// It could not be written: disk full, read-only.
    Failed,
    /// It was damaged and has been put aside.
    Quarantined,
}

/// What the engine knows and Prometheus asks for; see `Metrics::set_core`.
#[derive(Debug)]
pub struct CoreTotals<'a> {
    pub node: &'a NodeView,
    pub ledger: &'a [LedgerRow],
    pub drops_per_cpu: &'a [u64],
    pub plan: &'a str,
    /// PSI memory, some avg10, in hundredths of a per cent.
    pub memory_pressure: u32,
}

type Ratio = Gauge<f64, AtomicU64>;

/// The counters. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    reads: Counter,
    read: Counter,
    covered: Counter,
    coverage: Ratio,
    fetched: Counter,
    predictions: Family<ByPredictor, Counter>,
    fate: Family<ByFate, Counter>,
    pending: Family<ByPredictor, Gauge>,
    drops: Family<ByCpu, Counter>,
    records: Family<ByKind, Counter>,
    files: Gauge,
    workloads: Gauge,
    fetches: Family<ByOutcome, Counter>,
    queued: Gauge,
    in_flight: Gauge,
    miss_latency: Histogram,
    profiles: Family<ByOutcome, Counter>,
    recorder_drops: Counter,
    refusals: Family<ByCode, Counter>,
    lag: Counter,
    plan: Family<PlanLabels, Gauge>,
    memory_pressure: Ratio,
    memory_available: Gauge,
    answered: Gauge,
}

fn register<M: Metric + Clone>(registry: &mut Registry, name: Name, metric: M) -> M {
    match name.prometheus_unit() {
        Some(unit) => registry.register_with_unit(name.stem, name.help, unit, metric.clone()),
        None => registry.register(name.stem, name.help, metric.clone()),
    }
    metric
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let r = &mut registry;
        // 50 µs to 26 s: from a local miss to a store's time-out.
        let miss_latency = Histogram::new(exponential_buckets(50e-6, 2.0, 20));
        let mut inner = Inner {
            reads: register(r, names::READS, Counter::default()),
            read: register(r, names::READ, Counter::default()),
            covered: register(r, names::COVERED, Counter::default()),
            coverage: register(r, names::COVERAGE, Ratio::default()),
            fetched: register(r, names::FETCHED, Counter::default()),
            predictions: register(r, names::PREDICTIONS, Family::default()),
            fate: register(r, names::FATE, Family::default()),
            pending: register(r, names::PENDING, Family::default()),
            drops: register(r, names::DROPS, Family::default()),
            records: register(r, names::RECORDS, Family::default()),
            files: register(r, names::FILES, Gauge::default()),
            workloads: register(r, names::WORKLOADS, Gauge::default()),
            fetches: register(r, names::FETCHES, Family::default()),
            queued: register(r, names::QUEUED, Gauge::default()),
            in_flight: register(r, names::IN_FLIGHT, Gauge::default()),
            miss_latency: register(r, names::MISS_LATENCY, miss_latency),
            profiles: register(r, names::PROFILES, Family::default()),
            recorder_drops: register(r, names::RECORDER_DROPS, Counter::default()),
            refusals: register(r, names::REFUSALS, Family::default()),
            lag: register(r, names::LAG, Counter::default()),
            plan: register(r, names::PLAN, Family::default()),
            memory_pressure: register(r, names::MEMORY_PRESSURE, Ratio::default()),
            memory_available: register(r, names::MEMORY_AVAILABLE, Gauge::default()),
            answered: register(r, names::SCRAPE_OK, Gauge::default()),
            registry: Registry::default(),
        };
        inner.registry = registry;
        // Rows that can come are there from the start, at 0: a rate over a first increment is else lost.
        for kind in KINDS {
            drop(inner.records.get_or_create(&ByKind { kind }));
        }
        for outcome in OUTCOMES {
            drop(inner.fetches.get_or_create(&ByOutcome { outcome }));
        }
        for outcome in ["stored", "failed", "quarantined"] {
            drop(inner.profiles.get_or_create(&ByOutcome { outcome }));
        }
        for code in CODES.into_iter().skip(1) {
            drop(inner.refusals.get_or_create(&ByCode { code }));
        }
        Self { inner: Arc::new(inner) }
    }

    /// Counts into nothing that anyone reads: for tests and for commands without a daemon.
    pub fn noop() -> Self {
        Self::new()
    }

    /// One observation was folded into the core.
    pub fn observed(&self, observation: &Observation) {
        let kind = kind_of(observation);
        self.inner.records.get_or_create(&ByKind { kind }).inc();
        match observation {
            Observation::Fetched { outcome, .. } => self.fetch_ended(*outcome),
            Observation::Miss { latency, .. } => self.missed(*latency),
            Observation::Mount { .. }
            | Observation::Unmount { .. }
            | Observation::Process { .. }
            | Observation::Profile { .. }
            | Observation::Exit { .. }
            | Observation::Sight { .. }
            | Observation::Access { .. }
            | Observation::Added { .. }
            | Observation::Removed { .. }
            | Observation::Resident { .. }
            | Observation::Listing { .. }
            | Observation::Memory { .. }
            | Observation::Lost { .. }
            | Observation::Tick => {}
        }
    }

    fn fetch_ended(&self, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Done => "done",
            Outcome::Absent => "absent",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
            Outcome::Dropped => "dropped",
        };
        self.inner.fetches.get_or_create(&ByOutcome { outcome }).inc();
    }

    fn missed(&self, latency: Nanos) {
        self.inner.miss_latency.observe(latency.as_secs_f64());
    }

    pub fn profile(&self, outcome: ProfileOutcome) {
        let outcome = match outcome {
            ProfileOutcome::Stored => "stored",
            ProfileOutcome::Failed => "failed",
            ProfileOutcome::Quarantined => "quarantined",
        };
        self.inner.profiles.get_or_create(&ByOutcome { outcome }).inc();
    }

    /// So many observations are missing in a recording.
    pub fn recorder_dropped(&self, observations: u64) {
        self.inner.recorder_drops.inc_by(observations);
    }

    /// The API answered with an error; `code` is one of gRPC's seventeen.
    pub fn api_refused(&self, code: &'static str) {
        self.inner.refusals.get_or_create(&ByCode { code }).inc();
    }

    /// A client of the event stream missed so many events.
    pub fn events_skipped(&self, events: u64) {
        self.inner.lag.inc_by(events);
    }

    pub fn api_refusals(&self) -> u64 {
        CODES.iter().filter_map(|code| self.inner.refusals.get(&ByCode { code })).map(|c| c.get()).sum()
    }

    pub fn events_skipped_total(&self) -> u64 {
        self.inner.lag.get()
    }

    /// Copies the core's totals. `None`: the engine did not answer, the values stay as they were.
    pub fn set_core(&self, totals: Option<&CoreTotals<'_>>) {
        let m = &*self.inner;
        m.answered.set(i64::from(totals.is_some()));
        let Some(totals) = totals else { return };
        let CoreTotals { node, ledger, drops_per_cpu, plan, memory_pressure } = totals;
        raise(&m.reads, node.reads);
        raise(&m.read, node.read_bytes);
        raise(&m.covered, node.covered_bytes);
        m.coverage.set(node.covered_bytes as f64 / node.read_bytes.max(1) as f64);
        raise(&m.fetched, node.fetched_bytes);
        m.files.set(signed(node.files));
        m.workloads.set(signed(node.workloads));
        m.queued.set(signed(node.queued));
        m.in_flight.set(signed(node.in_flight));
        m.memory_available.set(signed(node.memory_available));
        m.memory_pressure.set(f64::from(*memory_pressure) / 10_000.0);
        for (cpu, drops) in (0..).zip(drops_per_cpu.iter()) {
            raise(&m.drops.get_or_create(&ByCpu { cpu }), *drops);
        }
        for predictor in Predictor::ALL {
            self.set_predictor(predictor, ledger);
        }
        m.plan.clear();
        let labels = PlanLabels { plan: (*plan).to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        m.plan.get_or_create(&labels).set(1);
    }

    fn set_predictor(&self, who: Predictor, ledger: &[LedgerRow]) {
        let m = &*self.inner;
        let predictor = who.name();
        let rows = || ledger.iter().filter(|row| row.predictor == who);
        let by = ByPredictor { predictor };
        raise(&m.predictions.get_or_create(&by), rows().map(|row| row.predictions).sum());
        m.pending.get_or_create(&by).set(signed(rows().map(|row| row.fate.pending).sum()));
        let fates: [(&str, u64); 3] = [
            ("hit", rows().map(|row| row.fate.hit).sum()),
            ("late", rows().map(|row| row.fate.late).sum()),
            ("wasted", rows().map(|row| row.fate.wasted).sum()),
        ];
        for (fate, bytes) in fates {
            raise(&m.fate.get_or_create(&ByFate { predictor, fate }), bytes);
        }
    }

    /// The text of /metrics.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail; an encoder that refuses a label leaves a cut page, which
        // Prometheus reports as a failed scrape.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.inner.registry);
        text
    }
}

/// What `kind_of` says.
const KINDS: [&str; 15] = [
    "mount", "unmount", "process", "exit", "sight", "access", "added", "removed", "resident", "miss",
    "listing", "fetched", "memory", "lost", "tick",
];

/// What `fetch_ended` says.
const OUTCOMES: [&str; 5] = ["done", "absent", "refused", "failed", "dropped"];

/// gRPC's status codes by number.
pub const CODES: [&str; 17] = [
    "ok",
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
];

/// A total never falls, even where the core forgot a workload whose rows it had summed.
fn raise(counter: &Counter, total: u64) {
    counter.inner().fetch_max(total, Ordering::Relaxed);
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn kind_of(observation: &Observation) -> &'static str {
    match observation {
        Observation::Mount { .. } => "mount",
        Observation::Unmount { .. } => "unmount",
        Observation::Process { .. } => "process",
        Observation::Profile { .. } => "profile",
        Observation::Exit { .. } => "exit",
        Observation::Sight { .. } => "sight",
        Observation::Access { .. } => "access",
        Observation::Added { .. } => "added",
        Observation::Removed { .. } => "removed",
        Observation::Resident { .. } => "resident",
        Observation::Miss { .. } => "miss",
        Observation::Listing { .. } => "listing",
        Observation::Fetched { .. } => "fetched",
        Observation::Memory { .. } => "memory",
        Observation::Lost { .. } => "lost",
        Observation::Tick => "tick",
    }
}
