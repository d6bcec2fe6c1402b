//! `steering-door NODES DATASETS HOLDERS REPORTS`: the operator's HTTPS edge before a world of that size; says
//! where it listens and ends with its standard input. Started by `bench operator`.

use anyhow::Result;
use clap::Parser;
use tests::bench::steering::door;
use tests::bench::steering::world::World;

#[derive(Debug, Parser)]
struct Args {
    nodes: u32,
    datasets: u32,
    holders: u32,
    /// Reports taken in each second.
    reports: u32,
}

fn main() -> Result<()> {
    let Args { nodes, datasets, holders, reports } = Args::parse();
    door::run(World { nodes, datasets, holders }, reports)
}
