//! What the validating webhook knows of other objects: the reflectors, and the inventory for room.

use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::Store;
use kube::{Resource, ResourceExt};
use operator_api::crd::Dataset;
use operator_api::crd::operation::{OperationKind, OperationRef, Timing};
use operator_api::validate::graph::Graph;
use operator_api::validate::{Claim, Known};

use super::picture::Picture;
use super::reach::View;
use crate::inventory::Inventory;
use crate::watch::Stores;

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
        let dataset = View::dataset(&*self.picture, namespace, name)?;
        let (namespace, name) = dataset.split_once('/')?;
        Some(Claim { dataset: (namespace.to_owned(), name.to_owned()) })
    }

    fn operations(&self, namespace: &str) -> Graph {
        let Stores { loads, migrates, backups, processes, .. } = &self.stores;
        let mut graph = Graph::default();
        add(&mut graph, namespace, OperationKind::DataLoad, loads, |load| &load.spec.timing);
        add(&mut graph, namespace, OperationKind::DataMigrate, migrates, |migrate| &migrate.spec.timing);
        add(&mut graph, namespace, OperationKind::DataBackup, backups, |backup| &backup.spec.timing);
        add(&mut graph, namespace, OperationKind::DataProcess, processes, |process| &process.spec.timing);
        graph
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

fn add<K>(
    graph: &mut Graph,
    namespace: &str,
    kind: OperationKind,
    store: &Store<K>,
    timing: fn(&K) -> &Timing,
) where
    K: Resource<DynamicType = ()> + Clone,
{
    for object in store.state() {
        if object.namespace().as_deref() == Some(namespace) {
            graph.insert(OperationRef { kind, name: object.name_any() }, timing(&object).run_after.clone());
        }
    }
}
