//! How fast a reader consumes, and how far ahead of it to stay.

use crate::units::Nanos;

/// Time ahead beyond the way of a fetch: outlasts a scheduler's delay on a busy node (a few quanta of a
/// fair scheduler) and the millisecond between two looks at the ring buffer.
const SLACK: Nanos = Nanos::from_millis(60);

/// Seconds that the average looks back: some round trips of a store, few enough to follow a reader that
/// speeds up.
const MEMORY: f64 = 0.05;

/// Bytes a second, averaged over the last `MEMORY`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    bytes_per_sec: f64,
    last: Option<Nanos>,
}

impl Rate {
    pub fn sample(&mut self, bytes: u64, now: Nanos) {
        let Some(last) = self.last.replace(now) else {
            return;
        };
        // Merged records arrive with equal stamps; ten microseconds keep one of them from meaning infinity.
        let secs = now.since(last).as_secs_f64().max(1e-5);
        let sample = bytes as f64 / secs;
        self.bytes_per_sec = if self.bytes_per_sec == 0.0 {
            sample
        } else {
            // An average over time, not over samples: many quick reads between two slow ones are no speed.
            let weight = secs / (secs + MEMORY);
            self.bytes_per_sec * (1.0 - weight) + sample * weight
        };
    }

    pub fn bytes_per_sec(&self) -> f64 {
        self.bytes_per_sec
    }

    /// Bytes to stay ahead: what is consumed while a fetch is on its way, and during the slack. While the
    /// reader still waits for the store its rate is low, but each round that finds its bytes ready raises
    /// the rate, so the distance grows by itself until the reader or the link is the limit.
    pub fn ahead(&self, lead: Nanos) -> u64 {
        let secs = lead.as_secs_f64() + SLACK.as_secs_f64();
        (self.bytes_per_sec * secs).min(1e15) as u64
    }
}
