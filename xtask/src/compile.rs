//! Building the workspace; agent/build.rs builds the BPF programs along with the agent.

use anyhow::{Context, Result};

use crate::place::Place;
use crate::step;

/// The workspace's default members, which leave out what is built for BPF only.
pub fn workspace(place: &Place, release: bool, target: Option<&str>) -> Result<()> {
    let mut command = place.cargo();
    command.args(["build", "--locked"]);
    if release {
        command.arg("--release");
    }
    if let Some(triple) = target {
        command.args(["--target", triple]);
    }
    step::stream(command)
}

/// What end-to-end tests, demo and benchmarks start: `headrace`, the operator and the programs of the package tests,
/// optimised, because a debug agent is no measure of anything.
pub fn measured(place: &Place) -> Result<()> {
    let mut command = place.cargo();
    command.args(["build", "--locked", "--release", "-p", "agent", "-p", "operator", "-p", "tests"]);
    step::stream(command).context("the release build that demo, benchmarks and end-to-end tests start")
}
