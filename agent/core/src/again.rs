//! Files met again: whether a set is being read anew, or something of it once more.
//!
//! An index opened between samples and a second process that reads the same set in an order of its own meet
//! visited files too. A new epoch differs in three ways: its files were visited by the same process or by one
//! that is gone, they are many, and hardly a file comes between them that was never visited.

use rustc_hash::FxHashSet;

use crate::catalog::FileId;

/// What a file that was never visited takes from the proof: twice what a file met again adds, so that it only
/// grows where most of what comes was there before.
const NEW_COST: u32 = 2;

/// What has been met again in a row.
#[derive(Debug, Default)]
pub struct Again {
    /// Each once, in the order in which they were met, with the process.
    files: Vec<(FileId, u32)>,
    met: FxHashSet<FileId>,
    proof: u32,
}

impl Again {
    /// A visited file is met; by its own visitor's successor, or by somebody beside it.
    pub fn meet(&mut self, file: FileId, tgid: u32, successor: bool) {
        if self.proof == 0 && !successor {
            return;
        }
        if self.met.insert(file) {
            self.files.push((file, tgid));
            self.proof += u32::from(successor);
        }
    }

    /// A file comes that was never visited.
    pub fn pass(&mut self) {
        self.proof = self.proof.saturating_sub(NEW_COST);
        if self.proof == 0 && !self.files.is_empty() {
            *self = Self::default();
        }
    }

    /// Different files that were met by their visitors' successors, less what came between.
    pub fn proof(&self) -> usize {
        self.proof as usize
    }

    /// The first files of a new epoch.
    pub fn take(&mut self) -> Vec<(FileId, u32)> {
        std::mem::take(self).files
    }
}
