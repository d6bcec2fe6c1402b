//! The fold: observations in, orders and happenings out, views on demand.

use crate::observation::Observation;
use crate::order::Order;
use crate::units::Nanos;
use crate::view::{Explanation, FileView, Happening, LedgerRow, NodeView, WorkloadView};

/// Bounds on what the core keeps and asks for; limits, never tuning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Files known at most; the directories longest unused are forgotten first.
    pub files: usize,
    /// Share of MemAvailable, in per cent, that unread prefetched bytes may take.
    pub memory_percent: u8,
    /// Whether anything is fetched at all (`--observe-only`).
    pub prefetch: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            files: 1 << 18,
            memory_percent: 25,
            prefetch: true,
        }
    }
}

#[derive(Debug)]
pub struct Core {
    limits: Limits,
}

impl Core {
    pub fn new(limits: Limits) -> Self {
        Self { limits }
    }

    /// Folds one observation into the state.
    pub fn apply(&mut self, _observation: &Observation, _now: Nanos) {
        let _ = self.limits;
    }

    /// Takes the orders that have become due, in the order in which they should be carried out.
    pub fn orders(&mut self, _now: Nanos) -> Vec<Order> {
        Vec::new()
    }

    /// Takes what is worth showing since the last call; bounded, the oldest are dropped.
    pub fn happenings(&mut self) -> Vec<Happening> {
        Vec::new()
    }

    pub fn node(&self) -> NodeView {
        NodeView::default()
    }

    pub fn workloads(&self) -> Vec<WorkloadView> {
        Vec::new()
    }

    /// Files whose path starts with `prefix`, most read bytes first, at most `limit`.
    pub fn files(&self, _prefix: &[u8], _limit: usize) -> Vec<FileView> {
        Vec::new()
    }

    pub fn explain(&self, _file: crate::FileKey) -> Option<Explanation> {
        None
    }

    pub fn ledger(&self) -> Vec<LedgerRow> {
        Vec::new()
    }

    /// The profiles that changed since the last call, as (workload, mount source, bytes): the edge stores
    /// them and hands them back through `Core::learn` at the next start.
    pub fn changed_profiles(&mut self, _now: Nanos) -> Vec<(Box<str>, Box<str>, Vec<u8>)> {
        Vec::new()
    }

    /// Takes over a stored profile. Damaged bytes are refused with a sentence.
    pub fn learn(&mut self, _workload: &str, _source: &str, _profile: &[u8]) -> Result<(), String> {
        Ok(())
    }
}
