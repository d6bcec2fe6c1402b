//! Programs that are built once from a Go module of this repository, and kept outside the checkout by version.
//!
//! go.mod names the programs and pins them; go.sum holds their checksums. They are built one after another, each
//! shown, with module and build cache of their own that stay while the build is unfinished (so that an interrupted
//! one goes on where it was) and are removed once it is whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::alone::{lock, remove};
use super::{State, go};
use crate::digest;
use crate::place::Place;
use crate::step;

/// Names what the programs were built from, inside their folder.
const STAMP: &str = "built-from";

/// One module and what is built from it.
#[derive(Debug)]
pub struct Module {
    /// What a person calls it.
    pub title: &'static str,
    /// Below tests/ and below the cache.
    pub folder: &'static str,
    /// The requirement whose version is the programs'.
    pub requires: &'static str,
    /// A program's name, and the Go package it is built from.
    pub programs: &'static [(&'static str, &'static str)],
    /// For the modules' download, and for each program.
    pub fetch_limit: Duration,
    pub limit: Duration,
    /// What a person should know who waits for the build.
    pub patience: &'static str,
    /// What failed, and what to do about it.
    pub failure: &'static str,
}

impl Module {
    pub fn check(&self, place: &Place) -> Result<State> {
        let source = Source::read(self, place)?;
        let home = self.home(place, &source);
        let whole = self.programs.iter().all(|(name, _)| home.join(name).is_file())
            && fs::read_to_string(home.join(STAMP)).is_ok_and(|stamp| stamp == source.digest);
        let known = format!("{} {}", self.title, source.version);
        Ok(if whole {
            State::Ready(format!("{known} in {}", home.display()))
        } else {
            State::Missing(format!("{known} is not built yet"))
        })
    }

    /// Builds what is not there; `flags` makes the linker's of the version.
    pub fn provide(&self, place: &Place, flags: impl Fn(&str) -> String) -> Result<()> {
        let source = Source::read(self, place)?;
        let home = self.home(place, &source);
        let parent = place.cache.join(self.folder);
        fs::create_dir_all(&parent).with_context(|| format!("cannot create {}", parent.display()))?;
        let _lock = lock(&parent.join("lock"), self.folder, self.limit)?;
        if matches!(self.check(place)?, State::Ready(_)) {
            return Ok(()); // Another checkout built them while we waited for the lock.
        }
        let work = parent.join("unfinished");
        let unfinished = work.join(format!("bin-{}", process::id()));
        fs::create_dir_all(&unfinished).with_context(|| format!("cannot create {}", unfinished.display()))?;
        self.build(place, &source.version, &flags(&source.version), &work, &unfinished)
            .context(self.failure)?;
        let stamp = unfinished.join(STAMP);
        fs::write(&stamp, &source.digest).with_context(|| format!("cannot write {}", stamp.display()))?;
        remove(&home)?;
        fs::rename(&unfinished, &home)
            .with_context(|| format!("cannot rename {} to {}", unfinished.display(), home.display()))?;
        remove(&work)
    }

    fn build(&self, place: &Place, version: &str, flags: &str, work: &Path, into: &Path) -> Result<()> {
        let go = go::provide(place)?;
        let module = self.at(place);
        let run = |arguments: &[&str]| go::command(&go, &module, work, arguments);
        let title = format!("fetch the modules of {}", self.title);
        step::retry(|| step::quiet(&title, run(&["mod", "download"]), self.fetch_limit))?;
        for (number, (name, package)) in (1..).zip(self.programs) {
            let title =
                format!("build {name} {version} ({number} of {}; {})", self.programs.len(), self.patience);
            let output = into.join(name);
            let mut command = run(&["build", "-v", "-ldflags", flags, "-o"]);
            command.arg(&output).arg(package);
            step::quiet(&title, command, self.limit)?;
            if !output.is_file() {
                bail!("`go build` left no {}", output.display());
            }
        }
        Ok(())
    }

    /// Holds go.mod to what is built of it.
    #[cfg(test)]
    pub fn names_its_tools(&self) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let module = fs::read_to_string(root.join("tests").join(self.folder).join("go.mod")).unwrap();
        for (_, package) in self.programs {
            let tool = |line: &str| line.trim().trim_start_matches("tool ") == *package;
            assert!(module.lines().any(tool), "{package} is no tool of {}", self.folder);
        }
        assert!(version(&module, self.requires).is_some(), "no version of {}", self.requires);
    }

    fn at(&self, place: &Place) -> PathBuf {
        place.root.join("tests").join(self.folder)
    }

    fn home(&self, place: &Place, source: &Source) -> PathBuf {
        place.cache.join(self.folder).join(&source.version)
    }
}

/// What the programs are built from.
struct Source {
    /// Such as v1.34.4.
    version: String,
    /// Of go.mod and go.sum: another requirement, or another checksum, asks for another build.
    digest: String,
}

impl Source {
    fn read(module: &Module, place: &Place) -> Result<Self> {
        let folder = module.at(place);
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let (required, sums) = (read("go.mod")?, read("go.sum")?);
        let version = version(&required, module.requires)
            .with_context(|| format!("{}/go.mod requires no {}", folder.display(), module.requires))?;
        Ok(Self { version, digest: digest::text((required + &sums).as_bytes()) })
    }
}

/// The version behind a requirement's name, in a line or a block of requirements.
fn version(module: &str, requires: &str) -> Option<String> {
    module.lines().find_map(|line| {
        let line = line.trim().trim_start_matches("require ").trim_start();
        let rest = line.strip_prefix(requires)?.strip_prefix(" v")?;
        Some(format!("v{}", rest.split_whitespace().next()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_where_go_writes_it() {
        let found = |module: &str| version(module, "k8s.io/kubernetes");
        assert_eq!(found("require k8s.io/kubernetes v1.34.4\n").as_deref(), Some("v1.34.4"));
        let block = "require (\n\tk8s.io/api v0.34.4\n\tk8s.io/kubernetes v1.34.4 // indirect\n)\n";
        assert_eq!(found(block).as_deref(), Some("v1.34.4"));
        assert_eq!(found("tool k8s.io/kubernetes/cmd/kubectl\n"), None);
        assert_eq!(found("require k8s.io/kubernetesother v1.0.0\n"), None);
    }
}
