//! How near the bytes that a pod wants are to each node.
//!
//! Computed once for a set of Datasets from their holders, then asked per node: never in proportion to
//! nodes times Datasets.

use rustc_hash::FxHashMap;

use super::chunk_set::ChunkSet;
use super::dataset::Held;
use super::fold::Inventory;
use super::units::{CHUNK, DatasetId, NodeId, Tier};

/// What a pod wants of one Dataset.
#[derive(Clone, Copy, Debug)]
pub struct Want<'a> {
    pub dataset: DatasetId,
    /// What it will read first, as its profile says; none: any of it.
    pub first: Option<&'a ChunkSet>,
}

/// Bytes of what is wanted, by how near to a node they are. Each includes only what the ones before do not,
/// so that they may be weighed and added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// In this node's page cache.
    pub ram: u64,
    /// In this node's cache tier.
    pub cache: u64,
    /// Not there yet, and on the way: pods already bound to this node read it too. Pods that come together
    /// find no bytes anywhere, and should share what the first of them brings.
    pub coming: u64,
    /// On another node of its rack, zone, region. At most: two nodes' parts may overlap, and are then counted
    /// twice up to all that is wanted.
    pub rack: u64,
    pub zone: u64,
    pub region: u64,
}

impl Standing {
    pub fn local(&self) -> u64 {
        self.ram.saturating_add(self.cache)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Here {
    ram: u64,
    cache: u64,
    coming: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Scoring {
    nodes: FxHashMap<NodeId, Here>,
    racks: FxHashMap<u64, u64>,
    zones: FxHashMap<u64, u64>,
    regions: FxHashMap<u64, u64>,
    wanted: Option<u64>,
}

impl Scoring {
    /// Bytes wanted altogether; unknown while a Dataset's size is.
    pub fn wanted(&self) -> Option<u64> {
        self.wanted
    }

    /// Nodes that hold something of it, or soon will, in no order.
    pub fn holders(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.keys().copied()
    }
}

impl Inventory {
    /// Scores for the Datasets that a pod uses. Names that are not declared count for nothing.
    pub fn scoring(&self, wants: &[Want<'_>]) -> Scoring {
        let mut scoring = Scoring { wanted: Some(0), ..Scoring::default() };
        for want in wants {
            let Some(dataset) = self.dataset(want.dataset).filter(|d| d.spec().is_some()) else { continue };
            let total = dataset.bytes();
            let wanted = match want.first {
                Some(first) => Some(first.bytes(total)),
                None => total,
            };
            scoring.wanted = scoring.wanted.zip(wanted).map(|(a, b)| a.saturating_add(b));
            let (mut racks, mut zones, mut regions) =
                (FxHashMap::default(), FxHashMap::default(), FxHashMap::default());
            for (id, presence) in dataset.nodes().filter(|(_, p)| p.pods() > 0) {
                let held = presence.held(dataset.current().map(|v| v.version));
                let (ram, cache) = held.map_or((0, 0), |held| near(held, want.first, total));
                let here = scoring.nodes.entry(id).or_default();
                here.coming = here.coming.saturating_add(wanted.unwrap_or(0).saturating_sub(ram + cache));
            }
            for (id, held) in dataset.holders() {
                let (ram, cache) = near(held, want.first, total);
                let Some(node) = self.node(id).filter(|_| ram + cache > 0) else { continue };
                let here = scoring.nodes.entry(id).or_default();
                here.ram = here.ram.saturating_add(ram);
                here.cache = here.cache.saturating_add(cache);
                let place = node.place();
                let areas =
                    [(&mut racks, place.rack), (&mut zones, place.zone), (&mut regions, place.region)];
                for (sums, area) in areas {
                    if let Some(area) = area {
                        let sum: &mut u64 = sums.entry(area).or_default();
                        *sum = sum.saturating_add(ram + cache).min(wanted.unwrap_or(u64::MAX));
                    }
                }
            }
            let sums =
                [(&mut scoring.racks, racks), (&mut scoring.zones, zones), (&mut scoring.regions, regions)];
            for (all, these) in sums {
                for (area, sum) in these {
                    let all: &mut u64 = all.entry(area).or_default();
                    *all = all.saturating_add(sum);
                }
            }
        }
        scoring
    }

    /// How near a node is to what is wanted.
    pub fn standing(&self, scoring: &Scoring, id: NodeId) -> Standing {
        let Here { ram, cache, coming } = scoring.nodes.get(&id).copied().unwrap_or_default();
        let place = self.node(id).map(|n| n.place()).unwrap_or_default();
        let of = |sums: &FxHashMap<u64, u64>, area: Option<u64>| {
            area.and_then(|area| sums.get(&area)).copied().unwrap_or_default()
        };
        let mut nearer = ram.saturating_add(cache);
        let mut beyond = |sum: u64| {
            let more = sum.saturating_sub(nearer);
            nearer = nearer.max(sum);
            more
        };
        let rack = beyond(of(&scoring.racks, place.rack));
        let zone = beyond(of(&scoring.zones, place.zone));
        let region = beyond(of(&scoring.regions, place.region));
        Standing { ram, cache, coming, rack, zone, region }
    }
}

/// Bytes in RAM, and bytes in the cache tier that are not in RAM too. Where in the version the bytes of chunks lie
/// that are not whole is not known: of what is read first that share of them counts that it has of what is not whole.
fn near(held: &Held, first: Option<&ChunkSet>, total: Option<u64>) -> (u64, u64) {
    let Some(first) = first else {
        let ram = held.bytes_in(Tier::Ram, total);
        return (ram, held.bytes(total).saturating_sub(ram));
    };
    let most = first.bytes(total);
    let whole = |chunks: u32| (u64::from(chunks) * CHUNK).min(most);
    let with_partial = |set: &ChunkSet, partial: u64| {
        let here = whole(set.shared(first));
        let elsewhere =
            total.map(|total| total.saturating_sub(set.bytes(Some(total)))).filter(|&rest| rest > 0);
        let share = elsewhere.map(|rest| u128::from(partial) * u128::from(most - here) / u128::from(rest));
        here.saturating_add(share.and_then(|share| u64::try_from(share).ok()).unwrap_or(0)).min(most)
    };
    let ram = with_partial(&held.ram, held.ram_partial);
    let cache = with_partial(&held.cache, held.cache_partial);
    if ram == 0 || cache == 0 {
        return (ram, cache);
    }
    (ram, whole(held.resident().shared(first)).max(cache).saturating_sub(ram))
}
