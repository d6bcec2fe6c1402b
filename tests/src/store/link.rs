//! When an answer leaves the store: the whole timing model, without a clock.
//!
//! A request that arrives at `a` is ready at `r = a + latency + jitter` (jitter uniform in `0..=jitter`,
//! off by default). Its answer of `n` payload bytes starts to leave at `s = max(r, free)`, where `free` is
//! when the answer before it in order of arrival had left, and has left at `s + n / bandwidth`, which
//! becomes `free`. So the link is one queue, first in first out by arrival: a look-up behind a megabyte of
//! data waits for the megabyte. Payload is file data and directory entries; look-ups weigh nothing.
//! The times are computed, not measured: a late wake-up of the store delays one answer, not the link.

use std::time::Duration;

use crate::store::content::mix;

#[derive(Debug)]
pub struct Link {
    latency: u64,
    jitter: u64,
    /// Bytes a second; none is infinite.
    bandwidth: Option<u64>,
    free: u64,
    draws: u64,
}

impl Link {
    pub fn new(latency: Duration, bandwidth: Option<u64>, jitter: Duration, seed: u64) -> Self {
        Self {
            latency: nanos(latency),
            jitter: nanos(jitter),
            bandwidth: bandwidth.filter(|rate| *rate > 0),
            free: 0,
            draws: mix(seed),
        }
    }

    /// When an answer of `bytes` to a request that arrived at `arrival` has left. Never decreases from
    /// call to call.
    pub fn leave(&mut self, arrival: u64, bytes: u64) -> u64 {
        let jitter = match self.jitter {
            0 => 0,
            most => {
                self.draws = self.draws.wrapping_add(1);
                mix(self.draws) % (most + 1)
            }
        };
        let ready = arrival.saturating_add(self.latency).saturating_add(jitter);
        let passing = match self.bandwidth {
            None => 0,
            Some(rate) => (u128::from(bytes) * 1_000_000_000 / u128::from(rate)) as u64,
        };
        self.free = ready.max(self.free).saturating_add(passing);
        self.free
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn latency_overlaps_and_bandwidth_does_not() {
        let mut link = Link::new(Duration::from_millis(5), Some(40_000_000), Duration::ZERO, 0);
        // 40 KB take 1 ms of this link.
        assert_eq!(link.leave(0, 40_000), 6 * MS);
        assert_eq!(link.leave(0, 40_000), 7 * MS);
        assert_eq!(link.leave(MS, 0), 7 * MS, "a look-up waits its turn");
        assert_eq!(link.leave(100 * MS, 40_000), 106 * MS, "an idle link costs latency once");
    }

    #[test]
    fn jitter_is_bounded_and_repeats_with_the_seed() {
        let times = |seed| {
            let mut link = Link::new(Duration::from_millis(5), None, Duration::from_millis(2), seed);
            (0..100).map(|n| link.leave(n * 10 * MS, 1) - n * 10 * MS).collect::<Vec<_>>()
        };
        assert_eq!(times(1), times(1));
        assert_ne!(times(1), times(2));
        assert!(times(1).iter().all(|time| (5 * MS..=7 * MS).contains(time)));
    }
}
