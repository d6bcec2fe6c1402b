//! What the validating webhook knows of other objects: the reflectors, and the inventory for room.

use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::jiff::Timestamp;
use operator_api::crd::Dataset;
use operator_api::validate::graph::Graph;
use operator_api::validate::{Claim, Known};

use super::picture::Picture;
use crate::inventory::Inventory;
use crate::watch::{Judged, Stores};

pub struct Objects {
    stores: Stores,
    picture: Arc<Picture>,
    inventory: Arc<RwLock<Inventory>>,
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Objects").finish_non_exhaustive()
    }
}

impl Objects {
    pub fn new(stores: Stores, picture: Arc<Picture>, inventory: Arc<RwLock<Inventory>>) -> Self {
        Self { stores, picture, inventory }
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

    fn roomiest_node(&self) -> Option<u64> {
        let inventory = self.inventory.read().unwrap_or_else(PoisonError::into_inner);
        let room = inventory.nodes().filter_map(|(_, node)| node.capacity());
        room.map(|capacity| capacity.ram.saturating_add(capacity.cache)).max()
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
