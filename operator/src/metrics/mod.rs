//! What the operator counts, and how Prometheus sees it. Names and meanings are in `names` alone.

pub mod names;

mod wire;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::ingest::Hub;
use crate::reconcile::controller::Counts;
use crate::schedule::leader;

use wire::Wire;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Look {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Passed {
    result: &'static str,
}

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    looks: Family<Look, Counter>,
    objects: Family<Kind, Gauge>,
    leading: Gauge,
    terms: Counter<u64, AtomicU64>,
    passed_on: Family<Passed, Counter>,
}

impl Metrics {
    /// What is counted by the hub itself is asked of it with each scrape.
    pub fn new(hub: Arc<Hub>) -> Self {
        let mut registry = Registry::default();
        let looks = Family::<Look, Counter>::default();
        let objects = Family::<Kind, Gauge>::default();
        let leading = Gauge::default();
        let terms = Counter::default();
        let passed_on = Family::<Passed, Counter>::default();
        registry.register(names::LOOKS.0, names::LOOKS.1, looks.clone());
        registry.register(names::OBJECTS.0, names::OBJECTS.1, objects.clone());
        registry.register(names::LEADING.0, names::LEADING.1, leading.clone());
        registry.register(names::TERMS.0, names::TERMS.1, terms.clone());
        registry.register(names::PASSED_ON.0, names::PASSED_ON.1, passed_on.clone());
        registry.register_collector(Box::new(Wire(hub)));
        Self { registry: Arc::new(registry), looks, objects, leading, terms, passed_on }
    }

    pub fn lead(&self, leading: bool) {
        self.leading.set(i64::from(leading));
        if leading {
            self.terms.inc();
        }
    }

    pub fn objects(&self, kind: &'static str, count: usize) {
        self.objects.get_or_create(&Kind { kind }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// OpenMetrics.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

impl Counts for Metrics {
    fn looked(&self, kind: &'static str, failed: bool) {
        let result = if failed { "failed" } else { "done" };
        self.looks.get_or_create(&Look { kind, result }).inc();
    }
}

impl leader::Counts for Metrics {
    fn passed_on(&self, answered: bool) {
        let result = if answered { "answered" } else { "failed" };
        self.passed_on.get_or_create(&Passed { result }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::{Limits, Tally};

    #[test]
    fn a_scrape_has_every_name_and_the_page_too() {
        let hub = Hub::new(Limits::default(), 1, Arc::default());
        hub.counts().add(Tally::UnknownDatasets, 3);
        let metrics = Metrics::new(hub);
        metrics.lead(true);
        metrics.objects("Dataset", 2);
        metrics.looked("Dataset", false);
        let text = metrics.text();
        assert!(
            text.contains("headrace_operator_wire_events_total{event=\"unknown_datasets\"} 3\n"),
            "{text}"
        );
        assert!(text.contains("headrace_operator_agents 0\n"), "{text}");
        let page = include_str!("../../../docs/operator.md");
        for line in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
            let (name, meaning) = line.split_once(' ').unwrap();
            let kind = format!("# TYPE {name} ");
            let kind = text.lines().find_map(|line| line.strip_prefix(kind.as_str())).unwrap();
            let whole = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
            let row = |line: &str| {
                line.starts_with(&format!("| `{whole}` | {kind} | "))
                    && line.ends_with(&format!(" | {} |", meaning.trim_end_matches('.')))
            };
            assert!(page.lines().any(row), "docs/operator.md lacks a row for {whole}, {kind}: {meaning}");
        }
    }
}
