//! An order of files seen before (an earlier epoch, an earlier run), and the readers that repeat it.

use rustc_hash::FxHashMap;

use crate::catalog::FileId;

/// Readers that repeat an order side by side.
const CURSORS: usize = 16;

/// A repetition may leave out a few files (a filter, a failed read) and is still one.
const SKIP: u32 = 4;

/// Matches in a row before a repetition is believed.
pub const REPEAT_PROOF: u32 = 2;

#[derive(Clone, Copy, Debug)]
struct Cursor {
    at: u32,
    proof: u32,
    issued: u32,
    used: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Past {
    order: Vec<FileId>,
    places: FxHashMap<FileId, u32>,
    cursors: Vec<Cursor>,
    visits: u64,
}

impl Past {
    pub fn new(order: Vec<FileId>) -> Self {
        let places = (0u32..).zip(&order).map(|(at, file)| (*file, at)).collect();
        Self { order, places, cursors: Vec::new(), visits: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn order(&self) -> &[FileId] {
        &self.order
    }

    pub fn contains(&self, file: FileId) -> bool {
        self.places.contains_key(&file)
    }

    /// Takes in a visit; returns the cursor that stands on it.
    pub fn visit(&mut self, file: FileId) -> Option<usize> {
        let at = *self.places.get(&file)?;
        self.visits += 1;
        let near = |cursor: &Cursor| at.checked_sub(cursor.at).filter(|step| (1..=SKIP).contains(step));
        let matching =
            (0..self.cursors.len()).find(|index| self.cursors.get(*index).and_then(near).is_some());
        if let Some(index) = matching
            && let Some(cursor) = self.cursors.get_mut(index)
        {
            let step = at - cursor.at;
            *cursor = Cursor {
                at,
                proof: cursor.proof.saturating_add(1),
                issued: cursor.issued.saturating_sub(step),
                used: self.visits,
            };
            return Some(index);
        }
        // Beginning again at the first file is what a repeated run does: half a proof by itself.
        let fresh = Cursor { at, proof: u32::from(at == 0), issued: 0, used: self.visits };
        if self.cursors.len() < CURSORS {
            self.cursors.push(fresh);
            return Some(self.cursors.len() - 1);
        }
        let oldest = (0..self.cursors.len()).min_by_key(|index| self.cursors.get(*index).map(|c| c.used))?;
        *self.cursors.get_mut(oldest)? = fresh;
        Some(oldest)
    }

    pub fn proof(&self, cursor: usize) -> u32 {
        self.cursors.get(cursor).map_or(0, |cursor| cursor.proof)
    }

    pub fn position(&self, cursor: usize) -> usize {
        self.cursors.get(cursor).map_or(0, |cursor| cursor.at as usize)
    }

    /// Files from the first that was not asked for to the `to`-th after the cursor.
    pub fn ahead(&self, cursor: usize, to: u32) -> impl Iterator<Item = (u32, FileId)> + '_ {
        let (at, issued) =
            self.cursors.get(cursor).map_or((u32::MAX, 0), |cursor| (cursor.at, cursor.issued));
        (issued + 1..=to)
            .filter_map(move |step| self.order.get(at.checked_add(step)? as usize).map(|file| (step, *file)))
    }

    pub fn issue(&mut self, cursor: usize, steps: u32) {
        if let Some(cursor) = self.cursors.get_mut(cursor) {
            cursor.issued = cursor.issued.max(steps);
        }
    }
}
