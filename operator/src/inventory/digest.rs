//! One number for the whole content: equal for equal content, whoever was heard first and when.
//!
//! A sum of hashes, one for each thing known. Sessions, sequence numbers and times of hearing are left out, and when a
//! version was seen but for the order: after a restart the same content comes with others. So is the workload of a pod:
//! an owner may let a pod go, or take one in, and who began later has heard another one.

use std::hash::Hash;

use super::fold::Inventory;
use super::hash::hash128;

impl Inventory {
    /// Costs time in proportion to the content.
    pub fn digest(&self) -> u128 {
        let mut sum: u128 = 0;
        for (_, node) in self.nodes() {
            add(
                &mut sum,
                ("node", &node.name, &node.facts, node.capacity, node.pressure, node.silent.is_some()),
            );
        }
        for (_, dataset) in self.datasets.iter() {
            let name = &dataset.name;
            let versions: Vec<_> = dataset.versions.iter().map(|v| (v.version, v.bytes, v.files)).collect();
            add(&mut sum, ("dataset", name, &dataset.spec, versions));
            for (node, presence) in &dataset.nodes {
                let node = self.node(*node).map(|n| &n.name);
                add(&mut sum, ("demand", name, node, presence.demand));
                for held in &presence.held {
                    let partial = (held.ram_partial, held.cache_partial);
                    add(&mut sum, ("held", name, node, held.version, &held.ram, &held.cache, partial));
                }
            }
        }
        for (name, pod) in &self.pods {
            let node = self.node(pod.node).map(|n| &n.name);
            let datasets = pod.datasets.iter().filter_map(|d| self.dataset(*d));
            let mut names: Vec<_> = datasets.map(|d| &d.name).collect();
            names.sort_unstable();
            add(&mut sum, ("pod", name, node, names));
        }
        sum
    }
}

fn add(sum: &mut u128, item: impl Hash) {
    *sum = sum.wrapping_add(hash128(&item));
}
