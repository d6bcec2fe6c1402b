//! The pinned toolchain's components: the library sources for BPF, rustfmt and clippy.
//!
//! BPF programs need `core` built for a target that rustup does not ship, hence rust-src.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::State;
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
        "rust-src" => sysroot
            .join("lib/rustlib/src/rust/library/core/src/lib.rs")
            .is_file(),
        "rustfmt" => sysroot.join("bin/rustfmt").is_file(),
        _ => sysroot.join("bin/cargo-clippy").is_file(),
    };
    Ok(COMPONENTS.into_iter().filter(|c| !there(c)).collect())
}

pub fn provide(place: &Place) -> Result<()> {
    let lacking = lacking(place)?;
    let list = lacking.join(" ");
    step::retry(|| {
        let mut command = Command::new("rustup");
        command
            .args(["component", "add", "--toolchain", &place.toolchain])
            .args(&lacking);
        step::quiet(&format!("rustup component add {list}"), command, LIMIT)
    })
    .map(drop)
    .with_context(|| {
        format!(
            "could not fetch {list} for Rust {0} from static.rust-lang.org. Check the network and run \
             `cargo xtask setup` again. Without that server: Debian's package rust-src {0} \
             (trixie-backports) holds the same sources; put its /usr/src/rustc-{0}/library into \
             $(rustc --print sysroot)/lib/rustlib/src/rust/",
            place.toolchain
        )
    })
}

/// Installs the standard library of another target, if it is not there yet.
pub fn target(place: &Place, triple: &str) -> Result<()> {
    if sysroot(place)?
        .join("lib/rustlib")
        .join(triple)
        .join("lib")
        .is_dir()
    {
        return Ok(());
    }
    step::retry(|| {
        let mut command = Command::new("rustup");
        command.args(["target", "add", "--toolchain", &place.toolchain, triple]);
        step::quiet(&format!("rustup target add {triple}"), command, LIMIT)
    })
    .map(drop)
    .with_context(|| {
        format!("could not fetch Rust's standard library for {triple}: check its name and the network")
    })
}
