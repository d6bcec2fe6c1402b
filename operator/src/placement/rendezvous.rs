//! Who asks whom for a piece: weighted rendezvous hashing (Thaler and Ravishankar, 1998).
//!
//! Each node draws a number from its name and the piece's; the highest wins. Everybody finds the same
//! winner without asking, a node that goes changes nothing but what it had won, and a node with twice the
//! weight wins twice as often. Nodes that start together on a Dataset nobody holds so read the store once:
//! the winner of a piece reads it, one node of each other zone asks the winner, and the others ask that one.

use crate::inventory::hash::mix;
use crate::inventory::{Inventory, NodeId};

/// What a node draws for a key, as -weight / ln(u) with u uniform in (0, 1): the highest wins in proportion
/// to the weights.
pub fn draw(node_key: u64, key: u64, weight: f64) -> f64 {
    let bits = mix(node_key ^ mix(key)) >> 11;
    // 53 bits, moved by half a step: never 0, never 1.
    let uniform = (bits as f64 + 0.5) / (1u64 << 53) as f64;
    -weight / uniform.ln()
}

/// Names a piece of a version for drawing.
pub fn piece_key(dataset_key: u64, version: u128, piece: u16) -> u64 {
    mix(dataset_key ^ mix(version as u64 ^ (version >> 64) as u64)).wrapping_add(mix(u64::from(piece) + 1))
}

/// The highest draw. Names break the tie that will not come.
pub fn winner(inventory: &Inventory, among: impl Iterator<Item = NodeId>, key: u64) -> Option<NodeId> {
    let drawn = among.filter_map(|id| {
        let node = inventory.node(id)?;
        Some((draw(node.key(), key, 1.0), node, id))
    });
    drawn.max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.name().cmp(b.1.name()))).map(|(_, _, id)| id)
}

/// Whom a node asks, one after the other; after the last one, the store.
///
/// `holders` have it. `starters` want it too, and will hold it soon: asked only where nobody has it, and
/// only up to the one that reads the store, so that no two wait for each other.
pub fn route(
    inventory: &Inventory,
    node: NodeId,
    key: u64,
    holders: &[NodeId],
    starters: &[NodeId],
) -> Vec<NodeId> {
    let place = inventory.node(node).map(|n| n.place()).unwrap_or_default();
    let place_of = |id: &NodeId| inventory.node(*id).map(|n| n.place()).unwrap_or_default();
    let others = || holders.iter().copied().filter(|id| *id != node);
    let rack = others().filter(|id| place.rack.is_some() && place_of(id).rack == place.rack);
    let zone = others().filter(|id| place.zone.is_some() && place_of(id).zone == place.zone);
    // Drawn with the asker's key too: askers spread over the holders.
    let spread = key ^ inventory.node(node).map_or(0, |n| n.key());
    let mut route = Vec::new();
    let nearest_first = [
        winner(inventory, rack, spread),
        winner(inventory, zone, spread),
        winner(inventory, others(), spread),
    ];
    for next in nearest_first.into_iter().flatten() {
        if !route.contains(&next) {
            route.push(next);
        }
    }
    if !route.is_empty() {
        return route;
    }
    let everyone = || starters.iter().copied();
    let Some(first) = winner(inventory, everyone(), key).filter(|first| *first != node) else {
        return route;
    };
    let here = everyone().filter(|id| place.zone.is_some() && place_of(id).zone == place.zone);
    let of_zone = winner(inventory, here, key).filter(|of_zone| *of_zone != node && *of_zone != first);
    route.extend(of_zone);
    route.push(first);
    route
}
