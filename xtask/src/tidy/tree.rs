//! The checkout as the rules see it: its files, and the crates they belong to.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::lexer::{self, Code};

#[derive(Clone, Debug)]
pub struct RustFile {
    pub text: String,
    pub code: Code,
}

/// One Cargo.toml with a `[package]`.
#[derive(Clone, Debug)]
pub struct Crate {
    /// Its folder.
    pub dir: PathBuf,
    pub manifest: String,
    /// The files that rustc is called with: lib.rs, main.rs, each test, the build script.
    pub roots: Vec<PathBuf>,
}

/// All paths are relative to the checkout's root.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    pub folders: Vec<String>,
    pub rust: BTreeMap<PathBuf, RustFile>,
    /// Every other file, for names that must exist; contents only of .md, .toml and .digest.
    pub other: BTreeMap<PathBuf, String>,
    pub crates: Vec<Crate>,
}

impl Tree {
    pub fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.folder(root, Path::new(""))?;
        tree.crates = tree.other.iter().filter_map(|(path, text)| tree.package(path, text)).collect();
        Ok(tree)
    }

    /// Whether a file or a folder of this name is there.
    pub fn has(&self, path: &Path) -> bool {
        self.rust.keys().chain(self.other.keys()).any(|p| p.starts_with(path))
    }

    /// The innermost crate that holds this file.
    pub fn owner(&self, file: &Path) -> Option<&Crate> {
        let holds = self.crates.iter().filter(|c| file.starts_with(&c.dir));
        holds.max_by_key(|c| c.dir.components().count())
    }

    fn folder(&mut self, root: &Path, relative: &Path) -> Result<()> {
        let dir = root.join(relative);
        let entries = fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {}", dir.display()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // Hidden folders belong to git, cargo and editors; target/ to the compiler. Links are not followed.
            let kind =
                entry.file_type().with_context(|| format!("cannot look at {}", entry.path().display()))?;
            let path = relative.join(&name);
            if kind.is_dir() && !name.starts_with('.') && name != "target" {
                if relative.as_os_str().is_empty() {
                    self.folders.push(name);
                }
                self.folder(root, &path)?;
            } else if kind.is_file() {
                self.file(&entry.path(), path)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, from: &Path, path: PathBuf) -> Result<()> {
        let extension = path.extension().map(|e| e.to_string_lossy().into_owned()).unwrap_or_default();
        let read =
            || fs::read_to_string(from).with_context(|| format!("cannot read {} as text", from.display()));
        match extension.as_str() {
            "rs" => {
                let text = read()?;
                let code = lexer::read(&text);
                self.rust.insert(path, RustFile { text, code });
            }
            "md" | "toml" | "digest" => {
                self.other.insert(path, read()?);
            }
            _ => {
                self.other.insert(path, String::new());
            }
        }
        Ok(())
    }

    fn package(&self, path: &Path, text: &str) -> Option<Crate> {
        if path.file_name()? != "Cargo.toml" || !text.lines().any(|l| l.trim() == "[package]") {
            return None;
        }
        let dir = path.parent()?.to_path_buf();
        let named: Vec<PathBuf> = text.lines().filter_map(target_path).map(|p| dir.join(p)).collect();
        let is_root = |file: &Path| {
            let Ok(inside) = file.strip_prefix(&dir) else {
                return false;
            };
            let parts: Vec<&str> = inside.iter().filter_map(|p| p.to_str()).collect();
            named.iter().any(|n| n == file)
                || matches!(
                    parts.as_slice(),
                    ["build.rs"]
                        | ["src", "lib.rs" | "main.rs"]
                        | ["src", "bin", _]
                        | ["src", "bin", _, "main.rs"]
                        | ["tests" | "benches" | "examples", _]
                        | ["tests" | "benches" | "examples", _, "main.rs"]
                )
        };
        let roots = self.rust.keys().filter(|f| is_root(f)).cloned().collect();
        Some(Crate { dir, manifest: text.to_owned(), roots })
    }
}

/// `path = "src/main.rs"` of a target; a dependency's path names a folder.
fn target_path(line: &str) -> Option<&str> {
    let value = line.trim().strip_prefix("path")?.trim_start().strip_prefix('=')?.trim().trim_matches('"');
    value.ends_with(".rs").then_some(value)
}
