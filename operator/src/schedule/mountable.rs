//! Nodes on which no Dataset can be mounted: why, in words, and as what a pod requires of its node.
//!
//! Both are drawn from labels alone, so that a scheduler that knows nothing of Headrace comes to the same.

use serde_json::{Value, json};

use crate::inventory::NodeFacts;

/// With the value `disabled`, a node's label says that no Dataset can be mounted there.
const MOUNT: &str = "headrace.io/mount";
const DISABLED: &str = "disabled";

const SYSTEM: &str = "kubernetes.io/os";
const LINUX: &str = "linux";
/// The other one that Kubernetes knows. A node without the label may be of any, and is not kept off.
const WINDOWS: &str = "windows";

/// Why no Dataset can be mounted on a node. An agent that is silent is no reason: it comes back, and what is
/// mounted stays mounted.
pub fn reason(facts: &NodeFacts) -> Option<&'static str> {
    if facts.labels.get(MOUNT).is_some_and(|value| &**value == DISABLED) {
        return Some("the node is labelled headrace.io/mount=disabled: no Dataset can be mounted there");
    }
    if facts.labels.get(SYSTEM).is_some_and(|system| &**system != LINUX) {
        return Some("the node does not run Linux: no Dataset can be mounted there");
    }
    None
}

/// `NodeSelectorRequirement`s that all other nodes meet, those without either label too.
pub fn requirements() -> [Value; 2] {
    [
        json!({"key": MOUNT, "operator": "NotIn", "values": [DISABLED]}),
        json!({"key": SYSTEM, "operator": "NotIn", "values": [WINDOWS]}),
    ]
}
