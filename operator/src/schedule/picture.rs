//! The operator's own `View`: the shared inventory, and what was told of claims, namespaces and profiles.
//!
//! Read by every pod, written seldom: each part lies behind a lock that is held for a look-up, the node table
//! is replaced as a whole. `Picture::tick` has to be called about once a second; it is where new nodes appear.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};

use super::bound::Needs;
use super::mountable;
use super::reach::{DatasetName, Holding, Node, Nodes, Reach, View};
use crate::inventory::{
    self, Chunks, DatasetId, First, Inventory, Name, NodeId, Standing, Version, Want, chunks_in,
};

/// Workloads whose profiles are kept for scoring; more than that are scored by whole Datasets.
const PROFILES: usize = 20_000;

/// Of what a pod reads first, or where nobody knows that, of the Dataset, the beginning is fetched: so much of the
/// node's memory as other readers can spare, and never more than some seconds of a fast network.
const AHEAD_SHARE: u64 = 4;
const AHEAD_MOST: u64 = 16 << 30;

/// Where the node's memory is unknown.
const AHEAD: u64 = 1 << 30;

/// Runs of chunks in one instruction.
const RUNS: usize = 1024;

const REGION: &str = "topology.kubernetes.io/region";

/// A claim: namespace and name.
pub type Claim = (Box<str>, Box<str>);

/// Of a workload, by Dataset: for each version that something was learned on.
type Learned = FxHashMap<DatasetName, Vec<First>>;

#[derive(Debug)]
pub struct Picture {
    inventory: Arc<RwLock<Inventory>>,
    claims: RwLock<Claims>,
    left_alone: RwLock<FxHashSet<Box<str>>>,
    profiles: RwLock<FxHashMap<Box<str>, Learned>>,
    /// Bytes that nodes were told to bring in, by Dataset and node.
    coming: RwLock<FxHashMap<DatasetName, BTreeMap<Name, u64>>>,
    table: RwLock<Table>,
    /// Counts changes of the node table and of profiles, which bear on every Dataset.
    edition: AtomicU64,
    moment: AtomicU64,
}

/// What Datasets want and what there is: a claim counts where both agree, so that nobody is steered because of a
/// Dataset that names a claim of theirs.
#[derive(Debug, Default)]
struct Claims {
    /// With its uid.
    by_dataset: FxHashMap<DatasetName, (Box<str>, Vec<Claim>)>,
    /// Namespace, claim, and the Datasets that want it; the first before the others.
    by_namespace: FxHashMap<Box<str>, FxHashMap<Box<str>, Vec<DatasetName>>>,
    /// Namespace, claim, and the uid of the Dataset that the operator has made it for.
    made: FxHashMap<Box<str>, FxHashMap<Box<str>, Box<str>>>,
}

#[derive(Clone, Debug, Default)]
struct Table {
    nodes: Arc<Nodes>,
    /// The inventory's ids in the order of `nodes`, which is ascending.
    ids: Arc<[NodeId]>,
}

impl Picture {
    pub fn new(inventory: Arc<RwLock<Inventory>>) -> Self {
        let picture = Self {
            inventory,
            claims: RwLock::default(),
            left_alone: RwLock::default(),
            profiles: RwLock::default(),
            coming: RwLock::default(),
            table: RwLock::default(),
            edition: AtomicU64::new(0),
            moment: AtomicU64::new(0),
        };
        picture.tick();
        picture
    }

    /// A Dataset is there, with the claims through which pods are to use it.
    pub fn set_dataset(&self, dataset: &DatasetName, uid: &str, claims: Vec<Claim>) {
        let mut all = write(&self.claims);
        all.remove(dataset);
        for (namespace, claim) in &claims {
            let wanting =
                all.by_namespace.entry(namespace.clone()).or_default().entry(claim.clone()).or_default();
            wanting.push(dataset.clone());
            // Two Datasets that want one claim: the one of that namespace before one that was granted.
            let own = |dataset: &DatasetName| dataset.split('/').next() == Some(namespace);
            wanting.sort_by_key(|dataset| (!own(dataset), dataset.clone()));
            wanting.dedup();
        }
        all.by_dataset.insert(dataset.clone(), (uid.into(), claims));
    }

    pub fn drop_dataset(&self, dataset: &str) {
        write(&self.claims).remove(dataset);
    }

    /// A claim is there that was made for the Dataset of that uid.
    pub fn set_claim(&self, namespace: &str, claim: &str, uid: &str) {
        let mut all = write(&self.claims);
        all.made.entry(namespace.into()).or_default().insert(claim.into(), uid.into());
    }

    pub fn drop_claim(&self, namespace: &str, claim: &str) {
        let made = &mut write(&self.claims).made;
        let Some(of) = made.get_mut(namespace) else { return };
        of.remove(claim);
        if of.is_empty() {
            made.remove(namespace);
        }
    }

    /// The Dataset that a claim of that name is made for, or will be if nobody else has the name.
    pub fn wanted_by(&self, namespace: &str, claim: &str) -> Option<DatasetName> {
        read(&self.claims).by_namespace.get(namespace)?.get(claim)?.first().cloned()
    }

    /// Whether a namespace asks to be left alone.
    pub fn leave_alone(&self, namespace: &str, alone: bool) {
        let mut left_alone = write(&self.left_alone);
        if alone {
            left_alone.insert(namespace.into());
        } else {
            left_alone.remove(namespace);
        }
    }

    /// What a workload (`namespace/Kind/name`) reads first of a Dataset, by version; nothing: no more than any of it.
    pub fn set_profile(&self, workload: &str, dataset: &DatasetName, first: Vec<First>) {
        let mut profiles = write(&self.profiles);
        if first.is_empty() {
            if let Some(of) = profiles.get_mut(workload) {
                of.remove(dataset);
                if of.is_empty() {
                    profiles.remove(workload);
                }
            }
        } else if profiles.len() < PROFILES || profiles.contains_key(workload) {
            profiles.entry(workload.into()).or_default().insert(dataset.clone(), first);
        }
        self.edition.fetch_add(1, Ordering::Release);
    }

    /// What nodes were told to bring in and have not yet, in place of what was said before.
    pub fn set_coming(&self, told: impl IntoIterator<Item = (Name, DatasetName, u64)>) {
        let mut coming: FxHashMap<DatasetName, BTreeMap<Name, u64>> = FxHashMap::default();
        for (node, dataset, bytes) in told {
            let sum = coming.entry(dataset).or_default().entry(node).or_default();
            *sum = sum.saturating_add(bytes);
        }
        *write(&self.coming) = coming;
    }

    /// Begins a new moment, and takes over nodes that came, went or changed.
    pub fn tick(&self) {
        let inventory = read(&self.inventory);
        let known = read(&self.table).clone();
        // Nodes that only an agent or a pod names are none.
        let declared = || inventory.nodes().filter_map(|(id, node)| Some((id, node, node.facts()?)));
        let same = declared().count() == known.ids.len()
            && (0..).zip(known.ids.iter()).zip(declared()).all(|((index, known_id), (id, node, facts))| {
                *known_id == id && known.nodes.get(index).is_some_and(|known| same(known, node, facts))
            });
        if !same {
            let ids = declared().map(|(id, ..)| id).collect();
            let all = declared().map(|(_, node, facts)| described(node, facts)).collect();
            drop(inventory);
            *write(&self.table) = Table { nodes: Arc::new(Nodes::new(all)), ids };
            self.edition.fetch_add(1, Ordering::Release);
        }
        self.moment.fetch_add(1, Ordering::Release);
    }
}

impl Claims {
    fn remove(&mut self, dataset: &str) {
        for (namespace, claim) in self.by_dataset.remove(dataset).unwrap_or_default().1 {
            let Some(of) = self.by_namespace.get_mut(&namespace) else { continue };
            if let Some(wanting) = of.get_mut(&claim) {
                wanting.retain(|other| **other != *dataset);
                if wanting.is_empty() {
                    of.remove(&claim);
                }
            }
            if of.is_empty() {
                self.by_namespace.remove(&namespace);
            }
        }
    }
}

impl View for Picture {
    fn dataset(&self, namespace: &str, claim: &str) -> Option<DatasetName> {
        let claims = read(&self.claims);
        let made_for = claims.made.get(namespace)?.get(claim)?;
        let wanting = claims.by_namespace.get(namespace)?.get(claim)?;
        let has_it =
            |dataset: &&DatasetName| claims.by_dataset.get(*dataset).is_some_and(|(uid, _)| uid == made_for);
        wanting.iter().find(has_it).cloned()
    }

    fn opted_out(&self, namespace: &str) -> bool {
        read(&self.left_alone).contains(namespace)
    }

    fn nodes(&self) -> Arc<Nodes> {
        read(&self.table).nodes.clone()
    }

    fn reach(&self, datasets: &[DatasetName], workload: Option<&str>) -> Reach {
        let Table { nodes, ids } = read(&self.table).clone();
        let profiles = read(&self.profiles);
        let first = workload.and_then(|workload| profiles.get(workload));
        let inventory = read(&self.inventory);
        let wants: Vec<Want<'_>> = datasets
            .iter()
            .filter_map(|dataset| {
                let id: DatasetId = inventory.dataset_id(dataset)?;
                let version = inventory.dataset(id).and_then(|dataset| dataset.current()).map(|v| v.version);
                let first = first.and_then(|first| of_version(first.get(dataset)?, version?));
                Some(Want { dataset: id, first: first.map(First::set) })
            })
            .collect();
        let scoring = inventory.scoring(&wants);
        let expected = scoring.wanted().unwrap_or(0);
        let mut holdings: BTreeMap<u32, Holding> = scoring
            .holders()
            .filter_map(|id| {
                let node = u32::try_from(ids.binary_search(&id).ok()?).ok()?;
                let Standing { ram: memory, cache, coming, .. } = inventory.standing(&scoring, id);
                Some((node, Holding { node, memory, cache, coming }))
            })
            .collect();
        drop(inventory);
        let coming = read(&self.coming);
        let told = datasets.iter().filter_map(|dataset| coming.get(dataset)).flatten();
        for (node, bytes) in told.filter_map(|(name, bytes)| Some((nodes.named(name)?, bytes))) {
            let holding = holdings.entry(node).or_insert(Holding { node, ..Holding::default() });
            // What bound pods there will read is what the node was told to fetch for them.
            holding.coming = holding.coming.max(*bytes);
        }
        for holding in holdings.values_mut().filter(|_| expected > 0) {
            holding.coming = holding.coming.min(expected.saturating_sub(holding.bytes()));
        }
        Reach { nodes, expected, holdings: holdings.into_values().collect() }
    }

    fn generation(&self, datasets: &[DatasetName]) -> u64 {
        let mut hasher = FxBuildHasher.build_hasher();
        self.edition.load(Ordering::Acquire).hash(&mut hasher);
        let coming = read(&self.coming);
        datasets.iter().for_each(|dataset| coming.get(dataset).hash(&mut hasher));
        drop(coming);
        let inventory = read(&self.inventory);
        for dataset in datasets {
            let id = inventory.dataset_id(dataset);
            id.hash(&mut hasher);
            id.and_then(|id| inventory.dataset(id)).map(inventory::Dataset::revision).hash(&mut hasher);
        }
        hasher.finish()
    }

    fn moment(&self) -> u64 {
        self.moment.load(Ordering::Acquire)
    }
}

impl Needs for Picture {
    fn missing(&self, dataset: &str, node: &str, workload: Option<&str>) -> Option<(Version, Vec<Chunks>)> {
        let profiles = read(&self.profiles);
        let first = workload.and_then(|workload| profiles.get(workload)?.get(dataset));
        let inventory = read(&self.inventory);
        let dataset = inventory.dataset(inventory.dataset_id(dataset)?)?;
        let version = dataset.current()?.version;
        let node = inventory.node_id(node)?;
        let ram = inventory.node(node)?.capacity().map(|capacity| capacity.ram);
        let budget = chunks_in(ram.map_or(AHEAD, |ram| (ram / AHEAD_SHARE).min(AHEAD_MOST)));
        let mut wanted = match first.and_then(|first| of_version(first, version)) {
            Some(first) => first.beginning(budget),
            None => std::iter::once(0..dataset.chunks()?.min(budget)).collect(),
        };
        if let Some(held) = dataset.on(node).and_then(|presence| presence.held(Some(version))) {
            wanted.subtract(&held.resident());
        }
        let chunks: Vec<Chunks> = wanted.iter().take(RUNS).collect();
        (!chunks.is_empty()).then_some((version, chunks))
    }
}

/// What was learned on the version that is there: chunks of another one are other bytes.
fn of_version(first: &[First], version: Version) -> Option<&First> {
    first.iter().find(|first| first.version == version)
}

fn described(node: &inventory::Node, facts: &inventory::NodeFacts) -> Node {
    Node {
        name: (&**node.name()).into(),
        region: facts.labels.get(REGION).cloned(),
        zone: node.zone().cloned(),
        rack: node.place().rack,
        closed: facts.unschedulable || !facts.ready,
        unmountable: mountable::reason(facts).map(Into::into),
    }
}

fn same(known: &Node, node: &inventory::Node, facts: &inventory::NodeFacts) -> bool {
    let Node { name, region, zone, rack, closed, unmountable: reason } = known;
    **name == **node.name()
        && region.as_ref() == facts.labels.get(REGION)
        && zone.as_ref() == node.zone()
        && *rack == node.place().rack
        && *closed == (facts.unschedulable || !facts.ready)
        && reason.as_deref() == mountable::reason(facts)
}

/// Whoever panicked while it held the lock left a whole value: every change here is one step.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
