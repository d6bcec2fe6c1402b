//! Packages of another Debian release, fetched and unpacked, never installed.
//!
//! They come through apt with lists of its own, so the machine's sources.list stays as it is, and apt
//! checks their signatures. Unpacking happens beside the destination and ends with one rename: killed in
//! the middle it leaves nothing that looks whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::place::{Place, program};
use crate::step;

/// Some packages have 60 MB.
const LIMIT: Duration = Duration::from_secs(600);

/// Fetches `packages` (apt's names, with `=version*` where it matters) of the suite, and unpacks them all
/// below the folder `into`, which must not exist yet.
pub fn unpack(place: &Place, suite: &str, packages: &[String], into: &Path) -> Result<()> {
    if program("apt-get").is_none() || program("dpkg").is_none() {
        bail!("this is no Debian system, so its packages ({}) cannot be used instead", packages.join(" "));
    }
    let work = place.cache.join(format!("debian-{suite}-{}", std::process::id()));
    let result = fetch(&work, suite, packages).and_then(|found| extract(&work, &found, into));
    // Whatever happened, nothing of this is needed again; a leftover does no harm.
    let _ = fs::remove_dir_all(&work);
    result
}

fn fetch(work: &Path, suite: &str, packages: &[String]) -> Result<Vec<PathBuf>> {
    for folder in ["lists/partial", "cache/archives/partial"] {
        let folder = work.join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let list = work.join("sources.list");
    // The keyring of Debian 12 already knows the keys of the releases after it.
    let source = format!(
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \
         http://deb.debian.org/debian {suite} main\n"
    );
    fs::write(&list, source).with_context(|| format!("cannot write {}", list.display()))?;
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
    let names = packages.join(" ");
    step::retry(|| {
        step::quiet(&format!("apt-get update ({suite})"), apt(&["update"]), LIMIT)?;
        let mut arguments = vec!["download"];
        arguments.extend(packages.iter().map(String::as_str));
        step::quiet(&format!("apt-get download {names}"), apt(&arguments), LIMIT)
    })?;
    let found: Vec<PathBuf> = fs::read_dir(work)
        .with_context(|| format!("cannot list {}", work.display()))?
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "deb"))
        .collect();
    if found.len() != packages.len() {
        bail!("apt-get download {names} left {} packages instead of {}", found.len(), packages.len());
    }
    Ok(found)
}

fn extract(work: &Path, found: &[PathBuf], into: &Path) -> Result<()> {
    let parent = into.parent().with_context(|| format!("{} has no parent", into.display()))?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let mut beside = into.as_os_str().to_owned();
    beside.push(format!(".unpacked-{}", std::process::id()));
    let beside = PathBuf::from(beside);
    fs::create_dir_all(&beside).with_context(|| format!("cannot create {}", beside.display()))?;
    let unpacked = found.iter().try_for_each(|package| {
        let mut dpkg = Command::new("dpkg");
        dpkg.current_dir(work).arg("-x").arg(package).arg(&beside);
        step::quiet("unpack", dpkg, LIMIT).map(drop)
    });
    let result = unpacked.and_then(|()| {
        fs::rename(&beside, into)
            .with_context(|| format!("cannot rename {} to {}", beside.display(), into.display()))
    });
    let _ = fs::remove_dir_all(&beside);
    result
}
