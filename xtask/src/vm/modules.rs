//! Which modules a guest needs, and in which order they go in: packages bring no modules.dep, so the
//! dependencies are read where the kernel has them, in each module's `.modinfo`.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::kernel::{self, Kernel};

/// What the acceptance uses, as far as it is modular; what a kernel has built in has no file.
/// crc32c is what ext4, xfs and btrfs ask the crypto layer for by that name.
const WANTED: [&str; 9] =
    ["loop", "fuse", "overlay", "crc32c_generic", "xfs", "btrfs", "nfs", "nfsv4", "nfsd"];

/// Modules in the order in which they can be loaded: name and content.
pub fn of(kernel: &Kernel) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = HashMap::new();
    list(&kernel.modules, &mut files)?;
    let mut chosen = Chosen { files, order: Vec::new(), content: BTreeMap::new() };
    for name in WANTED {
        chosen.add(name)?;
    }
    let Chosen { order, mut content, .. } = chosen;
    Ok(order.into_iter().filter_map(|name| content.remove(&name).map(|bytes| (name, bytes))).collect())
}

struct Chosen {
    files: HashMap<String, PathBuf>,
    order: Vec<String>,
    content: BTreeMap<String, Vec<u8>>,
}

impl Chosen {
    fn add(&mut self, name: &str) -> Result<()> {
        let Some(path) = self.files.get(name).cloned() else {
            return Ok(());
        };
        if self.content.contains_key(name) {
            return Ok(());
        }
        let bytes = kernel::module(&path)?;
        let needed = depends(&bytes);
        // Before what it depends on, so that a circle ends.
        self.content.insert(name.to_owned(), bytes);
        for other in needed {
            self.add(&other)?;
        }
        self.order.push(name.to_owned());
        Ok(())
    }
}

fn list(folder: &Path, files: &mut HashMap<String, PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        let kind = entry.file_type().with_context(|| format!("cannot look at {}", path.display()))?;
        if kind.is_dir() {
            list(&path, files)?;
        } else if let Some((name, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            files.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

/// `.modinfo` is a row of NUL-terminated `key=value`; `depends` names modules by commas.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = module.get(at + KEY.len()..).unwrap_or_default().split(|byte| *byte == 0).next();
    let value = String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
    value.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_modinfo() {
        let module = b"\x7fELF...\0license=GPL\0depends=sunrpc,nfs-acl\0name=nfsd\0";
        assert_eq!(depends(module), ["sunrpc", "nfs_acl"]);
        assert_eq!(depends(b"\0depends=\0"), Vec::<String>::new());
        assert_eq!(depends(b"nothing"), Vec::<String>::new());
    }
}
