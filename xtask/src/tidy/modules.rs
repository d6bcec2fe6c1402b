//! The modules of a crate, as its `mod` lines declare them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::tree::Tree;

/// A module that has a file, and the modules it declares, in their order.
#[derive(Clone, Debug)]
pub struct Module {
    /// From the crate's root, which is empty.
    pub path: Vec<String>,
    pub file: PathBuf,
    pub children: Vec<Child>,
}

#[derive(Clone, Debug)]
pub struct Child {
    pub name: String,
    pub line: usize,
    /// `None` when no file of that name is there.
    pub file: Option<PathBuf>,
}

/// All modules below the crate root `root`, by module path. Test-only modules are left out unless asked for.
pub fn of(tree: &Tree, root: &Path, with_tests: bool) -> BTreeMap<Vec<String>, Module> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![(Vec::new(), root.to_path_buf())];
    while let Some((path, file)) = waiting.pop() {
        let children = children(tree, root, &file, with_tests);
        for child in &children {
            let mut below = path.clone();
            below.push(child.name.clone());
            if let Some(file) = &child.file
                && !found.contains_key(&below)
            {
                waiting.push((below, file.clone()));
            }
        }
        found.insert(path.clone(), Module { path, file, children });
    }
    found
}

fn children(tree: &Tree, root: &Path, file: &Path, with_tests: bool) -> Vec<Child> {
    let Some(source) = tree.rust.get(file) else {
        return Vec::new();
    };
    let text =
        if with_tests { super::lexer::without_literals(&source.text) } else { source.code.text.clone() };
    let folder = folder_below(root, file);
    let mut named: Option<&str> = None;
    let mut found = Vec::new();
    for (number, (code, original)) in text.lines().zip(source.text.lines()).enumerate() {
        if code.trim_start().starts_with("#[path") {
            named = original.split('"').nth(1);
        }
        let Some(name) = declared(code) else { continue };
        let candidates = match named.take() {
            Some(path) => vec![file.parent().unwrap_or(Path::new("")).join(path)],
            None => vec![folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")],
        };
        let file = candidates.into_iter().find(|c| tree.rust.contains_key(c));
        found.push(Child { name: name.to_owned(), line: number + 1, file });
    }
    found
}

/// Where the modules declared in `file` are looked for.
fn folder_below(root: &Path, file: &Path) -> PathBuf {
    let parent = file.parent().unwrap_or(Path::new(""));
    if file == root || file.file_name().is_some_and(|n| n == "mod.rs") {
        return parent.to_path_buf();
    }
    parent.join(file.file_stem().unwrap_or_default())
}

/// The name in `pub(crate) mod name;`.
fn declared(code: &str) -> Option<&str> {
    let before = code.trim().strip_suffix(';')?;
    let (visibility, name) = before.rsplit_once("mod ")?;
    let visibility = visibility.rsplit(']').next()?.trim();
    let name = name.trim().trim_start_matches("r#");
    let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    (plain && (visibility.is_empty() || visibility.starts_with("pub"))).then_some(name)
}
