//! The directories that a run is concerned with, and which of them are to be listed next.
//!
//! Those in which files were visited, their parents and, once a second one was, their siblings: each is listed once,
//! a few for each visit.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::catalog::{Catalog, DirId, FileId, Listed};
use crate::profile::MAX_FILES;
use crate::route::CLIMBS;

/// Directories one run may ask to have listed for each file it visited.
const LISTINGS_PER_VISIT: usize = 2;

#[derive(Debug, Default)]
pub struct Domain {
    /// Each with the number of files it was listed with.
    dirs: FxHashMap<DirId, usize>,
    visited: FxHashSet<DirId>,
    /// Levels above those of which one directory is in the domain at least.
    levels: u8,
    to_list: VecDeque<DirId>,
    listings: usize,
    /// Files in the listed directories.
    files: usize,
}

impl Domain {
    /// Files in the directories that are listed.
    pub fn files(&self) -> usize {
        self.files
    }

    /// A file of this directory is visited, the so-many-th of the run. Siblings join where nothing foresees the visits;
    /// where they are guessed at, it is known by now that no walk leads through these.
    pub fn visit(&mut self, catalog: &Catalog, dir: DirId, visits: usize, foreseen: bool, guesses: bool) {
        let fresh = self.visited.insert(dir);
        if visits < 2 {
            return;
        }
        // One that waits among its siblings has become urgent, for a walk to be seen.
        if self.joins(dir) || fresh && !guesses && self.take_waiting(dir) {
            self.to_list.push_front(dir);
        }
        if let Some(parent) = catalog.dir(dir).and_then(|dir| dir.parent) {
            self.climb(catalog, parent);
            if fresh && self.visited.len() >= 2 && !foreseen {
                self.add_siblings(catalog, parent);
            }
        }
        if visits == 2 {
            let firsts: Vec<DirId> = self.visited.iter().copied().collect();
            for dir in firsts {
                if self.joins(dir) {
                    self.to_list.push_back(dir);
                }
            }
        }
    }

    /// The parent names the next directory of a walk, and the rest of a shuffled set. What is above it tells
    /// nothing before files below a second parent are read, and so on upwards.
    fn climb(&mut self, catalog: &Catalog, parent: DirId) {
        let mut at = Some(parent);
        for level in 0..CLIMBS {
            let Some(dir) = at.filter(|dir| self.joins(*dir)) else { return };
            self.to_list.push_back(dir);
            if level >= self.levels {
                self.levels = level + 1;
                return;
            }
            at = catalog.dir(dir).and_then(|dir| dir.parent);
        }
    }

    fn take_waiting(&mut self, dir: DirId) -> bool {
        let at = self.to_list.iter().position(|waiting| *waiting == dir);
        at.is_some_and(|at| self.to_list.remove(at).is_some())
    }

    fn joins(&mut self, dir: DirId) -> bool {
        match self.dirs.entry(dir) {
            Entry::Occupied(_) => false,
            Entry::Vacant(free) => {
                free.insert(0);
                true
            }
        }
    }

    fn add_siblings(&mut self, catalog: &Catalog, parent: DirId) {
        let Some(listed) = catalog.listing(parent) else { return };
        for dir in &listed.dirs {
            if self.dirs.len() < MAX_FILES && self.joins(*dir) {
                self.to_list.push_back(*dir);
            }
        }
    }

    /// A directory has more files than it was listed with: it is listed anew when its turn comes.
    pub fn relist(&mut self, dir: DirId) {
        self.to_list.push_front(dir);
    }

    /// The next directory to list, if so many visits pay for one.
    pub fn next_listing(&mut self, visits: usize) -> Option<DirId> {
        if self.listings >= visits * LISTINGS_PER_VISIT {
            return None;
        }
        let dir = self.to_list.pop_front()?;
        self.listings += 1;
        Some(dir)
    }

    /// A directory has been listed: its directories join where two of them were visited. Gives its files, if it is one
    /// of these.
    pub fn listed<'a>(&mut self, catalog: &'a Catalog, dir: DirId) -> &'a [FileId] {
        if !self.dirs.contains_key(&dir) {
            return &[];
        }
        let is_parent = |inner: &DirId| catalog.dir(*inner).is_some_and(|inner| inner.parent == Some(dir));
        if self.visited.len() >= 2 && self.visited.iter().any(is_parent) {
            self.add_siblings(catalog, dir);
        }
        let Some(Listed { files, .. }) = catalog.listing(dir) else { return &[] };
        let before = self.dirs.insert(dir, files.len()).unwrap_or(0);
        self.files = (self.files + files.len()).saturating_sub(before);
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::{Entry, EntryKind};
    use crate::units::MountId;

    #[test]
    fn a_folder_that_is_read_is_listed_before_its_siblings_unless_they_are_guessed_at() {
        for guesses in [false, true] {
            let (mut catalog, mut domain) = (Catalog::default(), Domain::default());
            let root = catalog.dir_at(MountId(0), b"");
            let name = |at: usize| format!("{at:02}").into_bytes();
            let entry = |at| Entry { name: name(at).into(), kind: EntryKind::Directory, ino: 1 };
            let entries: Vec<Entry> = (0..50).map(entry).collect();
            catalog.listed(root, Some(&entries));
            let dirs: Vec<DirId> = (0..50).map(|at| catalog.dir_at(MountId(0), &name(at))).collect();
            for (visits, at) in [(1, 0), (2, 1), (3, 40)] {
                domain.visit(&catalog, dirs[at], visits, false, guesses);
            }
            let listed: Vec<DirId> = std::iter::from_fn(|| domain.next_listing(100)).collect();
            assert_eq!(listed.first() == Some(&dirs[40]), !guesses);
            let mut once = listed.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!((listed.len(), once.len()), (51, 51), "each once, and their parent");
        }
    }
}
