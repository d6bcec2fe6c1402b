//! Stock Debian cloud kernels: which ones, and where they come from.
//!
//! A kernel is fetched once and kept under its package's version in the cache, outside target/. Once a
//! week the mirror is asked whether there is a newer one; where it does not answer, the kept one is used.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, bail};

use super::arch::{AMD64, Arch};
use crate::apt::Apt;
use crate::console;
use crate::place::Place;

/// A line of kernels that some distribution ships.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// As `--kernel` names it.
    pub name: &'static str,
    /// Releases begin with this; empty for the newest there is.
    prefix: &'static str,
    suites: &'static [&'static str],
}

/// Oldest first. 5.10 is the oldest that any distribution in support ships with BTF; backports carry what
/// Debian's testing has.
pub const LINES: [Line; 4] = [
    Line {
        name: "5.10",
        prefix: "5.10.",
        suites: &[
            "http://deb.debian.org/debian bullseye main",
            "http://deb.debian.org/debian-security bullseye-security main",
        ],
    },
    Line {
        name: "6.1",
        prefix: "6.1.",
        suites: &[
            "http://deb.debian.org/debian bookworm main",
            "http://deb.debian.org/debian-security bookworm-security main",
        ],
    },
    Line {
        name: "6.12",
        prefix: "6.12.",
        suites: &[
            "http://deb.debian.org/debian trixie main",
            "http://deb.debian.org/debian-security trixie-security main",
        ],
    },
    Line { name: "newest", prefix: "", suites: &["http://deb.debian.org/debian trixie-backports main"] },
];

/// How long a kept kernel is taken without asking.
const FRESH: Duration = Duration::from_secs(7 * 24 * 3600);

/// A kernel on this machine's disk.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// "6.12", "7.3".
    pub name: String,
    /// `uname -r`.
    pub release: String,
    pub image: PathBuf,
    /// lib/modules/RELEASE.
    pub modules: PathBuf,
}

/// What `--kernel` asks for: a line, and of the newest perhaps a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub line: Line,
    /// "7.3": what the newest that there is must be. Only the mirror knows which one that is.
    version: Option<String>,
}

impl From<Line> for Wish {
    fn from(line: Line) -> Self {
        Self { line, version: None }
    }
}

impl Wish {
    /// A line by its name, or the newest by its version as far as it is given: "7", "7.3", "7.3.4".
    pub fn of(name: &str) -> Result<Self> {
        if let Some(line) = LINES.into_iter().find(|line| line.name == name) {
            return Ok(line.into());
        }
        let [named @ .., newest] = LINES;
        let asked = numbers(name);
        // What is not above the other lines cannot be the newest, and nobody needs to be asked.
        let series = asked.get(..2).unwrap_or(&asked);
        let is_version = name.split('.').all(|part| part.parse::<u64>().is_ok());
        if !is_version || named.iter().any(|line| numbers(line.name).as_slice() >= series) {
            return Err(unknown(name));
        }
        Ok(Self { line: newest, version: Some(name.to_owned()) })
    }

    /// Whether this is the kernel that was asked for.
    pub fn check(&self, kernel: &Kernel) -> Result<()> {
        let Some(version) = &self.version else { return Ok(()) };
        if numbers(&kernel.release).starts_with(&numbers(version)) {
            return Ok(());
        }
        Err(unknown(version).context(format!("the newest kernel is {}", kernel.release)))
    }
}

fn unknown(name: &str) -> anyhow::Error {
    let known: Vec<&str> = LINES.iter().map(|line| line.name).collect();
    anyhow!("no kernel is called {name}: there are {}", known.join(", "))
}

/// The numbers that a release or version begins with.
fn numbers(release: &str) -> Vec<u64> {
    release.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
}

/// The kernel of a line, fetched where it is not there or might be old.
pub fn provide(place: &Place, line: Line, arch: Arch) -> Result<Kernel> {
    let home = place.cache.join("kernels");
    fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
    // Names the folder of the line's kernel; its time says when the mirror was asked.
    let current = home.join(match arch {
        AMD64 => format!("{}.current", line.name),
        _ => format!("{}-{}.current", line.name, arch.name),
    });
    let kept = fs::read_to_string(&current).ok().and_then(|folder| open(&home.join(folder.trim())).ok());
    let asked = fs::metadata(&current).and_then(|meta| meta.modified()).ok();
    let age = asked.and_then(|at| SystemTime::now().duration_since(at).ok());
    if let Some(kernel) = &kept
        && age.is_some_and(|age| age < FRESH)
    {
        return Ok(kernel.clone());
    }
    match fetch(&home, line, arch) {
        Ok(folder) => {
            fs::write(&current, &folder).with_context(|| format!("cannot write {}", current.display()))?;
            open(&home.join(folder))
        }
        Err(error) => match kept {
            Some(kernel) => {
                console::note(&format!("  {}: the one kept from before is used; {error:#}", kernel.release));
                Ok(kernel)
            }
            None => Err(error).with_context(|| {
                format!("the kernel {} could not be fetched: are Debian's mirrors reachable?", line.name)
            }),
        },
    }
}

/// Fetches the newest package of a line; returns the name of its folder.
fn fetch(home: &Path, line: Line, arch: Arch) -> Result<String> {
    let suites: Vec<String> = line.suites.iter().map(|suite| (*suite).to_owned()).collect();
    let work = home.join(format!("apt-{}-{}-{}", line.name, arch.name, std::process::id()));
    let apt = Apt::of(work, &suites, arch.name)?;
    apt.update(line.name)?;
    let packages = apt.ask(&["pkgnames", "linux-image-"])?;
    let package = newest(&packages, line.prefix, arch)
        .with_context(|| format!("Debian has no cloud kernel {}", line.name))?;
    let about = apt.ask(&["show", "--no-all-versions", &package])?;
    let field = |name: &str| about.iter().find_map(|l| l.strip_prefix(name)).unwrap_or_default().trim();
    let version = field("Version:");
    if version.is_empty() {
        bail!("apt knows no version of {package}");
    }
    let folder = format!("{package}_{}", version.replace(['/', ':'], "_"));
    let target = home.join(&folder);
    if open(&target).is_ok() {
        return Ok(folder);
    }
    // Since 7.x image and modules are packages of their own, which the first one depends on.
    let parts = field("Depends:").split([',', '|']).filter_map(|part| part.split_whitespace().next());
    let parts = parts.filter(|part| part.starts_with("linux-binary-") || part.starts_with("linux-modules-"));
    let mut wanted = vec![package.clone()];
    wanted.extend(parts.map(str::to_owned));
    if target.exists() {
        fs::remove_dir_all(&target).with_context(|| format!("cannot remove {}", target.display()))?;
    }
    apt.unpack(&wanted, &target)?;
    open(&target)?;
    Ok(folder)
}

/// "linux-image-6.12.117+deb13-cloud-amd64": of those whose release begins with the prefix the highest.
fn newest(packages: &[String], prefix: &str, arch: Arch) -> Option<String> {
    let suffix = format!("-cloud-{}", arch.name);
    let release = |package: &str| -> Option<Vec<u64>> {
        let rest = package.strip_prefix("linux-image-")?.strip_suffix(suffix.as_str())?;
        if !rest.starts_with(prefix) || rest.contains("deb11") && prefix != "5.10." {
            return None;
        }
        let numbers = numbers(rest);
        // "6.12" alone is a package without content that depends on the newest.
        (numbers.len() >= 3).then_some(numbers)
    };
    let of_line = packages.iter().filter_map(|package| Some((release(package)?, package)));
    of_line.max().map(|(_, package)| package.clone())
}

/// A kernel that has been unpacked.
fn open(folder: &Path) -> Result<Kernel> {
    let mut roots = ["lib/modules", "usr/lib/modules"].into_iter().map(|root| folder.join(root));
    let root =
        roots.find(|root| root.is_dir()).with_context(|| format!("no modules in {}", folder.display()))?;
    let mut releases = fs::read_dir(&root)?.flatten().map(|entry| entry.path());
    let modules = releases.next().with_context(|| format!("no modules in {}", root.display()))?;
    let release = modules.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let images = [folder.join(format!("boot/vmlinuz-{release}")), modules.join("vmlinuz")];
    let image = images.into_iter().find(|image| image.is_file());
    let image = image.with_context(|| format!("no kernel image in {}", folder.display()))?;
    let name = release.split(['.', '-', '+']).take(2).collect::<Vec<_>>().join(".");
    Ok(Kernel { name, release, image, modules })
}

/// Decompresses a module as distributions ship them.
pub fn module(path: &Path) -> Result<Vec<u8>> {
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return fs::read(path).with_context(|| format!("cannot read {}", path.display())),
    };
    let output = Command::new(program).arg("-dc").arg(path).output();
    let output = output.with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("{program} -dc {}: {}", path.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(prefix: &str) -> Option<String> {
        let packages = [
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.12.107+deb13-cloud-amd64",
            "linux-image-6.12.117+deb13-cloud-amd64",
            "linux-image-6.12.117+deb13-cloud-amd64-dbg",
            "linux-image-6.12.117+deb13-cloud-amd64-unsigned",
            "linux-image-6.12.117+deb13-rt-amd64",
            "linux-image-6.1.0-0.deb11.50-cloud-amd64",
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-50-cloud-amd64",
            "linux-image-7.2.12+deb13-cloud-amd64",
            "linux-image-7.3.4+deb13-cloud-amd64",
        ];
        newest(&packages.map(str::to_owned), prefix, AMD64)
    }

    #[test]
    fn the_newest_of_a_line_is_taken() {
        assert_eq!(of("6.12.").as_deref(), Some("linux-image-6.12.117+deb13-cloud-amd64"));
        assert_eq!(of("6.1.").as_deref(), Some("linux-image-6.1.0-50-cloud-amd64"));
        assert_eq!(of("").as_deref(), Some("linux-image-7.3.4+deb13-cloud-amd64"));
        assert_eq!(of("5.10."), None);
    }

    #[test]
    fn an_unknown_kernel_is_refused_by_name() {
        assert_eq!(Wish::of("6.1").unwrap(), LINES[1].into());
        for name in ["4.19", "6", "6.1.0", "6.12.118", "", "seven", "7.x", "7..3", "7.3-cloud"] {
            let refused = Wish::of(name).unwrap_err().to_string();
            assert!(refused.contains("5.10, 6.1, 6.12, newest"), "{name}: {refused}");
        }
    }

    #[test]
    fn the_newest_is_called_by_its_version_too() {
        let kernel = Kernel {
            name: "7.3".to_owned(),
            release: "7.3.4+deb13-cloud-amd64".to_owned(),
            image: PathBuf::new(),
            modules: PathBuf::new(),
        };
        for name in ["newest", "7", "7.3", "7.3.4"] {
            let wish = Wish::of(name).unwrap();
            assert_eq!(wish.line.name, "newest", "{name}");
            wish.check(&kernel).unwrap();
        }
        for name in ["8", "6.18", "7.4", "7.30", "7.3.40", "7.3.4.1"] {
            let refused = format!("{:#}", Wish::of(name).unwrap().check(&kernel).unwrap_err());
            assert!(refused.contains("the newest kernel is 7.3.4+deb13-cloud-amd64"), "{refused}");
            assert!(refused.contains(&format!("no kernel is called {name}: there are 5.10,")), "{refused}");
        }
        let later = Kernel { release: "7.30.1-cloud-amd64".to_owned(), ..kernel };
        assert!(Wish::of("7.3").unwrap().check(&later).is_err());
    }
}
