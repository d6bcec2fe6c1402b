//! Metric names live in one file, with their units; elsewhere they are imported.

use std::path::Path;

use super::Failure;
use super::tree::Tree;

/// One a program; the first is the agent's, and whoever has none of its own belongs there.
const HOMES: [&str; 2] = ["agent/src/metrics/names.rs", "operator/src/metrics/names.rs"];
const PREFIX: &str = "headrace_";

/// (file, name, reason): strings that look like a metric and are none.
const OTHERS: [(&str, &str, &str); 0] = [];

pub fn metrics(tree: &Tree) -> Vec<Failure> {
    let mut failures = Vec::new();
    for (path, file) in
        tree.rust.iter().filter(|(path, _)| !HOMES.iter().any(|home| *path == Path::new(home)))
    {
        let home = if path.starts_with("operator") { HOMES[1] } else { HOMES[0] };
        // Tests may write out what a user of the metrics would see.
        if tree.owner(path).is_some_and(|c| path.starts_with(c.dir.join("tests"))) {
            continue;
        }
        for (line, value) in &file.code.strings {
            let other = OTHERS.iter().any(|(file, name, _)| Path::new(file) == path && name == value);
            let name = value.strip_prefix(PREFIX).is_some_and(|rest| {
                !rest.is_empty()
                    && rest.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            });
            if name && !other {
                let what = format!(
                    "the metric name \"{value}\" belongs into {home}: define it there and use its constant"
                );
                failures.push(Failure::new(path, *line, what));
            }
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use crate::tidy::fixture::{Fixture, said};

    #[test]
    fn a_stray_metric_name_is_found() {
        let name = "//! N.\nconst A: &str = \"headrace_reads_total\";\n";
        let fixture = Fixture::with_crate("agent", "//! A.\nlet p = \"headrace_\"; // \"headrace_x\"\n");
        let fixture = fixture.file("agent/src/metrics/names.rs", name).file("agent/tests/e2e.rs", name);
        assert_eq!(said(super::metrics, &fixture), "");
        let text = said(super::metrics, &fixture.file("agent/src/api.rs", name));
        assert!(text.starts_with("agent/src/api.rs:2: the metric name \"headrace_reads_total\""), "{text}");
    }
}
