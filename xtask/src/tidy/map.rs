//! What docs/architecture.md names in backticks must exist: paths, types, and modules; links in any page
//! must lead somewhere. A map that shows streets long gone is worse than none.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::Failure;
use super::tree::Tree;

const MAP: &str = "docs/architecture.md";

pub fn check(tree: &Tree) -> Vec<Failure> {
    let mut failures = Vec::new();
    let words = words(tree);
    for (path, text) in tree.other.iter().filter(|(p, _)| p.extension().is_some_and(|e| e == "md")) {
        for (number, line) in prose(text) {
            for target in links(line).filter(|t| !leads(tree, path, t)) {
                failures.push(Failure::new(
                    path,
                    number,
                    format!("the link to {target} leads nowhere: correct it"),
                ));
            }
            if path == Path::new(MAP) {
                let unknown = quoted(line).filter(|name| !known(tree, &words, name));
                failures.extend(unknown.map(|name| {
                    Failure::new(
                        path,
                        number,
                        format!("`{name}` does not exist (any more): correct the name, or the page"),
                    )
                }));
            }
        }
    }
    failures
}

/// The lines outside code fences, from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((number + 1, line))
    })
}

fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Targets of `[text](target)` inside this repository, without their anchors.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let targets = targets.map(|t| t.split('#').next().unwrap_or(t));
    targets.filter(|t| !t.is_empty() && !t.contains("://") && !t.starts_with("mailto:"))
}

fn leads(tree: &Tree, page: &Path, target: &str) -> bool {
    let mut path = page.parent().unwrap_or(Path::new("")).to_path_buf();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    path.as_os_str().is_empty() || hidden(&path) || tree.has(&path)
}

/// `.ci/run` and the like are not read by `Tree`.
fn hidden(path: &Path) -> bool {
    path.iter().next().is_some_and(|first| first.to_string_lossy().starts_with('.'))
}

fn known(tree: &Tree, words: &BTreeSet<String>, name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':');
    if name.starts_with('/') || name.starts_with('-') || !name.chars().all(plain) {
        return true; // Absolute paths, commands, options: not names of this tree.
    }
    let file = [".rs", ".md", ".toml", ".proto"].iter().any(|end| name.ends_with(end));
    if name.contains('/') || file {
        let path = PathBuf::from(name.trim_end_matches('/'));
        return hidden(&path) || tree.has(&path);
    }
    let parts: Vec<&str> = name.split("::").collect();
    let begins_upper = |p: &str| p.starts_with(|c: char| c.is_uppercase());
    let is_type = |p: &str| begins_upper(p) && p.chars().any(char::is_lowercase);
    if parts.len() > 1 || parts.first().is_some_and(|p| is_type(p)) {
        return parts.iter().all(|p| words.contains(&p.replace('-', "_")) || matches!(*p, "crate" | "std"));
    }
    true // A plain word: a command, a kernel function, a crate of others.
}

/// Every word of the code, and the crates' names.
fn words(tree: &Tree) -> BTreeSet<String> {
    let code = tree.rust.values().flat_map(|f| f.code.text.split(|c: char| !c.is_alphanumeric() && c != '_'));
    let names = tree.crates.iter().filter_map(|c| {
        let line = c.manifest.lines().find(|l| l.trim_start().starts_with("name"))?;
        Some(line.split('"').nth(1)?.replace('-', "_"))
    });
    code.filter(|w| !w.is_empty()).map(str::to_owned).chain(names).collect()
}

#[cfg(test)]
mod tests {
    use crate::tidy::fixture::{Fixture, said};

    #[test]
    fn a_name_that_is_gone_is_found() {
        let fixture =
            Fixture::with_crate("agent", "//! `Ghost`\npub struct Core;\nimpl Core { fn apply() {} }\n");
        let good = "`agent/src/lib.rs` `agent/` `Core::apply` `agent::Core` `cargo xtask test` `/sys/kernel` `fuse` \
            `.ci/run` `--flag`\n```\n`Nothing`\n```\n[a](../agent) [b](https://x.org/y) [c](#d)\n";
        let fixture = fixture.file("docs/architecture.md", good);
        assert_eq!(said(super::check, &fixture), "");
        let bad = "# Map\n`Ghost` and `agent/src/gone.rs`\n[x](nowhere.md)\n`Core::gone`\n";
        let text = said(super::check, &fixture.file("docs/architecture.md", bad));
        for expected in [
            "md:2: `Ghost`",
            "md:2: `agent/src/gone.rs`",
            "md:3: the link to nowhere.md",
            "md:4: `Core::gone`",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }
}
