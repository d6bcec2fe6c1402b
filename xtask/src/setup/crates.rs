//! The crates of Cargo.lock, and those of the library sources that BPF's `core` comes from.
//!
//! A build would fetch them too, but then a missing network is told by a compiler error in the middle of
//! it. A stamp with the lock file's digest says that they have been fetched; if somebody empties cargo's
//! registry behind it, the build fetches them again.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::State;
use crate::digest;
use crate::place::Place;
use crate::step;

const LIMIT: Duration = Duration::from_secs(900);

pub fn check(place: &Place) -> Result<State> {
    let registry = cargo_home()?.join("registry/cache");
    Ok(if registry.is_dir() && stamp(place)?.is_file() {
        State::Ready("those of Cargo.lock are fetched".to_owned())
    } else {
        State::Missing("those of Cargo.lock are not all fetched".to_owned())
    })
}

pub fn provide(place: &Place) -> Result<()> {
    step::retry(|| {
        let target = format!("{}-unknown-linux-gnu", env::consts::ARCH);
        let mut host = place.cargo();
        host.args(["fetch", "--locked", "--target", &target]);
        step::quiet("fetch the crates of Cargo.lock", host, LIMIT)?;
        step::quiet("fetch the crates of the library sources", library(place), LIMIT)
    })
    .context(
        "could not fetch the crates. Check that crates.io is reachable (behind a proxy, set https_proxy), \
         then run `cargo xtask setup` again",
    )?;
    let stamp = stamp(place)?;
    if let Some(dir) = stamp.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    fs::write(&stamp, "").with_context(|| format!("cannot write {}", stamp.display()))
}

/// `-Z build-std` on a stable compiler: docs/decisions/0001-stable-toolchain-for-bpf.md.
fn library(place: &Place) -> Command {
    let mut command = place.cargo();
    command.env("RUSTC_BOOTSTRAP", "1").args([
        "fetch",
        "--locked",
        "-Z",
        "build-std=core",
        "--target",
        "bpfel-unknown-none",
    ]);
    command
}

/// Empty file named by what was fetched into which registry.
fn stamp(place: &Place) -> Result<PathBuf> {
    let lock = place.root.join("Cargo.lock");
    let mut text = fs::read(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
    text.extend(place.toolchain.as_bytes());
    text.extend(cargo_home()?.as_os_str().as_encoded_bytes());
    Ok(place.cache.join("fetched").join(digest::text(&text)))
}

fn cargo_home() -> Result<PathBuf> {
    let named = env::var_os("CARGO_HOME").filter(|d| !d.is_empty()).map(PathBuf::from);
    let usual = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    named.or_else(usual).context("neither CARGO_HOME nor HOME is set: set HOME")
}
