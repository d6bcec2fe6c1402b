//! Where things are: the checkout, the cache that outlives it, the toolchain it pins.
//!
//! Built tools live outside `target/`, keyed by their version and the compiler's, so that a second clone
//! finds them and `cargo clean` does not cost a minute.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The checkout and what belongs to it.
#[derive(Clone, Debug)]
pub struct Place {
    /// The checkout's root.
    pub root: PathBuf,
    /// `$XDG_CACHE_HOME/headrace`, else `~/.cache/headrace`.
    pub cache: PathBuf,
    /// The channel of rust-toolchain.toml, such as `1.95.0`.
    pub toolchain: String,
}

impl Place {
    pub fn find() -> Result<Self> {
        // `cargo run` says where the package is now; the compiled-in path may be of a checkout since moved.
        let package =
            env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| OsString::from(env!("CARGO_MANIFEST_DIR")));
        let root = PathBuf::from(package)
            .parent()
            .context("xtask's folder has no parent: run it as `cargo xtask` inside the checkout")?
            .to_path_buf();
        let pin = root.join("rust-toolchain.toml");
        let text = fs::read_to_string(&pin).with_context(|| {
            format!("cannot read {}: run `cargo xtask` inside the checkout", pin.display())
        })?;
        let toolchain = channel(&text).with_context(|| format!("{} names no channel", pin.display()))?;
        let cache = cache_home(env::var_os("XDG_CACHE_HOME"), env::var_os("HOME"))?.join("headrace");
        Ok(Self { root, cache, toolchain })
    }

    /// `cargo`, in the checkout, with bpf-linker in reach and without what `cargo run` set for us.
    pub fn cargo(&self) -> Command {
        let mut command = self.command("cargo");
        let tools = self.linker_dir().join("bin");
        let path = env::var_os("PATH").unwrap_or_default();
        let paths = std::iter::once(tools.clone()).chain(env::split_paths(&path));
        if let Ok(joined) = env::join_paths(paths) {
            command.env("PATH", joined);
        }
        // rustup may put another folder first in PATH; the linker by name is not enough then.
        command.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", tools.join("bpf-linker"));
        command
    }

    /// A program started in the checkout. What `cargo run` tells its child about the xtask package would
    /// make build scripts run again, and its library path would hide a broken rpath: both are taken out.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).env_remove("LD_LIBRARY_PATH");
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
                .iter()
                .any(|p| text.starts_with(p))
            {
                command.env_remove(&name);
            }
        }
        command
    }

    /// Where this bpf-linker lives: one folder for each pair of tool and compiler versions.
    pub fn linker_dir(&self) -> PathBuf {
        self.cache.join("tools").join(format!("bpf-linker-{LINKER_VERSION}-rust{}", self.toolchain))
    }

    /// Cargo's target directory, wherever environment or configuration put it.
    pub fn target(&self) -> Result<PathBuf> {
        let output = self
            .command("cargo")
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .output()
            .context("cannot start `cargo metadata`")?;
        if !output.status.success() {
            bail!("`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let json: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("`cargo metadata` did not print JSON")?;
        let dir = json.get("target_directory").and_then(|v| v.as_str());
        Ok(PathBuf::from(dir.context("`cargo metadata` names no target_directory")?))
    }
}

/// bpf-linker's minor version: 0.13 is the first that links against the LLVM 22 of rustc 1.95.
pub const LINKER_VERSION: &str = "0.13";

fn cache_home(xdg: Option<OsString>, home: Option<OsString>) -> Result<PathBuf> {
    // The XDG specification says that a relative path is to be ignored.
    if let Some(dir) = xdg.filter(|d| Path::new(d).is_absolute()) {
        return Ok(PathBuf::from(dir));
    }
    let home = home.filter(|h| !h.is_empty()).context("neither XDG_CACHE_HOME nor HOME is set: set HOME")?;
    Ok(PathBuf::from(home).join(".cache"))
}

fn channel(text: &str) -> Option<String> {
    let line = text.lines().find(|l| l.trim_start().starts_with("channel"))?;
    let value = line.split_once('=')?.1.trim().trim_matches('"');
    (!value.is_empty()).then(|| value.to_owned())
}

/// The program of this name in PATH.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    // Debian keeps mkfs and losetup where a plain user's PATH does not look.
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|p| p.is_file())
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Fails with the way out when `what` needs root and this is not root.
pub fn need_root(what: &str, why: &str, command: &str) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    bail!("{what} needs root: it {why}.\n  Run: sudo -E env \"PATH=$PATH\" \"HOME=$HOME\" {command}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_channel_is_read_from_the_pin() {
        let text = "[toolchain]\nchannel = \"1.95.0\"\ncomponents = [\"rust-src\"]\n";
        assert_eq!(channel(text).as_deref(), Some("1.95.0"));
        assert_eq!(channel("[toolchain]\nchannel =\n"), None);
    }

    #[test]
    fn a_relative_cache_home_is_ignored() {
        let home = || Some(OsString::from("/root"));
        assert_eq!(cache_home(Some("/c".into()), home()).unwrap(), Path::new("/c"));
        assert_eq!(cache_home(Some("c".into()), home()).unwrap(), Path::new("/root/.cache"));
        assert!(cache_home(None, None).is_err());
    }
}
