//! 0 to 10 for each node: how much of what the pod will read first is in its memory, in its cache, near it.

use crate::schedule::reach::{NodeIndex, Reach};

/// The extender protocol's own maximum (`MaxExtenderPriority`).
pub const MOST: u8 = 10;

/// A cached byte is worth this share of one in memory: a local disk reads some GB/s, memory ten times that,
/// and both are far from a store's tens of MB/s.
const CACHED: f64 = 0.8;

/// A byte that is on its way is worth this share: pods that come together find no bytes anywhere, and should share
/// what the first of them brings; but one that is there already is better.
const COMING: f64 = 0.5;

/// A byte that a node of the same rack holds is worth this share: it comes over one switch.
const IN_RACK: f64 = 0.25;

/// Scores of all nodes for one set of Datasets.
#[derive(Debug, Default)]
pub struct Scores {
    by_node: Box<[u8]>,
}

impl Scores {
    pub fn of(reach: &Reach) -> Self {
        let mut by_node = vec![0_u8; reach.nodes.len()].into_boxed_slice();
        let most_held = reach.holdings.iter().map(|holding| holding.bytes()).max().unwrap_or(0);
        // Where nobody knows how much the pod will read, the fullest node sets the scale.
        let whole = if reach.expected > 0 { reach.expected } else { most_held };
        if whole == 0 {
            return Self { by_node };
        }
        let worth = |memory: u64, cache: u64, coming: u64| {
            let shares = memory as f64 + CACHED * cache as f64 + COMING * coming as f64;
            (shares / whole as f64).min(1.0)
        };
        let mut racks = vec![0.0_f64; reach.nodes.rack_count()];
        for holding in &reach.holdings {
            let held = worth(holding.memory, holding.cache, 0);
            if let Some(best) = reach.nodes.rack(holding.node).and_then(|rack| racks.get_mut(rack as usize)) {
                *best = best.max(held);
            }
            if let Some(score) = by_node.get_mut(holding.node as usize) {
                *score = points(worth(holding.memory, holding.cache, holding.coming));
            }
        }
        if racks.iter().any(|best| *best > 0.0) {
            let near: Vec<u8> = racks.iter().map(|best| points(best * IN_RACK)).collect();
            for (score, rack) in by_node.iter_mut().zip(reach.nodes.racks()) {
                let near = rack.and_then(|rack| near.get(rack as usize)).copied().unwrap_or(0);
                *score = (*score).max(near);
            }
        }
        Self { by_node }
    }

    pub fn get(&self, node: NodeIndex) -> u8 {
        self.by_node.get(node as usize).copied().unwrap_or(0)
    }
}

/// Rounded up: any byte is better than none, and 0 says none.
fn points(share: f64) -> u8 {
    // Of a share between 0 and 1, so between 0 and 10.
    (share * f64::from(MOST)).ceil() as u8
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::schedule::reach::{Holding, Node, Nodes};

    fn scores(expected: u64, holdings: &[(u32, u64, u64)]) -> Vec<u8> {
        let holdings = holdings
            .iter()
            .map(|&(node, memory, cache)| Holding { node, memory, cache, coming: 0 })
            .collect();
        scores_of(expected, holdings)
    }

    fn scores_of(expected: u64, holdings: Vec<Holding>) -> Vec<u8> {
        let nodes = (0..6_u64)
            .map(|index| Node {
                name: format!("n{index}").into(),
                rack: (index < 4).then_some(index / 2),
                ..Node::default()
            })
            .collect();
        let scores = Scores::of(&Reach { nodes: Arc::new(Nodes::new(nodes)), expected, holdings });
        (0..7).map(|node| scores.get(node)).collect()
    }

    #[test]
    fn memory_before_cache_before_rack_before_nothing() {
        assert_eq!(scores(100, &[(0, 100, 0), (2, 0, 100)]), [10, 3, 8, 2, 0, 0, 0]);
    }

    #[test]
    fn what_comes_is_worth_less_than_what_is_there_and_nothing_to_others() {
        let coming = |node, cache, coming| Holding { node, memory: 0, cache, coming };
        assert_eq!(
            scores_of(100, vec![coming(0, 0, 100), coming(4, 50, 50), coming(5, 100, 0)]),
            [5, 0, 0, 0, 7, 8, 0]
        );
    }

    #[test]
    fn a_part_counts_as_a_part() {
        assert_eq!(scores(1000, &[(4, 500, 0), (5, 0, 1)]), [0, 0, 0, 0, 5, 1, 0]);
    }

    #[test]
    fn nothing_known_is_nothing_said() {
        assert_eq!(scores(0, &[]), [0; 7]);
        assert_eq!(scores(1000, &[(99, 1000, 0)]), [0; 7]);
    }

    #[test]
    fn figures_that_cannot_be_stay_within_the_scale() {
        assert_eq!(scores(0, &[(0, 0, 7), (4, u64::MAX, u64::MAX)])[4], 10);
        assert_eq!(scores(1, &[(4, u64::MAX, u64::MAX)])[4], 10);
    }
}
