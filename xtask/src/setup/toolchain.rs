//! The pinned toolchain's components: the library sources for BPF, rustfmt and clippy.
//!
//! BPF programs need `core` built for a target that rustup does not ship, hence rust-src.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{State, sources};
use crate::console;
use crate::place::Place;
use crate::step;

const COMPONENTS: [&str; 3] = ["rust-src", "rustfmt", "clippy"];
const LIMIT: Duration = Duration::from_secs(600);

/// The folder of the pinned toolchain.
pub fn sysroot(place: &Place) -> Result<PathBuf> {
    let output = place
        .command("rustc")
        .args(["--print", "sysroot"])
        .output()
        .context("cannot start rustc: install rustup from https://rustup.rs")?;
    if !output.status.success() {
        bail!(
            "rustc {} does not start: {}\n  Run: rustup toolchain install {} --profile minimal",
            place.toolchain,
            String::from_utf8_lossy(&output.stderr).trim(),
            place.toolchain
        );
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

pub fn check(place: &Place) -> Result<State> {
    let lacking = lacking(place)?;
    Ok(if lacking.is_empty() {
        State::Ready(format!("{} with {}", place.toolchain, COMPONENTS.join(", ")))
    } else {
        State::Missing(format!("{} has no {}", place.toolchain, lacking.join(", no ")))
    })
}

/// Looked up as files: asking rustup takes ten times as long.
fn lacking(place: &Place) -> Result<Vec<&'static str>> {
    let sysroot = sysroot(place)?;
    let there = |component: &str| match component {
        "rust-src" => sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file(),
        "rustfmt" => sysroot.join("bin/rustfmt").is_file(),
        _ => sysroot.join("bin/cargo-clippy").is_file(),
    };
    Ok(COMPONENTS.into_iter().filter(|c| !there(c)).collect())
}

pub fn provide(place: &Place) -> Result<()> {
    let lacking = lacking(place)?;
    let list = lacking.join(" ");
    let Err(error) = step::retry(|| {
        let mut command = place.command("rustup");
        command.args(["component", "add"]).args(&lacking);
        step::quiet(&format!("rustup component add {list}"), command, LIMIT)
    }) else {
        return Ok(());
    };
    let advice = format!(
        "could not fetch {list} for Rust {}. Check that static.rust-lang.org is reachable and run \
         `cargo xtask setup` again",
        place.toolchain
    );
    // rustfmt and clippy have no other source; the library sources have one.
    if lacking != ["rust-src"] {
        return Err(error.context(advice));
    }
    let why = format!("{error:#}").lines().nth(1).unwrap_or_default().trim().to_owned();
    console::note(&format!("  rustup could not fetch rust-src ({why}); taking Debian's package instead"));
    sources::provide(place, &sysroot(place)?).with_context(|| format!("{advice}. From Debian it failed too"))
}

pub fn has_target(place: &Place, triple: &str) -> Result<bool> {
    Ok(sysroot(place)?.join("lib/rustlib").join(triple).join("lib").is_dir())
}

/// Installs the standard library of another target, if it is not there yet.
pub fn target(place: &Place, triple: &str) -> Result<()> {
    if has_target(place, triple)? {
        return Ok(());
    }
    step::retry(|| {
        let mut command = place.command("rustup");
        command.args(["target", "add", triple]);
        step::quiet(&format!("rustup target add {triple}"), command, LIMIT)
    })
    .map(drop)
    .with_context(|| {
        format!("could not fetch Rust's standard library for {triple}: check its name and the network")
    })
}
