//! When to try again.

use std::time::Duration;

/// The first wait: an operator's restart takes about a second.
const FIRST: Duration = Duration::from_millis(200);

/// The longest: 5,000 nodes then knock some two thousand times a second at a door that nobody opens, which
/// costs a machine next to nothing, and are all back three seconds after it opens.
const LONGEST: Duration = Duration::from_secs(3);

/// Doubles from `FIRST` to `LONGEST`; what is waited is drawn from the upper half.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait. `random` is drawn evenly from all values.
    pub fn next(&mut self, random: u64) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(8)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let share = random as f64 / u64::MAX as f64;
        whole / 2 + (whole / 2).mul_f64(share)
    }

    /// A conversation has ended: whether it lasted long enough to begin the next one at once. At its first word nobody
    /// knows: one that is ended each time for what it says would be begun five times a second, by all nodes together. One
    /// that lasts for the longest wait comes again no more often than who waits for that.
    pub fn talked(&mut self, lasted: Duration) -> bool {
        let settled = lasted >= LONGEST;
        if settled {
            self.failures = 0;
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_bounded() {
        let mut backoff = Backoff::default();
        let longest: Vec<Duration> = (0..8).map(|_| backoff.next(u64::MAX)).collect();
        assert_eq!(longest.first(), Some(&FIRST));
        assert!(longest.windows(2).all(|pair| pair[0] <= pair[1]) && longest.last() == Some(&LONGEST));
        for _ in 0..100 {
            assert_eq!(backoff.next(0), LONGEST / 2);
        }
        assert!(!backoff.talked(LONGEST / 2));
        assert_eq!(backoff.next(0), LONGEST / 2, "it was ended at once");
        assert!(backoff.talked(LONGEST));
        assert_eq!(backoff.next(0), FIRST / 2);
    }
}
