//! Pods that have a node: the inventory is told, and the node's agent is told to begin.
//!
//! Whichever scheduler it was, a bound pod waits for images and volumes before its first read; the agent uses
//! that time. `Bound` decides, from events of a watch on pods with a node that have not ended; only pods that
//! use Datasets are remembered.

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Deserialize;

use super::pod::{Pod, Spec};
use super::reach::{DatasetName, View};
use super::workload;
use crate::ingest::FOR_PODS;
use crate::inventory::{Chunks, Fact, Name, Version};

/// What the watch asks the API server for.
pub const FIELDS: &str = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed";

/// A pod as the watch brings it.
pub type Watched = kube::core::Object<Spec, Status>;

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Status {
    pub phase: Option<String>,
}

/// What a node's agent should begin to fetch, because a pod has been bound there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Follows from pod and Dataset: asked again after a restart, it is the same.
    pub id: Box<str>,
    pub node: Name,
    pub dataset: DatasetName,
    pub version: Version,
    pub chunks: Vec<Chunks>,
    /// For people.
    pub reason: Box<str>,
}

/// What a node's agent should have for a pod; asked of the same knowledge as everything else here.
pub trait Needs: View {
    /// Chunks of the Dataset's current version that a pod on `node` will want first and that are not there.
    fn missing(&self, dataset: &str, node: &str, workload: Option<&str>) -> Option<(Version, Vec<Chunks>)>;
}

/// The way to the agents. What cannot be sent now is kept or counted there: nobody waits.
pub trait Agents: Send + Sync + 'static {
    fn begin(&self, begin: Begin);

    /// What a node was told to begin, of identities that begin so, is wanted no more.
    fn call_off(&self, node: &str, prefix: &str);
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Tell(Fact),
    Begin(Begin),
    CallOff { node: Name, prefix: String },
}

#[derive(Debug, Default)]
pub struct Bound {
    /// Pods that use Datasets, by uid, with their node.
    pods: FxHashMap<Name, Name>,
    /// While a list is coming in: who was in it.
    listed: Option<FxHashSet<Name>>,
    /// What pods wait for is asked anew with the list that comes.
    anew: bool,
}

impl Bound {
    /// What was asked before was asked of nobody, or by another replica: it is asked again with the next list.
    pub fn ask_anew(&mut self) {
        self.anew = true;
    }

    /// A list begins; what is not in it has ended.
    pub fn listing(&mut self) {
        self.listed = Some(FxHashSet::default());
    }

    pub fn listed(&mut self) -> Vec<Outcome> {
        let Some(listed) = self.listed.take() else { return Vec::new() };
        self.anew = false;
        let ended: Vec<Name> = self.pods.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
        ended.into_iter().flat_map(|uid| self.end(&uid)).collect()
    }

    pub fn ended(&mut self, pod: &Watched) -> Vec<Outcome> {
        pod.metadata.uid.as_deref().map(|uid| self.end(uid)).unwrap_or_default()
    }

    fn end(&mut self, uid: &str) -> Vec<Outcome> {
        let Some((pod, node)) = self.pods.remove_entry(uid) else { return Vec::new() };
        // A node whose agent is away would keep it, and bring in at its return what every pod of that time wanted.
        let prefix = begun_for(&pod);
        vec![Outcome::Tell(Fact::PodEnded { pod }), Outcome::CallOff { node, prefix }]
    }

    /// A pod is bound, or is told of again.
    pub fn seen(&mut self, needs: &dyn Needs, watched: &Watched) -> Vec<Outcome> {
        let spec = &watched.spec;
        let Some(uid) = watched.metadata.uid.as_deref().filter(|_| !spec.node_name.is_empty()) else {
            return Vec::new();
        };
        if let Some(listed) = &mut self.listed {
            listed.insert(uid.into());
        }
        // A pod's node and claims never change; told once, all is said. Its owner may, though hardly ever does: it
        // is shown as the one who had it when it got its node.
        let known = self.pods.contains_key(uid);
        let anew = self.anew && self.listed.is_some();
        if known && !anew || watched.metadata.deletion_timestamp.is_some() {
            return Vec::new();
        }
        let pod = Pod::of(&watched.metadata, spec.clone());
        let namespace = watched.metadata.namespace.as_deref().unwrap_or_default();
        let mut datasets: Vec<DatasetName> =
            pod.claims().filter_map(|(_, _, claim)| needs.dataset(namespace, claim)).collect();
        datasets.sort_unstable();
        datasets.dedup();
        if datasets.is_empty() {
            return Vec::new();
        }
        let (uid, node): (Name, Name) = (uid.into(), spec.node_name.as_str().into());
        let name = watched.metadata.name.as_deref().unwrap_or_default();
        let mut outcomes = Vec::new();
        if !known {
            self.pods.insert(uid.clone(), node.clone());
            outcomes.push(Outcome::Tell(Fact::PodBound {
                pod: uid.clone(),
                node: node.clone(),
                workload: workload::shown(namespace, name, &pod).into(),
                datasets: datasets.clone(),
            }));
        }
        // One that runs already is seen by its agent, read by read.
        let waits = watched.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Pending");
        if waits && !pod.opted_out() && !needs.opted_out(namespace) {
            let workload = workload::of(namespace, &pod);
            outcomes.extend(datasets.into_iter().filter_map(|dataset| {
                let (version, chunks) = needs.missing(&dataset, &node, workload.as_deref())?;
                Some(Outcome::Begin(Begin {
                    id: format!("{}{:x}", begun_for(&uid), crate::inventory::hash::hash64(&*dataset)).into(),
                    node: node.clone(),
                    version,
                    chunks,
                    reason: format!("pod {namespace}/{name} was bound to this node and uses {dataset}")
                        .into(),
                    dataset,
                }))
            }));
        }
        outcomes
    }
}

/// How the identities begin of what is begun for a pod.
fn begun_for(uid: &str) -> String {
    format!("{FOR_PODS}{uid}/")
}
