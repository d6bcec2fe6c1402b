//! Modules form a graph without cycles, and stand in reading order: one may import only those declared
//! before it. Whoever reads a crate from the top meets nothing that has not been explained.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Failure;
use super::imports::{self, Import};
use super::modules::{self, Module};
use super::tree::Tree;

/// (importing file, imported sibling, reason): sorted out by hand, and few.
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

/// Which sibling imports which, and the first place where it does.
type Edges = BTreeMap<(String, String), (PathBuf, usize)>;

pub fn check(tree: &Tree) -> Vec<Failure> {
    let mut failures = Vec::new();
    for root in tree.crates.iter().flat_map(|c| &c.roots) {
        let modules = modules::of(tree, root, false);
        for (parent, edges) in siblings(&imports::of(tree, &modules)) {
            if let Some(module) = modules.get(&parent) {
                failures.extend(family(module, &edges));
            }
        }
    }
    failures
}

/// An import crosses siblings where the two module paths part.
fn siblings(imports: &[Import]) -> BTreeMap<Vec<String>, Edges> {
    let mut families: BTreeMap<Vec<String>, Edges> = BTreeMap::new();
    for import in imports {
        let common = import.from.iter().zip(&import.to).take_while(|(a, b)| a == b).count();
        let (Some(from), Some(to)) = (import.from.get(common), import.to.get(common)) else {
            continue; // A parent and its child, not two siblings.
        };
        if EXCEPTIONS.iter().any(|(file, name, _)| Path::new(file) == import.file && name == to) {
            continue;
        }
        let parent = import.from.iter().take(common).cloned().collect();
        let edges = families.entry(parent).or_default();
        edges.entry((from.clone(), to.clone())).or_insert((import.file.clone(), import.line));
    }
    families
}

fn family(parent: &Module, edges: &Edges) -> Option<Failure> {
    let declared: Vec<&str> = parent.children.iter().map(|c| c.name.as_str()).collect();
    let place = |name: &str| declared.iter().position(|d| *d == name);
    let (placed, stuck) = sorted(&declared, edges);
    if !stuck.is_empty() {
        return Some(cycle(&stuck, edges));
    }
    let wrong = edges.iter().find(|((from, to), _)| place(from) < place(to))?;
    let ((from, to), (file, line)) = wrong;
    let at = parent.children.iter().find(|c| c.name == *from).map_or(0, |c| c.line);
    Some(Failure::new(
        &parent.file,
        at,
        format!(
            "`{from}` is declared before `{to}`, which it imports ({}:{line}); declare them in the order \
             {}, with a blank line between so that rustfmt keeps it",
            file.display(),
            placed.join(", ")
        ),
    ))
}

/// The declared order, changed as little as the imports demand; and what is left because of a cycle.
fn sorted<'a>(declared: &[&'a str], edges: &Edges) -> (Vec<&'a str>, Vec<&'a str>) {
    let mut left: Vec<&str> = declared.to_vec();
    let mut placed = Vec::new();
    let waits = |name: &str, left: &[&str]| {
        edges.keys().any(|(from, to)| from == name && left.contains(&to.as_str()))
    };
    while let Some(at) = left.iter().position(|name| !waits(name, &left)) {
        placed.push(left.remove(at));
    }
    (placed, left)
}

/// Every module that is left waits for another that is left: following them comes back.
fn cycle(stuck: &[&str], edges: &Edges) -> Failure {
    let mut way: Vec<&(String, String)> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut here = stuck.first().copied().unwrap_or_default();
    while seen.insert(here.to_owned()) {
        let Some(edge) = edges.keys().find(|(from, to)| from == here && stuck.contains(&to.as_str())) else {
            break;
        };
        way.push(edge);
        here = &edge.1;
    }
    let start = way.iter().position(|(from, _)| from == here).unwrap_or(0);
    let ring: Vec<_> = way.iter().skip(start).filter_map(|edge| Some((edge, edges.get(*edge)?))).collect();
    let told: Vec<String> = ring
        .iter()
        .map(|((from, to), (file, line))| format!("`{from}` imports `{to}` ({}:{line})", file.display()))
        .collect();
    let (file, line) = ring.first().map(|(_, place)| (*place).clone()).unwrap_or_default();
    Failure::new(
        file,
        line,
        format!(
            "siblings import each other: {}; move what they share into a module of its own, or let the \
             result return as a value instead of an import",
            told.join(", ")
        ),
    )
}

#[cfg(test)]
mod tests {
    use crate::tidy::fixture::{Fixture, said};

    fn of(lib: &str, a: &str, b: &str) -> String {
        let fixture = Fixture::with_crate("agent", lib).file("agent/src/a.rs", a).file("agent/src/b.rs", b);
        said(super::check, &fixture)
    }

    #[test]
    fn reading_order_is_kept() {
        assert_eq!(of("mod a;\n\nmod b;\n", "//! A.\n", "//! B.\nuse crate::a::A;\n"), "");
        assert_eq!(
            of("mod a;\n\nmod b;\n", "//! A.\n", "//! B.\nuse super::a;\n#[cfg(test)]\nmod t {}\n"),
            ""
        );
    }

    #[test]
    fn an_import_of_what_comes_later_is_told_with_the_right_order() {
        let text = of("mod a;\n\nmod b;\n", "//! A.\nuse crate::b::B;\n", "//! B.\n");
        assert!(text.starts_with("agent/src/lib.rs:1: `a` is declared before `b`"), "{text}");
        assert!(text.contains("(agent/src/a.rs:2)") && text.contains("in the order b, a"), "{text}");
    }

    #[test]
    fn a_cycle_is_told_with_every_import_of_it() {
        let text =
            of("mod a;\n\nmod b;\n", "//! A.\nuse super::b::B;\n", "//! B.\nfn f() { crate::a::g() }\n");
        assert!(text.contains("siblings import each other"), "{text}");
        assert!(text.contains("agent/src/a.rs:2") && text.contains("agent/src/b.rs:2"), "{text}");
    }

    #[test]
    fn a_reexport_hides_nothing() {
        let lib = "mod a;\n\nmod b;\npub use b::{Other, B as Bee};\n";
        let text = of(lib, "//! A.\nuse crate::Bee;\n", "//! B.\nuse crate::a::A;\n");
        assert!(text.contains("siblings import each other"), "{text}");
    }

    #[test]
    fn tests_may_import_what_comes_later() {
        let a = "//! A.\n#[cfg(test)]\nmod tests {\n    use crate::b::B;\n}\n";
        assert_eq!(of("mod a;\n\nmod b;\n", a, "//! B.\nuse crate::a::A;\n"), "");
    }

    #[test]
    fn nested_siblings_are_seen_too() {
        let fixture =
            Fixture::with_crate("agent", "mod p;\n").file("agent/src/p/mod.rs", "//! P.\nmod x;\n\nmod y;\n");
        let fixture = fixture.file("agent/src/p/x.rs", "//! X.\nuse super::y::Y;\n");
        let fixture = fixture.file("agent/src/p/y.rs", "//! Y.\nuse super::super::p::x::X;\n");
        let text = said(super::check, &fixture);
        assert!(text.contains("`x` imports `y`") && text.contains("`y` imports `x`"), "{text}");
    }
}
