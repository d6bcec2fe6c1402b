//! Every metric's name, unit, labels and meaning, and no other file's business.
//!
//! docs/metrics.md repeats this table; a test keeps the two the same. Labels take values from closed sets
//! or from what is bounded by the machine (CPUs), never from paths, pods or users.

use prometheus_client::registry::Unit;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; shown with `_total`.
    Counter,
    Gauge,
    Histogram,
    /// Always 1; the labels are the message.
    Info,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum In {
    Bytes,
    Seconds,
    Ratio,
    /// Counted things, named in the metric's name.
    Things,
}

#[derive(Clone, Copy, Debug)]
pub struct Name {
    /// Without unit and `_total`, which the exporter adds.
    pub stem: &'static str,
    pub kind: Kind,
    pub unit: In,
    pub labels: &'static [&'static str],
    /// One sentence without a full stop: the exporter adds it.
    pub help: &'static str,
}

impl Name {
    /// As Prometheus shows it.
    pub fn exposed(&self) -> String {
        let unit = match self.unit {
            In::Bytes => "_bytes",
            In::Seconds => "_seconds",
            In::Ratio => "_ratio",
            In::Things => "",
        };
        let end = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        format!("{}{unit}{end}", self.stem)
    }

    pub fn prometheus_unit(&self) -> Option<Unit> {
        match self.unit {
            In::Bytes => Some(Unit::Bytes),
            In::Seconds => Some(Unit::Seconds),
            In::Ratio => Some(Unit::Other("ratio".to_owned())),
            In::Things => None,
        }
    }
}

const fn name(
    stem: &'static str,
    kind: Kind,
    unit: In,
    labels: &'static [&'static str],
    help: &'static str,
) -> Name {
    Name { stem, kind, unit, labels, help }
}

use In::{Bytes, Ratio, Seconds, Things};
use Kind::{Counter, Gauge, Histogram, Info};

pub const READS: Name = name("headrace_reads", Counter, Things, &[], "Accesses seen on watched mounts");
pub const READ: Name = name("headrace_read", Counter, Bytes, &[], "Bytes read on watched mounts");
pub const COVERED: Name =
    name("headrace_covered", Counter, Bytes, &[], "Read bytes that were in memory when they were read");
pub const COVERAGE: Name =
    name("headrace_coverage", Gauge, Ratio, &[], "Covered bytes by read bytes since the agent's start");
pub const FETCHED: Name =
    name("headrace_fetched", Counter, Bytes, &[], "Bytes the agent asked the stores for");
pub const PREDICTIONS: Name =
    name("headrace_predictions", Counter, Things, &["predictor"], "Predictions made, by who made them");
pub const FATE: Name = name(
    "headrace_prediction",
    Counter,
    Bytes,
    &["predictor", "fate"],
    "Bytes brought in by the agent whose fate is known: hit, late or wasted",
);
pub const PENDING: Name = name(
    "headrace_prediction_pending",
    Gauge,
    Bytes,
    &["predictor"],
    "Bytes brought in by the agent, resident and unread so far",
);
pub const DROPS: Name = name(
    "headrace_ring_buffer_drops",
    Counter,
    Things,
    &["cpu"],
    "Records the kernel side had no room for, by CPU; what was learned meanwhile has holes",
);
pub const RECORDS: Name =
    name("headrace_records", Counter, Things, &["kind"], "Observations folded into the core, by kind");
pub const FILES: Name = name("headrace_files_known", Gauge, Things, &[], "Files the core keeps state of");
pub const WORKLOADS: Name =
    name("headrace_workloads_known", Gauge, Things, &[], "Workloads the core keeps state of");
pub const FETCHES: Name =
    name("headrace_fetches", Counter, Things, &["outcome"], "Fetches that ended, by how they ended");
pub const QUEUED: Name = name("headrace_fetch_queue_depth", Gauge, Things, &[], "Fetches waiting");
pub const IN_FLIGHT: Name = name("headrace_fetches_in_flight", Gauge, Things, &[], "Fetches under way");
pub const MISS_LATENCY: Name = name(
    "headrace_miss_latency",
    Histogram,
    Seconds,
    &[],
    "Time from the first page added to the read's end; exact percentiles are in `headrace latency`",
);
pub const PROFILES: Name = name(
    "headrace_profiles",
    Counter,
    Things,
    &["outcome"],
    "Learned profiles by what became of their file: stored, failed or quarantined",
);
pub const RECORDER_DROPS: Name = name(
    "headrace_recorder_drops",
    Counter,
    Things,
    &[],
    "Observations missing in a recording because its client was slow",
);
pub const REFUSALS: Name = name(
    "headrace_api_refusals",
    Counter,
    Things,
    &["code"],
    "Questions answered with an error, by gRPC status code",
);
pub const LAG: Name = name(
    "headrace_event_stream_lag",
    Counter,
    Things,
    &[],
    "Events skipped for clients that were too slow, summed over clients",
);
pub const PLAN: Name = name(
    "headrace_plan",
    Info,
    Things,
    &["plan", "version"],
    "How the kernel is being watched, and by which version of the agent",
);
pub const MEMORY_PRESSURE: Name = name(
    "headrace_memory_pressure",
    Gauge,
    Ratio,
    &[],
    "Share of the last ten seconds in which some task waited for memory (PSI some avg10)",
);
pub const MEMORY_AVAILABLE: Name =
    name("headrace_memory_available", Gauge, Bytes, &[], "MemAvailable as the core last saw it");
pub const SCRAPE_OK: Name = name(
    "headrace_engine_answered",
    Gauge,
    Things,
    &[],
    "1 when the engine answered this scrape in time; 0 means that the core's values are old",
);

/// The whole table, in the order of docs/metrics.md.
pub const ALL: [Name; 24] = [
    READS,
    READ,
    COVERED,
    COVERAGE,
    FETCHED,
    PREDICTIONS,
    FATE,
    PENDING,
    DROPS,
    RECORDS,
    FILES,
    WORKLOADS,
    FETCHES,
    QUEUED,
    IN_FLIGHT,
    MISS_LATENCY,
    PROFILES,
    RECORDER_DROPS,
    REFUSALS,
    LAG,
    PLAN,
    MEMORY_PRESSURE,
    MEMORY_AVAILABLE,
    SCRAPE_OK,
];

/// The text of docs/metrics.md.
pub fn document() -> String {
    let mut text = String::from(DOCUMENT_HEAD);
    for name in ALL {
        let kind = match name.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        };
        let labels = match name.labels {
            [] => "–".to_owned(),
            labels => labels.join(", "),
        };
        text.push_str(&format!("| `{}` | {kind} | {labels} | {} |\n", name.exposed(), name.help));
    }
    text
}

const DOCUMENT_HEAD: &str = "\
# Metrics

`headrace agent --metrics 127.0.0.1:9464` serves these on `/metrics` as OpenMetrics text, which Prometheus
reads. Without the flag nothing listens. A unit at the end of a name is the unit of its values.

No label carries a path, a pod or a user: what belongs to one workload or file is in `headrace workloads`,
`headrace files` and `headrace ledger`, which ask over gRPC.

This page is written by `agent/src/metrics/names.rs`; a test compares the two
(`HEADRACE_BLESS=1 cargo test -p agent metrics` writes it again).

| name | kind | labels | meaning |
|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_lists_what_is_exposed() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        if std::env::var_os("HEADRACE_BLESS").is_some() {
            std::fs::write(page, document()).unwrap();
        }
        let written = std::fs::read_to_string(page).unwrap_or_default();
        assert_eq!(
            written,
            document(),
            "docs/metrics.md differs from names.rs: run HEADRACE_BLESS=1 cargo test -p agent metrics"
        );
    }

    #[test]
    fn names_are_unique_and_prefixed() {
        let mut names: Vec<_> = ALL.iter().map(Name::exposed).collect();
        assert!(names.iter().all(|name| name.starts_with("headrace_")));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
