//! The simulated node: a page cache that follows the recording and this core's fetches, and a store that
//! answers after a while.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hdrhistogram::Histogram;
use rustc_hash::{FxHashMap, FxHashSet};

use super::OrderCounts;
use super::catalog::{Catalog, Item};
use super::extent::resolve;
use super::ranges::Ranges;
use crate::observation::{Actor, Observation, OrderId, Outcome, Via};
use crate::order::{Extent, Order};
use crate::units::{FileKey, MountId, Nanos, PAGE, Pages, Reader};

/// A request's time while the recording has told of no miss.
const DEFAULT_LATENCY: Nanos = Nanos::from_millis(5);
/// A minute: longer recorded misses are a store that hung.
const MAX_LATENCY: u64 = 60_000_000_000;
const MIN_LATENCY: u64 = 1_000;
/// Fetches under way at a mount of which the core has not said how many may be.
const DEFAULT_DEPTH: u32 = 16;
/// Orders waiting for their turn; more are turned away, as the edge does.
const MAX_QUEUE: usize = 65_536;
/// Orders answered in all, and more for each observation: a core whose orders breed orders must come to an
/// end. What is beyond is turned away unanswered, and counted.
const MAX_ORDERS: u64 = 1 << 17;
const ORDERS_FOR_EACH: u64 = 64;
const TICK: Nanos = Nanos::from_millis(100);

#[derive(Debug, Default)]
struct CachedFile {
    /// What was resident in the recording.
    recorded: Ranges,
    /// What is resident in the replay.
    cached: Ranges,
    /// What the recorded agent brought in: a reader that needs it here would have had to fetch it.
    owed: Ranges,
    /// The reader's last addition was of nothing new: the miss it is part of has not happened.
    spared: bool,
}

#[derive(Debug)]
enum Event {
    Observe(Observation),
    /// An answer, which makes room for the next order of its mount.
    Answer(MountId, Observation),
    Tick,
}

#[derive(Debug, Default)]
struct Desk {
    depth: Option<u32>,
    flying: u32,
    /// By deadline, then by number.
    waiting: BTreeMap<(Nanos, u64), Order>,
}

#[derive(Debug)]
pub(super) struct World {
    catalog: Catalog,
    files: FxHashMap<FileKey, CachedFile>,
    sighted: FxHashSet<FileKey>,
    desks: BTreeMap<MountId, Desk>,
    waiting: BTreeMap<OrderId, (MountId, (Nanos, u64))>,
    events: BTreeMap<(Nanos, u64), Event>,
    misses: Option<Histogram<u64>>,
    sequence: u64,
    ticking: bool,
    closed: bool,
    allowance: u64,
    left_out: u64,
    counts: OrderCounts,
}

impl World {
    pub fn new(catalog: Catalog) -> Self {
        Self {
            catalog,
            files: FxHashMap::default(),
            sighted: FxHashSet::default(),
            desks: BTreeMap::new(),
            waiting: BTreeMap::new(),
            events: BTreeMap::new(),
            misses: Histogram::new_with_bounds(MIN_LATENCY, MAX_LATENCY, 3).ok(),
            sequence: 0,
            ticking: false,
            closed: false,
            allowance: MAX_ORDERS,
            left_out: 0,
            counts: OrderCounts::default(),
        }
    }

    /// The orders, and the recorded observations that answered orders of the recorded agent.
    pub fn totals(&self) -> (OrderCounts, u64) {
        (self.counts, self.left_out)
    }

    /// Takes no more orders; those waiting are turned away.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// The next thing that happens at the store or in the cache, until then.
    pub fn happen(&mut self, until: Nanos) -> Option<(Nanos, Observation)> {
        let entry = self.events.first_entry()?;
        if entry.key().0 > until {
            return None;
        }
        let ((at, _), event) = entry.remove_entry();
        let observation = match event {
            Event::Observe(observation) => observation,
            Event::Answer(mount, observation) => {
                let desk = self.desks.entry(mount).or_default();
                desk.flying = desk.flying.saturating_sub(1);
                self.serve(mount, at);
                observation
            }
            Event::Tick => {
                self.ticking = false;
                self.tick(at);
                Observation::Tick
            }
        };
        Some((at, observation))
    }

    /// What the core is told of a recorded observation, in its order.
    pub fn admit(&mut self, observation: Observation) -> VecDeque<Observation> {
        self.allowance = self.allowance.saturating_add(ORDERS_FOR_EACH);
        let mut told = VecDeque::new();
        match observation {
            Observation::Fetched { .. } | Observation::Listing { .. } => self.left_out += 1,
            Observation::Added { file, pages, by: Actor::Agent } => {
                self.left_out += 1;
                let known = self.files.entry(file).or_default();
                for range in known.cached.missing(&pages) {
                    known.owed.insert(range);
                }
                known.recorded.insert(pages);
            }
            Observation::Removed { by: Actor::Agent, .. } => self.left_out += 1,
            Observation::Added { file, pages, by } => {
                let known = self.files.entry(file).or_default();
                known.recorded.insert(pages.clone());
                known.owed.remove(&pages);
                let new = known.cached.missing(&pages);
                known.spared = new.is_empty();
                known.cached.insert(pages);
                told.extend(new.into_iter().map(|pages| Observation::Added { file, pages, by }));
            }
            Observation::Removed { file, pages, by } => {
                let known = self.files.entry(file).or_default();
                known.recorded.remove(&pages);
                known.owed.remove(&pages);
                // A file of which nothing was left had been dropped whole, with what is here besides.
                let gone = match known.recorded.is_empty() {
                    true => known.cached.iter().collect(),
                    false => known.cached.overlap(&pages),
                };
                for range in &gone {
                    known.cached.remove(range);
                }
                told.extend(gone.into_iter().map(|pages| Observation::Removed { file, pages, by }));
            }
            Observation::Resident { file, pages } => told.push_back(self.resident(file, pages)),
            Observation::Miss { file, latency, bytes } => {
                let known = self.files.entry(file).or_default();
                if known.spared {
                    self.left_out += 1;
                } else {
                    told.push_back(Observation::Miss { file, latency, bytes });
                }
                if let Some(misses) = &mut self.misses {
                    misses.saturating_record(latency.0.max(MIN_LATENCY));
                }
            }
            Observation::Access { file, reader, pages, via, count, size } => {
                if matches!(via, Via::Read | Via::Fault) {
                    self.fetch_for(file, reader, &pages, &mut told);
                }
                told.push_back(Observation::Access { file, reader, pages, via, count, size });
            }
            Observation::Sight { file, .. } => {
                self.sighted.insert(file);
                told.push_back(observation);
            }
            Observation::Mount { .. }
            | Observation::Unmount { .. }
            | Observation::Process { .. }
            | Observation::Profile { .. }
            | Observation::Exit { .. }
            | Observation::Memory { .. }
            | Observation::Lost { .. }
            | Observation::Tick => told.push_back(observation),
        }
        told
    }

    /// A count of the cache: what the recording had, less what its agent had brought in, with what this
    /// replay's has.
    fn resident(&mut self, file: FileKey, pages: Vec<Pages>) -> Observation {
        let known = self.files.entry(file).or_default();
        let (mut recorded, mut cached) = (Ranges::default(), Ranges::default());
        for range in pages {
            for range in known.owed.missing(&range) {
                cached.insert(range);
            }
            recorded.insert(range);
        }
        for ours in known.cached.iter() {
            for range in known.recorded.missing(&ours) {
                cached.insert(range);
            }
        }
        known.recorded = recorded;
        known.cached = cached;
        Observation::Resident { file, pages: known.cached.iter().collect() }
    }

    /// The miss that the recorded agent has spared this reader, and this replay's has not.
    fn fetch_for(&mut self, file: FileKey, reader: Reader, pages: &Pages, told: &mut VecDeque<Observation>) {
        let latency = self.latency();
        let known = self.files.entry(file).or_default();
        let mut bytes = 0u64;
        for range in known.owed.overlap(pages) {
            known.owed.remove(&range);
            for pages in known.cached.missing(&range) {
                bytes = bytes.saturating_add((pages.end - pages.start).saturating_mul(PAGE));
                known.cached.insert(pages.clone());
                let by = Actor::Thread(reader);
                told.push_back(Observation::Added { file, pages, by });
            }
        }
        if bytes > 0 {
            told.push_back(Observation::Miss { file, latency, bytes });
        }
    }

    pub fn carry_out(&mut self, orders: Vec<Order>, now: Nanos) {
        let mut touched = BTreeSet::new();
        for order in orders {
            let Some(left) = self.allowance.checked_sub(1) else {
                self.count(Outcome::Dropped);
                continue;
            };
            self.allowance = left;
            match order {
                Order::List { id, mount, .. } => {
                    self.counts.listings += 1;
                    // A listing decides what is fetched next: it goes first.
                    self.take(id, mount, Nanos::default(), order, now);
                    touched.insert(mount);
                }
                Order::Fetch { id, mount, deadline, .. } => {
                    self.counts.fetches += 1;
                    self.take(id, mount, deadline, order, now);
                    touched.insert(mount);
                }
                Order::Cancel { id } => {
                    self.counts.cancels += 1;
                    if let Some((mount, place)) = self.waiting.remove(&id)
                        && let Some(order) = self.desks.entry(mount).or_default().waiting.remove(&place)
                    {
                        self.turn_away(order, now);
                    }
                }
                Order::Depth { mount, fetches } => {
                    self.desks.entry(mount).or_default().depth = Some(fetches);
                    touched.insert(mount);
                }
                // The recording has the detail it was recorded with.
                Order::Detail { .. } | Order::Resight { .. } => {}
            }
        }
        for mount in touched {
            self.serve(mount, now);
        }
        self.tick(now);
    }

    fn take(&mut self, id: OrderId, mount: MountId, deadline: Nanos, order: Order, now: Nanos) {
        if self.closed || self.waiting.len() >= MAX_QUEUE || self.waiting.contains_key(&id) {
            return self.turn_away(order, now);
        }
        self.sequence += 1;
        let place = (deadline, self.sequence);
        self.waiting.insert(id, (mount, place));
        self.desks.entry(mount).or_default().waiting.insert(place, order);
    }

    /// Starts what may be under way at a mount.
    fn serve(&mut self, mount: MountId, now: Nanos) {
        loop {
            let desk = self.desks.entry(mount).or_default();
            if !self.closed && desk.flying >= desk.depth.unwrap_or(DEFAULT_DEPTH) {
                return;
            }
            let Some((_, order)) = desk.waiting.pop_first() else {
                return;
            };
            match order {
                Order::List { id, .. } | Order::Fetch { id, .. } => self.waiting.remove(&id),
                Order::Cancel { .. } | Order::Depth { .. } | Order::Detail { .. } | Order::Resight { .. } => {
                    None
                }
            };
            if self.closed {
                self.turn_away(order, now);
                continue;
            }
            desk.flying += 1;
            self.start(order, now);
        }
    }

    fn start(&mut self, order: Order, now: Nanos) {
        let latency = self.latency();
        match order {
            Order::List { id, mount, dir, limit, .. } => {
                let found = self.catalog.listing(mount, &dir);
                let outcome = if found.is_some() { Outcome::Done } else { Outcome::Absent };
                let mut entries = found.unwrap_or_default();
                let complete = entries.len() <= limit;
                entries.truncate(limit);
                self.count(outcome);
                let answer = Observation::Listing { id, mount, dir, outcome, complete, entries };
                self.at(now.plus(latency), Event::Answer(mount, answer));
            }
            Order::Fetch { id, mount, path, file, extent, .. } => {
                // A path that has become another file is none of the order's.
                let item = self.catalog.file(mount, &path);
                let item = item.filter(|item| file.is_none_or(|file| file == item.key));
                let Some(item) = item else {
                    self.count(Outcome::Absent);
                    let answer = fetched(id, Outcome::Absent, None, 0, latency);
                    return self.at(now.plus(latency), Event::Answer(mount, answer));
                };
                let bytes = self.bring_in(mount, path, item, &extent, now);
                self.count(Outcome::Done);
                self.counts.fetched_bytes = self.counts.fetched_bytes.saturating_add(bytes);
                // What is resident already costs no request.
                let took = if bytes > 0 { latency } else { Nanos(MIN_LATENCY) };
                let answer = fetched(id, Outcome::Done, Some(item), bytes, took);
                self.at(now.plus(took), Event::Answer(mount, answer));
            }
            Order::Cancel { .. } | Order::Depth { .. } | Order::Detail { .. } | Order::Resight { .. } => {}
        }
    }

    /// Adds the pages of a fetch that are not there; what it asks the store for, in bytes.
    fn bring_in(&mut self, mount: MountId, path: Box<[u8]>, item: Item, extent: &Extent, now: Nanos) -> u64 {
        let Item { key: file, size, mtime } = item;
        if self.sighted.insert(file) {
            let sight = Observation::Sight { file, mount, path, size, mtime };
            self.at(now, Event::Observe(sight));
        }
        let known = self.files.entry(file).or_default();
        let mut added = Vec::new();
        for range in resolve(extent, size) {
            for missing in known.cached.missing(&range) {
                known.cached.insert(missing.clone());
                added.push(missing);
            }
        }
        let mut bytes = 0;
        for pages in added {
            let end = pages.end.saturating_mul(PAGE).min(size);
            bytes += end.saturating_sub(pages.start.saturating_mul(PAGE));
            let by = Actor::Agent;
            self.at(now, Event::Observe(Observation::Added { file, pages, by }));
        }
        bytes
    }

    fn turn_away(&mut self, order: Order, now: Nanos) {
        self.count(Outcome::Dropped);
        let answer = match order {
            Order::List { id, mount, dir, .. } => Observation::Listing {
                id,
                mount,
                dir,
                outcome: Outcome::Dropped,
                complete: false,
                entries: Vec::new(),
            },
            Order::Fetch { id, .. } => fetched(id, Outcome::Dropped, None, 0, Nanos::default()),
            Order::Cancel { .. } | Order::Depth { .. } | Order::Detail { .. } | Order::Resight { .. } => {
                return;
            }
        };
        // Time passes, even for a core that repeats what was refused; after the end it is not told at all.
        if !self.closed {
            self.at(now.plus(Nanos(MIN_LATENCY)), Event::Observe(answer));
        }
    }

    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Done => self.counts.done += 1,
            Outcome::Absent => self.counts.absent += 1,
            Outcome::Dropped => self.counts.dropped += 1,
            Outcome::Refused | Outcome::Failed => {}
        }
    }

    fn latency(&self) -> Nanos {
        match &self.misses {
            Some(misses) if !misses.is_empty() => Nanos(misses.value_at_quantile(0.5).max(MIN_LATENCY)),
            _ => DEFAULT_LATENCY,
        }
    }

    fn at(&mut self, at: Nanos, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }

    /// Time is told while anything is under way.
    fn tick(&mut self, now: Nanos) {
        let busy = self.desks.values().any(|desk| desk.flying > 0);
        if busy && !self.ticking {
            self.ticking = true;
            self.at(now.plus(TICK), Event::Tick);
        }
    }
}

fn fetched(id: OrderId, outcome: Outcome, item: Option<Item>, bytes: u64, took: Nanos) -> Observation {
    Observation::Fetched {
        id,
        outcome,
        file: item.map(|item| item.key),
        size: item.map_or(0, |item| item.size),
        bytes,
        took,
    }
}
