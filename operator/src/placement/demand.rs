//! How often a Dataset will be read, and where, as far as measurement and pods tell.

use rustc_hash::FxHashMap;

use crate::inventory::{Dataset, Inventory, NodeId, Place};

/// Seconds ahead that a copy must earn its move in. Training epochs and query sessions last longer; beyond it
/// what is measured now says little.
pub const HORIZON_S: f64 = 600.0;

/// Passes expected of a pod of which nothing has been heard yet: it will read its Dataset once.
const NEW_POD: f64 = 1.0;

/// Of a pod whose node reports no reading: it may yet begin, but nothing is moved for it.
const QUIET_POD: f64 = 0.5;

/// More passes than this in the horizon change no decision.
const MOST: f64 = 1_000.0;

/// Expected passes over the Dataset within the horizon, by node and by area.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    nodes: FxHashMap<NodeId, f64>,
    racks: FxHashMap<u64, f64>,
    zones: FxHashMap<u64, f64>,
    regions: FxHashMap<u64, f64>,
    all: f64,
    /// Nodes by passes, the most first; ties by name.
    order: Vec<NodeId>,
}

impl Wanted {
    pub fn of(inventory: &Inventory, dataset: &Dataset, total: u64) -> Self {
        let mut readers = Vec::new();
        for (id, presence) in dataset.nodes() {
            let pods = f64::from(presence.pods());
            let passes = match presence.demand() {
                None => pods * NEW_POD,
                Some(demand) if demand.rate == 0 => pods * QUIET_POD,
                Some(demand) => demand.rate as f64 * HORIZON_S / total.max(1) as f64,
            };
            let Some(node) = inventory.node(id).filter(|n| passes > 0.0 && n.facts().is_some()) else {
                continue;
            };
            readers.push((passes.min(MOST), node, id));
        }
        // By name, not by id: sums of floats must not depend on who came first.
        readers.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.name().cmp(b.1.name())));
        let mut wanted = Self::default();
        for (passes, node, id) in readers {
            let Place { rack, zone, region } = node.place();
            wanted.nodes.insert(id, passes);
            wanted.order.push(id);
            wanted.all += passes;
            let sums = [(&mut wanted.racks, rack), (&mut wanted.zones, zone), (&mut wanted.regions, region)];
            for (sums, area) in sums {
                if let Some(area) = area {
                    *sums.entry(area).or_default() += passes;
                }
            }
        }
        wanted
    }

    pub fn is_idle(&self) -> bool {
        self.order.is_empty()
    }

    pub fn on(&self, node: NodeId) -> f64 {
        self.nodes.get(&node).copied().unwrap_or_default()
    }

    pub fn readers(&self) -> &[NodeId] {
        &self.order
    }

    pub fn all(&self) -> f64 {
        self.all
    }

    /// None where the node's rack is unknown.
    pub fn rack(&self, place: Place) -> Option<f64> {
        Some(self.racks.get(&place.rack?).copied().unwrap_or_default())
    }

    pub fn zone(&self, place: Place) -> Option<f64> {
        Some(self.zones.get(&place.zone?).copied().unwrap_or_default())
    }

    pub fn region(&self, place: Place) -> Option<f64> {
        Some(self.regions.get(&place.region?).copied().unwrap_or_default())
    }
}
