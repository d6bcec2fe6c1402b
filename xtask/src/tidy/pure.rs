//! What decides must not do, and one file speaks each foreign vocabulary.
//!
//! agent-core, and the operator's inventory and placement, compute from what they are told: no files,
//! sockets, threads, clocks or async, and nothing whose order changes from run to run, or the same input
//! would not give the same plan again.

use super::Failure;
use super::tree::Tree;

/// Folders whose code is pure, and the manifest of the package where all of it is.
const PURE: [(&str, Option<&str>); 3] = [
    ("agent/core/src/", Some("agent/core/Cargo.toml")),
    ("operator/src/inventory/", None),
    ("operator/src/placement/", None),
];

/// What pure code may not name, and why or what instead.
const FORBIDDEN: [(&str, &str); 22] = [
    ("std::fs", "the edges read and write files"),
    ("std::net", "the edges talk"),
    ("std::env", "configuration comes in as values"),
    ("std::process", "nothing is started or ended here"),
    ("std::thread", "nothing runs beside the fold"),
    ("std::os", "it must not know the system it runs on"),
    ("std::time::Instant", "time comes in as an argument (Nanos)"),
    ("std::time::SystemTime", "time comes in as an argument (Nanos)"),
    ("std::collections::HashMap", "its order differs in each run: FxHashMap or BTreeMap"),
    ("std::collections::HashSet", "its order differs in each run: FxHashSet or BTreeSet"),
    ("tokio", "the core is not async"),
    ("rustix", "the edges make system calls"),
    ("libc", "the edges make system calls"),
    ("aya", "the probe alone speaks BPF"),
    ("kube", "Kubernetes' objects become facts first"),
    ("k8s_openapi", "Kubernetes' objects become facts first"),
    ("operator_api", "the wire's messages become facts first"),
    ("tonic", "the edges talk"),
    ("rand", "the same trace must give the same plan"),
    ("async fn", "the core is not async"),
    ("println!", "what is worth saying goes out as a Happening"),
    ("eprintln!", "what is worth saying goes out as a Happening"),
];

/// (word, the only folder or file prefixes that may say it, why).
const VOCABULARIES: [(&str, &[&str], &str); 1] = [(
    "aya",
    &["agent/src/probe", "agent-ebpf/", "agent/tests/"],
    "the rest of the agent must not know how the kernel is asked",
)];

pub fn core(tree: &Tree) -> Vec<Failure> {
    let mut failures = Vec::new();
    for (part, manifest) in PURE {
        for (path, file) in tree.rust.iter().filter(|(p, _)| p.to_string_lossy().starts_with(part)) {
            for (number, line) in file.code.text.lines().enumerate() {
                let named = FORBIDDEN.iter().filter(|(word, _)| names(line, word));
                failures.extend(named.map(|(word, why)| {
                    Failure::new(path, number + 1, format!("{part} is pure and may not name `{word}`: {why}"))
                }));
            }
        }
        let found = manifest.and_then(|m| tree.other.iter().find(|(p, _)| p.to_string_lossy() == m));
        let Some((path, text)) = found else {
            continue;
        };
        let until = text.find("[dev-dependencies]").unwrap_or(text.len());
        for (number, line) in text.get(..until).unwrap_or_default().lines().enumerate() {
            let package = line.split(['.', '=', ' ']).next().unwrap_or_default();
            if let Some((word, why)) = FORBIDDEN.iter().find(|(word, _)| *word == package) {
                failures.push(Failure::new(
                    path,
                    number + 1,
                    format!("{part} may not depend on {word}: {why}"),
                ));
            }
        }
    }
    failures
}

pub fn vocabulary(tree: &Tree) -> Vec<Failure> {
    let mut failures = Vec::new();
    for (path, file) in &tree.rust {
        let place = path.to_string_lossy();
        for (word, allowed, why) in VOCABULARIES {
            if allowed.iter().any(|a| place.starts_with(a)) {
                continue;
            }
            let path_of = format!("{word}::");
            let lines = file.code.text.lines().enumerate().filter(|(_, line)| names(line, &path_of));
            failures.extend(lines.map(|(number, _)| {
                Failure::new(
                    path,
                    number + 1,
                    format!("`{word}` belongs to {} alone: {why}", allowed.join(" and ")),
                )
            }));
        }
    }
    failures
}

/// Whether a line of code names `word`, alone or inside a group such as `std::{fs, time::Instant}`.
fn names(line: &str, word: &str) -> bool {
    let bounded = |text: &str, word: &str| {
        text.match_indices(word).any(|(at, found)| {
            let before = text.get(..at).and_then(|t| t.chars().next_back());
            let after = text.get(at + found.len()..).and_then(|t| t.chars().next());
            let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
            // `self::rand` or `crate::tokio` would be our own.
            !part(before) && before != Some(':') && (word.ends_with(':') || !part(after))
        })
    };
    if bounded(line, word) {
        return true;
    }
    let Some((head, last)) = word.rsplit_once("::").filter(|(_, last)| !last.is_empty()) else {
        return false;
    };
    let Some(at) = line.find(&format!("{head}::{{")) else {
        return false;
    };
    line.get(at..).is_some_and(|group| bounded(group, last))
}

#[cfg(test)]
mod tests {
    use super::names;
    use crate::tidy::fixture::{Fixture, said};

    #[test]
    fn words_are_told_from_parts_of_words() {
        assert!(names("use std::fs;", "std::fs") && names("use std::fs::File;", "std::fs"));
        assert!(names("use std::{fs, mem};", "std::fs"));
        assert!(names("use std::time::{Duration, Instant};", "std::time::Instant"));
        assert!(!names("use std::time::Duration;", "std::time::Instant"));
        assert!(!names("let random = operand;", "rand") && !names("use crate::rand::Seed;", "rand"));
        assert!(names("use aya::Ebpf;", "aya::") && !names("let aya = 1;", "aya::"));
    }

    #[test]
    fn the_core_is_kept_pure() {
        let lib = "//! Core.\nuse std::collections::BTreeMap;\n#[cfg(test)]\nmod t { use std::fs; }\n";
        let fixture = Fixture::new().file("agent/core/src/lib.rs", lib);
        let fixture = fixture.file("agent/core/Cargo.toml", "[dependencies]\nthiserror.workspace = true\n");
        assert_eq!(said(super::core, &fixture), "");
        let fixture = fixture.file("agent/core/src/a.rs", "//! std::fs\nuse std::time::Instant;\n");
        let fixture = fixture.file(
            "agent/core/Cargo.toml",
            "[dependencies]\ntokio = \"1\"\n[dev-dependencies]\nlibc = \"1\"\n",
        );
        let text = said(super::core, &fixture);
        assert!(text.contains("agent/core/src/a.rs:2: ") && text.contains("`std::time::Instant`"), "{text}");
        assert!(text.contains("agent/core/Cargo.toml:2: ") && !text.contains("libc"), "{text}");
        let fixture = Fixture::new().file("operator/src/placement/mod.rs", "//! P.\nuse kube::Api;\n");
        let text = said(super::core, &fixture.file("operator/src/watch/mod.rs", "//! W.\nuse kube::Api;\n"));
        assert!(text.contains("placement/mod.rs:2: ") && !text.contains("watch"), "{text}");
    }

    #[test]
    fn aya_stays_with_the_probe() {
        let fixture = Fixture::new().file("agent/src/probe/load.rs", "use aya::Ebpf;\n");
        assert_eq!(said(super::vocabulary, &fixture), "");
        let text = said(super::vocabulary, &fixture.file("agent/src/engine.rs", "//! E.\nuse aya::Ebpf;\n"));
        assert!(text.starts_with("agent/src/engine.rs:2: `aya` belongs to"), "{text}");
    }
}
