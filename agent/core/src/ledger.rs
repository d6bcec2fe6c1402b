//! The fate of every prediction, per workload and predictor: hit, late, wasted, pending. The only judge.

use std::collections::BTreeMap;

use crate::residency::Owner;
use crate::view::{Fate, Predictor};

/// Bytes of good faith a new predictor has: so much it may waste before its record counts fully.
const FAITH: f64 = 1e6;

/// The record fades by half whenever it holds this much, so that a change of habit is noticed.
const MEMORY: f64 = 64e6;

#[derive(Clone, Copy, Debug, Default)]
pub struct Row {
    pub predictions: u64,
    pub fetched: u64,
    pub hit: u64,
    pub late: u64,
    pub wasted: u64,
    good: f64,
    bad: f64,
}

impl Row {
    pub fn fate(&self) -> Fate {
        let settled = self.hit + self.late + self.wasted;
        Fate {
            hit: self.hit,
            late: self.late,
            wasted: self.wasted,
            pending: self.fetched.saturating_sub(settled),
        }
    }

    fn fade(&mut self) {
        if self.good + self.bad > MEMORY {
            self.good /= 2.0;
            self.bad /= 2.0;
        }
    }
}

#[derive(Debug, Default)]
pub struct Ledger {
    rows: BTreeMap<(u32, Predictor), Row>,
    pending: u64,
}

impl Ledger {
    fn row(&mut self, owner: Owner) -> &mut Row {
        self.rows.entry((owner.workload, owner.predictor)).or_default()
    }

    pub fn predicted(&mut self, owner: Owner) {
        self.row(owner).predictions += 1;
    }

    pub fn fetched(&mut self, owner: Owner, bytes: u64) {
        self.row(owner).fetched += bytes;
        self.pending += bytes;
    }

    /// What seemed to come was not asked for after all.
    pub fn unfetched(&mut self, owner: Owner, bytes: u64) {
        self.pending = self.pending.saturating_sub(bytes);
        let row = self.row(owner);
        row.fetched = row.fetched.saturating_sub(bytes);
    }

    pub fn hit(&mut self, owner: Owner, bytes: u64, late: bool) {
        self.pending = self.pending.saturating_sub(bytes);
        let row = self.row(owner);
        if late {
            row.late += bytes;
        } else {
            row.hit += bytes;
        }
        row.good += bytes as f64;
        row.fade();
    }

    pub fn wasted(&mut self, owner: Owner, bytes: u64) {
        self.pending = self.pending.saturating_sub(bytes);
        let row = self.row(owner);
        row.wasted += bytes;
        row.bad += bytes as f64;
        row.fade();
    }

    /// Counts what one workload has had for another, and begins the first one's record anew.
    pub fn fold(&mut self, from: u32, to: u32) {
        let range = (from, Predictor::Sequential)..=(from, Predictor::Shape);
        let theirs: Vec<Predictor> = self.rows.range(range).map(|((_, predictor), _)| *predictor).collect();
        for predictor in theirs {
            let Some(gone) = self.rows.remove(&(from, predictor)) else { continue };
            let row = self.rows.entry((to, predictor)).or_default();
            row.predictions += gone.predictions;
            row.fetched += gone.fetched;
            row.hit += gone.hit;
            row.late += gone.late;
            row.wasted += gone.wasted;
        }
    }

    /// Bytes brought in and waiting to be read.
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// How far a predictor is to be believed, from 0 to 1: its recent share of bytes that were read.
    pub fn trust(&self, owner: Owner) -> f64 {
        let row = self.rows.get(&(owner.workload, owner.predictor)).copied().unwrap_or_default();
        (row.good + FAITH) / (row.good + row.bad + FAITH)
    }

    /// The same with what waits to be read, and what is under way, taken for what is never read: from 0 to 1, and 1 where
    /// nothing was asked for.
    pub fn surety(&self, owner: Owner, under_way: u64) -> f64 {
        let row = self.rows.get(&(owner.workload, owner.predictor)).copied().unwrap_or_default();
        let pending = (row.fate().pending + under_way) as f64;
        (row.good + FAITH) / (row.good + row.bad + pending + FAITH)
    }

    pub fn rows(&self) -> impl Iterator<Item = (u32, Predictor, &Row)> {
        self.rows.iter().map(|((workload, predictor), row)| (*workload, *predictor, row))
    }

    pub fn of_workload(&self, workload: u32) -> (u64, Fate) {
        let range = (workload, Predictor::Sequential)..=(workload, Predictor::Shape);
        let mut fetched = 0;
        let mut sum = Fate::default();
        for row in self.rows.range(range).map(|(_, row)| row) {
            let fate = row.fate();
            fetched += row.fetched;
            sum.hit += fate.hit;
            sum.late += fate.late;
            sum.wasted += fate.wasted;
            sum.pending += fate.pending;
        }
        (fetched, sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner { workload: 1, predictor: Predictor::Shape };

    #[test]
    fn what_waits_and_what_is_under_way_make_a_guess_less_sure_until_it_is_read() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.surety(OWNER, 0), 1.0);
        ledger.fetched(OWNER, 3_000_000);
        assert_eq!(ledger.surety(OWNER, 0), 0.25);
        assert_eq!(ledger.surety(OWNER, 6_000_000), 0.1);
        assert_eq!(ledger.trust(OWNER), 1.0);
        ledger.hit(OWNER, 3_000_000, false);
        assert_eq!(ledger.surety(OWNER, 0), 1.0);
    }
}
