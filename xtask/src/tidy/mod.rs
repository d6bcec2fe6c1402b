//! The rules that docs/architecture.md calls invariants, held by a test instead of by memory.
//!
//! `Tree` reads the checkout once; each rule is a function from it to failures, and a failure is a place
//! and a sentence that says what to do. A rule's exceptions stand in its own file, each with its reason.
//! Rules look at text, not at a syntax tree: they may be fooled by someone who tries, and take a few
//! milliseconds.

mod lexer;

mod tree;

mod modules;

mod reached;

mod imports;

mod order;

mod files;

mod pure;

mod names;

mod map;

mod abi;

#[cfg(test)]
mod fixture;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use tree::Tree;

/// Something to put right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failure {
    /// Relative to the checkout's root.
    pub path: PathBuf,
    /// Counted from 1; 0 when the whole file is meant.
    pub line: usize,
    pub what: String,
}

impl Failure {
    fn new(path: impl Into<PathBuf>, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.into(), line, what: what.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}", self.what)
    }
}

type Rule = fn(&Tree) -> Vec<Failure>;

const RULES: [Rule; 11] = [
    files::folders,
    files::length,
    files::story,
    files::ignored,
    reached::check,
    order::check,
    pure::core,
    pure::vocabulary,
    names::metrics,
    map::check,
    abi::check,
];

/// Everything that breaks a rule, sorted by place.
pub fn check(root: &Path) -> Result<Vec<Failure>> {
    let tree = Tree::read(root)?;
    let mut failures: Vec<Failure> = RULES.iter().flat_map(|rule| rule(&tree)).collect();
    failures.sort();
    failures.dedup();
    Ok(failures)
}

/// Takes over what a person has to confirm: the kernel ABI's digest.
pub fn bless(root: &Path) -> Result<()> {
    abi::bless(&Tree::read(root)?, root)
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_tree_is_tidy() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let failures = super::check(root).unwrap();
        let text: Vec<String> = failures.iter().map(ToString::to_string).collect();
        assert!(
            text.is_empty(),
            "{}\n(see STYLE in docs/architecture.md; `cargo xtask lint`)",
            text.join("\n")
        );
    }
}
