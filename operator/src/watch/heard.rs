//! What the rest of the operator hears of the cluster.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolumeClaim};
use operator_api::crd::{AccessProfile, Dataset};

/// What the rest of the operator hears of, as it is seen.
#[derive(Clone, Copy, Debug)]
pub enum Heard<'a> {
    Dataset(&'a Dataset),
    DatasetGone {
        namespace: &'a str,
        name: &'a str,
    },
    /// One that the operator has made.
    Claim(&'a PersistentVolumeClaim),
    ClaimGone {
        namespace: &'a str,
        name: &'a str,
    },
    Namespace(&'a Namespace),
    NamespaceGone(&'a str),
    Node(&'a Node),
    NodeGone(&'a str),
    Profile(&'a AccessProfile),
    ProfileGone {
        namespace: &'a str,
        name: &'a str,
    },
}

/// Where that goes.
pub type Sink = Arc<dyn Fn(Heard<'_>) + Send + Sync>;
