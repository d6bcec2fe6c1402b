//! Builds the BPF object (package agent-ebpf) and leaves it in OUT_DIR for `probe` to embed.
//!
//! The pinned stable toolchain is told by RUSTC_BOOTSTRAP to accept `-Z build-std=core`; the object is
//! always built optimised, into a target directory of its own, so that no cargo waits for another's
//! lock.

use std::path::{Path, PathBuf};
use std::{env, ffi::OsString, fs};

use anyhow::{Context as _, Result, bail};
use aya_build::{Package, Toolchain};

/// Where `cargo xtask setup` leaves the linker: built for this toolchain's LLVM.
const LINKER: &str = "headrace/tools/bpf-linker-0.13-rust1.95.0/bin";
const TOOLCHAIN: &str = "1.95.0";

fn main() -> Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR is not set")?);
    let root = root.parent().context("the agent's folder has no parent")?.to_owned();
    println!("cargo:rerun-if-changed={}", root.join("agent/common/src").display());
    println!("cargo:rerun-if-changed={}", root.join("Cargo.lock").display());
    println!("cargo:rerun-if-env-changed=XDG_CACHE_HOME");
    find_linker()?;
    let ebpf = root.join("agent-ebpf");
    let ebpf = ebpf.to_str().context("the checkout's path is not UTF-8")?;
    // SAFETY: a build script's main thread, before any other is started.
    unsafe {
        env::set_var("RUSTC_BOOTSTRAP", "1");
    }
    aya_build::build_ebpf(
        [Package { name: "agent-ebpf", root_dir: ebpf, ..Package::default() }],
        Toolchain::Custom(TOOLCHAIN),
    )
}

/// Puts the cached bpf-linker first in PATH; fails where there is none at all.
fn find_linker() -> Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|cache| cache.is_absolute())
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    if let Some(folder) = cache.map(|cache| cache.join(LINKER)).filter(|f| is_there(f)) {
        println!("cargo:rerun-if-changed={}", folder.join("bpf-linker").display());
        let joined: OsString = env::join_paths(std::iter::once(folder).chain(env::split_paths(&path)))?;
        // SAFETY: a build script's main thread, before any other is started.
        unsafe {
            env::set_var("PATH", joined);
        }
        return Ok(());
    }
    if !env::split_paths(&path).any(|folder| is_there(&folder)) {
        bail!(
            "bpf-linker is missing, so the BPF programs cannot be built: run `cargo xtask setup` once, \
             it builds the linker into ~/.cache/{LINKER}"
        );
    }
    Ok(())
}

fn is_there(folder: &Path) -> bool {
    fs::metadata(folder.join("bpf-linker")).is_ok_and(|found| found.is_file())
}
