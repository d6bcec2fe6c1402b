//! Operations that run after one another, and circles among them.

use std::collections::{BTreeMap, BTreeSet};

use crate::crd::operation::OperationRef;

/// Which operation runs after which, in one namespace.
pub type Graph = BTreeMap<OperationRef, Vec<OperationRef>>;

/// A circle through `start`, as the operations in the order in which each waits for the next, `start` first
/// and last; none where there is none. Takes each operation once, whatever the graph.
pub fn circle(graph: &Graph, start: &OperationRef) -> Option<Vec<OperationRef>> {
    let mut seen = BTreeSet::new();
    // The way down from start, each with the place of its next predecessor to look at.
    let mut way: Vec<(&OperationRef, usize)> = vec![(start, 0)];
    while let Some((at, next)) = way.last_mut() {
        let Some(before) = graph.get(*at).and_then(|all| all.get(*next)) else {
            way.pop();
            continue;
        };
        *next += 1;
        if before == start {
            let mut circle: Vec<_> = way.iter().map(|(operation, _)| (*operation).clone()).collect();
            circle.push(start.clone());
            return Some(circle);
        }
        if seen.insert(before) {
            way.push((before, 0));
        }
    }
    None
}
