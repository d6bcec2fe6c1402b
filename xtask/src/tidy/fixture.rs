//! Small trees in a temporary folder, for the tests of the rules.

use std::fs;

use tempfile::TempDir;

use super::tree::Tree;
use super::{Failure, Rule};

pub struct Fixture {
    pub dir: TempDir,
}

impl Fixture {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn with_crate(name: &str, lib: &str) -> Self {
        let manifest = format!("[package]\nname = \"{name}\"\n");
        Self::new().file(&format!("{name}/Cargo.toml"), &manifest).file(&format!("{name}/src/lib.rs"), lib)
    }

    pub fn file(self, path: &str, text: &str) -> Self {
        let full = self.dir.path().join(path);
        fs::create_dir_all(full.parent().unwrap()).unwrap();
        fs::write(full, text).unwrap();
        self
    }

    pub fn tree(&self) -> Tree {
        Tree::read(self.dir.path()).unwrap()
    }
}

/// What a rule says of a fixture, one failure a line.
pub fn said(rule: Rule, fixture: &Fixture) -> String {
    let failures: Vec<Failure> = rule(&fixture.tree());
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
