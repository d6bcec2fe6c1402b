//! The case `locality`: 200 pods of 40 Datasets on 50 nodes with room for eight each, every Dataset on three of
//! them. Where do a real scheduler's pods land, and what does that cost the store, with the operator's
//! scheduling and without?
//!
//! A pod on a node that has its Dataset reads nothing from the store; on another it reads all of it, once, and
//! the node has it from then on, and says so.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use kube::api::{DeleteParams, ListParams, PostParams};

use super::stage::{Extender, Stage, Steering};
use crate::bench::figure::{Figure, Spread};
use crate::cluster::fleet::Spec;
use crate::cluster::wait::{Seen, until};

const PODS: usize = 200;
const DATASETS: usize = 40;
const NODES: usize = 50;
const ROOM: usize = 8;
const HOLDERS: usize = 3;

/// Processors of a pod: eight fill a node.
const CPUS: usize = 4;

/// Pods created before the first of them is looked at: as a user's Jobs come, in waves.
const WAVE: usize = 20;

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

/// Where one run's pods landed.
#[derive(Clone, Copy, Debug, Default)]
struct Landing {
    /// Pods that came when a node with their bytes had room, and those of them that got one.
    could: usize,
    local: usize,
    /// Datasets read from the store.
    store_reads: usize,
}

/// `holders[d]`: nodes that have Dataset `d` at the start. Another arrangement for each repeat.
fn arrangement(repeat: usize) -> Vec<[usize; HOLDERS]> {
    (0..DATASETS)
        .map(|dataset| {
            let first = dataset * 7 + repeat * 13;
            [first % NODES, (first + 17) % NODES, (first + 34) % NODES]
        })
        .collect()
}

pub async fn run(repeats: usize) -> Result<Vec<Figure>> {
    let nodes = Spec { cpus: (ROOM * CPUS) as u32, ..Spec::new("local", NODES) };
    let mut stage = Stage::set(nodes).await?;
    for dataset in 0..DATASETS {
        stage.dataset(&name(dataset)).await?;
    }
    stage.claims_are_bound().await?;
    let (mut shares, mut with_reads, mut without_reads) = (Vec::new(), Vec::new(), Vec::new());
    for repeat in 0..repeats.max(1) {
        for steered in [false, true] {
            let extender = steered.then_some(Extender::Ours);
            stage.steer(Steering { webhooks: steered, extender }).await?;
            let landing = land(&stage, repeat).await?;
            if steered {
                shares.push(landing.local as f64 / landing.could.max(1) as f64);
                with_reads.push(landing.store_reads as f64);
            } else {
                without_reads.push(landing.store_reads as f64);
            }
        }
    }
    let spread = |values| Spread::of(values).context("nothing was measured");
    Ok(vec![
        spread(shares)?.figure("locality", "local_share", "share"),
        spread(with_reads)?.over(spread(without_reads)?).figure("locality", "store_reads_ratio", "ratio"),
    ])
}

fn name(dataset: usize) -> String {
    format!("data-{dataset}")
}

async fn land(stage: &Stage, repeat: usize) -> Result<Landing> {
    let nodes: Vec<String> = stage.fleet.names().collect();
    let mut held: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); NODES];
    for (dataset, holders) in arrangement(repeat).into_iter().enumerate() {
        for node in holders {
            held.get_mut(node).context("an arrangement names a node that is not")?.insert(dataset);
        }
    }
    let tell = |node: usize, held: &BTreeSet<usize>| {
        let names: Vec<String> = held.iter().map(|dataset| name(*dataset)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if let Some(node) = nodes.get(node) {
            stage.holds(node, &names);
        }
    };
    for (node, held) in held.iter().enumerate() {
        tell(node, held);
    }
    // The operator's view begins a new moment each second.
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;

    let places: BTreeMap<&str, usize> =
        nodes.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
    let mut room = [ROOM; NODES];
    let mut landing = Landing::default();
    let pods = stage.pods();
    for wave in 0..PODS / WAVE {
        let numbers = wave * WAVE..(wave + 1) * WAVE;
        for number in numbers.clone() {
            let dataset = number % DATASETS;
            let pod = stage.pod(&format!("pod-{number}"), &name(dataset), &CPUS.to_string())?;
            pods.create(&PostParams::default(), &pod).await?;
        }
        let bound = until("the wave's pods have nodes", PATIENCE, async || {
            let listed = pods.list(&ListParams::default()).await?;
            let bound: BTreeMap<String, String> = listed
                .items
                .into_iter()
                .filter_map(|pod| Some((pod.metadata.name?, pod.spec?.node_name?)))
                .collect();
            let count = bound.len();
            Ok(if count == numbers.end { Seen::Done(bound) } else { Seen::NotYet(format!("{count} have")) })
        })
        .await?;
        for number in numbers {
            let dataset = number % DATASETS;
            let node = bound.get(&format!("pod-{number}")).context("a pod is missing")?;
            let at = *places.get(node.as_str()).with_context(|| format!("{node} is no node of ours"))?;
            let possible = (0..NODES).any(|node| room.get(node) > Some(&0) && holds(&held, node, dataset));
            let local = holds(&held, at, dataset);
            landing.could += usize::from(possible);
            landing.local += usize::from(possible && local);
            landing.store_reads += usize::from(!local);
            if let Some(room) = room.get_mut(at) {
                *room = room.saturating_sub(1);
            }
            if let Some(held) = held.get_mut(at).filter(|_| !local) {
                held.insert(dataset);
                tell(at, held);
            }
        }
    }
    let now = DeleteParams::default().grace_period(0);
    pods.delete_collection(&now, &ListParams::default()).await?;
    until("the pods are gone", PATIENCE, async || {
        let left = pods.list(&ListParams::default()).await?.items.len();
        Ok(if left == 0 { Seen::Done(()) } else { Seen::NotYet(format!("{left} are left")) })
    })
    .await?;
    Ok(landing)
}

fn holds(held: &[BTreeSet<usize>], node: usize, dataset: usize) -> bool {
    held.get(node).is_some_and(|held| held.contains(&dataset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dataset_is_on_three_nodes_and_no_node_has_all() {
        for repeat in 0..5 {
            let mut load = [0; NODES];
            for holders in arrangement(repeat) {
                assert_eq!(holders.iter().collect::<BTreeSet<_>>().len(), HOLDERS);
                holders.iter().for_each(|node| load[*node] += 1);
            }
            assert!(load.iter().all(|count| *count <= 5), "{load:?}");
        }
    }
}
