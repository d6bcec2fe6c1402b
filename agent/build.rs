//! Builds the BPF object (package agent-ebpf) and leaves it in OUT_DIR for `probe` to embed.
//!
//! The pinned stable toolchain is told by RUSTC_BOOTSTRAP to accept `-Z build-std=core`; the object is
//! always built optimised, into a target directory of its own, so that no cargo waits for the lock that it
//! holds itself. It is the same for debug, release and static builds, so they share that directory.

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

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
    share(&root)?;
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

/// aya-build compiles below OUT_DIR/aya-build, which every profile and target has another of: what is there leads to
/// one place for all builds of this checkout for this machine.
fn share(root: &Path) -> Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
    // Cargo leaves this file at the top of every target directory.
    let Some(target) = out.ancestors().find(|folder| folder.join(".rustc_info.json").is_file()) else {
        return Ok(());
    };
    let arch = env::var("CARGO_CFG_TARGET_ARCH").context("CARGO_CFG_TARGET_ARCH is not set")?;
    // Checkouts may share a target directory; each knows only its own sources.
    let mut hasher = DefaultHasher::new();
    root.hash(&mut hasher);
    let shared = target.join("bpf").join(format!("{arch}-{:016x}", hasher.finish()));
    fs::create_dir_all(&shared).with_context(|| format!("cannot create {}", shared.display()))?;
    let below = out.join("aya-build");
    if fs::read_link(&below).is_ok_and(|leads| leads == shared) {
        return Ok(());
    }
    if below.is_dir() && !below.is_symlink() {
        fs::remove_dir_all(&below)
    } else {
        fs::remove_file(&below).or_else(absent)
    }
    .with_context(|| format!("cannot remove {}", below.display()))?;
    symlink(&shared, &below).with_context(|| format!("cannot make the link {}", below.display()))
}

fn absent(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Puts the cached bpf-linker first in PATH; fails where there is none at all.
fn find_linker() -> Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|cache| cache.is_absolute())
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    if let Some(folder) = cache.map(|cache| cache.join(LINKER)).filter(|f| is_there(f)) {
        let linker = folder.join("bpf-linker");
        println!("cargo:rerun-if-changed={}", linker.display());
        let joined: OsString = env::join_paths(std::iter::once(folder).chain(env::split_paths(&path)))?;
        // SAFETY: a build script's main thread, before any other is started.
        unsafe {
            env::set_var("PATH", joined);
            // rustup may put another folder first in PATH. `cargo xtask` sets the same: another linker is a reason
            // for cargo to compile everything again.
            env::set_var("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker);
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
