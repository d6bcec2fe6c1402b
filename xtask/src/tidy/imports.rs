//! Who imports whom inside a crate: paths that begin with `crate`, `super` or `self`, resolved to modules.
//!
//! A name that a module re-exports counts as the module it comes from, or else `pub use` in lib.rs would
//! hide every cycle.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::modules::Module;
use super::tree::Tree;

type Modules = BTreeMap<Vec<String>, Module>;

/// One module naming something of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    pub from: Vec<String>,
    pub to: Vec<String>,
    pub file: PathBuf,
    pub line: usize,
}

pub fn of(tree: &Tree, modules: &Modules) -> Vec<Import> {
    let mut found = Vec::new();
    for module in modules.values() {
        let Some(source) = tree.rust.get(&module.file) else {
            continue;
        };
        for (line, path) in paths(&source.code.text) {
            let to = resolve(tree, modules, &module.path, &path, 0);
            if to != module.path {
                found.push(Import { from: module.path.clone(), to, file: module.file.clone(), line });
            }
        }
    }
    found
}

/// Follows `path`, written in module `at`, as far as it names modules.
fn resolve(tree: &Tree, modules: &Modules, at: &[String], path: &[String], depth: u32) -> Vec<String> {
    let mut here = at.to_vec();
    let mut rest = path.iter().peekable();
    while let Some(step) = rest.peek() {
        match step.as_str() {
            "crate" => here.clear(),
            "super" => drop(here.pop()),
            "self" => {}
            _ => break,
        }
        rest.next();
    }
    while let Some(step) = rest.next() {
        let mut below = here.clone();
        below.push(step.clone());
        if modules.contains_key(&below) {
            here = below;
            continue;
        }
        // Not a module: perhaps a name brought in from one. Eight re-exports in a row are a loop.
        let brought = modules.get(&here).and_then(|m| tree.rust.get(&m.file)).and_then(|source| {
            let mut uses = uses(&source.code.text).into_iter();
            uses.find(|(name, path)| name == step && path.len() > 1)
        });
        if let Some((_, mut origin)) = brought
            && depth < 8
            && local(modules, &here, &origin)
        {
            origin.extend(rest.cloned());
            return resolve(tree, modules, &here, &origin, depth + 1);
        }
        break;
    }
    here
}

/// Whether a `use` path begins in this crate: with a keyword, or with a child of the module.
fn local(modules: &Modules, here: &[String], path: &[String]) -> bool {
    let Some(first) = path.first() else { return false };
    let mut below = here.to_vec();
    below.push(first.clone());
    matches!(first.as_str(), "crate" | "super" | "self") || modules.contains_key(&below)
}

/// Every path that begins with `crate`, `super` or `self`, groups taken apart, with its line.
pub fn paths(text: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for keyword in ["crate", "super", "self"] {
        for (at, _) in text.match_indices(keyword) {
            let before = text.get(..at).and_then(|t| t.chars().next_back());
            let after = text.get(at + keyword.len()..).unwrap_or_default();
            let inside = before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':' | '$'));
            if inside || !after.starts_with("::") {
                continue;
            }
            let line = 1 + text.get(..at).map_or(0, |t| t.matches('\n').count());
            let mut leaves = Vec::new();
            tree_of(text.get(at..).unwrap_or_default(), &mut Vec::new(), &mut leaves);
            found.extend(leaves.into_iter().map(|(_, path)| (line, path)));
        }
    }
    found.sort();
    found
}

/// The `use` items of a text: the name each brings in, and the path it comes from.
fn uses(text: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("use ") {
        let before = text.get(..at).and_then(|t| t.chars().next_back());
        if before.is_none_or(char::is_whitespace) {
            tree_of(text.get(at + 4..).unwrap_or_default(), &mut Vec::new(), &mut found);
        }
    }
    found
}

/// Takes `a::{b, c::d as e}` apart into (`b`, a::b) and (`e`, a::c::d). Returns what follows the tree.
fn tree_of<'a>(text: &'a str, prefix: &mut Vec<String>, leaves: &mut Vec<(String, Vec<String>)>) -> &'a str {
    let depth = prefix.len();
    let mut rest = text.trim_start();
    loop {
        if let Some(group) = rest.strip_prefix('{') {
            rest = group.trim_start();
            while !rest.is_empty() && !rest.starts_with('}') {
                let before = rest.len();
                rest = tree_of(rest, prefix, leaves).trim_start().trim_start_matches(',').trim_start();
                if rest.len() == before {
                    break; // Nothing that a `use` may hold: not ours to understand.
                }
            }
            rest = rest.strip_prefix('}').unwrap_or(rest);
            break;
        }
        let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*').unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        if word.is_empty() {
            if prefix.len() > depth {
                leaves.push((prefix.last().cloned().unwrap_or_default(), prefix.clone()));
            }
            break;
        }
        prefix.push(word.to_owned());
        rest = after;
        if let Some(deeper) = rest.trim_start().strip_prefix("::") {
            rest = deeper.trim_start();
            continue;
        }
        let mut name = word.to_owned();
        if let Some(alias) = rest.trim_start().strip_prefix("as ") {
            let alias = alias.trim_start();
            let length = alias.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(alias.len());
            let (word, after) = alias.split_at(length);
            name = word.to_owned();
            rest = after;
        }
        leaves.push((name, prefix.clone()));
        break;
    }
    prefix.truncate(depth);
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        paths(text).into_iter().map(|(line, path)| format!("{line} {}", path.join("::"))).collect()
    }

    #[test]
    fn groups_are_taken_apart() {
        let text =
            "use crate::{a::{B, c::D as E}, f};\nlet x = super::g::h(self::i::<J>());\nlet y = self.z;";
        assert_eq!(
            shown(text),
            ["1 crate::a::B", "1 crate::a::c::D", "1 crate::f", "2 self::i", "2 super::g::h"]
        );
    }

    #[test]
    fn text_that_is_no_path_ends_the_search() {
        assert!(shown("$crate::a; supercrate::b; crate :: c").is_empty());
        assert_eq!(shown("macro!(crate::{ + (, 2 }); crate::a::;").last().unwrap(), "1 crate::a");
    }
}
