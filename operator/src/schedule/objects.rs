//! What the validating webhook knows of other objects: the reflectors, and the inventory for room.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use operator_api::crd::Dataset;
use operator_api::validate::graph::Graph;
use operator_api::validate::{Claim, Known, Room};
use tokio::sync::watch;

use super::picture::Picture;
use crate::clock;
use crate::inventory::Inventory;
use crate::watch::{Judged, Stores};

/// Agents find who leads within this, all of them. The first to come may be the small ones.
const GATHERING: Duration = Duration::from_secs(60);

pub struct Objects {
    stores: Stores,
    picture: Arc<Picture>,
    inventory: Arc<RwLock<Inventory>>,
    leads: watch::Receiver<Option<Instant>>,
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Objects").finish_non_exhaustive()
    }
}

impl Objects {
    /// `leads`: since when this replica does; agents tell no other what they have.
    pub fn new(
        stores: Stores,
        picture: Arc<Picture>,
        inventory: Arc<RwLock<Inventory>>,
        leads: watch::Receiver<Option<Instant>>,
    ) -> Self {
        Self { stores, picture, inventory, leads }
    }
}

impl Known for Objects {
    fn dataset(&self, namespace: &str, name: &str) -> Option<Arc<Dataset>> {
        self.stores.dataset(namespace, name)
    }

    fn claim(&self, namespace: &str, name: &str) -> Option<Claim> {
        let dataset = self.picture.wanted_by(namespace, name)?;
        let (namespace, name) = dataset.split_once('/')?;
        Some(Claim { dataset: (namespace.to_owned(), name.to_owned()) })
    }

    fn operations(&self, namespace: &str) -> Graph {
        Judged(&self.stores).operations(namespace)
    }

    fn roomiest_node(&self) -> Option<Room> {
        gathered(*self.leads.borrow(), Instant::now()).then_some(())?;
        let inventory = self.inventory.read().unwrap_or_else(PoisonError::into_inner);
        let told = || inventory.nodes().filter_map(|(_, node)| node.capacity());
        let bytes = told().map(|capacity| capacity.ram.saturating_add(capacity.cache)).max()?;
        Some(Room { bytes, nodes: told().count() })
    }

    fn now(&self) -> Timestamp {
        clock::now()
    }
}

/// Whether the agents of a term that began at `since` have come.
fn gathered(since: Option<Instant>, now: Instant) -> bool {
    since.is_some_and(|since| now.saturating_duration_since(since) >= GATHERING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_judged_by_who_leads_and_once_its_agents_have_come() {
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        assert!(!gathered(None, after(600)), "agents tell it nothing");
        assert!(!gathered(Some(begun), after(59)));
        assert!(gathered(Some(begun), after(60)));
    }
}
