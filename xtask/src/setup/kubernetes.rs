//! etcd and the control plane of the test cluster, built once from Go modules and kept outside the checkout.
//!
//! tests/kubernetes/go.mod names the programs and pins them; go.sum holds their checksums. They are built
//! one after another, each shown, with module and build cache of their own that stay while the build is
//! unfinished (so that an interrupted one goes on where it was) and are removed once it is whole.
//! HEADRACE_KUBE_BIN names a folder of ready ones instead; tests/src/cluster/programs.rs finds them.

use std::env;
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

/// A program's name, and the Go package it is built from.
const PROGRAMS: [(&str, &str); 5] = [
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
];

/// The first program compiles most of what all share: some minutes on two free cores, more on busy ones.
const LIMIT: Duration = Duration::from_secs(60 * 60);
const FETCH_LIMIT: Duration = Duration::from_secs(20 * 60);

/// Names what the programs were built from, inside their folder.
const STAMP: &str = "built-from";

/// The folder of ready programs that a person named.
const NAMED: &str = "HEADRACE_KUBE_BIN";

pub fn check(place: &Place) -> Result<State> {
    if let Some(folder) = env::var_os(NAMED).filter(|folder| !folder.is_empty()) {
        return Ok(State::Ready(format!("those in {} ({NAMED})", Path::new(&folder).display())));
    }
    let source = Source::read(place)?;
    let home = source.home(place);
    let whole = PROGRAMS.iter().all(|(name, _)| home.join(name).is_file())
        && fs::read_to_string(home.join(STAMP)).is_ok_and(|stamp| stamp == source.digest);
    Ok(if whole {
        State::Ready(format!("Kubernetes {} in {}", source.version, home.display()))
    } else {
        State::Missing(format!("Kubernetes {} is not built yet", source.version))
    })
}

pub fn provide(place: &Place) -> Result<()> {
    let source = Source::read(place)?;
    let home = source.home(place);
    let parent = place.cache.join("kubernetes");
    fs::create_dir_all(&parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let _lock = lock(&parent.join("lock"), "kubernetes", LIMIT)?;
    if matches!(check(place)?, State::Ready(_)) {
        return Ok(()); // Another checkout built them while we waited for the lock.
    }
    let work = parent.join("unfinished");
    let unfinished = work.join(format!("bin-{}", process::id()));
    fs::create_dir_all(&unfinished).with_context(|| format!("cannot create {}", unfinished.display()))?;
    build(place, &source, &work, &unfinished).with_context(|| {
        format!(
            "could not build the test cluster's programs. If the lines below speak of the network, check \
             that proxy.golang.org is reachable (GOPROXY names another), then run `cargo xtask setup` \
             again: it goes on where it was. With ready programs, set {NAMED} to their folder"
        )
    })?;
    let stamp = unfinished.join(STAMP);
    fs::write(&stamp, &source.digest).with_context(|| format!("cannot write {}", stamp.display()))?;
    remove(&home)?;
    fs::rename(&unfinished, &home)
        .with_context(|| format!("cannot rename {} to {}", unfinished.display(), home.display()))?;
    remove(&work)
}

fn build(place: &Place, source: &Source, work: &Path, into: &Path) -> Result<()> {
    let go = go::provide(place)?;
    let run = |arguments: &[&str]| go::command(&go, &source.module(place), work, arguments);
    step::retry(|| step::quiet("fetch the modules of Kubernetes", run(&["mod", "download"]), FETCH_LIMIT))?;
    let flags = source.linker_flags();
    for (number, (name, package)) in PROGRAMS.iter().enumerate() {
        let title = format!(
            "build {name} {} ({} of {}; some ten minutes in all, once)",
            source.version,
            number + 1,
            PROGRAMS.len()
        );
        let output = into.join(name);
        let mut command = run(&["build", "-v", "-ldflags", &flags, "-o"]);
        command.arg(&output).arg(package);
        step::quiet(&title, command, LIMIT)?;
        if !output.is_file() {
            bail!("`go build` left no {}", output.display());
        }
    }
    Ok(())
}

/// What the programs are built from.
struct Source {
    /// Kubernetes', such as v1.34.4.
    version: String,
    /// Of go.mod and go.sum: another etcd, or another checksum, asks for another build.
    digest: String,
}

impl Source {
    fn read(place: &Place) -> Result<Self> {
        let folder = place.root.join("tests/kubernetes");
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let (module, sums) = (read("go.mod")?, read("go.sum")?);
        let version = version(&module)
            .with_context(|| format!("{}/go.mod requires no k8s.io/kubernetes", folder.display()))?;
        Ok(Self { version, digest: digest::text((module + &sums).as_bytes()) })
    }

    fn module(&self, place: &Place) -> PathBuf {
        place.root.join("tests/kubernetes")
    }

    fn home(&self, place: &Place) -> PathBuf {
        place.cache.join("kubernetes").join(&self.version)
    }

    /// Without them the programs call themselves v0.0.0-master, and clients believe it.
    fn linker_flags(&self) -> String {
        let version = &self.version;
        let mut numbers = version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        let mut flags = vec!["-s".to_owned(), "-w".to_owned()];
        for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
            for (name, value) in [
                ("gitVersion", version.as_str()),
                ("gitMajor", major),
                ("gitMinor", minor),
                ("gitTreeState", "clean"),
            ] {
                flags.push(format!("-X={package}.{name}={value}"));
            }
        }
        flags.join(" ")
    }
}

/// The version in the line `require k8s.io/kubernetes v…`, or in a block of requirements.
fn version(module: &str) -> Option<String> {
    module.lines().find_map(|line| {
        let line = line.trim().trim_start_matches("require ").trim_start();
        let rest = line.strip_prefix("k8s.io/kubernetes v")?;
        Some(format!("v{}", rest.split_whitespace().next()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_where_go_writes_it() {
        assert_eq!(version("require k8s.io/kubernetes v1.34.4\n").as_deref(), Some("v1.34.4"));
        let block = "require (\n\tk8s.io/api v0.34.4\n\tk8s.io/kubernetes v1.34.4 // indirect\n)\n";
        assert_eq!(version(block).as_deref(), Some("v1.34.4"));
        assert_eq!(version("tool k8s.io/kubernetes/cmd/kubectl\n"), None);
    }

    #[test]
    fn the_version_is_stamped_in() {
        let source = Source { version: "v1.34.4".into(), digest: String::new() };
        let flags = source.linker_flags();
        assert!(flags.contains("-X=k8s.io/component-base/version.gitVersion=v1.34.4"), "{flags}");
        assert!(flags.contains("-X=k8s.io/client-go/pkg/version.gitMinor=34"), "{flags}");
    }

    #[test]
    fn every_program_is_a_tool_of_the_module() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let module = fs::read_to_string(root.join("tests/kubernetes/go.mod")).unwrap();
        for (_, package) in PROGRAMS {
            assert!(module.lines().any(|line| line.trim() == package), "{package} is no tool");
        }
    }
}
