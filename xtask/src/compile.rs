//! Building the workspace; agent/build.rs builds the BPF programs along with the agent.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::place::Place;
use crate::setup::cross;
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
        cross::link(&mut command, triple);
    }
    step::stream(command)
}

/// What demo and benchmarks start: `headrace`, the operator and the programs of the package tests,
/// optimised, because a debug agent is no measure of anything.
pub fn measured(place: &Place) -> Result<()> {
    let mut command = place.cargo();
    command.args(["build", "--locked", "--release", "-p", "agent", "-p", "operator", "-p", "tests"]);
    step::stream(command).context("the release build that demo and benchmarks start")
}

/// The operator comes along as what package tests is built on, and runs in no guest: to optimise it would take longer
/// than all else.
const UNUSED: [&str; 2] =
    ["profile.release.package.operator.opt-level=0", "profile.release.package.operator.debug=false"];

/// The programs that measure prefetch in guests, optimised; for another machine linked statically, since nothing of
/// it is installed here. Returns their folder.
pub fn in_guests(place: &Place, names: &[&str], triple: Option<&str>) -> Result<PathBuf> {
    let mut command = place.cargo();
    command.args(["build", "--locked", "--release", "-p", "agent", "-p", "tests"]);
    for setting in UNUSED {
        command.args(["--config", setting]);
    }
    for name in names {
        command.args(["--bin", name]);
    }
    if let Some(triple) = triple {
        command.args(["--target", triple, "--config", &statically(triple)]);
        cross::link(&mut command, triple);
    }
    step::stream(command).context("the release build of what guests start")?;
    Ok(place.target()?.join(triple.unwrap_or_default()).join("release"))
}

/// The acceptance of the probe as guests run it: linked statically, so that it starts whatever their root
/// holds.
pub fn acceptance(place: &Place, triple: &str) -> Result<PathBuf> {
    let mut command = place.cargo();
    command.args(["build", "--locked", "--target", triple, "--message-format", "json-render-diagnostics"]);
    command.args(["--config", &statically(triple)]);
    command.args(["-p", "agent", "--test", "probe"]);
    cross::link(&mut command, triple);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let text = step::shown(&command);
    let output = command.spawn().and_then(|child| child.wait_with_output());
    let output = output.with_context(|| format!("cannot start `{text}`"))?;
    if !output.status.success() {
        bail!("`{text}` failed ({}): the static build that guests run", output.status);
    }
    let mut programs = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        // Cargo's own messages, of which build scripts' output is one.
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let of_probe = message.pointer("/target/name").and_then(|name| name.as_str()) == Some("probe");
        if let (true, Some(path)) = (of_probe, message.get("executable").and_then(|path| path.as_str())) {
            programs.push(PathBuf::from(path));
        }
    }
    programs
        .pop()
        .with_context(|| format!("`{text}` left no program: does the agent still have the test probe?"))
}

fn statically(triple: &str) -> String {
    format!("target.{triple}.rustflags=['-Ctarget-feature=+crt-static']")
}

/// One program of the package tests, optimised.
pub fn program(place: &Place, name: &str) -> Result<()> {
    let mut command = place.cargo();
    command.args(["build", "--locked", "--release", "-p", "tests", "--bin", name]);
    step::stream(command).with_context(|| format!("the release build of `{name}`"))
}
