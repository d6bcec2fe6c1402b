//! kube-scheduler's extender: filter and prioritize, from the same picture as the webhook's, but live.
//!
//! Both are asked once for each pod, on the scheduler's one scheduling thread, so their time is the cluster's.
//! `filter` takes out only nodes that are known to mount nothing, never for locality, and where it knows of
//! none it keeps all. Scores of a set of Datasets are kept until something that bears on them has changed.

pub mod answer;

pub mod args;

pub mod scores;

use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;
use thiserror::Error;

use self::args::Args;
use self::scores::Scores;
use super::pod::Pod;
use super::reach::{DATASETS, DatasetName, Nodes, View};
use super::workload;

/// Sets of Datasets and workloads whose scores are kept: at 5,000 nodes 20 MB. One more, or other nodes, and all are let
/// go.
const KEPT: usize = 4096;

#[derive(Debug, Error)]
pub enum ExtenderError {
    #[error("the extender's arguments cannot be read ({0}); kube-scheduler sends Pod and NodeNames or Nodes")]
    Unreadable(#[from] serde_json::Error),
    #[error("the arguments name no nodes: set nodeCacheCapable for this extender, or leave it out")]
    NoNodes,
}

pub struct Extender {
    view: Arc<dyn View>,
    kept: Mutex<Kept>,
}

type Key = (Vec<DatasetName>, Option<String>);

/// Scores of one table of nodes alone: each that is held by old ones is a MB at 5,000 nodes, and nobody asks for those.
#[derive(Default)]
struct Kept {
    nodes: Arc<Nodes>,
    by: FxHashMap<Key, Dated>,
}

struct Dated {
    moment: u64,
    generation: u64,
    scores: Arc<Scores>,
}

impl std::fmt::Debug for Extender {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Extender").finish_non_exhaustive()
    }
}

impl Extender {
    pub fn new(view: Arc<dyn View>) -> Self {
        Self { view, kept: Mutex::default() }
    }

    pub fn prioritize(&self, body: &[u8]) -> Result<Vec<u8>, ExtenderError> {
        let args: Args<'_> = serde_json::from_slice(body)?;
        let Some((nodes, scores)) = args.pod.as_ref().and_then(|pod| self.scores(pod)) else {
            return Ok(answer::priorities(std::iter::empty()));
        };
        let score = |name: &str| nodes.named(name).map_or(0, |node| scores.get(node));
        if let Some(names) = &args.node_names {
            return Ok(answer::priorities(names.0.iter().map(|name| (*name, score(name)))));
        }
        let whole = args.nodes.and_then(|nodes| nodes.items).ok_or(ExtenderError::NoNodes)?.0;
        let names = whole.into_iter().map(args::name_of).collect::<Result<Vec<_>, _>>()?;
        Ok(answer::priorities(names.into_iter().map(|name| (name, score(name)))))
    }

    pub fn filter(&self, body: &[u8]) -> Result<Vec<u8>, ExtenderError> {
        let args: Args<'_> = serde_json::from_slice(body)?;
        let nodes = self.view.nodes();
        let concerned =
            nodes.unmountable() > 0 && args.pod.as_ref().is_some_and(|pod| self.concerned(pod).is_some());
        let reason = |name: &str| -> Option<&str> {
            let node = concerned.then(|| nodes.named(name)).flatten()?;
            nodes.get(node)?.unmountable.as_deref()
        };
        if let Some(names) = &args.node_names {
            let failed: Vec<(&str, &str)> =
                names.0.iter().filter_map(|name| Some((*name, reason(name)?))).collect();
            let kept = names.0.iter().copied().filter(|name| reason(name).is_none());
            return Ok(answer::names(kept, &failed, body.len()));
        }
        let whole = args.nodes.and_then(|nodes| nodes.items).ok_or(ExtenderError::NoNodes)?.0;
        let mut kept = Vec::with_capacity(whole.len());
        let mut failed = Vec::new();
        for node in whole {
            let name = args::name_of(node)?;
            match reason(name) {
                None => kept.push(node),
                Some(reason) => failed.push((name, reason)),
            }
        }
        Ok(answer::nodes(kept.into_iter(), &failed, body.len()))
    }

    /// The Datasets that a pod mounts; none where it mounts none or asks to be left alone.
    fn concerned(&self, pod: &Pod) -> Option<Vec<DatasetName>> {
        let namespace = pod.namespace();
        if pod.claims().next().is_none() || pod.opted_out() || self.view.opted_out(namespace) {
            return None;
        }
        let mut datasets: Vec<DatasetName> =
            pod.claims().filter_map(|(_, _, claim)| self.view.dataset(namespace, claim)).collect();
        datasets.sort_unstable();
        datasets.dedup();
        datasets.truncate(DATASETS);
        (!datasets.is_empty()).then_some(datasets)
    }

    fn scores(&self, pod: &Pod) -> Option<(Arc<Nodes>, Arc<Scores>)> {
        let datasets = self.concerned(pod)?;
        let key = (datasets, workload::of(pod.namespace(), pod));
        // Both are read before what they date: what changes in between is noticed the next time.
        let moment = self.view.moment();
        if let Some(scores) = self.current(&key, |kept| kept.moment == moment) {
            return Some(scores);
        }
        let generation = self.view.generation(&key.0);
        let unchanged = self.current(&key, |kept| {
            let unchanged = kept.generation == generation;
            kept.moment = if unchanged { moment } else { kept.moment };
            unchanged
        });
        if unchanged.is_some() {
            return unchanged;
        }
        let reach = self.view.reach(&key.0, key.1.as_deref());
        let scores = Arc::new(Scores::of(&reach));
        let nodes = reach.nodes;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let full = kept.by.len() >= KEPT && !kept.by.contains_key(&key);
        if full || !Arc::ptr_eq(&kept.nodes, &nodes) {
            *kept = Kept { nodes: nodes.clone(), by: FxHashMap::default() };
        }
        kept.by.insert(key, Dated { moment, generation, scores: scores.clone() });
        Some((nodes, scores))
    }

    fn current(
        &self,
        key: &Key,
        still: impl FnOnce(&mut Dated) -> bool,
    ) -> Option<(Arc<Nodes>, Arc<Scores>)> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept { nodes, by } = &mut *kept;
        let dated = by.get_mut(key)?;
        still(dated).then(|| (nodes.clone(), dated.scores.clone()))
    }
}
