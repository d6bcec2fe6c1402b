//! One thread among files: those it is reading in turns, and the walks it takes in turns.
//!
//! A loader of pairs walks two directories at once, an image here and its label there; a merge of sorted
//! files reads a piece of each, round and round. Each walk is followed by itself, and a file that was left
//! before its end stays open until it is read to the end or long forgotten.

use std::collections::VecDeque;

use crate::catalog::{Catalog, FileId};
use crate::gait::WALK_PROOF;
use crate::route::length;
use crate::walk::Walker;

/// Files a thread may have left before their ends and come back to: wider merges and interleavings than this
/// are rare, and cost their readers no more than without us.
const OPEN: usize = 32;

/// The last files of a thread, at which it still is: a data file and its index, say.
const AT: usize = 3;

/// Walks of one thread side by side: an image, its mask, its label and its text.
const WALKS: usize = 4;

/// Visits of the thread after which a walk that has not gone on is over.
const STALE: u64 = 16;

#[derive(Clone, Debug)]
struct Walk {
    walker: Walker,
    moved: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Thread {
    /// The last visits, newest last.
    recent: VecDeque<FileId>,
    /// Files left before their ends, those left longest ago first.
    open: VecDeque<FileId>,
    walks: Vec<Walk>,
    visits: u64,
    /// Visits that neither a walk nor a repetition foresaw; each that one did foresee halves them.
    strays: u32,
    /// Whether the last visit was one of those.
    stray: bool,
}

impl Thread {
    pub fn last(&self) -> Option<FileId> {
        self.recent.back().copied()
    }

    /// Whether the thread has begun this file and not done with it.
    pub fn is_at(&self, file: FileId) -> bool {
        self.recent.contains(&file) || self.open.contains(&file)
    }

    /// The thread has gone on to another file with this one not at its end. Returns the file that must be
    /// given up for it, if there is one.
    pub fn leave(&mut self, file: FileId) -> Option<FileId> {
        self.done(file);
        self.open.push_back(file);
        if self.open.len() > OPEN { self.open.pop_front() } else { None }
    }

    /// Whether this file was left before its end.
    pub fn has_left(&self, file: FileId) -> bool {
        self.open.contains(&file)
    }

    pub fn done(&mut self, file: FileId) {
        self.open.retain(|open| *open != file);
    }

    /// Every file that the thread has begun and is not known to have done with.
    pub fn at(&self) -> impl Iterator<Item = FileId> + '_ {
        self.open.iter().copied().chain(self.last())
    }

    /// Takes in a visit; returns how many files a walk had that it ends.
    pub fn visit(&mut self, catalog: &Catalog, file: FileId) -> Option<u32> {
        self.visits += 1;
        if self.recent.len() == AT {
            self.recent.pop_front();
        }
        self.recent.push_back(file);
        let index = match self.walk_to(catalog, file) {
            Some(index) => index,
            None if self.walks.len() < WALKS => {
                self.walks.push(Walk { walker: Walker::default(), moved: 0 });
                self.walks.len() - 1
            }
            None => {
                let oldest = self.walks.iter().enumerate().min_by_key(|(_, walk)| walk.moved);
                let index = oldest.map_or(0, |(index, _)| index);
                if let Some(walk) = self.walks.get_mut(index) {
                    walk.walker = Walker::default();
                }
                index
            }
        };
        let walk = self.walks.get_mut(index)?;
        walk.moved = self.visits;
        walk.walker.visit(catalog, file)
    }

    /// The walk that this file continues: one that foresaw it, otherwise one that is near.
    fn walk_to(&self, catalog: &Catalog, file: FileId) -> Option<usize> {
        let newest = |test: &dyn Fn(&Walker) -> bool| {
            let fitting = self.walks.iter().enumerate().filter(|(_, walk)| test(&walk.walker));
            fitting.max_by_key(|(_, walk)| walk.moved).map(|(index, _)| index)
        };
        // Before its directory is listed nothing tells whether it is near: the listing is compared with what was
        // visited in a row.
        let is_listed = catalog.file(file).is_some_and(|file| length(catalog, file.dir).is_some());
        newest(&|walker| walker.foresees(catalog, file))
            .or_else(|| newest(&|walker| walker.is_near(catalog, file)))
            .or_else(|| newest(&|walker| !is_listed && walker.may_reach(catalog, file)))
            .or_else(|| newest(&|walker| !is_listed && walker.proof() == 0))
    }

    /// Whether the last visit was a step of a walk.
    pub fn is_walking(&self) -> bool {
        self.walks.iter().any(|walk| walk.moved == self.visits && walk.walker.proof() >= WALK_PROOF)
    }

    pub fn relist(&mut self, catalog: &Catalog) {
        for walk in &mut self.walks {
            walk.walker.relist(catalog);
        }
    }

    /// Walks that are believed and go on, each with the number by which `issue` knows it.
    pub fn walks(&self) -> impl Iterator<Item = (usize, &Walker)> {
        let live = |walk: &Walk| walk.walker.proof() >= WALK_PROOF && self.visits - walk.moved < STALE;
        self.walks
            .iter()
            .enumerate()
            .filter(move |(_, walk)| live(walk))
            .map(|(index, walk)| (index, &walk.walker))
    }

    pub fn issue(&mut self, walk: usize, steps: u32) {
        if let Some(walk) = self.walks.get_mut(walk) {
            walk.walker.issue(steps);
        }
    }

    pub fn foreseen(&mut self, foreseen: bool) {
        self.stray = !foreseen;
        self.strays = if foreseen { self.strays / 2 } else { self.strays.saturating_add(1) };
    }

    /// The last visit was to a file that is read together with the one before.
    pub fn led(&mut self) {
        self.stray = false;
    }

    pub fn is_astray(&self) -> bool {
        self.stray
    }

    pub fn strays(&self) -> u32 {
        self.strays
    }
}
