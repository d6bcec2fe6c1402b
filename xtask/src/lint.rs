//! `cargo xtask lint`: formatting, clippy, and tidy.

use std::env;

use anyhow::{Context, Result, bail};

use crate::place::Place;
use crate::setup::cross;
use crate::step;
use crate::tidy;

pub fn all(place: &Place, bless: bool) -> Result<()> {
    // All three are worth seeing at once.
    let results = [format(place), clippy(place), tidy(place, bless)];
    let failures: Vec<String> =
        results.into_iter().filter_map(|r| r.err().map(|error| format!("{error:#}"))).collect();
    if failures.is_empty() {
        return Ok(());
    }
    bail!("{}", failures.join("\n"))
}

pub fn format(place: &Place) -> Result<()> {
    let mut command = place.cargo();
    command.args(["fmt", "--all", "--check"]);
    step::stream(command).context("the tree is not formatted: run `cargo fmt --all`")
}

/// Warnings stop CI only: while somebody works, a warning is a note and not a wall.
pub fn clippy(place: &Place) -> Result<()> {
    let mut command = place.cargo();
    command.args(["clippy", "--locked", "--all-targets"]);
    if env::var_os("CI").is_some_and(|ci| ci == "true") {
        command.args(["--", "-D", "warnings"]);
    }
    step::stream(command).context("clippy has found something (shown above)")
}

/// The agent and its BPF programs, for the registers and types of the other machine: nothing of x86 is assumed.
/// Compiled without code for the agent, because that is what costs; `cargo xtask build --target` makes it.
pub fn other_machine(place: &Place) -> Result<()> {
    let mut command = place.cargo();
    command.args(["check", "--locked", "-p", "agent", "--target", cross::OTHER]);
    cross::link(&mut command, cross::OTHER);
    step::stream(command).with_context(|| format!("the agent does not compile for {}", cross::OTHER))
}

pub fn tidy(place: &Place, bless: bool) -> Result<()> {
    if bless {
        tidy::bless(&place.root)?;
    }
    let failures = tidy::check(&place.root)?;
    for failure in &failures {
        eprintln!("{failure}");
    }
    if failures.is_empty() {
        return Ok(());
    }
    bail!("tidy: {} to put right (above)", failures.len())
}
