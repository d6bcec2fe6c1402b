//! How soon a watch that broke is begun again.
//!
//! client-go's limit, half a minute, is kind to an apiserver that a thousand nodes ask. A few replicas with a dozen
//! watches are no burden, and while a quiet watch is away its changes are not seen: a proxy that cuts every
//! connection after a second would make the operator blind for most of the time.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use kube::runtime::utils::Backoff;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(5);

/// A watch that lived so long was no failure.
const GOOD: Duration = Duration::from_secs(30);

/// Doubling waits, each longer by up to a half at random: replicas that lost one apiserver come back one by one.
#[derive(Debug, Default)]
pub struct Pace {
    failures: u32,
    last: Option<Instant>,
    random: RandomState,
}

impl Pace {
    fn wait(&mut self, now: Instant) -> Duration {
        if self.last.is_some_and(|last| now.duration_since(last) > GOOD) {
            self.failures = 0;
        }
        self.last = Some(now);
        let wait = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let share = self.random.hash_one((self.failures, now)) % 1_000;
        wait + wait.mul_f64(share as f64 / 2_000.0)
    }
}

impl Iterator for Pace {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.wait(Instant::now()))
    }
}

impl Backoff for Pace {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_begin_again() {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..40 {
            let wait = pace.wait(now);
            now += wait;
            waits.push(wait);
        }
        assert!(waits[0] >= FIRST && waits[0] <= FIRST * 3 / 2, "{waits:?}");
        assert!(waits[4..].iter().all(|wait| *wait >= FIRST * 16 && *wait <= LONGEST * 3 / 2), "{waits:?}");
        assert!(pace.wait(now + GOOD * 2) <= FIRST * 3 / 2, "after a good time");
        pace.wait(now + GOOD * 2);
        pace.reset();
        assert!(pace.wait(now + GOOD * 2) <= FIRST * 3 / 2, "after an event");
    }
}
