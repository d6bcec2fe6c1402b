//! `guest-prefetch`: whether prefetch works on the running kernel, for guests (see `cargo xtask vm`).

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use tests::bench::guest;
use tests::bench::lab::{self, Subject};
use tests::hygiene;

#[derive(Debug, Parser)]
#[command(about = "Prefetch on the running kernel, with and without the agent; needs root")]
struct Args {
    /// Only this case; may be given several times.
    #[arg(long)]
    case: Vec<String>,
    /// Also write one line for each case here: plan, case, verdict, milliseconds, detail, by tabs.
    #[arg(long)]
    results: Option<PathBuf>,
}

fn main() -> Result<()> {
    let Args { case, results } = Args::parse();
    hygiene::on_signals()?;
    let subject = Subject::Agent(lab::program("headrace")?);
    guest::run(&subject, &case, results.as_deref())
}
