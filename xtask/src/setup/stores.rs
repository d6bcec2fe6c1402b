//! The store that speaks S3 in tests: versitygw (Apache-2.0), which keeps objects as files of a folder, so that a test
//! sees and alters them behind its back. Built once from its Go module, pinned in tests/stores/go.mod, and kept
//! outside the checkout like the test cluster's programs.

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

const PROGRAM: &str = "versitygw";
const PACKAGE: &str = "github.com/versity/versitygw/cmd/versitygw";
const MODULE: &str = "github.com/versity/versitygw";

/// Two minutes on two free cores; more on busy ones.
const LIMIT: Duration = Duration::from_secs(40 * 60);
const FETCH_LIMIT: Duration = Duration::from_secs(10 * 60);

/// Names what it was built from, beside it.
const STAMP: &str = "built-from";

pub fn check(place: &Place) -> Result<State> {
    let source = Source::read(place)?;
    let home = source.home(place);
    let whole = home.join(PROGRAM).is_file()
        && fs::read_to_string(home.join(STAMP)).is_ok_and(|stamp| stamp == source.digest);
    Ok(if whole {
        State::Ready(format!("{PROGRAM} {} in {}", source.version, home.display()))
    } else {
        State::Missing(format!("{PROGRAM} {} is not built yet", source.version))
    })
}

pub fn provide(place: &Place) -> Result<()> {
    let source = Source::read(place)?;
    let home = source.home(place);
    let parent = place.cache.join("stores");
    fs::create_dir_all(&parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let _lock = lock(&parent.join("lock"), "s3 server", LIMIT)?;
    if matches!(check(place)?, State::Ready(_)) {
        return Ok(()); // Another checkout built it while we waited for the lock.
    }
    let work = parent.join("unfinished");
    let unfinished = work.join(format!("bin-{}", process::id()));
    fs::create_dir_all(&unfinished).with_context(|| format!("cannot create {}", unfinished.display()))?;
    build(place, &source, &work, &unfinished).context(
        "could not build the store that speaks S3 in tests. If the lines below speak of the network, check that \
         proxy.golang.org is reachable (GOPROXY names another), then run `cargo xtask setup` again",
    )?;
    let stamp = unfinished.join(STAMP);
    fs::write(&stamp, &source.digest).with_context(|| format!("cannot write {}", stamp.display()))?;
    remove(&home)?;
    fs::rename(&unfinished, &home)
        .with_context(|| format!("cannot rename {} to {}", unfinished.display(), home.display()))?;
    remove(&work)
}

fn build(place: &Place, source: &Source, work: &Path, into: &Path) -> Result<()> {
    let go = go::provide(place)?;
    let module = place.root.join("tests/stores");
    let run = |arguments: &[&str]| go::command(&go, &module, work, arguments);
    let title = "fetch the modules of the s3 server";
    step::retry(|| step::quiet(title, run(&["mod", "download"]), FETCH_LIMIT))?;
    let output = into.join(PROGRAM);
    let mut command = run(&["build", "-v", "-ldflags", "-s -w", "-o"]);
    command.arg(&output).arg(PACKAGE);
    step::quiet(&format!("build {PROGRAM} {} (once)", source.version), command, LIMIT)?;
    if !output.is_file() {
        bail!("`go build` left no {}", output.display());
    }
    Ok(())
}

/// What it is built from.
struct Source {
    /// Such as v1.2.0.
    version: String,
    /// Of go.mod and go.sum.
    digest: String,
}

impl Source {
    fn read(place: &Place) -> Result<Self> {
        let folder = place.root.join("tests/stores");
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let (module, sums) = (read("go.mod")?, read("go.sum")?);
        let version =
            version(&module).with_context(|| format!("{}/go.mod requires no {MODULE}", folder.display()))?;
        Ok(Self { version, digest: digest::text((module + &sums).as_bytes()) })
    }

    fn home(&self, place: &Place) -> PathBuf {
        place.cache.join("stores").join(&self.version)
    }
}

/// The version behind the module's name, in a line or a block of requirements.
fn version(module: &str) -> Option<String> {
    let mut lines = module.lines().map(|line| line.trim().trim_start_matches("require ").trim_start());
    lines.find_map(|line| {
        let rest = line.strip_prefix(MODULE)?.strip_prefix(' ')?;
        Some(rest.split_whitespace().next()?.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_names_program_and_version() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let module = fs::read_to_string(root.join("tests/stores/go.mod")).unwrap();
        assert!(module.contains(&format!("tool {PACKAGE}")));
        assert!(version(&module).unwrap().starts_with('v'));
        assert_eq!(version("tool github.com/versity/versitygw/cmd/versitygw\n"), None);
    }
}
