//! The library sources from Debian, for machines that reach a Debian mirror and not Rust's own server.
//!
//! Debian's rust-src of the same version differs from rustup's in a few manifests that do not concern
//! `core`. The package is fetched through apt with lists of its own, so the machine's sources.list stays
//! as it is, and apt checks its signature; it is unpacked, not installed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::place::{Place, program};
use crate::step;

/// Where Rust 1.95 was found; the keyring of Debian 12 already knows this release's keys.
const SOURCE: &str = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \
    http://deb.debian.org/debian trixie-backports main\n";

/// The package has 45 MB.
const LIMIT: Duration = Duration::from_secs(600);

/// Puts the library sources below `sysroot`.
pub fn provide(place: &Place, sysroot: &Path) -> Result<()> {
    if program("apt-get").is_none() || program("dpkg").is_none() {
        bail!("this is no Debian system, so its package rust-src cannot be used instead");
    }
    let work = place.cache.join(format!("rust-src-{}", std::process::id()));
    let result = fetch(place, &work, sysroot);
    // Whatever happened, nothing of this is needed again; a leftover does no harm.
    let _ = fs::remove_dir_all(&work);
    result
}

fn fetch(place: &Place, work: &Path, sysroot: &Path) -> Result<()> {
    for folder in ["lists/partial", "cache/archives/partial"] {
        let folder = work.join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let list = work.join("sources.list");
    fs::write(&list, SOURCE).with_context(|| format!("cannot write {}", list.display()))?;
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.current_dir(work).args([
            "-q",
            "-o",
            "Dir::Etc::SourceParts=-",
            "-o",
            "APT::Sandbox::User=root",
        ]);
        for (name, path) in
            [("Etc::SourceList", "sources.list"), ("State::Lists", "lists"), ("Cache", "cache")]
        {
            command.args(["-o", &format!("Dir::{name}={}", work.join(path).display())]);
        }
        command.args(arguments);
        command
    };
    step::retry(|| {
        step::quiet("apt-get update (trixie-backports)", apt(&["update"]), LIMIT)?;
        let package = format!("rust-src={}*", place.toolchain);
        step::quiet("apt-get download rust-src", apt(&["download", &package]), LIMIT)
    })?;
    let package = fs::read_dir(work)
        .with_context(|| format!("cannot list {}", work.display()))?
        .flatten()
        .map(|e| e.path())
        .find(|p| p.extension().is_some_and(|e| e == "deb"))
        .context("apt-get download left no package")?;

    // Unpacked beside its destination, so that the rename is one step and a killed unpacking leaves nothing.
    let home = sysroot.join("lib/rustlib/src/rust");
    let unpacked = home.join("unpacked");
    fs::create_dir_all(&unpacked).with_context(|| format!("cannot create {}", unpacked.display()))?;
    let mut dpkg = Command::new("dpkg");
    dpkg.arg("-x").arg(&package).arg(&unpacked);
    step::quiet("unpack rust-src", dpkg, LIMIT)?;
    let library = unpacked.join(format!("usr/src/rustc-{}/library", place.toolchain));
    fs::rename(&library, home.join("library"))
        .with_context(|| format!("cannot move {} to {}", library.display(), home.display()))?;
    fs::remove_dir_all(&unpacked).with_context(|| format!("cannot remove {}", unpacked.display()))
}
