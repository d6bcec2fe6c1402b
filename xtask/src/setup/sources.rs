//! The library sources from Debian, for machines that reach a Debian mirror and not Rust's own server.
//!
//! Debian's rust-src of the same version differs from rustup's in a few manifests that do not concern
//! `core`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::alone::remove;
use super::debian;
use crate::place::Place;

/// Where Rust 1.95 was found.
const SUITE: &str = "trixie-backports";

/// Puts the library sources below `sysroot`.
pub fn provide(place: &Place, sysroot: &Path) -> Result<()> {
    // Beside its destination, so that the last rename is one step.
    let home = sysroot.join("lib/rustlib/src/rust");
    let unpacked = home.join("unpacked");
    remove(&unpacked)?;
    debian::unpack(place, SUITE, &[format!("rust-src={}*", place.toolchain)], &unpacked)?;
    let library = unpacked.join(format!("usr/src/rustc-{}/library", place.toolchain));
    fs::rename(&library, home.join("library"))
        .with_context(|| format!("cannot move {} to {}", library.display(), home.display()))?;
    remove(&unpacked)
}
