//! `sim`: placement on synthetic clusters, beside simpler ways to place (see docs/placement.md).

use std::time::Instant;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use tests::sim::cluster::{Scenario, Size};
use tests::sim::{Options, run};

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scale {
    /// 60 nodes, 120 Datasets, 600 pods
    Small,
    /// 500 nodes, 1,000 Datasets, 5,000 pods
    Medium,
    /// 5,000 nodes, 10,000 Datasets, 50,000 pods
    Large,
}

#[derive(Debug, Parser)]
#[command(about = "Replays synthetic clusters; the same seed gives the same figures")]
struct Args {
    #[arg(long, value_enum, default_value_t = Scale::Small)]
    size: Scale,
    /// Only this scenario; may be given several times.
    #[arg(long, value_enum)]
    case: Vec<Scenario>,
    /// Only this way to place (none, random, labels, headrace); may be given several times.
    #[arg(long, value_parser = ["none", "random", "labels", "headrace"])]
    way: Vec<String>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON object on standard output instead of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    let Args { size, case, way, seed, json } = Args::parse();
    let size = match size {
        Scale::Small => Size::SMALL,
        Scale::Medium => Size::MEDIUM,
        Scale::Large => Size::LARGE,
    };
    let scenarios = if case.is_empty() { Scenario::ALL.to_vec() } else { case };
    let start = Instant::now();
    let mut progress = |what: &str| eprintln!("{:6.1} s  {what}", start.elapsed().as_secs_f64());
    let report = run(&Options { size, scenarios, seed, ways: way }, &mut progress);
    eprintln!("{:6.1} s  done", start.elapsed().as_secs_f64());
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", report.table());
    }
    Ok(())
}
