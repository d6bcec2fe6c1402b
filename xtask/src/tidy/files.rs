//! Rules about files as such: where they are, how long, whether they tell their story.

use std::path::Path;

use super::Failure;
use super::tree::Tree;

/// The top-level folders, and what each is for.
const FOLDERS: [&str; 7] = ["agent", "agent-ebpf", "deploy", "docs", "operator", "tests", "xtask"];

/// A longer file holds more than one idea: a reader cannot keep it in mind, nor two people work on it.
const LINES: usize = 500;

/// (file, reason): longer than `LINES` because one idea really takes that much.
const LONG: [(&str, &str); 0] = [];

pub fn folders(tree: &Tree) -> Vec<Failure> {
    let unknown = tree.folders.iter().filter(|f| !FOLDERS.contains(&f.as_str()));
    unknown
        .map(|folder| {
            let what = format!(
                "this top-level folder is not among {}: move its contents into one of them",
                FOLDERS.join(", ")
            );
            Failure::new(folder, 0, what)
        })
        .collect()
}

pub fn length(tree: &Tree) -> Vec<Failure> {
    let counted = tree.rust.iter().map(|(path, file)| (path, file.text.lines().count()));
    let long =
        counted.filter(|(path, count)| *count > LINES && !LONG.iter().any(|(l, _)| Path::new(l) == *path));
    long.map(|(path, count)| {
        let what = format!(
            "{count} lines, {LINES} are allowed: give each idea its own file, or name the reason in LONG \
             (xtask/src/tidy/files.rs)"
        );
        Failure::new(path, 0, what)
    })
    .collect()
}

pub fn story(tree: &Tree) -> Vec<Failure> {
    let told = |text: &str| {
        let mut lines = text.lines().map(str::trim);
        // Crate attributes and generated-by notes may stand before it.
        let first = lines.find(|l| {
            !l.is_empty() && !l.starts_with("#!") && (l.starts_with("//!") || !l.starts_with("//"))
        });
        first.is_some_and(|l| l.starts_with("//!") && l.len() > "//! ".len())
    };
    let silent = tree.rust.iter().filter(|(_, file)| !told(&file.text));
    silent
        .map(|(path, _)| {
            Failure::new(
                path,
                1,
                "no `//!` at the top: say in three to ten lines what this module is for and why",
            )
        })
        .collect()
}

pub fn ignored(tree: &Tree) -> Vec<Failure> {
    let mut failures = Vec::new();
    for (path, file) in &tree.rust {
        let code = super::lexer::without_literals(&file.text);
        let found = code.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("#[ignore"));
        failures.extend(found.map(|(number, _)| {
            let what =
                "an ignored test proves nothing: let it fail with the sentence that says what is missing";
            Failure::new(path, number + 1, what)
        }));
    }
    failures
}

#[cfg(test)]
mod tests {
    use crate::tidy::fixture::{Fixture, said};

    #[test]
    fn an_unknown_folder_is_found() {
        let fixture = Fixture::new().file("docs/a.md", "").file(".ci/run", "").file("target/x", "");
        assert_eq!(said(super::folders, &fixture), "");
        let text = said(super::folders, &fixture.file("scripts/x.sh", ""));
        assert!(text.starts_with("scripts: this top-level folder"), "{text}");
    }

    #[test]
    fn a_long_file_is_found() {
        let fixture = Fixture::new().file("agent/a.rs", &"\n".repeat(500));
        assert_eq!(said(super::length, &fixture), "");
        let text = said(super::length, &fixture.file("agent/b.rs", &"\n".repeat(501)));
        assert!(text.starts_with("agent/b.rs: 501 lines"), "{text}");
    }

    #[test]
    fn a_silent_module_is_found() {
        let fixture = Fixture::new().file("a.rs", "#![no_std]\n\n//! Why.\n").file("b.rs", "//\n//! Why.\n");
        assert_eq!(said(super::story, &fixture), "");
        let fixture =
            fixture.file("c.rs", "use a;\n//! Late.\n").file("d.rs", "//!\nfn f() {}\n").file("e.rs", "");
        let text = said(super::story, &fixture);
        assert!(["c.rs:1", "d.rs:1", "e.rs:1"].iter().all(|f| text.contains(f)), "{text}");
    }

    #[test]
    fn an_ignored_test_is_found() {
        let fixture =
            Fixture::new().file("a.rs", "//! #[ignore]\n#[test]\n#[ignore = \"slow\"]\nfn f() {}\n");
        assert!(said(super::ignored, &fixture).starts_with("a.rs:3: "));
    }
}
