//! `cargo xtask demo`, `cargo xtask bench` and `cargo xtask sim`: set up, build optimised, hand the terminal over.
//!
//! The programs are those of the package tests; this module only gets them ready.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::place::{self, Place};
use crate::setup::{self, Purpose};
use crate::{compile, console};

const WHY: &str = "loads BPF programs, mounts a slow store and drops the page cache between runs";

pub fn demo(place: &Place, arguments: &[String]) -> Result<()> {
    place::need_root("`cargo xtask demo`", WHY, "cargo xtask demo")?;
    console::note("Getting ready: the first time, a few minutes of building.");
    start(place, Purpose::Run, "demo", arguments)
}

/// The benchmark that starts other people's tools, which nothing else needs.
const PEERS: &str = "overhead-peers";

/// What `cargo xtask bench` was asked for.
#[derive(Debug, clap::Args)]
pub struct Bench {
    /// Which benchmark: `first-light` (time with and without the agent), `overhead` (cost per read),
    /// `overhead-peers` (the same beside bpftrace, fatrace and strace, which are installed for it), or
    /// `operator` (on a real control plane)
    name: String,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
    /// Only this case; may be given more than once
    #[arg(long, value_name = "CASE")]
    case: Vec<String>,
    /// The small-file cases on a store that charges its latency for opens too
    #[arg(long)]
    open_charged: bool,
    /// Timed runs of each kind (default: 5, as figures that count take)
    #[arg(long, value_name = "N")]
    repeats: Option<usize>,
    /// Nodes in the operator's cases, for a look (default: 5,000)
    #[arg(long, value_name = "N")]
    nodes: Option<u32>,
}

impl Bench {
    fn arguments(&self) -> Vec<String> {
        let Self { name, json, case, open_charged, repeats, nodes } = self;
        let mut arguments = vec![name.clone()];
        if *json {
            arguments.push("--json".to_owned());
        }
        for case in case {
            arguments.extend(["--case".to_owned(), case.clone()]);
        }
        if *open_charged {
            arguments.push("--open-charged".to_owned());
        }
        let counts =
            [("--repeats", repeats.map(|n| n.to_string())), ("--nodes", nodes.map(|n| n.to_string()))];
        for (option, count) in counts {
            arguments.extend(count.into_iter().flat_map(|count| [option.to_owned(), count]));
        }
        arguments
    }
}

pub fn bench(place: &Place, bench: &Bench) -> Result<()> {
    place::need_root("`cargo xtask bench`", WHY, &format!("cargo xtask bench {}", bench.name))?;
    if bench.name == PEERS {
        setup::provide_peers()?;
    }
    let purpose = if bench.name == "operator" { Purpose::Test } else { Purpose::Run };
    start(place, purpose, "bench", &bench.arguments())
}

/// Needs no root: it computes, and touches nothing.
pub fn sim(place: &Place, arguments: &[String]) -> Result<()> {
    setup::provide(place, Purpose::Build, false)?;
    compile::program(place, "sim")?;
    let program = place.target()?.join("release/sim");
    let error = Command::new(&program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

/// Becomes the program, so that signals and exit code are its own.
fn start(place: &Place, purpose: Purpose, name: &str, arguments: &[String]) -> Result<()> {
    setup::provide(place, purpose, false)?;
    compile::measured(place)?;
    let release = place.target()?.join("release");
    let (program, agent) = (release.join(name), release.join("headrace"));
    for needed in [&program, &agent] {
        if !needed.is_file() {
            bail!("the build left no {}: does the package still have that program?", needed.display());
        }
    }
    let error = Command::new(&program).args(arguments).arg("--agent").arg(agent).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_reaches_the_program() {
        let bench = Bench {
            name: "overhead".into(),
            json: true,
            case: vec!["a".into(), "b".into()],
            open_charged: true,
            repeats: Some(3),
            nodes: Some(200),
        };
        let expected = "overhead --json --case a --case b --open-charged --repeats 3 --nodes 200";
        assert_eq!(bench.arguments().join(" "), expected);
    }
}
