//! What loads have asked of agents, and which nodes that takes from others. Pure.
//!
//! Placement knows nothing of loads, so two of them, of which one's Dataset wants its nodes for itself, are compared here:
//! the one that is planned later leaves out the other's nodes while it goes on, and while it keeps what it has pinned.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::inventory::Name;
use crate::reconcile::agents::Wish;

/// Since a replica leads, loads wait for placement to come round every Dataset, which takes some 10 s and of 10,000
/// Datasets a minute; for no longer than this, so that a placement at fault stops no load.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Why a load waits for placement.
pub const UNKNOWN: &str = "placement has not looked yet at which Dataset has which node, which counts where one is of cache.placement \
                           Exclusive: it begins by itself, within two minutes at most, and nothing has to be done";

/// The wishes of one try of a load.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub run: i64,
    pub attempt: i32,
    pub wishes: Vec<Wish>,
    /// Which nodes were left out, and why.
    pub left_out: Option<String>,
    /// Every wish has ended.
    pub over: bool,
    dataset: Name,
    /// Of the wishes, each once: there are thousands of wishes, and everybody asks.
    nodes: Vec<Name>,
    pin: bool,
}

impl Asked {
    pub fn new(
        (run, attempt): (i64, i32),
        dataset: Name,
        wishes: Vec<Wish>,
        left_out: Option<String>,
    ) -> Self {
        let mut nodes: Vec<Name> = wishes.iter().map(|wish| wish.node.clone()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let pin = wishes.iter().any(|wish| wish.pin);
        Self { run, attempt, wishes, left_out, over: false, dataset, nodes, pin }
    }
}

/// Nodes that other loads' Datasets are being brought to, or held on, and that are not shared with this one, each with
/// the first of those Datasets by name.
pub fn occupied(
    asked: &HashMap<String, Asked>,
    uid: &str,
    dataset: &Name,
    exclusive: impl Fn(&str) -> bool,
) -> BTreeMap<Name, Name> {
    let mut occupied: BTreeMap<Name, Name> = BTreeMap::new();
    let alone = exclusive(dataset);
    for (other, one) in asked {
        let here = other != uid && one.dataset != *dataset && (one.pin || !one.over);
        if !here || !(alone || exclusive(&one.dataset)) {
            continue;
        }
        for node in &one.nodes {
            let by = occupied.entry(node.clone()).or_insert_with(|| one.dataset.clone());
            if one.dataset < *by {
                by.clone_from(&one.dataset);
            }
        }
    }
    occupied
}

/// Nodes that are left, and those that are kept off with who does: by placement first, as it says so for longer.
pub fn sift(
    all: Vec<Name>,
    by_placement: Vec<(Name, Name)>,
    by_loads: &BTreeMap<Name, Name>,
) -> (Vec<Name>, Vec<(Name, Name)>) {
    let mut by: BTreeMap<Name, Name> = by_placement.into_iter().collect();
    let (mut left, mut kept_off) = (Vec::new(), Vec::new());
    for node in all {
        match by.remove(&node).or_else(|| by_loads.get(&node).cloned()) {
            Some(other) => kept_off.push((node, other)),
            None => left.push(node),
        }
    }
    (left, kept_off)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(node: &str, pin: bool) -> Wish {
        Wish {
            id: node.into(),
            node: node.into(),
            dataset: "a/d".into(),
            path: String::new(),
            chunks: None,
            pin,
            priority: 0,
            reason: String::new(),
            awaits_mount: false,
        }
    }

    #[test]
    fn loads_keep_off_each_others_nodes_where_one_wants_to_be_alone() {
        let mut asked = HashMap::new();
        for (uid, dataset, nodes, pin) in [
            ("1", "a/alone", ["m", "n"], false),
            ("2", "a/c", ["n", "o"], true),
            ("3", "a/b", ["o", "o"], false),
        ] {
            let wishes = nodes.map(|node| wish(node, pin)).into();
            asked.insert(uid.to_owned(), Asked::new((1, 0), dataset.into(), wishes, None));
        }
        let exclusive = |name: &str| name.ends_with("alone");
        let of = |asked: &HashMap<_, _>, uid, dataset: &str| {
            let found = occupied(asked, uid, &dataset.into(), exclusive);
            found.into_iter().map(|(node, by)| format!("{node} {by}")).collect::<Vec<_>>()
        };
        assert_eq!(of(&asked, "4", "a/d"), ["m a/alone", "n a/alone"]);
        assert_eq!(of(&asked, "4", "a/alone"), ["n a/c", "o a/b"], "of its own Dataset it takes nothing");
        assert_eq!(of(&asked, "2", "b/alone"), ["m a/alone", "n a/alone", "o a/b"], "nor of its own");
        for one in asked.values_mut() {
            one.over = true;
        }
        assert_eq!(of(&asked, "4", "a/d"), [""; 0]);
        assert_eq!(of(&asked, "4", "a/alone"), ["n a/c", "o a/c"], "what is pinned is held");

        let by = [("n".into(), "a/x".into()), ("m".into(), "a/y".into())].into();
        let (left, kept_off) =
            sift(["l", "m", "n"].map(Name::from).into(), vec![("n".into(), "a/p".into())], &by);
        assert_eq!(left, ["l".into()]);
        assert_eq!(kept_off, [("m".into(), "a/y".into()), ("n".into(), "a/p".into())]);
    }
}
