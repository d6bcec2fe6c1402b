//! What there is to be read: a tree of files on a store, and orders to read them in.

use std::collections::{BTreeMap, HashMap};

use agent_core::{Entry, EntryKind, pages_of};

const WARM: u64 = 100_000;

#[derive(Clone, Debug)]
pub struct Step {
    pub file: usize,
    /// Pages of one read call.
    pub pages: std::ops::Range<u64>,
}

pub struct World {
    pub latency: u64,
    pub bandwidth: f64,
    pub keeps: bool,
    /// Nanoseconds between a read and the next.
    pub think: u64,
    /// A request may take up to so many times the latency longer.
    pub jitter: u64,
    /// Pages of the kernel's own read-ahead; 0 for none.
    pub read_ahead: u64,
    /// Pages that the page cache has room for.
    pub room: usize,
    pub files: Vec<(String, u64)>,
    pub by_path: HashMap<String, usize>,
    pub dirs: BTreeMap<String, Vec<Entry>>,
    inos: Vec<u64>,
}

impl World {
    pub fn new(latency_ms: u64, mb_per_s: f64, files: Vec<(String, u64)>) -> Self {
        let mut dirs: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        let mut by_path = HashMap::new();
        for (index, (path, _)) in files.iter().enumerate() {
            by_path.insert(path.clone(), index);
            let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
            let entries = dirs.entry(dir.to_owned()).or_default();
            entries.push(Entry {
                name: name.as_bytes().into(),
                kind: EntryKind::File,
                ino: 1000 + index as u64,
            });
            let mut dir = dir;
            while !dir.is_empty() {
                let (parent, own) = dir.rsplit_once('/').unwrap_or(("", dir));
                let siblings = dirs.entry(parent.to_owned()).or_default();
                if siblings.iter().all(|entry| *entry.name != *own.as_bytes()) {
                    siblings.push(Entry { name: own.as_bytes().into(), kind: EntryKind::Directory, ino: 9 });
                }
                dir = parent;
            }
        }
        Self {
            latency: latency_ms * 1_000_000,
            bandwidth: mb_per_s * 1e6,
            keeps: true,
            think: WARM,
            jitter: 0,
            read_ahead: 0,
            room: usize::MAX,
            files,
            by_path,
            dirs,
            inos: Vec::new(),
        }
    }

    /// Gives the files inode numbers in another order than they are listed.
    pub fn created(&mut self, order: impl Fn(usize) -> u64) {
        for (dir, entries) in &mut self.dirs {
            for entry in entries.iter_mut().filter(|entry| entry.kind == EntryKind::File) {
                let name = String::from_utf8(entry.name.to_vec()).unwrap();
                let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
                entry.ino = 1000 + order(self.by_path[&path]);
            }
        }
        self.inos = (0..self.files.len()).map(|index| 1000 + order(index)).collect();
    }

    /// Lists directories in an order that says nothing, as hashed directories do.
    pub fn shuffle_listing(&mut self, seed: u64) {
        for entries in self.dirs.values_mut() {
            let order = shuffled(entries.len(), seed);
            *entries = order.into_iter().map(|at| entries[at].clone()).collect();
        }
    }

    pub fn ino(&self, file: usize) -> u64 {
        self.inos.get(file).copied().unwrap_or(1000 + file as u64)
    }

    pub fn small() -> Self {
        let files = (0..4000).map(|i| (format!("d{:02}/f{:03}.npy", i / 100, i % 100), 40_000)).collect();
        Self::new(5, 60.0, files)
    }
}

/// A permutation of 0..n by seed.
pub fn shuffled(n: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    let mut state = seed.wrapping_mul(0x2545_F491_4F6C_DD1D) | 1;
    for i in (1..n).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(i, (state % (i as u64 + 1)) as usize);
    }
    order
}

/// Whole files in this order.
pub fn whole(world: &World, order: &[usize]) -> Vec<Step> {
    order.iter().map(|file| Step { file: *file, pages: 0..pages_of(world.files[*file].1) }).collect()
}
