//! Looks that fail again and again: how long to wait after each, and when a person hears of it.
//!
//! What the apiserver refuses is in the object's status. What it cannot answer, because an admission webhook of the
//! cluster is away or itself fails, is tried again and would be seen by nobody but who reads the log.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use operator_api::causes::chain;

use super::event::Events;
use super::write::WriteError;

/// Waits after failures in a row.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Failures in a row of which a person is told: 15 s of waits, which an apiserver that changes its leader outlasts seldom.
const TOLD: u32 = 6;

/// So many more, and it is told again: an hour at the longest wait, as long as an apiserver keeps events.
const AGAIN: u32 = 60;

#[derive(Debug)]
pub struct Failing {
    first_wait: Duration,
    /// Failures in a row, by object; as many as there are objects.
    counts: Mutex<HashMap<String, u32>>,
}

impl Default for Failing {
    fn default() -> Self {
        Self { first_wait: FIRST_WAIT, counts: Mutex::default() }
    }
}

impl Failing {
    #[cfg(test)]
    pub(super) fn without_waits() -> Self {
        Self { first_wait: Duration::ZERO, counts: Mutex::default() }
    }

    /// How a look has ended. One that another replica's leading has ended says nothing of the object.
    pub async fn note<T>(
        &self,
        key: &str,
        about: &ObjectReference,
        ended: &Result<T, WriteError>,
        events: &Events,
    ) {
        match ended {
            Ok(_) => self.forget(key),
            Err(WriteError::NotLeading) => {}
            Err(error @ (WriteError::Api { .. } | WriteError::Unseen { .. })) => {
                let count = self.count(key);
                if tells(count) {
                    events.tell(about, true, "ReconcileFailed", &note(error, count)).await;
                }
            }
        }
    }

    pub fn forget(&self, key: &str) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// The wait before the next look.
    pub fn wait(&self, key: &str) -> Duration {
        let failures = self.counts.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied();
        let doublings = failures.unwrap_or_default().saturating_sub(1).min(10);
        self.first_wait.saturating_mul(1 << doublings).min(LONGEST_WAIT)
    }

    fn count(&self, key: &str) -> u32 {
        let mut failures = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key.into()).or_default();
        *count = count.saturating_add(1);
        *count
    }
}

fn tells(count: u32) -> bool {
    count >= TOLD && (count - TOLD).is_multiple_of(AGAIN)
}

fn note(error: &WriteError, count: u32) -> String {
    format!(
        "{count} tries in a row have failed, and nothing more becomes of it until one does not: {}. It is tried again by \
         itself, a minute apart at most. Where a webhook is named, have its pods run again, or delete its configuration; \
         else the apiserver's log says more",
        chain(error)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_doubled_up_to_a_minute_and_begin_anew() {
        let failing = Failing::default();
        let mut waited = Duration::ZERO;
        for millis in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            assert!(!tells(failing.count("a/l")) || waited == Duration::from_millis(15_500), "{waited:?}");
            assert_eq!(failing.wait("a/l"), Duration::from_millis(millis));
            waited += failing.wait("a/l");
        }
        assert_eq!(failing.wait("a/other"), FIRST_WAIT);
        failing.forget("a/l");
        assert_eq!((failing.count("a/l"), failing.wait("a/l")), (1, FIRST_WAIT));
    }
}
