//! A run's figures, side by side for all ways to place.

use crate::bench::figure::{Figure, Report};

use super::cluster::{Cluster, Scenario, Size};
use super::headrace::Headrace;
use super::policy::{Alone, Labels, Policy, Scattered};
use super::world::{Tally, World};

#[derive(Clone, Debug)]
pub struct Options {
    pub size: Size,
    pub scenarios: Vec<Scenario>,
    pub seed: u64,
    /// Only these ways to place; none: all.
    pub ways: Vec<String>,
}

/// What one way to place came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub way: &'static str,
    pub tally: Tally,
    /// The busiest hundredth of nodes over the mean, by bytes sent to others; and by bytes held.
    pub send_imbalance: f64,
    pub hold_imbalance: f64,
}

pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Report {
    let mut figures = Vec::new();
    for scenario in &options.scenarios {
        for way in ["none", "random", "labels", "headrace"] {
            if !options.ways.is_empty() && !options.ways.iter().any(|w| w == way) {
                continue;
            }
            progress(&format!("{} with {way}", scenario.name()));
            let outcome = once(options.size, *scenario, options.seed, way);
            figures.extend(outcome.figures(scenario.name()));
        }
    }
    Report { bench: "sim".to_owned(), figures }
}

/// One scenario with one way to place.
pub fn once(size: Size, scenario: Scenario, seed: u64, way: &str) -> Outcome {
    let world = World::new(Cluster::new(size, scenario, seed), seed);
    let mut policy: Box<dyn Policy> = match way {
        "none" => Box::new(Alone),
        "random" => Box::new(Scattered::new(seed)),
        "labels" => Box::new(Labels::default()),
        _ => Box::new(Headrace::new(&world)),
    };
    let world = world.run(policy.as_mut());
    let held: Vec<u64> = (0..world.up.len()).filter_map(|n| Some(world.cache(n)?.bytes())).collect();
    Outcome {
        way: policy.name(),
        tally: world.tally,
        send_imbalance: imbalance(&world.served),
        hold_imbalance: imbalance(&held),
    }
}

fn imbalance(values: &[u64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let mean = sorted.iter().map(|v| *v as f64).sum::<f64>() / sorted.len().max(1) as f64;
    let busy = sorted.get(sorted.len().saturating_sub(1 + sorted.len() / 100)).copied().unwrap_or_default();
    if mean > 0.0 { busy as f64 / mean } else { 0.0 }
}

impl Outcome {
    pub fn hit_share(&self) -> f64 {
        share(self.tally.local, self.tally.read)
    }

    /// How often what was read was read from the store.
    pub fn store_passes(&self) -> f64 {
        share(self.tally.store, self.tally.distinct)
    }

    fn figures(&self, scenario: &str) -> Vec<Figure> {
        let tb = |bytes: u64| bytes as f64 / 1e12;
        let Tally { read, near, store, peer, ordered, waited, done, killed, homeless, .. } = self.tally;
        let rows = [
            ("hit_share", self.hit_share(), "of bytes read"),
            ("near_share", share(near, read), "of bytes read"),
            ("store", tb(store), "TB"),
            ("store_passes", self.store_passes(), "per distinct byte"),
            ("moved", tb(store + peer), "TB"),
            ("ordered", tb(ordered), "TB"),
            ("read", tb(read), "TB"),
            ("waited", share(waited, waited + read), "of what could be read"),
            ("send_imbalance", self.send_imbalance, "p99 over mean"),
            ("hold_imbalance", self.hold_imbalance, "p99 over mean"),
            ("pods_done", done as f64, "pods"),
            ("pods_killed", killed as f64, "pods"),
            ("pods_homeless", homeless as f64, "pods times ticks"),
        ];
        let case = format!("{scenario}/{}", self.way);
        let figure = |(metric, value, unit): (&str, f64, &str)| Figure {
            case: case.clone(),
            metric: metric.to_owned(),
            value,
            low: value,
            high: value,
            unit: unit.to_owned(),
        };
        rows.into_iter().map(figure).collect()
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
