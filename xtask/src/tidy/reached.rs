//! A .rs file that no `mod` reaches is not compiled: it rots unseen. And a `mod` must have its file.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::tree::Tree;
use super::{Failure, modules};

pub fn check(tree: &Tree) -> Vec<Failure> {
    let mut reached: BTreeSet<PathBuf> = BTreeSet::new();
    for root in tree.crates.iter().flat_map(|c| &c.roots) {
        reached.extend(modules::of(tree, root, true).into_values().map(|m| m.file));
    }
    let lost = tree.rust.keys().filter(|f| !reached.contains(*f));
    lost.map(|file| {
        let what = match tree.owner(file) {
            Some(_) => {
                "no `mod` reaches this file, so it is never compiled: declare it in its parent, or delete it"
            }
            None => "this file belongs to no crate: move it into one, or delete it",
        };
        Failure::new(file, 0, what)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use crate::tidy::fixture::{Fixture, said};

    #[test]
    fn a_file_without_mod_is_found() {
        let fixture = Fixture::with_crate("agent", "//! A crate.\nmod a;\n#[cfg(test)]\nmod t;\n");
        let fixture = fixture.file("agent/src/a.rs", "//! A.\nmod b;\n").file("agent/src/a/b.rs", "//! B.\n");
        let fixture =
            fixture.file("agent/src/t.rs", "//! T.\n").file("agent/tests/e2e.rs", "//! E.\nmod common;\n");
        let fixture = fixture.file("agent/tests/common/mod.rs", "//! C.\n");
        assert_eq!(said(super::check, &fixture), "");
        let fixture = fixture.file("agent/src/lost.rs", "//! L.\n").file("docs/x.rs", "//! X.\n");
        let text = said(super::check, &fixture);
        assert!(text.contains("agent/src/lost.rs: no `mod` reaches this file"), "{text}");
        assert!(text.contains("docs/x.rs: this file belongs to no crate"), "{text}");
        assert!(!text.contains("a/b.rs") && !text.contains("common"), "{text}");
    }

    #[test]
    fn a_path_attribute_is_followed() {
        let fixture = Fixture::with_crate("agent", "//! A crate.\n#[path = \"other.rs\"]\nmod a;\n");
        let fixture = fixture.file("agent/src/other.rs", "//! O.\n");
        assert_eq!(said(super::check, &fixture), "");
    }
}
