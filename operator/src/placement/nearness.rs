//! What reading a byte costs, by how near its nearest copy is; and what one more copy saves.

use rustc_hash::FxHashMap;

use crate::inventory::{NodeId, Place};

use super::demand::Wanted;

/// How near to a reader the nearest copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Near {
    Here,
    Rack,
    Zone,
    Region,
    Far,
    Store,
}

impl Near {
    /// The cost of a byte, where one from the store costs 1. Not measured: a store is asked by everybody and
    /// sends tens of MB/s a reader; a rack's switch sends ten times that and its links are shared by few.
    pub const fn cost(self) -> f64 {
        match self {
            Self::Here => 0.0,
            Self::Rack => 0.1,
            Self::Zone => 0.2,
            Self::Region => 0.4,
            Self::Far => 0.6,
            Self::Store => 1.0,
        }
    }

    pub const fn words(self) -> &'static str {
        match self {
            Self::Here => "on the node itself",
            Self::Rack => "in its rack",
            Self::Zone => "in its zone",
            Self::Region => "in its region",
            Self::Far => "in another region",
            Self::Store => "in the store",
        }
    }
}

/// A copy's area: rack, zone or region by its hash, or everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Area {
    Rack(u64),
    Zone(u64),
    Region(u64),
    All,
}

/// The copies of one piece, and what its readers gain by them.
#[derive(Debug)]
pub struct Copies<'a> {
    wanted: &'a Wanted,
    areas: FxHashMap<Area, u32>,
}

fn areas(place: Place) -> [Option<Area>; 4] {
    [place.rack.map(Area::Rack), place.zone.map(Area::Zone), place.region.map(Area::Region), Some(Area::All)]
}

impl<'a> Copies<'a> {
    pub fn none(wanted: &'a Wanted) -> Self {
        Self { wanted, areas: FxHashMap::default() }
    }

    pub fn add(&mut self, place: Place) {
        for area in areas(place).into_iter().flatten() {
            *self.areas.entry(area).or_default() += 1;
        }
    }

    pub fn remove(&mut self, place: Place) {
        for area in areas(place).into_iter().flatten() {
            if let Some(count) = self.areas.get_mut(&area) {
                *count = count.saturating_sub(1);
            }
        }
    }

    pub fn count(&self) -> u32 {
        self.in_area(Area::All)
    }

    fn in_area(&self, area: Area) -> u32 {
        self.areas.get(&area).copied().unwrap_or_default()
    }

    fn has(&self, area: Option<Area>) -> bool {
        area.is_some_and(|area| self.in_area(area) > 0)
    }

    /// How near the nearest copy is to a node that has none itself.
    pub fn near(&self, place: Place) -> Near {
        let [rack, zone, region, all] = areas(place);
        match () {
            () if self.has(rack) => Near::Rack,
            () if self.has(zone) => Near::Zone,
            () if self.has(region) => Near::Region,
            () if self.has(all) => Near::Far,
            () => Near::Store,
        }
    }

    /// What a copy on a node that has none would save, in passes over the piece at the store's cost.
    pub fn gain(&self, node: NodeId, place: Place) -> f64 {
        let [rack, zone, region, all] = areas(place);
        let mut inner = self.wanted.on(node);
        let mut gain = inner * self.near(place).cost();
        // Ring by ring outward: readers of the ring that have no copy on their node get this one, if nearer.
        let rings = [
            (rack, self.wanted.rack(place), Near::Rack),
            (zone, self.wanted.zone(place), Near::Zone),
            (region, self.wanted.region(place), Near::Region),
            (all, Some(self.wanted.all()), Near::Far),
        ];
        for (at, (area, passes, near)) in rings.iter().enumerate() {
            let (Some(area), Some(passes)) = (*area, *passes) else { continue };
            if self.in_area(area) > 0 {
                return gain; // Readers of this ring, and beyond, have one as near already.
            }
            let now = rings.get(at + 1..).unwrap_or_default().iter().find(|(a, _, _)| self.has(*a));
            let now = now.map_or(Near::Store, |(_, _, near)| *near);
            gain += (passes - inner).max(0.0) * (now.cost() - near.cost());
            inner = inner.max(passes);
        }
        gain
    }

    /// How crowded a node's surroundings are with copies: spread prefers few in the zone, then in the rack.
    pub fn crowd(&self, place: Place) -> (u32, u32) {
        let [rack, zone, ..] = areas(place);
        (zone.map_or(0, |z| self.in_area(z)), rack.map_or(0, |r| self.in_area(r)))
    }
}
