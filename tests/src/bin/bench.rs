//! `bench NAME`: runs a benchmark as root and prints its figures (see docs/benchmarks.md).

use anyhow::Result;
use clap::{Parser, ValueEnum};
use tests::bench::figure::Report;
use tests::bench::lab::{self, Subject};
use tests::bench::{datasets, first_light, overhead, peers, reporting, steering};
use tests::hygiene;

/// Thousands of simulated agents share this process: no node's agent has such a heap, and its time is not theirs.
#[cfg(target_arch = "x86_64")]
#[global_allocator]
static HEAP: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    FirstLight,
    Overhead,
    OverheadPeers,
    Operator,
}

#[derive(Debug, Parser)]
#[command(about = "Benchmarks of the agent, which need root, and of the operator")]
struct Args {
    name: Name,
    /// One JSON object on standard output instead of a table.
    #[arg(long)]
    json: bool,
    /// Only this case; may be given several times.
    #[arg(long)]
    case: Vec<String>,
    /// The second table: the small-file cases with open charged.
    #[arg(long)]
    open_charged: bool,
    /// The headrace binary (default: beside this program); `none`, or `oracle:DEPTH` in its place.
    #[arg(long)]
    agent: Option<Subject>,
    /// Timed runs of each kind; figures that count take 5.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Nodes of the cluster in `extender`, `reports` and `restart`; figures that count take 5,000.
    #[arg(long)]
    nodes: Option<u32>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    hygiene::on_signals()?;
    for at in hygiene::remove_stale()? {
        eprintln!("removed the mount {} that an earlier run had left", at.display());
    }
    let subject = match args.agent {
        Some(subject) => subject,
        None => Subject::Agent(lab::program("headrace")?),
    };
    let Args { name, json, case, open_charged, agent: _, repeats, nodes } = args;
    let report = match name {
        Name::FirstLight => {
            first_light::run(&first_light::Options { subject, cases: case, open_charged, repeats })?
        }
        Name::Overhead => overhead::run(&overhead::Options { subject, cases: case, repeats })?,
        Name::OverheadPeers => peers::run(&peers::Options { subject, cases: case, repeats })?,
        Name::Operator => operator(&case, repeats, nodes)?,
    };
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", report.table());
    }
    Ok(())
}

/// The operator's cases; all of them when none is named.
fn operator(cases: &[String], repeats: usize, nodes: Option<u32>) -> Result<Report> {
    let chosen = |name: &str| cases.is_empty() || cases.iter().any(|case| case == name);
    let mut figures = Vec::new();
    if chosen("datasets") {
        let operator = lab::program("headrace-operator")?;
        figures.extend(datasets::run(&datasets::Options { operator, datasets: 1_000, repeats })?);
    }
    figures.extend(steering::run(&steering::Options { cases: cases.to_vec(), repeats, nodes })?);
    if reporting::CASES.iter().any(|case| chosen(case)) {
        figures.extend(reporting::run(&reporting::Options { cases: cases.to_vec(), nodes })?);
    }
    anyhow::ensure!(!figures.is_empty(), "no case is called {}: see docs/benchmarks.md", cases.join(", "));
    Ok(Report { bench: "operator".to_owned(), figures })
}
