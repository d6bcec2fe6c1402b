//! What simulated nodes hold, in the operator's own words and without the wire: what its inventory must come to.

use agent::report::ledger::{self, Ledger};
use agent::report::speaker::{Facts, Speaker};
use operator::inventory::{
    Capacity, Change, DatasetReport, Demand, Millis, Pressure, Report, Tier, Version, VersionFacts,
};

/// All that a node has to say, told or not yet told. Each of its Datasets is among its versions: `World::fill`.
pub fn report(speaker: &Speaker) -> Report {
    let Speaker { ledger, facts, .. } = speaker;
    let Facts { capacity, pressure, demand, versions, patterns: _ } = facts;
    let datasets = versions.iter().map(|(dataset, version)| {
        let learned = VersionFacts {
            version: Version(version.version),
            bytes: Some(version.bytes),
            files: Some(version.files),
            at: Millis(version.seen_ms),
        };
        let demand = demand.get(dataset).map(|demand| Demand {
            readers: demand.readers,
            rate: demand.rate,
            hit: demand.hit,
            miss: demand.miss,
        });
        DatasetReport {
            dataset: dataset.clone(),
            learned: Some(learned),
            changes: changes(ledger, dataset),
            demand,
        }
    });
    Report {
        session: 1,
        sequence: 1,
        whole: true,
        datasets: datasets.collect(),
        capacity: capacity.as_ref().map(|told| Capacity { ram: told.ram_bytes, cache: told.cache_bytes }),
        pressure: pressure.as_ref().map(|told| Pressure {
            memory: u16::try_from(told.memory_permille).unwrap_or(u16::MAX),
            io: u16::try_from(told.io_permille).unwrap_or(u16::MAX),
        }),
    }
}

fn changes(ledger: &Ledger, dataset: &str) -> Vec<Change> {
    let held = ledger.keys().filter(|key| &*key.dataset == dataset).filter_map(|key| {
        let holding = ledger.get(key)?;
        Some(Change {
            version: Version(key.version),
            tier: match key.tier {
                ledger::Tier::PageCache => Tier::Ram,
                ledger::Tier::Cache => Tier::Cache,
            },
            removed: Vec::new(),
            added: holding.whole.spans().iter().map(|&(start, end)| start..end).collect(),
            partial: Some(holding.partial),
        })
    });
    held.collect()
}
