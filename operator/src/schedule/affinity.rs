//! From where the bytes are to what a pod prefers: at most [`NODES`] nodes, then zones, then regions, each
//! with a weight, and one sentence that says so. Nothing here is ever required of the scheduler.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::reach::Reach;

/// Nodes named in one pod. A Dataset has two or three replicas as a rule; more nodes than this hold it only
/// where there is no need to choose, and every term costs the scheduler a match per node.
pub const NODES: usize = 12;

/// Zones and regions named in one pod.
pub const ZONES: usize = 3;
pub const REGIONS: usize = 2;

/// The weights of nodes lie between these, by bytes; the API allows 1 to 100.
const NODE_WEIGHTS: (u64, u64) = (30, 100);

/// A zone with all the bytes weighs less than any node that holds some: a node in it adds both.
const ZONE_WEIGHT: u64 = 20;
const REGION_WEIGHT: u64 = 5;

/// Below this share of the expected bytes, a node is not worth naming.
const LEAST_SHARE: f64 = 0.01;

const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";

#[derive(Clone, Debug, PartialEq)]
pub struct Preference {
    /// `PreferredSchedulingTerm`s, heaviest first.
    pub terms: Vec<Value>,
    /// What they say, for a person.
    pub words: String,
}

/// `datasets` is how a person calls what the pod reads.
pub fn prefer(reach: &Reach, datasets: &str) -> Preference {
    let mut holders: Vec<(u64, &str, &super::reach::Node)> = reach
        .holdings
        .iter()
        .filter(|holding| share(holding.bytes(), reach.expected) >= LEAST_SHARE)
        .filter_map(|holding| {
            let node = reach.nodes.get(holding.node)?;
            (node.unmountable.is_none() && !node.closed).then_some((holding.bytes(), &*node.name, node))
        })
        .collect();
    holders.sort_by_key(|&(bytes, name, _)| (Reverse(bytes), name));
    let Some(&(best, ..)) = holders.first() else {
        let words = format!("no node is known to hold bytes of {datasets}: any node will do");
        return Preference { terms: Vec::new(), words };
    };

    let mut zones: BTreeMap<&str, u64> = BTreeMap::new();
    let mut regions: BTreeMap<&str, u64> = BTreeMap::new();
    for &(bytes, _, node) in &holders {
        for (places, place) in [(&mut zones, &node.zone), (&mut regions, &node.region)] {
            if let Some(place) = place {
                let held = places.entry(place).or_default();
                *held = held.saturating_add(bytes).min(reach.expected.max(bytes));
            }
        }
    }

    let mut terms = Vec::new();
    let mut words = String::from("prefers ");
    let named = holders.len().min(NODES);
    for (index, &(bytes, name, _)) in holders.iter().take(NODES).enumerate() {
        let (least, most) = NODE_WEIGHTS;
        let weight = least + scaled(bytes, best, most - least);
        terms.push(json!({"weight": weight, "preference": {"matchFields":
            [{"key": "metadata.name", "operator": "In", "values": [name]}]}}));
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(words, "{comma}{name} ({})", Bytes(bytes));
    }
    if holders.len() > named {
        let _ = write!(words, " and {} more not named", holders.len() - named);
    }
    let _ = write!(words, " of {datasets}");
    if reach.expected > 0 {
        let _ = write!(words, " ({} expected to be read)", Bytes(reach.expected));
    }
    for (label, what, places, most, count) in
        [(ZONE, "zone", zones, ZONE_WEIGHT, ZONES), (REGION, "region", regions, REGION_WEIGHT, REGIONS)]
    {
        let mut places: Vec<(&str, u64)> = places.into_iter().collect();
        places.sort_by_key(|&(name, bytes)| (Reverse(bytes), name));
        let best = places.first().map_or(0, |&(_, bytes)| bytes);
        for (index, &(name, bytes)) in places.iter().take(count).enumerate() {
            let weight = scaled(bytes, best, most).max(1);
            terms.push(json!({"weight": weight, "preference": {"matchExpressions":
                [{"key": label, "operator": "In", "values": [name]}]}}));
            let before = if index == 0 { format!(", then {what} ") } else { ", ".to_owned() };
            let _ = write!(words, "{before}{name}");
        }
    }
    words.push_str("; other nodes stay allowed");
    Preference { terms, words }
}

fn share(bytes: u64, expected: u64) -> f64 {
    if expected == 0 { f64::from(u8::from(bytes > 0)) } else { bytes as f64 / expected as f64 }
}

/// `most` for all of `whole`, rounded down.
fn scaled(bytes: u64, whole: u64, most: u64) -> u64 {
    let scaled = u128::from(bytes) * u128::from(most) / u128::from(whole.max(1));
    u64::try_from(scaled).unwrap_or(most).min(most)
}

/// Bytes as people write them: 12.0 GiB.
struct Bytes(u64);

impl std::fmt::Display for Bytes {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        let unit = UNITS.get(unit).unwrap_or(&"B");
        if *unit == "B" { write!(out, "{} B", self.0) } else { write!(out, "{value:.1} {unit}") }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::reach::{Holding, Node, Nodes};
    use super::*;

    const GIB: u64 = 1 << 30;

    fn reach(expected: u64, holdings: &[(u32, u64)]) -> Reach {
        let nodes = (0..20)
            .map(|index| Node {
                name: format!("n{index:02}").into(),
                zone: Some(format!("z{}", index / 5).into()),
                region: (index < 10).then(|| "r".into()),
                unmountable: (index == 19).then(|| "its agent cannot mount".into()),
                closed: index == 18,
                ..Node::default()
            })
            .collect();
        let holdings =
            holdings.iter().map(|&(node, cache)| Holding { node, cache, ..Holding::default() }).collect();
        Reach { nodes: Arc::new(Nodes::new(nodes)), expected, holdings }
    }

    fn weights(preference: &Preference) -> Vec<(u64, String)> {
        preference
            .terms
            .iter()
            .map(|term| {
                let by = &term["preference"];
                let one = by.get("matchFields").or(by.get("matchExpressions")).unwrap();
                (term["weight"].as_u64().unwrap(), one[0]["values"][0].as_str().unwrap().to_owned())
            })
            .collect()
    }

    #[test]
    fn nodes_by_bytes_then_zones_then_regions() {
        let preference = prefer(&reach(10 * GIB, &[(0, 5 * GIB), (6, 10 * GIB), (1, GIB)]), "a/train");
        let expected: Vec<(u64, String)> =
            [(100, "n06"), (65, "n00"), (37, "n01"), (20, "z1"), (12, "z0"), (5, "r")]
                .map(|(weight, name)| (weight, name.to_owned()))
                .into();
        assert_eq!(weights(&preference), expected);
        assert_eq!(
            preference.words,
            "prefers n06 (10.0 GiB), n00 (5.0 GiB), n01 (1.0 GiB) of a/train (10.0 GiB expected to be read), \
             then zone z1, z0, then region r; other nodes stay allowed"
        );
    }

    #[test]
    fn what_nobody_holds_is_said() {
        let preference = prefer(&reach(GIB, &[]), "a/train");
        assert!(preference.terms.is_empty());
        assert_eq!(preference.words, "no node is known to hold bytes of a/train: any node will do");
    }

    #[test]
    fn crumbs_and_nodes_that_would_not_do_are_not_named() {
        let preference =
            prefer(&reach(1000 * GIB, &[(3, GIB), (18, 900 * GIB), (19, 900 * GIB), (77, GIB)]), "a/train");
        assert!(preference.terms.is_empty(), "{preference:?}");
    }

    #[test]
    fn terms_are_bounded_and_weights_allowed() {
        let all: Vec<(u32, u64)> = (0..20).map(|node| (node, u64::MAX - u64::from(node))).collect();
        let preference = prefer(&reach(0, &all), "a/train");
        let weights = weights(&preference);
        assert_eq!(weights.len(), NODES + ZONES + 1);
        assert!(weights.iter().all(|(weight, _)| (1..=100).contains(weight)), "{weights:?}");
        assert!(preference.words.contains("and 6 more not named"), "{}", preference.words);
    }
}
