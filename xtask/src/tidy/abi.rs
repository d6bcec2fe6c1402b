//! The ABI between the BPF programs and the agent may change only together with its version.
//!
//! agent/common/abi.digest holds the version and a digest of agent/common's code. Comments, blank space
//! and tests do not count. A change of the code asks for a higher `ABI_VERSION`; `cargo xtask lint
//! --bless` then writes both down, and refuses to while the version is still the old one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Failure;
use super::tree::Tree;
use crate::digest;

const CODE: &str = "agent/common/src";
const RECORD: &str = "agent/common/abi.digest";
const VERSION: &str = "ABI_VERSION";

#[derive(Clone, Debug, PartialEq, Eq)]
struct Abi {
    version: u64,
    digest: String,
}

impl Abi {
    fn record(&self) -> String {
        format!("version {}\ndigest {}\n", self.version, self.digest)
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name| text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ').map(str::trim));
        Some(Self { version: field("version")?.parse().ok()?, digest: field("digest")?.to_owned() })
    }
}

/// Where the version stands, or `None` while the crate declares nothing at all.
fn current(tree: &Tree) -> Option<Result<Abi, Failure>> {
    let files: Vec<_> = tree.rust.iter().filter(|(path, _)| path.starts_with(CODE)).collect();
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    if files.iter().all(|(_, file)| words(&file.code.text).is_empty()) {
        return None;
    }
    let version = files.iter().find_map(|(_, file)| {
        let (_, after) = file.code.text.split_once(&format!("const {VERSION}:"))?;
        after.split_once('=')?.1.split(';').next()?.trim().parse().ok()
    });
    let Some(version) = version else {
        let what = format!(
            "no `pub const {VERSION}: u32 = …;` here: agent and BPF programs could not tell that they differ"
        );
        return Some(Err(Failure::new(PathBuf::from(CODE).join("lib.rs"), 0, what)));
    };
    let mut text = String::new();
    for (path, file) in &files {
        text.push_str(&path.to_string_lossy());
        // The version itself is not part of what it versions, or a bump alone would look like a change.
        for line in file.code.text.lines().filter(|l| !l.contains(VERSION)) {
            for word in words(line) {
                text.push(' ');
                text.push_str(&word);
            }
        }
        for (_, value) in &file.code.strings {
            text.push_str(value);
        }
        text.push('\n');
    }
    Some(Ok(Abi { version, digest: digest::text(text.as_bytes()) }))
}

fn recorded(tree: &Tree) -> Option<Abi> {
    tree.other.get(Path::new(RECORD)).and_then(|text| Abi::parse(text))
}

pub fn check(tree: &Tree) -> Vec<Failure> {
    let now = match current(tree) {
        None => return Vec::new(),
        Some(Err(failure)) => return vec![failure],
        Some(Ok(abi)) => abi,
    };
    let what = match recorded(tree) {
        Some(then) if then == now => return Vec::new(),
        Some(then) if then.digest == now.digest => format!(
            "{VERSION} is {} and {RECORD} says {}, yet nothing else has changed: run `cargo xtask lint --bless`",
            now.version, then.version
        ),
        Some(then) if then.version == now.version => format!(
            "the kernel ABI has changed and {VERSION} is still {}: raise it, then run `cargo xtask lint --bless`",
            now.version
        ),
        Some(_) => {
            "the kernel ABI has changed together with its version: run `cargo xtask lint --bless`".to_owned()
        }
        None => "the kernel ABI is not on record yet: run `cargo xtask lint --bless`".to_owned(),
    };
    vec![Failure::new(CODE, 0, what)]
}

/// Writes the record. Refuses a change that kept its version.
pub fn bless(tree: &Tree, root: &Path) -> Result<()> {
    let now = match current(tree) {
        None => return Ok(()),
        Some(Err(failure)) => bail!("{failure}"),
        Some(Ok(abi)) => abi,
    };
    if let Some(then) = recorded(tree)
        && then.digest != now.digest
        && now.version <= then.version
    {
        bail!("{CODE} has changed and {VERSION} is {}, it was {}: raise it first", now.version, then.version);
    }
    let path = root.join(RECORD);
    fs::write(&path, now.record()).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use crate::tidy::fixture::{Fixture, said};

    const LIB: &str = "agent/common/src/lib.rs";

    fn abi(version: u32, field: &str) -> String {
        format!("//! ABI.\npub const ABI_VERSION: u32 = {version};\npub struct Event {{ {field} }}\n")
    }

    fn bless(fixture: &Fixture) -> anyhow::Result<()> {
        super::bless(&fixture.tree(), fixture.dir.path())
    }

    #[test]
    fn a_change_asks_for_a_version() {
        let fixture = Fixture::new().file(LIB, "//! Nothing yet.\n");
        assert_eq!(said(super::check, &fixture), "");
        let fixture = fixture.file(LIB, &abi(1, "ino: u64"));
        assert!(said(super::check, &fixture).contains("not on record"));
        bless(&fixture).unwrap();
        assert_eq!(said(super::check, &fixture), "");

        let commented = abi(1, "ino: u64").replace("pub struct", "// why\n  pub  struct");
        let fixture = fixture.file(LIB, &commented);
        assert_eq!(said(super::check, &fixture), "");

        let fixture = fixture.file(LIB, &abi(1, "ino: u32"));
        assert!(said(super::check, &fixture).contains("ABI_VERSION is still 1: raise it"));
        assert!(bless(&fixture).unwrap_err().to_string().contains("raise it first"));

        let fixture = fixture.file(LIB, &abi(2, "ino: u32"));
        assert!(said(super::check, &fixture).contains("together with its version"));
        bless(&fixture).unwrap();
        assert_eq!(said(super::check, &fixture), "");
    }

    #[test]
    fn an_abi_without_a_version_is_found() {
        let fixture = Fixture::new().file(LIB, "//! ABI.\npub struct Event;\n");
        assert!(said(super::check, &fixture).contains("no `pub const ABI_VERSION"));
    }
}
