//! apt with lists of its own: packages of other releases are found, checked against Debian's signatures and
//! unpacked, while the machine's sources stay as they are and nothing is installed.
//!
//! Unpacking happens beside the destination and ends with one rename: killed in the middle it leaves nothing
//! that looks whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::place::program;
use crate::step;

/// Debian's keyring, which knows the keys of all releases that are still served.
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A mirror that stalls is left; packages have up to 60 MB.
const LIMIT: Duration = Duration::from_secs(600);

/// A folder with apt's state, for as long as it is needed.
#[derive(Debug)]
pub struct Apt {
    work: PathBuf,
    /// As Debian names it; this machine's own where there is none.
    arch: Option<&'static str>,
}

impl Apt {
    /// `sources` are lines of a sources.list without their options: "URI SUITE COMPONENT".
    pub fn new(work: PathBuf, sources: &[String]) -> Result<Self> {
        Self::make(work, sources, None)
    }

    /// Packages of another machine.
    pub fn of(work: PathBuf, sources: &[String], arch: &'static str) -> Result<Self> {
        Self::make(work, sources, Some(arch))
    }

    fn make(work: PathBuf, sources: &[String], arch: Option<&'static str>) -> Result<Self> {
        if program("apt-get").is_none() || program("dpkg").is_none() {
            bail!("this is no Debian system: there is no apt-get to fetch packages with");
        }
        for folder in ["lists/partial", "cache/archives/partial"] {
            let folder = work.join(folder);
            fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let text: String = sources.iter().map(|line| format!("deb [signed-by={KEYRING}] {line}\n")).collect();
        let list = work.join("sources.list");
        fs::write(&list, text).with_context(|| format!("cannot write {}", list.display()))?;
        fs::write(work.join("status"), "").context("cannot write apt's empty status")?;
        Ok(Self { work, arch })
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        let fixed = [
            "-q",
            "-o",
            "Dir::Etc::SourceParts=-",
            "-o",
            "Dir::Etc::PreferencesParts=-",
            "-o",
            "APT::Sandbox::User=root",
        ];
        command.current_dir(&self.work).args(fixed);
        if let Some(arch) = self.arch {
            command.args(["-o", &format!("APT::Architecture={arch}"), "-o", "APT::Architectures="]);
            command.args(["-o", &format!("APT::Architectures::={arch}")]);
        }
        command.args(["-o", "Acquire::Languages=none", "-o", "Acquire::Retries=2"]);
        for (name, path) in [
            ("Etc::SourceList", "sources.list"),
            ("State::Lists", "lists"),
            ("State::Status", "status"),
            ("Cache", "cache"),
        ] {
            command.args(["-o", &format!("Dir::{name}={}", self.work.join(path).display())]);
        }
        command.args(arguments);
        command
    }

    /// Fetches the lists; `what` is for the person who waits.
    pub fn update(&self, what: &str) -> Result<()> {
        let title = format!("apt-get update ({what})");
        step::retry(|| step::quiet(&title, self.command("apt-get", &["update"]), LIMIT)).map(drop)
    }

    /// What apt knows: one line for each word of the answer.
    pub fn ask(&self, arguments: &[&str]) -> Result<Vec<String>> {
        let output = self.command("apt-cache", arguments).output().context("cannot start apt-cache")?;
        if !output.status.success() {
            bail!("apt-cache {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }

    /// Downloads packages (apt compares their checksums with its signed lists) and unpacks them all below the
    /// folder `into`, which must not exist yet. Nothing of them is run.
    pub fn unpack(&self, packages: &[String], into: &Path) -> Result<()> {
        let list = packages.join(" ");
        let mut arguments = vec!["download"];
        arguments.extend(packages.iter().map(String::as_str));
        step::retry(|| {
            step::quiet(&format!("apt-get download {list}"), self.command("apt-get", &arguments), LIMIT)
        })?;
        let found: Vec<PathBuf> = fs::read_dir(&self.work)
            .with_context(|| format!("cannot list {}", self.work.display()))?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .collect();
        if found.len() != packages.len() {
            bail!("apt-get download {list} left {} packages instead of {}", found.len(), packages.len());
        }
        let mut beside = into.as_os_str().to_owned();
        beside.push(format!(".unpacked-{}", std::process::id()));
        let beside = PathBuf::from(beside);
        let result = self.extract(&found, &beside).and_then(|()| {
            fs::rename(&beside, into)
                .with_context(|| format!("cannot rename {} to {}", beside.display(), into.display()))
        });
        let _ = fs::remove_dir_all(&beside);
        result
    }

    fn extract(&self, found: &[PathBuf], beside: &Path) -> Result<()> {
        fs::create_dir_all(beside).with_context(|| format!("cannot create {}", beside.display()))?;
        found.iter().try_for_each(|package| {
            let mut dpkg = Command::new("dpkg");
            dpkg.current_dir(&self.work).arg("-x").arg(package).arg(beside);
            step::quiet("unpack", dpkg, LIMIT)?;
            fs::remove_file(package).with_context(|| format!("cannot remove {}", package.display()))
        })
    }
}

impl Drop for Apt {
    fn drop(&mut self) {
        // Whatever happened, nothing of this is needed again; a leftover does no harm.
        let _ = fs::remove_dir_all(&self.work);
    }
}
