//! What the inventory has, as a status says it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use operator_api::crd::dataset_status::{
    MAX_NODES, MAX_READERS, MAX_VERSIONS, NodeStatus, ReaderStatus, VersionStatus,
};
use rustc_hash::FxHashSet;

use super::measure::{Measure, Measured};
use crate::clock;
use crate::inventory::{Dataset, Inventory, Millis, Name, Node, NodeId, Version, WorkloadId};
use crate::placement::SILENCE_MS;
use crate::watch::facts;

/// Datasets of which the last reader is remembered.
const MAX_REMEMBERED: usize = 65_536;

/// Who leads looks more often (an operation that waits every ten minutes, a status more often up to 18,000 Datasets);
/// in a longer pause nobody has looked, and readers may have come and gone.
const LOOKS: Duration = Duration::from_secs(900);

#[derive(Debug)]
pub struct Ledger {
    inventory: Arc<RwLock<Inventory>>,
    /// When somebody was last seen reading, or the Dataset was first looked at, and when it was looked at last.
    read: Mutex<HashMap<Name, (Instant, Instant)>>,
    clock: fn() -> Millis,
}

impl Ledger {
    pub fn new(inventory: Arc<RwLock<Inventory>>) -> Self {
        Self { inventory, read: Mutex::default(), clock: clock::millis }
    }

    #[cfg(test)]
    pub(super) fn with_clock(self, clock: fn() -> Millis) -> Self {
        Self { clock, ..self }
    }

    fn idle_seconds(&self, name: &Name, reading: bool) -> i64 {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.len() >= MAX_REMEMBERED {
            read.clear();
        }
        let now = Instant::now();
        let (since, looked) = read.entry(name.clone()).or_insert((now, now));
        if reading || now.duration_since(*looked) > LOOKS {
            *since = now;
        }
        *looked = now;
        i64::try_from(now.duration_since(*since).as_secs()).unwrap_or(i64::MAX)
    }
}

impl Measured for Ledger {
    fn dataset(&self, namespace: &str, name: &str) -> Option<Measure> {
        let name = facts::name(namespace, name);
        let inventory = self.inventory.read().unwrap_or_else(PoisonError::into_inner);
        let dataset = inventory.dataset(inventory.dataset_id(&name)?)?;
        let now = (self.clock)();
        let counts = |id| !is_lost(&inventory, id, now);
        let mut found = measure(&inventory, dataset, counts)?;
        if found.reporting == 0 {
            // Nobody is left: what was told last is shown, and that it is old is said beside it.
            found = measure(&inventory, dataset, |_| true)?;
        }
        let reading = is_read(dataset, counts);
        let heard = found.reporting > 0;
        drop(inventory);
        found.idle_seconds = heard.then(|| self.idle_seconds(&name, reading));
        Some(found)
    }

    fn begin_term(&self) {
        // Whoever led in between may have seen readers.
        self.read.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Its agent has been silent for so long that placement counts the node out: what it had may be gone, and its readers
/// with it.
fn is_lost(inventory: &Inventory, id: NodeId, now: Millis) -> bool {
    let silent = inventory.node(id).and_then(|node| node.silent());
    silent.is_some_and(|since| now.since(since) > SILENCE_MS)
}

/// Also by what an agent told before it fell silent for a moment: that its readers have ended is not known.
fn is_read(dataset: &Dataset, counts: impl Fn(NodeId) -> bool) -> bool {
    let mut there = dataset.nodes().filter(|(id, _)| counts(*id));
    there.any(|(_, presence)| presence.demand().is_some_and(|demand| demand.readers > 0))
}

/// None: no agent has told of it.
fn measure(inventory: &Inventory, dataset: &Dataset, counts: impl Fn(NodeId) -> bool) -> Option<Measure> {
    let summary = dataset.summary_of(&counts);
    let mut measure = Measure::default();
    let mut told = false;
    let mut capacity = Some(0_u64);
    let mut read_on = FxHashSet::default();
    let mut most_readers = 0;
    let quota = dataset.spec().and_then(|spec| spec.quota);
    for (id, presence) in dataset.nodes() {
        let Some(node) = inventory.node(id).filter(|node| node.told().is_some()) else { continue };
        told |= presence.demand().is_some() || presence.versions().next().is_some();
        if !counts(id) {
            continue;
        }
        if node.silent().is_none() {
            measure.reporting += 1;
            let readers = presence.demand().map_or(0, |demand| demand.readers);
            if readers > 0 {
                read_on.insert(id);
            }
            most_readers = most_readers.max(readers);
        }
        let room = node.capacity().map(|c| c.ram.saturating_add(c.cache).min(quota.unwrap_or(u64::MAX)));
        capacity = capacity.zip(room).map(|(sum, room)| sum.saturating_add(room));
        let bytes = presence.held(summary.version).map_or(0, |held| held.bytes(summary.bytes));
        if bytes > 0 {
            let percent = summary.bytes.filter(|&total| total > 0);
            let percent = percent
                .map(|total| i32::try_from(u128::from(bytes) * 100 / u128::from(total)).unwrap_or(100));
            let cached_bytes = signed(bytes);
            measure.nodes.push(NodeStatus { node: node.name().to_string(), cached_bytes, percent });
        }
    }
    if !told && summary.version.is_none() {
        return None;
    }
    measure.nodes.sort_by(|a, b| b.cached_bytes.cmp(&a.cached_bytes).then_with(|| a.node.cmp(&b.node)));
    measure.node_count = count(measure.nodes.len());
    measure.nodes.truncate(MAX_NODES);
    measure.version = summary.version.map(Version::text);
    let versions = dataset.versions().iter().take(MAX_VERSIONS).map(|facts| VersionStatus {
        version: facts.version.text(),
        total_bytes: facts.bytes.map(signed),
        file_num: facts.files.map(signed),
        ..VersionStatus::default()
    });
    measure.versions = versions.collect();
    if let Some(current) = measure.versions.first_mut() {
        current.cached_bytes = Some(signed(summary.cached));
    }
    measure.total_bytes = summary.bytes.map(signed);
    measure.file_num = summary.files.map(signed);
    measure.cached_bytes = Some(signed(summary.cached));
    measure.capacity_bytes = capacity.filter(|_| measure.reporting > 0).map(signed);
    if measure.reporting == 0 {
        // Of what is neither held nor read agents have nothing to tell; having it on a mount, they would.
        measure.reporting = have_it_on_a_mount(inventory, dataset.name(), &counts);
    }
    measure.hit_share = summary.hit_share();
    let by_pods;
    (measure.readers, by_pods) = readers(inventory, dataset, &read_on);
    // Not the agents' counts together: a workload on two nodes is in both.
    measure.reader_count = count(by_pods).max(i32::try_from(most_readers).unwrap_or(i32::MAX));
    Some(measure)
}

/// Nodes with an agent that is there and has the Dataset on a mount.
fn have_it_on_a_mount(inventory: &Inventory, dataset: &Name, counts: impl Fn(NodeId) -> bool) -> usize {
    let tells = |node: &Node| node.told().is_some() && node.silent().is_none();
    let nodes = inventory.nodes().filter(|(id, node)| counts(*id) && tells(node));
    nodes.filter(|(_, node)| node.mounts(dataset) == Some(true)).count()
}

/// Workloads with pods that use the Dataset on nodes where it is being read, those on most nodes first, and how many
/// there are. Who reads there only the agent sees, and it tells how many, not who.
fn readers(
    inventory: &Inventory,
    dataset: &Dataset,
    read_on: &FxHashSet<NodeId>,
) -> (Vec<ReaderStatus>, usize) {
    let mut found: Vec<(WorkloadId, usize)> = Vec::new();
    for (workload, _) in dataset.users().filter(|(_, node)| read_on.contains(node)) {
        match found.last_mut() {
            Some((last, nodes)) if *last == workload => *nodes += 1,
            _ => found.push((workload, 1)),
        }
    }
    let mut named: Vec<(&Name, usize)> =
        found.into_iter().filter_map(|(id, nodes)| Some((inventory.workload(id)?, nodes))).collect();
    named.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    let all = named.len();
    let shown = named.into_iter().take(MAX_READERS).map(|(name, nodes)| {
        let (namespace, workload) = name.split_once('/').unwrap_or(("", name));
        let namespace = (!namespace.is_empty()).then(|| namespace.to_owned());
        ReaderStatus { workload: workload.to_owned(), namespace, nodes: count(nodes) }
    });
    (shown.collect(), all)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn count(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idleness_is_counted_within_a_term() {
        let ledger = Ledger::new(Arc::default());
        let name = Name::from("ns/d");
        let before = Instant::now().checked_sub(Duration::from_secs(100)).unwrap();
        ledger.read.lock().unwrap().insert(name.clone(), (before, before));
        assert!(ledger.idle_seconds(&name, false) >= 100);
        ledger.begin_term();
        assert_eq!(ledger.idle_seconds(&name, false), 0);
    }
}
