//! The operator's own inventory, placement and instructions, fed by what simulated agents report.

use std::collections::{BTreeMap, BTreeSet};

use operator::inventory::{
    Capacity, Change, DatasetReport, DatasetSpec, Demand, Fact, Inventory, Millis, Name, NodeFacts, NodeId,
    Report, Tier, Version, VersionFacts, Want,
};
use operator::placement::{Flights, Instruction, Limits, Placement, PlanLimits, plan};
use rustc_hash::FxHashMap;

use super::cluster::{Pod, TICK_S};
use super::policy::{Key, Policy, anywhere};
use super::world::{Got, Reader, World};

/// Nodes looked at beside those that hold bytes, as kube-scheduler looks at a part of a large cluster.
const LOOKED_AT: usize = 32;

const VERSION: Version = Version(1);

#[derive(Debug)]
pub struct Headrace {
    inventory: Inventory,
    placement: Placement,
    flights: Flights,
    limits: Limits,
    names: Vec<Name>,
    datasets: Vec<Name>,
    nodes: FxHashMap<NodeId, usize>,
    pieces: FxHashMap<operator::inventory::DatasetId, u32>,
    sequences: Vec<u64>,
    up: Vec<bool>,
    /// Datasets that a node's last report had readers of.
    reading: Vec<BTreeSet<usize>>,
    /// Orders that agents work at.
    orders: Vec<Order>,
    /// Moves decided, and the least benefit for what one costs.
    pub moves: u64,
    pub least_gain: f64,
}

#[derive(Clone, Debug)]
struct Order {
    id: u64,
    node: usize,
    key: Key,
    ask: Vec<usize>,
}

impl Headrace {
    pub fn new(world: &World) -> Self {
        let cluster = &world.cluster;
        let names: Vec<Name> = (0..cluster.sites.len()).map(|at| format!("node-{at}").into()).collect();
        let datasets: Vec<Name> = (0..cluster.datasets.len()).map(|at| format!("sim/d{at}").into()).collect();
        let mut this = Self {
            inventory: Inventory::default(),
            placement: Placement::default(),
            flights: Flights::default(),
            limits: Limits::default(),
            nodes: FxHashMap::default(),
            pieces: FxHashMap::default(),
            sequences: vec![0; names.len()],
            up: vec![false; names.len()],
            reading: vec![BTreeSet::new(); names.len()],
            orders: Vec::new(),
            moves: 0,
            least_gain: f64::INFINITY,
            names,
            datasets,
        };
        for (at, pieces) in cluster.datasets.iter().enumerate() {
            let Some(name) = this.datasets.get(at).cloned() else { continue };
            this.inventory
                .apply(Fact::Dataset { dataset: name.clone(), spec: DatasetSpec::default() }, Millis(0));
            let facts =
                VersionFacts { version: VERSION, bytes: Some(pieces.total()), ..VersionFacts::default() };
            this.inventory.apply(Fact::Version { dataset: name.clone(), facts }, Millis(0));
            if let Some(id) = this.inventory.dataset_id(&name) {
                this.pieces.insert(id, at as u32);
            }
        }
        this
    }

    fn now(world: &World) -> Millis {
        Millis(world.tick * TICK_S * 1_000)
    }

    /// Node objects as they come and go.
    fn watch(&mut self, world: &World) {
        let now = Self::now(world);
        for (at, up) in world.up.iter().enumerate() {
            let Some(was) = self.up.get_mut(at).filter(|was| **was != *up) else { continue };
            *was = *up;
            let (Some(name), Some(site)) = (self.names.get(at).cloned(), world.cluster.sites.get(at)) else {
                continue;
            };
            if !up {
                self.inventory.apply(Fact::NodeGone { node: name }, now);
                self.sequences.get_mut(at).into_iter().for_each(|s| *s = 0);
                self.orders.retain(|o| o.node != at);
                if let Some((id, _)) = self.nodes.iter().find(|(_, n)| **n == at).map(|(id, n)| (*id, *n)) {
                    self.flights.lose(id);
                    self.nodes.remove(&id);
                }
                continue;
            }
            let labels = [
                ("topology.kubernetes.io/zone".into(), format!("z{}", site.zone).into()),
                ("headrace.io/rack".into(), format!("r{}", site.rack).into()),
            ];
            let facts = NodeFacts { labels: labels.into(), ready: true, ..NodeFacts::default() };
            self.inventory.apply(Fact::Node { node: name.clone(), facts }, now);
            if let Some(id) = self.inventory.node_id(&name) {
                self.nodes.insert(id, at);
            }
        }
    }

    /// Each agent that has something new to say says it.
    fn report(&mut self, world: &mut World) {
        let now = Self::now(world);
        let mut reading: BTreeMap<usize, BTreeMap<usize, Demand>> = BTreeMap::new();
        for reader in &world.readers {
            let demand = reading.entry(reader.node).or_default().entry(reader.spec.dataset).or_default();
            demand.readers += 1;
            demand.rate += reader.read / TICK_S;
        }
        for at in 0..self.names.len() {
            let first = self.sequences.get(at) == Some(&0);
            let changes = world.changes.get_mut(at).map(std::mem::take).unwrap_or_default();
            let now_reading = reading.remove(&at).unwrap_or_default();
            let was: BTreeSet<usize> = self.reading.get_mut(at).map(std::mem::take).unwrap_or_default();
            if !world.up.get(at).is_some_and(|up| *up)
                || changes.is_empty() && now_reading.is_empty() && was.is_empty() && !first
            {
                continue;
            }
            let mut parts: BTreeMap<usize, DatasetReport> = BTreeMap::new();
            let name = |dataset: usize| self.datasets.get(dataset).cloned().unwrap_or_default();
            let mut part = |dataset: usize, change: Option<Change>, demand: Option<Demand>| {
                let part = parts
                    .entry(dataset)
                    .or_insert_with(|| DatasetReport { dataset: name(dataset), ..DatasetReport::default() });
                part.changes.extend(change);
                part.demand = demand.or(part.demand);
            };
            for key in changes {
                let Some(pieces) = world.cluster.datasets.get(key.0 as usize) else { continue };
                let run = vec![pieces.chunks(key.1)];
                let (added, removed) = if world.has(at, key) { (run, Vec::new()) } else { (Vec::new(), run) };
                part(
                    key.0 as usize,
                    Some(Change { version: VERSION, tier: Tier::Cache, removed, added, partial: None }),
                    None,
                );
            }
            for (dataset, demand) in &now_reading {
                // A pod that has read nothing yet, for want of whole pieces, is not a quiet one.
                let rate = (demand.rate > 0).then_some(*demand);
                part(*dataset, None, rate);
            }
            for gone in was.iter().filter(|d| !now_reading.contains_key(d)) {
                part(*gone, None, Some(Demand::default()));
            }
            if let Some(reading) = self.reading.get_mut(at) {
                *reading = now_reading.into_keys().collect();
            }
            let Some(sequence) = self.sequences.get_mut(at) else { continue };
            *sequence += 1;
            let capacity = first.then_some(Capacity { ram: world.cluster.ram, cache: world.cluster.cache });
            let report = Report {
                session: 1,
                sequence: *sequence,
                whole: first,
                datasets: parts.into_values().collect(),
                capacity,
                pressure: None,
            };
            if let Some(node) = self.names.get(at).cloned() {
                self.inventory.apply(Fact::Report { node, report }, now);
            }
        }
    }

    /// What agents were told: nearest holder first, then the one that is to read the store.
    fn work(&mut self, world: &mut World) {
        let mut left = Vec::new();
        for order in std::mem::take(&mut self.orders) {
            let Order { id, node, key, ref ask } = order;
            if world.has(node, key) {
                world.put(node, key, true);
                self.answer(node, id);
                continue;
            }
            let mut way = vec![node];
            way.extend(ask.iter().copied().filter(|n| world.up.get(*n).is_some_and(|up| *up)));
            let has = way.iter().skip(1).position(|n| world.has(*n, key)).map(|at| at + 1);
            match has {
                Some(at) => way = vec![node].into_iter().chain(way.get(at).copied()).collect(),
                None if world.fetch(key) == Got::Wait => {
                    left.push(order);
                    continue;
                }
                None => {
                    way.last().copied().into_iter().for_each(|last| world.put(last, key, last == node));
                }
            }
            // Back along the way, each hands it to the one before.
            let mut arrived = true;
            for (to, from) in way.iter().zip(way.iter().skip(1)).rev() {
                arrived = arrived && world.send(*from, key) == Got::Yes;
                if arrived {
                    world.put(*to, key, *to == node);
                }
            }
            if arrived {
                world.tally.ordered += world.bytes(key);
                self.answer(node, id);
            } else {
                left.push(order);
            }
        }
        self.orders = left;
    }

    fn answer(&mut self, node: usize, id: u64) {
        if let Some(node) = self.names.get(node).and_then(|name| self.inventory.node_id(name)) {
            self.flights.end(node, id);
        }
    }

    fn key(&self, dataset: operator::inventory::DatasetId, start: u32, world: &World) -> Option<Key> {
        let at = *self.pieces.get(&dataset)?;
        let pieces = world.cluster.datasets.get(at as usize)?;
        let each = pieces.chunks(0).end.max(1);
        Some((at, u16::try_from(start / each).ok()?))
    }
}

impl Policy for Headrace {
    fn name(&self) -> &'static str {
        "headrace"
    }

    fn choose(&mut self, world: &mut World, pod: &Pod) -> Option<usize> {
        let dataset = self.inventory.dataset_id(self.datasets.get(pod.dataset)?)?;
        let scoring = self.inventory.scoring(&[Want { dataset, first: None }]);
        let mut looked: Vec<usize> =
            scoring.holders().filter_map(|id| self.nodes.get(&id).copied()).collect();
        looked.sort_unstable();
        looked.extend((0..LOOKED_AT).filter_map(|_| anywhere(world)));
        let rated = looked.into_iter().filter(|n| world.has_slot(*n)).map(|n| {
            let id = self.names.get(n).and_then(|name| self.inventory.node_id(name));
            let s = id.map(|id| self.inventory.standing(&scoring, id)).unwrap_or_default();
            let score = s.local() + s.coming * 3 / 4 + s.rack / 2 + s.zone / 4;
            (score, std::cmp::Reverse(world.used.get(n).copied()), n)
        });
        rated.max().map(|(.., n)| n)
    }

    fn get(&mut self, world: &mut World, node: usize, key: Key) -> Got {
        world.get_near(node, key)
    }

    fn bound(&mut self, world: &World, reader: &Reader) {
        let (Some(node), Some(dataset)) =
            (self.names.get(reader.node), self.datasets.get(reader.spec.dataset))
        else {
            return;
        };
        let fact = Fact::PodBound {
            pod: format!("pod-{}", reader.pod).into(),
            node: node.clone(),
            workload: format!("sim/Pod/pod-{}", reader.pod).into(),
            datasets: vec![dataset.clone()],
        };
        self.inventory.apply(fact, Self::now(world));
    }

    fn ended(&mut self, world: &World, reader: &Reader) {
        self.inventory.apply(Fact::PodEnded { pod: format!("pod-{}", reader.pod).into() }, Self::now(world));
    }

    fn tick(&mut self, world: &mut World) {
        self.watch(world);
        self.report(world);
        let now = Self::now(world);
        // The operator steps every second or so; a tick has several.
        let mut releases = Vec::new();
        for _ in 0..4 {
            let step = self.placement.step(&self.inventory, now, &self.limits);
            self.moves += step.moves.len() as u64;
            for m in &step.moves {
                self.least_gain = self.least_gain.min(m.benefit / m.cost.max(1.0));
            }
            releases.extend(step.releases);
            if step.waiting == 0 && step.moves.is_empty() {
                break;
            }
        }
        let told =
            plan(&self.inventory, &self.placement, &releases, &mut self.flights, &PlanLimits::default(), now);
        for (node, instruction) in told {
            let Some(at) = self.nodes.get(&node).copied() else { continue };
            match instruction {
                Instruction::Release { dataset, chunks, .. } => {
                    if let Some(key) = self.key(dataset, chunks.start, world) {
                        world.let_go(at, key);
                    }
                }
                Instruction::Fetch { id, dataset, chunks, ask, .. } => {
                    let start = chunks.first().map_or(0, |c| c.start);
                    let Some(key) = self.key(dataset, start, world) else { continue };
                    let ask = ask.iter().filter_map(|n| self.nodes.get(n).copied()).collect();
                    self.orders.push(Order { id, node: at, key, ask });
                }
            }
        }
        self.work(world);
    }
}
