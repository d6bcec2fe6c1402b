//! bpf-linker, built once for each compiler version and kept outside the checkout.
//!
//! It is linked against the toolchain's own LLVM, so no LLVM has to be installed or compiled: LLVM_PREFIX
//! names a folder with one link to it, and an rpath finds it again at run time. A toolchain that has been
//! moved or removed breaks that rpath; `check` starts the tool and sees it.
//!
//! The build happens in a folder beside its destination and is renamed when whole: killed in the middle,
//! it leaves nothing that looks like a tool. A lock file keeps two checkouts from building it at once.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::alone::{lock, remove, sweep};
use super::{State, toolchain};
use crate::place::{LINKER_VERSION, Place};
use crate::step;

const UNFINISHED: &str = ".unfinished-";

/// One minute on two cores; a slow laptop with a cold registry takes ten.
const LIMIT: Duration = Duration::from_secs(30 * 60);

pub fn check(place: &Place) -> Result<State> {
    let tool = place.linker_dir().join("bin/bpf-linker");
    if !tool.exists() {
        return Ok(State::Missing(format!("not built yet for Rust {}", place.toolchain)));
    }
    Ok(match version(&tool) {
        Ok(version) => State::Ready(format!("{version} in {}", place.linker_dir().display())),
        Err(error) => State::Missing(format!("{} does not start ({error:#}), to be rebuilt", tool.display())),
    })
}

fn version(tool: &Path) -> Result<String> {
    // LD_LIBRARY_PATH, which `cargo run` sets, would make up for a broken rpath here but not later.
    let output = Command::new(tool)
        .arg("--version")
        .env_remove("LD_LIBRARY_PATH")
        .stdin(Stdio::null())
        .output()
        .context("cannot start it")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !text.starts_with(&format!("bpf-linker {LINKER_VERSION}.")) {
        bail!("it says it is `{text}`");
    }
    Ok(text)
}

pub fn provide(place: &Place) -> Result<()> {
    let home = place.linker_dir();
    let tools = home.parent().context("the tools' folder has no parent")?.to_path_buf();
    fs::create_dir_all(&tools).with_context(|| format!("cannot create {}", tools.display()))?;
    let beside = |suffix: &str| {
        let mut name = home.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let _lock = lock(&beside(".lock"), "bpf-linker", LIMIT)?;
    if matches!(check(place)?, State::Ready(_)) {
        return Ok(()); // Another checkout built it while we waited for the lock.
    }
    // A build whose xtask was killed may live on without the lock: it gets its folder taken away, and ours
    // has another name.
    sweep(&tools, &beside(UNFINISHED))?;
    let unfinished = beside(&format!("{UNFINISHED}{}", process::id()));
    build(place, &unfinished)?;
    let built = unfinished.join("bin/bpf-linker");
    version(&built).with_context(|| format!("{} was built but does not start", built.display()))?;
    remove(&home)?;
    fs::rename(&unfinished, &home)
        .with_context(|| format!("cannot rename {} to {}", unfinished.display(), home.display()))
}

fn build(place: &Place, home: &Path) -> Result<()> {
    let sysroot = toolchain::sysroot(place)?;
    let llvm = llvm(&sysroot.join("lib"))?;
    let prefix = home.join("llvm");
    fs::create_dir_all(prefix.join("lib")).with_context(|| format!("cannot create {}", prefix.display()))?;
    symlink(&llvm, prefix.join("lib/libLLVM.so"))
        .with_context(|| format!("cannot link to {} in {}", llvm.display(), prefix.display()))?;
    step::retry(|| {
        let mut command = place.command("cargo");
        command
            .env("LLVM_PREFIX", &prefix)
            .env("RUSTFLAGS", format!("-C link-arg=-Wl,-rpath,{}/lib", sysroot.display()))
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            // Its own: the checkout's may be in use, and is no place for a tool's leftovers.
            .env("CARGO_TARGET_DIR", home.join("target"))
            .args([
                "install",
                "bpf-linker",
                "--locked",
                "--force",
                "--version",
                &format!("^{LINKER_VERSION}"),
            ])
            .args(["--no-default-features", "--features", "llvm-22", "--root"])
            .arg(home);
        step::quiet("build bpf-linker (about a minute, once)", command, LIMIT)
    })
    .with_context(|| {
        format!(
            "could not build bpf-linker {LINKER_VERSION}. If the lines below speak of the network, \
             check that crates.io is reachable, then run `cargo xtask setup` again"
        )
    })?;
    remove(&home.join("target"))
}

/// The LLVM that rustc itself uses, such as `libLLVM.so.22.1-rust-1.95.0-stable`.
fn llvm(lib: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(lib).with_context(|| format!("cannot list {}", lib.display()))?;
    entries
        .flatten()
        .map(|e| e.path())
        .find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("libLLVM.so.22.")))
        .with_context(|| {
            format!(
                "{} holds no libLLVM.so.22.*: bpf-linker {LINKER_VERSION} needs the LLVM 22 of a rustup \
                 toolchain (a distribution's rustc keeps it elsewhere); install rustup from https://rustup.rs",
                lib.display()
            )
        })
}
