//! What the reconcilers let validation ask, for objects that came past the webhook.
//!
//! Room on nodes is not asked: an object does not become wrong because a node went. Nor whose a claim is: the
//! reconciler finds that out when it makes one.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::Store;
use kube::{Resource, ResourceExt};
use operator_api::crd::Dataset;
use operator_api::crd::operation::{OperationKind, OperationRef, Timing};
use operator_api::validate::graph::Graph;
use operator_api::validate::{Claim, Known, Room};

use super::stores::Stores;

#[derive(Clone, Copy, Debug)]
pub struct Judged<'a>(pub &'a Stores);

impl Known for Judged<'_> {
    fn dataset(&self, namespace: &str, name: &str) -> Option<Arc<Dataset>> {
        self.0.dataset(namespace, name)
    }

    fn claim(&self, _: &str, _: &str) -> Option<Claim> {
        None
    }

    fn operations(&self, namespace: &str) -> Graph {
        let Stores { loads, migrates, backups, processes, .. } = self.0;
        let mut graph = Graph::default();
        add(&mut graph, namespace, OperationKind::DataLoad, loads, |load| &load.spec.timing);
        add(&mut graph, namespace, OperationKind::DataMigrate, migrates, |migrate| &migrate.spec.timing);
        add(&mut graph, namespace, OperationKind::DataBackup, backups, |backup| &backup.spec.timing);
        add(&mut graph, namespace, OperationKind::DataProcess, processes, |process| &process.spec.timing);
        graph
    }

    fn roomiest_node(&self) -> Option<Room> {
        None
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
