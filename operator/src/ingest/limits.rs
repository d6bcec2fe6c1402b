//! What one agent may take: the bounds it is told of in Welcome, and the pace that holds it to them.

use std::time::{Duration, Instant};

use operator_api::report::v1 as wire;

/// Bounds for each agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of one message.
    pub message_bytes: u32,
    /// Ranges in one report.
    pub ranges: u32,
    /// Residency, version, demand and pattern entries in one report.
    pub entries: u32,
    /// Reports under way without an Ack.
    pub window: u32,
    /// Between reports that are not parts of one snapshot.
    pub interval: Duration,
    /// Runs of chunks that the inventory keeps of one node.
    pub runs: u32,
    /// Connections with a certificate.
    pub connections: usize,
    /// A stream that says nothing for so long is ended.
    pub silence: Duration,
    /// How soon Hello must come.
    pub greeting: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // 4,096 ranges are 8,192 varints of 1 to 5 bytes; the rest is for entries and instructions in hand.
            message_bytes: 128 << 10,
            ranges: 4_096,
            entries: 1_024,
            window: 4,
            interval: Duration::from_secs(5),
            runs: 65_536,
            // Kubernetes' own bound is 5,000 nodes; old connections overlap with new ones for a moment.
            connections: 8_192,
            silence: Duration::from_secs(60),
            greeting: Duration::from_secs(10),
        }
    }
}

impl Limits {
    pub(super) fn told(&self) -> wire::Limits {
        let Self {
            message_bytes,
            ranges,
            entries,
            window,
            interval,
            runs,
            connections: _,
            silence: _,
            greeting: _,
        } = *self;
        let interval_ms = u32::try_from(interval.as_millis()).unwrap_or(u32::MAX);
        wire::Limits { message_bytes, ranges, entries, window, interval_ms, runs }
    }
}

/// What a node may still send: it fills with time, and outlives the node's connections, so that coming again
/// buys nothing.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    messages: f64,
    ranges: f64,
    last: Instant,
}

/// An agent sends a report each interval, a word on instructions a second at most and some profiles: four times that,
/// and a burst that holds three whole snapshots.
const MESSAGES_PER_SECOND: f64 = 8.0;
const MESSAGES: f64 = 256.0;
const RANGES_PER_SECOND: f64 = 4_096.0;
const RANGES: f64 = 3.0 * 65_536.0;

impl Allowance {
    pub fn new(now: Instant) -> Self {
        Self { messages: MESSAGES, ranges: RANGES, last: now }
    }

    /// Takes a message with so many ranges out; false when that is more than there is.
    pub fn take(&mut self, ranges: u32, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.last).as_secs_f64();
        self.last = now;
        self.messages = (self.messages + passed * MESSAGES_PER_SECOND).min(MESSAGES);
        self.ranges = (self.ranges + passed * RANGES_PER_SECOND).min(RANGES);
        let enough = self.messages >= 1.0 && self.ranges >= f64::from(ranges);
        if enough {
            self.messages -= 1.0;
            self.ranges -= f64::from(ranges);
        }
        enough
    }
}
