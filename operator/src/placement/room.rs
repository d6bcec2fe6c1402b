//! Which nodes may hold something at all, and how much.

use rustc_hash::FxHashMap;

use crate::inventory::matching::{selects, untolerated};
use crate::inventory::{Dataset, DatasetId, Inventory, Millis, Node, NodeId, Sharing};

use super::reason::Because;

/// An agent that restarts is back within seconds; a node that comes up again takes minutes. Between them, so
/// that an upgrade of the DaemonSet moves nothing.
pub const SILENCE_MS: u64 = 90_000;

/// Pressure (thousandths) from which a node gets nothing new: a tenth of the time somebody waited.
const PRESSURE: u16 = 100;

/// The share of its room that is given out: agents need some to work in, and bytes come in pieces.
const SHARE: f64 = 0.95;

/// What a node is for this step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Room {
    /// Bytes that copies may take here: none where the node holds nothing now.
    pub budget: u64,
    /// May keep what it holds, and gets nothing new.
    pub closed: bool,
    /// Why copies here are void.
    pub lost: Option<Because>,
}

/// Unknown room is no room: nothing is placed on a guess.
pub fn room(node: &Node, now: Millis) -> Room {
    let shut = |lost| Room { budget: 0, closed: true, lost: Some(lost) };
    let Some(facts) = node.facts() else { return shut(Because::NodeGone) };
    if !facts.ready || node.silent().is_some_and(|since| now.since(since) > SILENCE_MS) {
        return shut(Because::NodeLost);
    }
    let capacity = node.capacity().unwrap_or_default();
    let bytes = if capacity.cache > 0 { capacity.cache } else { capacity.ram };
    // Waiting for a page of a slow store counts as pressure on I/O: where pages are what is held, those nodes would be shut
    // out whose readers need it most. It says something of a disk that would be written to.
    let disk = capacity.cache > 0;
    let pressed = node.pressure().is_some_and(|p| p.memory >= PRESSURE || (disk && p.io >= PRESSURE));
    let closed = facts.unschedulable || node.silent().is_some() || pressed || node.capacity().is_none();
    // An agent that restarts has not said yet what room there is: what was given out stays so.
    let budget = if node.capacity().is_none() { u64::MAX } else { (bytes as f64 * SHARE) as u64 };
    Room { budget, closed, lost: None }
}

/// Whether selector, taints and mounts let a Dataset's bytes lie on a node.
pub fn allows(dataset: &Dataset, node: &Node) -> bool {
    let (Some(spec), Some(facts)) = (dataset.spec(), node.facts()) else { return false };
    selects(&spec.nodes, &facts.labels)
        && untolerated(&facts.taints, &spec.tolerations).is_none()
        && node.mounts(dataset.name()).unwrap_or(true)
}

/// What has been given out on a node.
#[derive(Clone, Debug, Default)]
pub struct Given {
    pub bytes: u64,
    /// By Dataset, with the Dataset's bytes.
    pub datasets: FxHashMap<DatasetId, u64>,
    /// The Dataset that has the node for itself.
    pub exclusive: Option<DatasetId>,
}

impl Given {
    pub fn take(&mut self, dataset: DatasetId, bytes: u64, sharing: Sharing) {
        self.bytes = self.bytes.saturating_add(bytes);
        let sum = self.datasets.entry(dataset).or_default();
        *sum = sum.saturating_add(bytes);
        self.exclusive = self.exclusive.or((sharing == Sharing::Exclusive).then_some(dataset));
    }

    pub fn give_back(&mut self, dataset: DatasetId, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        let Some(sum) = self.datasets.get_mut(&dataset) else { return };
        *sum = sum.saturating_sub(bytes);
        if *sum == 0 {
            self.datasets.remove(&dataset);
            self.exclusive = self.exclusive.filter(|e| *e != dataset);
        }
    }

    /// Whether a Dataset's wish to be alone, or another's, keeps it off.
    pub fn keeps_off(&self, dataset: DatasetId, sharing: Sharing) -> bool {
        let other = self.exclusive.is_some_and(|e| e != dataset);
        let alone = sharing == Sharing::Exclusive && self.datasets.keys().any(|d| *d != dataset);
        other || alone
    }
}

/// Nodes that may hold a Dataset, with what they weigh when drawn: their room.
pub fn eligible<'a>(
    inventory: &'a Inventory,
    rooms: &'a FxHashMap<NodeId, Room>,
    dataset: &'a Dataset,
) -> impl Iterator<Item = (NodeId, &'a Node, f64)> {
    inventory.nodes().filter_map(move |(id, node)| {
        let room = rooms.get(&id).filter(|r| !r.closed && r.budget > 0)?;
        allows(dataset, node).then_some((id, node, room.budget as f64))
    })
}
