//! What the reconcilers let validation ask, for objects that came past the webhook.
//!
//! Room on nodes is not asked: an object does not become wrong because a node went. Nor whose a claim is: the
//! reconciler finds that out when it makes one.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use operator_api::crd::Dataset;
use operator_api::crd::operation::OperationRef;
use operator_api::validate::graph::Graph;
use operator_api::validate::{Claim, Known, Room};

use super::stores::{Shown, Stores};
use crate::clock;

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
        let mut graph = Graph::default();
        self.0.operations(namespace, |Shown { kind, metadata, timing, .. }| {
            let name = metadata.name.clone().unwrap_or_default();
            graph.insert(OperationRef { kind, name }, timing.run_after.clone());
        });
        graph
    }

    fn roomiest_node(&self) -> Option<Room> {
        None
    }

    fn now(&self) -> Timestamp {
        clock::now()
    }
}
