//! `cargo xtask cluster`: the test cluster's programs made ready, then the terminal handed over to the
//! program of the package tests that starts, ends and shows it.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::place::Place;
use crate::setup::{self, Purpose};
use crate::step;

/// What is handed on as it is: `up`, `down`, `status` and their options.
pub fn run(place: &Place, arguments: &[String]) -> Result<()> {
    // `down` and `status` must work on a machine whose programs have been removed since.
    let purpose =
        if arguments.first().is_some_and(|task| task == "up") { Purpose::Cluster } else { Purpose::Build };
    setup::provide(place, purpose, false)?;
    let mut build = place.cargo();
    build.args(["build", "--locked", "-p", "tests", "--bin", "cluster"]);
    step::stream(build).context("the program that starts the cluster")?;
    let program = place.target()?.join("debug/cluster");
    let error = Command::new(&program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}
