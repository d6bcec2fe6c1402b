//! What validation asks of the cluster. Answers come from memory; none may wait.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::graph::Graph;
use crate::crd::Dataset;

/// Whose a claim's name is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Namespace and name of the Dataset it is made for.
    pub dataset: (String, String),
}

/// What nodes can cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Of the roomiest.
    pub bytes: u64,
    /// How many have said. Nodes without an agent say nothing.
    pub nodes: usize,
}

/// What is known of the cluster.
pub trait Known {
    /// A Dataset, if it is there.
    fn dataset(&self, namespace: &str, name: &str) -> Option<Arc<Dataset>>;

    /// Which Dataset a claim of that name is made for, or will be; none: no Dataset's, as far as is known.
    fn claim(&self, namespace: &str, name: &str) -> Option<Claim>;

    /// All operations of a namespace and what they run after.
    fn operations(&self, namespace: &str) -> Graph;

    /// The roomiest of the nodes whose agents have said what they have; none while those that there are may not have come.
    fn roomiest_node(&self) -> Option<Room>;

    /// Now; schedules are looked at from here.
    fn now(&self) -> Timestamp;
}
