//! Figures: what every benchmark of the project prints, as JSON for machines and as a table for people.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub case: String,
    pub metric: String,
    pub value: f64,
    pub low: f64,
    pub high: f64,
    pub unit: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub bench: String,
    pub figures: Vec<Figure>,
}

/// The lower quartile: what a stretch takes when no other process is on the processor.
pub fn quartile(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 4).copied()
}

/// Median of several measurements, with the least and the greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    /// None of no values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), low, high })
    }

    /// The ratio of two measured things; the spread is the widest that the measurements allow.
    pub fn over(self, other: Self) -> Self {
        Self { median: self.median / other.median, low: self.low / other.high, high: self.high / other.low }
    }

    /// A fixed thing over a measured one.
    pub fn under(self, fixed: f64) -> Self {
        Self { median: fixed / self.median, low: fixed / self.high, high: fixed / self.low }
    }

    pub fn figure(self, case: &str, metric: &str, unit: &str) -> Figure {
        Figure {
            case: case.to_owned(),
            metric: metric.to_owned(),
            value: self.median,
            low: self.low,
            high: self.high,
            unit: unit.to_owned(),
        }
    }
}

impl Report {
    pub fn table(&self) -> String {
        let mut text = format!("{}\n", self.bench);
        let _ = writeln!(
            text,
            "{:<18} {:<16} {:>10} {:>10} {:>10}  unit",
            "case", "metric", "value", "low", "high"
        );
        let mut last = "";
        for figure in &self.figures {
            let case = if figure.case == last { "" } else { &figure.case };
            last = &figure.case;
            let _ = writeln!(
                text,
                "{case:<18} {:<16} {:>10.3} {:>10.3} {:>10.3}  {}",
                figure.metric, figure.value, figure.low, figure.high, figure.unit
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_widest_ratios() {
        assert_eq!(Spread::of([]), None);
        let without = Spread::of([10.0, 12.0]).unwrap();
        assert_eq!(without, Spread { median: 11.0, low: 10.0, high: 12.0 });
        let with = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!(without.over(with), Spread { median: 5.5, low: 10.0 / 3.0, high: 12.0 });
        assert_eq!(with.under(6.0), Spread { median: 3.0, low: 2.0, high: 6.0 });
    }
}
