//! What the operator counts, and how Prometheus sees it. Names and meanings are in `names` alone.

pub mod names;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::reconcile::controller::Counts;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Look {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    looks: Family<Look, Counter>,
    objects: Family<Kind, Gauge>,
    leading: Gauge,
    terms: Counter<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let looks = Family::<Look, Counter>::default();
        let objects = Family::<Kind, Gauge>::default();
        let leading = Gauge::default();
        let terms = Counter::default();
        registry.register(names::LOOKS.0, names::LOOKS.1, looks.clone());
        registry.register(names::OBJECTS.0, names::OBJECTS.1, objects.clone());
        registry.register(names::LEADING.0, names::LEADING.1, leading.clone());
        registry.register(names::TERMS.0, names::TERMS.1, terms.clone());
        Self { registry: Arc::new(registry), looks, objects, leading, terms }
    }
}

impl Metrics {
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
