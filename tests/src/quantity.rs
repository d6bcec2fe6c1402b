//! Byte counts and durations as people write them on a command line.
//!
//! `40k` is 40,000 and `256Ki` is 262,144, as in Kubernetes; a rate is bytes a second. Durations take
//! `us`, `ms` and `s`.

use std::time::Duration;

/// Why a quantity was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum QuantityError {
    #[error(
        "`{text}` is no byte count: write digits and then nothing, k, M, G (thousands) or Ki, Mi, Gi (1,024s)"
    )]
    Bytes { text: String },
    #[error("`{text}` is no duration: write digits and then us, ms or s, as in 5ms")]
    Duration { text: String },
}

fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(end)
}

/// Reads `40k`, `256Ki`, `1Gi`; the unit may be in either case.
pub fn bytes(text: &str) -> Result<u64, QuantityError> {
    let refused = || QuantityError::Bytes { text: text.to_owned() };
    let (digits, unit) = split(text.trim());
    let unit_bytes: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1_000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "ki" => 1 << 10,
        "mi" => 1 << 20,
        "gi" => 1 << 30,
        _ => return Err(refused()),
    };
    let count: u64 = digits.parse().map_err(|_| refused())?;
    count.checked_mul(unit_bytes).ok_or_else(refused)
}

/// Reads `50us`, `5ms`, `1.5s`, and `0`.
pub fn duration(text: &str) -> Result<Duration, QuantityError> {
    let refused = || QuantityError::Duration { text: text.to_owned() };
    let (digits, unit) = split(text.trim());
    let count: f64 = digits.parse().map_err(|_| refused())?;
    let seconds = match unit {
        "us" => count / 1e6,
        "ms" => count / 1e3,
        "s" => count,
        "" if count == 0.0 => 0.0,
        _ => return Err(refused()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| refused())
}

/// Says a byte count in three digits, in thousands: `41.0 MB`.
pub fn say_bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_told_apart() {
        assert_eq!(bytes("40k"), Ok(40_000));
        assert_eq!(bytes("256Ki"), Ok(262_144));
        assert_eq!(bytes("1gi"), Ok(1 << 30));
        assert!(bytes("1x").is_err());
        assert!(bytes("").is_err());
        assert!(bytes("99999999999999999999g").is_err());
        assert_eq!(duration("5ms"), Ok(Duration::from_millis(5)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(duration("5").is_err());
        assert!(duration("-1s").is_err());
        assert_eq!(say_bytes(999), "999 B");
        assert_eq!(say_bytes(41_000_000), "41.0 MB");
    }
}
