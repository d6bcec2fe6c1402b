//! The hub's own counts, as Prometheus sees them.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::names;
use crate::ingest::{Hub, Tally};

#[derive(Debug)]
pub struct Wire(pub Arc<Hub>);

impl Collector for Wire {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self(hub) = self;
        let mut events =
            encoder.encode_descriptor(names::WIRE.0, names::WIRE.1, None, MetricType::Counter)?;
        for tally in Tally::ALL {
            let event = lower(tally.name());
            let labels = [("event", event.as_str())];
            ConstCounter::new(hub.counts().get(*tally)).encode(events.encode_family(&labels)?)?;
        }
        for (name, value) in [(names::AGENTS, hub.connected()), (names::OPEN, hub.open())] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name.0, name.1, None, MetricType::Gauge)?)?;
        }
        Ok(())
    }
}

/// `UnknownDatasets` is `unknown_datasets`.
fn lower(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    for (at, letter) in name.char_indices() {
        if at > 0 && letter.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}
