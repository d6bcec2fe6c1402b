//! What time it is: the apiserver's, wherever this replica's own clock is far from it.
//!
//! Times that one replica writes (when a run began, when to try again) are compared with the next one's clock. Clocks of two
//! machines may be ten minutes apart, which would stop a healthy run at its deadline, or wait ten minutes for nothing. Every
//! replica talks to the apiserver all the time, and each answer says what time it is there (the header Date, in seconds), so
//! that is the clock that they share. One that is right within seconds is left as it is: nothing here is that exact.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, header};
use k8s_openapi::jiff::fmt::rfc2822::DateTimeParser;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::inventory::Millis;

/// Seconds by which an own clock may be wrong without being corrected: answers are late, and Date has whole seconds.
const TOLERATED: i64 = 10;

/// Answers in a row that must agree before a correction changes: one may have been under way for long.
const AGREED: u32 = 3;

static OFFSET: AtomicI64 = AtomicI64::new(0);
static SENSE: Mutex<Sense> = Mutex::new(Sense { offset: 0, heard: 0, agreed: 0 });

/// The time that everything which others compare is written with.
pub fn now() -> Timestamp {
    corrected(Timestamp::now(), OFFSET.load(Relaxed))
}

/// The same as the clock of facts: milliseconds since 1970.
pub fn millis() -> Millis {
    Millis(u64::try_from(now().as_millisecond()).unwrap_or(0))
}

fn corrected(own: Timestamp, offset: i64) -> Timestamp {
    own.checked_add(SignedDuration::from_secs(offset)).unwrap_or(own)
}

/// Learns from the head of an answer of the apiserver's.
pub fn hear(headers: &HeaderMap) {
    let date = headers.get(header::DATE).and_then(|date| date.to_str().ok());
    let Some(there) = date.and_then(|date| DateTimeParser::new().parse_timestamp(date).ok()) else { return };
    let changed = SENSE.lock().unwrap_or_else(PoisonError::into_inner).hear(there, Timestamp::now());
    let Some(offset) = changed else { return };
    OFFSET.store(offset, Relaxed);
    if offset == 0 {
        tracing::info!("this machine's clock is the apiserver's again");
    } else {
        tracing::warn!(
            "this machine's clock is {} s {} the apiserver's: times are written by the apiserver's; have the machine's clock \
             set (NTP), or certificates will be refused one day",
            offset.abs(),
            if offset > 0 { "behind" } else { "ahead of" },
        );
    }
}

/// What answers have said of the difference.
#[derive(Debug)]
struct Sense {
    /// The correction in use, in seconds.
    offset: i64,
    /// The last difference, and how many in a row were like it.
    heard: i64,
    agreed: u32,
}

impl Sense {
    /// The correction from now on, where it is another.
    fn hear(&mut self, there: Timestamp, here: Timestamp) -> Option<i64> {
        let difference = there.as_second().saturating_sub(here.as_second());
        let alike = difference.abs_diff(self.heard) <= TOLERATED.unsigned_abs();
        self.agreed = if alike { self.agreed.saturating_add(1) } else { 1 };
        if !alike {
            self.heard = difference;
        }
        if self.agreed < AGREED || self.heard.abs_diff(self.offset) <= TOLERATED.unsigned_abs() {
            return None;
        }
        self.offset = if self.heard.abs() <= TOLERATED { 0 } else { self.heard };
        Some(self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    fn sense() -> Sense {
        Sense { offset: 0, heard: 0, agreed: 0 }
    }

    #[test]
    fn a_clock_that_is_nearly_right_is_left_alone() {
        let mut sense = sense();
        for late in [0, 1, 4, 9, 0, 10, 2] {
            assert_eq!(sense.hear(at(100 - late), at(100)), None, "{late}");
        }
    }

    #[test]
    fn what_answers_agree_on_is_believed_and_one_alone_is_not() {
        let mut sense = sense();
        assert_eq!(sense.hear(at(700), at(100)), None);
        assert_eq!(sense.hear(at(100), at(100)), None, "it was one alone");
        for _ in 0..2 {
            assert_eq!(sense.hear(at(701), at(100)), None);
        }
        assert_eq!(sense.hear(at(699), at(100)), Some(601));
        assert_eq!(sense.hear(at(700), at(100)), None, "known");
        assert_eq!(corrected(at(100), 601), at(701));
        // Somebody has set it.
        for _ in 0..2 {
            assert_eq!(sense.hear(at(700), at(702)), None);
        }
        assert_eq!(sense.hear(at(700), at(701)), Some(0));
    }

    #[test]
    fn no_date_is_taken_for_none() {
        let mut headers = HeaderMap::new();
        for text in ["", "yesterday", "Tue, 99 Foo 2026 00:00:00 GMT", "\u{fffd}"] {
            headers.insert(header::DATE, http::HeaderValue::from_bytes(text.as_bytes()).unwrap());
            hear(&headers);
        }
        assert!(now().duration_since(Timestamp::now()).abs() < SignedDuration::from_secs(5));
        let parsed = DateTimeParser::new().parse_timestamp("Tue, 01 Dec 2026 23:56:19 GMT");
        assert_eq!(parsed.unwrap(), "2026-12-01T23:56:19Z".parse().unwrap());
    }
}
