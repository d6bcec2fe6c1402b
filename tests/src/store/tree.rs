//! The names a store serves, made from a short specification or copied from a local directory.
//!
//! Nodes stand in creation order and inode numbers grow with it. Made names sort differently from
//! creation order, and a listing gives them in a third, hashed order, so that a predictor cannot mistake
//! one for another. The same specification and seed give the same tree in every process: readers and
//! benchmarks build it for themselves instead of asking the mount.

use std::collections::HashMap;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::quantity;
use crate::store::content::{self, Salt};

/// A local directory with more entries than this is refused: the whole tree is kept in memory.
const NODES: usize = 1_000_000;

/// Bytes that follow the last column of a Parquet-like file: metadata, its length, the magic number.
pub const FOOTER: u64 = 12_000;

/// What to serve. Text form: `small:40x100x40k`, `large:1Gi`, `parquet:200x20x256Ki`, `dir:/some/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeSpec {
    /// `dirs` folders of `files` files of `size` bytes.
    Small { dirs: u32, files: u32, size: u64 },
    /// `data.bin`, one file.
    Large { size: u64 },
    /// `files` files in one folder, each of `columns` chunks of `column` bytes and a footer.
    Parquet { files: u32, columns: u32, column: u64 },
    /// A copy of a local directory's names; bytes are read from there.
    Local(PathBuf),
}

#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    #[error(
        "`{text}` describes no tree: write small:DIRSxFILESxSIZE, large:SIZE, parquet:FILESxCOLUMNSxSIZE or dir:PATH"
    )]
    Spec { text: String },
    #[error(transparent)]
    Quantity(#[from] quantity::QuantityError),
    #[error(
        "the tree would hold more than {NODES} entries, which this fixture keeps in memory: ask for fewer"
    )]
    TooMany,
    #[error("cannot list {}: {error}; give a directory that can be read", path.display())]
    List { path: PathBuf, error: std::io::Error },
}

impl FromStr for TreeSpec {
    type Err = TreeError;

    fn from_str(text: &str) -> Result<Self, TreeError> {
        let refused = || TreeError::Spec { text: text.to_owned() };
        let (kind, rest) = text.split_once(':').ok_or_else(refused)?;
        let three = || {
            let mut parts = rest.splitn(3, 'x');
            let mut count = || parts.next()?.parse::<u32>().ok();
            let (one, two) = (count(), count());
            one.zip(two).zip(parts.next()).ok_or_else(refused)
        };
        match kind {
            "small" => {
                let ((dirs, files), size) = three()?;
                Ok(Self::Small { dirs, files, size: quantity::bytes(size)? })
            }
            "parquet" => {
                let ((files, columns), column) = three()?;
                Ok(Self::Parquet { files, columns, column: quantity::bytes(column)? })
            }
            "large" => Ok(Self::Large { size: quantity::bytes(rest)? }),
            "dir" if !rest.is_empty() => Ok(Self::Local(PathBuf::from(rest))),
            _ => Err(refused()),
        }
    }
}

impl fmt::Display for TreeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Small { dirs, files, size } => write!(f, "small:{dirs}x{files}x{size}"),
            Self::Large { size } => write!(f, "large:{size}"),
            Self::Parquet { files, columns, column } => write!(f, "parquet:{files}x{columns}x{column}"),
            Self::Local(path) => write!(f, "dir:{}", path.display()),
        }
    }
}

/// Index of a node in its tree; FUSE's inode number is one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

impl NodeId {
    pub const ROOT: Self = Self(0);

    pub fn of_ino(ino: u64) -> Option<Self> {
        u32::try_from(ino.checked_sub(1)?).ok().map(Self)
    }

    pub fn ino(self) -> u64 {
        u64::from(self.0) + 1
    }
}

#[derive(Debug)]
pub enum Kind {
    Directory { listing: Vec<NodeId>, by_name: HashMap<Box<[u8]>, NodeId> },
    Made { size: u64, salt: Salt },
    Local { size: u64, path: PathBuf },
}

#[derive(Debug)]
pub struct Node {
    pub name: Box<[u8]>,
    pub parent: NodeId,
    pub kind: Kind,
}

impl Node {
    pub fn size(&self) -> u64 {
        match &self.kind {
            Kind::Directory { .. } => 4096,
            Kind::Made { size, .. } | Kind::Local { size, .. } => *size,
        }
    }
}

#[derive(Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    seed: u64,
}

impl Tree {
    pub fn build(spec: &TreeSpec, seed: u64) -> Result<Self, TreeError> {
        let root = Node {
            name: Box::default(),
            parent: NodeId::ROOT,
            kind: Kind::Directory { listing: Vec::new(), by_name: HashMap::new() },
        };
        let mut tree = Self { nodes: vec![root], seed };
        match spec {
            TreeSpec::Small { dirs, files, size } => {
                for dir in 0..*dirs {
                    let parent = tree.directory(NodeId::ROOT, &format!("part-{dir:03}"))?;
                    for file in 0..*files {
                        tree.made(parent, &format!("{:06}.jpg", scatter(file)), *size)?;
                    }
                }
            }
            TreeSpec::Large { size } => tree.made(NodeId::ROOT, "data.bin", *size)?,
            TreeSpec::Parquet { files, columns, column } => {
                let table = tree.directory(NodeId::ROOT, "table")?;
                let size = u64::from(*columns).saturating_mul(*column).saturating_add(FOOTER);
                for file in 0..*files {
                    tree.made(table, &format!("part-{file:05}.parquet"), size)?;
                }
            }
            TreeSpec::Local(path) => tree.copy(path)?,
        }
        tree.order();
        Ok(tree)
    }

    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0 as usize)
    }

    pub fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        match &self.node(parent)?.kind {
            Kind::Directory { by_name, .. } => by_name.get(name).copied(),
            Kind::Made { .. } | Kind::Local { .. } => None,
        }
    }

    /// The node at a path relative to the root, `/` between components.
    pub fn find(&self, path: &[u8]) -> Option<NodeId> {
        path.split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
            .try_fold(NodeId::ROOT, |at, name| self.child(at, name))
    }

    /// The path relative to the root, without a leading slash.
    pub fn path(&self, id: NodeId) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = id;
        while let Some(node) = self.node(at).filter(|_| at != NodeId::ROOT) {
            names.push(&*node.name);
            at = node.parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// Every file, in creation order.
    pub fn files(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        (0u32..).map(NodeId).zip(&self.nodes).filter(|(_, node)| !matches!(node.kind, Kind::Directory { .. }))
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.len() <= 1
    }

    fn directory(&mut self, parent: NodeId, name: &str) -> Result<NodeId, TreeError> {
        self.add(parent, name.as_bytes(), Kind::Directory { listing: Vec::new(), by_name: HashMap::new() })
    }

    fn made(&mut self, parent: NodeId, name: &str, size: u64) -> Result<(), TreeError> {
        let mut path = self.path(parent);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        let salt = Salt::of(self.seed, &path);
        self.add(parent, name.as_bytes(), Kind::Made { size, salt }).map(|_| ())
    }

    fn add(&mut self, parent: NodeId, name: &[u8], kind: Kind) -> Result<NodeId, TreeError> {
        if self.nodes.len() >= NODES {
            return Err(TreeError::TooMany);
        }
        let id = NodeId(self.nodes.len() as u32);
        self.nodes.push(Node { name: name.into(), parent, kind });
        if let Some(Node { kind: Kind::Directory { listing, by_name }, .. }) =
            self.nodes.get_mut(parent.0 as usize)
        {
            listing.push(id);
            by_name.insert(name.into(), id);
        }
        Ok(id)
    }

    /// Copies directories and regular files; links, sockets and devices are left out.
    fn copy(&mut self, top: &Path) -> Result<(), TreeError> {
        let mut pending = vec![(NodeId::ROOT, top.to_path_buf())];
        while let Some((parent, path)) = pending.pop() {
            let refused = |error| TreeError::List { path: path.clone(), error };
            let mut entries =
                std::fs::read_dir(&path).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(refused)?;
            entries.sort_by_key(std::fs::DirEntry::file_name);
            for entry in entries {
                let name = entry.file_name().into_vec();
                // A name that vanishes between listing and stat is simply not part of the copy.
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.is_dir() {
                    let kind = Kind::Directory { listing: Vec::new(), by_name: HashMap::new() };
                    pending.push((self.add(parent, &name, kind)?, entry.path()));
                } else if metadata.is_file() {
                    self.add(parent, &name, Kind::Local { size: metadata.len(), path: entry.path() })?;
                }
            }
        }
        Ok(())
    }

    /// Puts every listing into hash order.
    fn order(&mut self) {
        let keys: Vec<u64> = self.nodes.iter().map(|node| content::hash(self.seed, &node.name)).collect();
        let key = |id: &NodeId| keys.get(id.0 as usize).copied();
        for node in &mut self.nodes {
            if let Kind::Directory { listing, .. } = &mut node.kind {
                listing.sort_by_key(key);
            }
        }
    }

    /// Puts every listing into lexicographic order instead (a store that sorts, as object stores do).
    pub fn sort_listings(&mut self) {
        let names: Vec<Box<[u8]>> = self.nodes.iter().map(|node| node.name.clone()).collect();
        for node in &mut self.nodes {
            if let Kind::Directory { listing, .. } = &mut node.kind {
                listing.sort_by(|a, b| names.get(a.0 as usize).cmp(&names.get(b.0 as usize)));
            }
        }
    }
}

/// Names that grow otherwise than creation: 387,401 is coprime to a million, so no two are alike below it.
fn scatter(n: u32) -> u64 {
    (u64::from(n) * 387_401 + 104_729) % 1_000_000
}

/// A path of the tree below a mount point.
pub fn below(mount: &Path, path: &[u8]) -> PathBuf {
    mount.join(std::ffi::OsStr::from_bytes(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_orders_differ() {
        let spec: TreeSpec = "small:2x100x40k".parse().unwrap();
        let tree = Tree::build(&spec, 1).unwrap();
        assert_eq!(tree.files().count(), 200);
        let dir = tree.find(b"part-001").unwrap();
        let Kind::Directory { listing, .. } = &tree.node(dir).unwrap().kind else { panic!("a directory") };
        let name = |id: &NodeId| tree.node(*id).unwrap().name.clone();
        let mut created = listing.clone();
        created.sort();
        let mut lexicographic = listing.clone();
        lexicographic.sort_by_key(name);
        assert!(*listing != created && *listing != lexicographic && created != lexicographic);
        let (id, node) = tree.files().nth(150).unwrap();
        assert_eq!(tree.find(&tree.path(id)), Some(id));
        assert_eq!(node.size(), 40_000);
        assert_eq!(NodeId::of_ino(id.ino()), Some(id));
        assert_eq!(NodeId::of_ino(0), None);
    }

    #[test]
    fn specs_round_trip_and_nonsense_is_refused() {
        for text in ["small:40x100x40000", "large:1073741824", "parquet:200x20x262144", "dir:/tmp"] {
            assert_eq!(text.parse::<TreeSpec>().unwrap().to_string(), text);
        }
        for text in ["", "small", "small:1x2", "large:x", "dir:", "tree:1"] {
            assert!(text.parse::<TreeSpec>().is_err(), "{text}");
        }
        let huge = TreeSpec::Small { dirs: 40_000, files: 40_000, size: 1 };
        assert!(matches!(Tree::build(&huge, 0), Err(TreeError::TooMany)));
    }

    #[test]
    fn a_local_directory_is_copied() {
        let local = tempfile::tempdir().unwrap();
        std::fs::create_dir(local.path().join("inner")).unwrap();
        std::fs::write(local.path().join("inner/file"), b"bytes").unwrap();
        let tree = Tree::build(&TreeSpec::Local(local.path().to_owned()), 0).unwrap();
        let id = tree.find(b"inner/file").unwrap();
        assert_eq!(tree.node(id).unwrap().size(), 5);
    }
}
