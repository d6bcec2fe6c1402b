//! Times of a Cron operation.

use cronexpr::{Crontab, FallbackTimezoneOption, MakeTimestamp, ParseOptions};
use k8s_openapi::jiff::Timestamp;

/// A crontab line in a time zone.
#[derive(Clone, Debug)]
pub struct Schedule {
    crontab: Crontab,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("schedule '{text}' has {found} fields: minute, hour, day, month and weekday make five")]
    Fields { text: String, found: usize },
    #[error("schedule '{text}' or its time zone {zone} is not understood: {why}")]
    Malformed { text: String, zone: String, why: String },
    #[error("schedule '{text}' does not come within four years: choose a day that exists")]
    Never { text: String },
}

impl Schedule {
    /// Five fields as in crontab; the zone by its IANA name, UTC when absent.
    pub fn parse(text: &str, zone: Option<&str>) -> Result<Self, ScheduleError> {
        let fields = text.split_ascii_whitespace().count();
        // A sixth field would be taken for a time zone: that has a field of its own.
        if fields != 5 {
            return Err(ScheduleError::Fields { text: text.into(), found: fields });
        }
        let zone = zone.unwrap_or("UTC");
        let malformed = |why: String| ScheduleError::Malformed {
            text: text.into(),
            zone: zone.into(),
            why: why.split_whitespace().collect::<Vec<_>>().join(" "),
        };
        if zone.is_empty() || zone.contains(char::is_whitespace) {
            return Err(malformed("a time zone is one word, such as Europe/Berlin".into()));
        }
        let mut options = ParseOptions::default();
        options.fallback_timezone_option = FallbackTimezoneOption::None;
        let crontab = cronexpr::parse_crontab_with(&format!("{text} {zone}"), options)
            .map_err(|error| malformed(error.to_string()))?;
        Ok(Self { crontab })
    }

    /// The first time after a moment; none within four years.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let from = MakeTimestamp::from_second(after.as_second()).ok()?;
        self.crontab.find_next(from).ok().map(|zoned| zoned.timestamp())
    }
}

/// Whether a schedule is one: understood, and with a next time.
pub fn check(text: &str, zone: Option<&str>, from: Timestamp) -> Result<(), ScheduleError> {
    let schedule = Schedule::parse(text, zone)?;
    schedule.next(from).map(|_| ()).ok_or_else(|| ScheduleError::Never { text: text.into() })
}
