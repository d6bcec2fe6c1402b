//! Nodes on which no Dataset can be mounted: why, in words, and as what a pod requires of its node.
//!
//! Both are drawn from the same labels, so that a scheduler that knows nothing of Headrace comes to the same.

use serde_json::{Value, json};

use crate::inventory::NodeFacts;

/// Labels with the values that speak against a node, and why. A node without the label is not kept off.
const AGAINST: [(&str, &str, &str); 2] = [
    (
        "headrace.io/mount",
        "disabled",
        "the node is labelled headrace.io/mount=disabled: no Dataset can be mounted there",
    ),
    // Kubernetes knows no third system.
    ("kubernetes.io/os", "windows", "the node does not run Linux: no Dataset can be mounted there"),
];

/// Why no Dataset can be mounted on a node. An agent that is silent is no reason: it comes back, and what is
/// mounted stays mounted.
pub fn reason(facts: &NodeFacts) -> Option<&'static str> {
    let speaks = |label: &str, value: &str| facts.labels.get(label).is_some_and(|has| **has == *value);
    AGAINST.into_iter().find(|(label, value, _)| speaks(label, value)).map(|(.., why)| why)
}

/// `NodeSelectorRequirement`s that every other node meets, and none of these.
pub fn requirements() -> [Value; 2] {
    AGAINST.map(|(label, value, _)| json!({"key": label, "operator": "NotIn", "values": [value]}))
}
