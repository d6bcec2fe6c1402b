//! Programs of another machine for its guests, from Debian's packages: nothing of them is run here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::arch::Arch;
use crate::apt::Apt;
use crate::place::Place;

const SUITE: &str = "http://deb.debian.org/debian bookworm main";

/// What guests run besides our own programs.
const PACKAGES: [&str; 4] = ["busybox-static", "e2fsprogs", "xfsprogs", "btrfs-progs"];

/// Libraries are packages of such names; interpreters for maintainers' scripts are not needed.
const LIBRARY: &str = "lib";
const NOT: [&str; 3] = ["libperl", "libpython", "libdebconf"];

/// A folder with the programs and all libraries they load, unpacked.
pub fn provide(place: &Place, arch: Arch) -> Result<PathBuf> {
    let home = place.cache.join("kernels");
    fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
    let target = home.join(format!("programs-{}-bookworm", arch.name));
    if target.is_dir() {
        return Ok(target);
    }
    let work = home.join(format!("apt-programs-{}-{}", arch.name, std::process::id()));
    let apt = Apt::of(work, &[SUITE.to_owned()], arch.name)?;
    apt.update(&format!("programs for {}", arch.name))?;
    let mut question = vec!["depends", "--recurse", "--no-recommends", "--no-suggests", "--no-enhances"];
    question.extend(["--no-conflicts", "--no-breaks", "--no-replaces", "--no-pre-depends"]);
    question.extend(PACKAGES);
    let closure = apt.ask(&question)?;
    // A package stands at the beginning of a line, what it depends on behind blanks; virtual ones in brackets.
    let is_library = |name: &&str| name.starts_with(LIBRARY) && !NOT.iter().any(|not| name.starts_with(not));
    let mut wanted: Vec<String> = PACKAGES.map(str::to_owned).to_vec();
    wanted.extend(closure.iter().map(String::as_str).filter(is_library).map(str::to_owned));
    wanted.sort_unstable();
    wanted.dedup();
    apt.unpack(&wanted, &target)?;
    Ok(target)
}

/// A program and what it loads: paths inside the guest, and where each is here. The libraries are found by name,
/// as the loader in the guest finds them.
pub fn with_libraries(root: &Path, name: &str) -> Result<BTreeMap<String, PathBuf>> {
    let folders = ["bin", "sbin", "usr/bin", "usr/sbin"].map(|folder| root.join(folder));
    let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.exists());
    let program = found.with_context(|| format!("Debian's packages hold no {name}"))?;
    let mut files = BTreeMap::new();
    let mut open = vec![program.clone()];
    while let Some(path) = open.pop() {
        for needed in needed(&path)? {
            let library = library(root, &needed)
                .with_context(|| format!("{} loads {needed}, which no package brought", path.display()))?;
            let inside = if needed.starts_with("ld-linux") {
                format!("lib/{needed}")
            } else {
                format!("usr/lib/{needed}")
            };
            if files.insert(inside, library.clone()).is_none() {
                open.push(library);
            }
        }
    }
    files.insert(format!("usr/sbin/{name}"), program);
    Ok(files)
}

/// Everything lies below one folder of the machine's name.
fn library(root: &Path, name: &str) -> Option<PathBuf> {
    let mut places = Vec::new();
    for folder in ["lib", "usr/lib"].map(|folder| root.join(folder)) {
        places.push(folder.join(name));
        let inner = fs::read_dir(&folder).into_iter().flatten().flatten();
        places.extend(inner.map(|entry| entry.path().join(name)));
    }
    places.into_iter().find(|place| place.is_file())
}

/// What the dynamic section names.
fn needed(path: &Path) -> Result<Vec<String>> {
    let output = Command::new("readelf").arg("-dW").arg(path).output().context("cannot start readelf")?;
    if !output.status.success() {
        bail!("readelf {}: {}", path.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = text.lines().filter(|line| line.contains("(NEEDED)"));
    Ok(names.filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0.to_owned())).collect())
}
