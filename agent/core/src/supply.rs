//! What to ask for next: keeps each store's link busy with the files that predictions among files name,
//! the surest first, within depth, memory and what a guess may cost.

use crate::catalog::{DirId, FileId, Listing};
use crate::core::{Core, FetchFlight, Flight};
use crate::order::{Door, Extent, Order};
use crate::past::REPEAT_PROOF;
use crate::residency::Owner;
use crate::run::Run;
use crate::shape::resolve;
use crate::store::{FIRST_DEPTH, UNPROVEN};
use crate::stream::PIECE;
use crate::units::{MountId, Nanos, PAGE, Pages, pages_of};
use crate::view::{Happening, Predictor, Survival};
use crate::walk::Ahead;

/// Entries read of one directory.
const LISTING_LIMIT: usize = 1 << 16;

/// Bytes of one order on a large file.
const ORDER_BYTES: u64 = 1 << 20;

/// A record this bad (hits / all) earns a predictor among files only one guess in `PROBATION`; so does a run
/// whose files are found in memory. The reader's next miss ends the latter.
const POOR: f64 = 0.25;
const PROBATION: u64 = 32;

/// When a guess without an order is wanted: after everything that has a time.
const SOME_TIME: Nanos = Nanos::from_millis(10_000);

struct Candidate {
    file: FileId,
    predictor: Predictor,
    deadline: Nanos,
}

/// Where all lies in memory a look from time to time is enough.
fn rests(run: &Run) -> bool {
    run.is_resident() && !run.visit_count.is_multiple_of(PROBATION)
}

impl Core {
    /// The runs at a mount, always in the same order.
    pub(crate) fn runs_at(&self, mount: MountId) -> Vec<(u32, MountId)> {
        let mut keys: Vec<_> = self.runs.keys().filter(|(_, at)| *at == mount).copied().collect();
        keys.sort_unstable();
        keys
    }

    /// The runs at a mount, those first whose predictions save most waiting for each byte fetched. The wait is
    /// the same for all of them; what differs is how often they were right and how much each fetch brings.
    fn by_worth(&self, mount: MountId) -> Vec<(u32, MountId)> {
        let worth = |key: &(u32, MountId)| {
            self.runs.get(key).map_or(0.0, |run| {
                let owner = Owner { workload: run.workload, predictor: run.leading() };
                self.ledger.trust(owner) / run.average().max(PAGE) as f64
            })
        };
        let mut keys = self.runs_at(mount);
        // Most mounts have one run, and this is asked at every read.
        if keys.len() > 1 {
            keys.sort_by(|a, b| worth(b).total_cmp(&worth(a)));
        }
        keys
    }

    /// Fills the free places at a mount: first with what has a time, then with what is left of known sets.
    pub(crate) fn supply(&mut self, mount: MountId, now: Nanos) {
        if !self.limits.prefetch {
            return;
        }
        let keys = self.by_worth(mount);
        let mut epochs = Vec::new();
        for key in keys {
            let Some(mut run) = self.runs.remove(&key) else {
                continue;
            };
            if !rests(&run) {
                self.list_for(&mut run);
                if self.free_places(mount) > 0 {
                    self.supply_repetition(&mut run, now);
                    self.supply_walks(&mut run, now);
                }
                if run.is_known_epoch() {
                    epochs.push(key);
                }
            }
            self.runs.insert(key, run);
        }
        self.supply_epochs(mount, &epochs, now);
    }

    /// Each known set has its share of the mount's depth, and what the others leave of theirs. Places become free
    /// one at a time, so that whoever comes first would have them all otherwise.
    fn supply_epochs(&mut self, mount: MountId, epochs: &[(u32, MountId)], now: Nanos) {
        if epochs.len() > 1 {
            let depth = self.stores.get(&mount).map_or(0, |store| store.depth) as usize;
            let share = depth.div_ceil(epochs.len());
            for key in epochs {
                let under_way = self.flights.values().filter(|flight| flight.is_of(*key)).count();
                self.supply_known(*key, share.saturating_sub(under_way) as u32, now);
            }
        }
        for key in epochs {
            self.supply_known(*key, self.free_places(mount), now);
        }
    }

    fn supply_known(&mut self, key: (u32, MountId), places: u32, now: Nanos) {
        if let Some(mut run) = self.runs.remove(&key) {
            self.supply_epoch(&mut run, places, now);
            self.runs.insert(key, run);
        }
    }

    fn free_places(&self, mount: MountId) -> u32 {
        let Some(store) = self.stores.get(&mount) else {
            return 0;
        };
        match store.survival {
            Survival::Kept => store.depth.saturating_sub(store.outstanding),
            Survival::Unknown => {
                let unproven = UNPROVEN.saturating_sub(store.unproven);
                store.depth.saturating_sub(store.outstanding).min(unproven)
            }
            // Nothing that is not open already can be warmed here.
            Survival::Dropped | Survival::Refused => 0,
        }
    }

    fn list_for(&mut self, run: &mut Run) {
        let Some(store) = self.stores.get(&run.mount) else {
            return;
        };
        if matches!(store.survival, Survival::Dropped | Survival::Refused) {
            return;
        }
        while let Some(dir) = run.next_listing() {
            if matches!(self.catalog.dir(dir).map(|dir| &dir.listing), Some(Listing::Known { .. })) {
                run.listed(&self.catalog, dir);
            } else {
                self.list(run.mount, dir, run.via());
            }
        }
    }

    fn list(&mut self, mount: MountId, dir: DirId, via: u32) {
        if self.catalog.ask(dir) {
            let id = self.order_id();
            self.flights.insert(id, Flight::List { mount, dir });
            let dir = self.catalog.dir_path(dir);
            self.out.push(Order::List { id, mount, dir, limit: LISTING_LIMIT, via });
        }
    }

    /// Spends what a run without a profile may guess with. Called when a reader has just begun to wait for
    /// the store: a guess sent then stands behind the reader's own request on the link, and is done before
    /// its next one; sent when the reader goes on, it would stand before it.
    pub(crate) fn guess(&mut self, mount: MountId, now: Nanos) {
        if !self.limits.prefetch {
            return;
        }
        for key in self.by_worth(mount) {
            let Some(mut run) = self.runs.remove(&key) else { continue };
            if !run.is_known_epoch() {
                self.supply_epoch(&mut run, self.free_places(mount), now);
                self.supply_names(&mut run, now);
            }
            self.runs.insert(key, run);
        }
    }

    /// How many files ahead of its position a run may be, when its order has held `proof` times.
    fn window(&self, run: &Run, proof: u32, owner: Owner, sharers: u64) -> u32 {
        let Some(store) = self.stores.get(&run.mount) else {
            return 0;
        };
        let ahead = run.rate.ahead(store.lead()).min(self.room()) / run.average().max(PAGE) / sharers.max(1);
        let grown = 1u64 << proof.min(12);
        let trust = self.ledger.trust(owner);
        let window = ahead.max(2).min(grown) as f64 * trust;
        if trust < POOR || run.is_resident() {
            u32::from(run.visit_count.is_multiple_of(PROBATION))
        } else {
            window.ceil() as u32
        }
    }

    fn supply_repetition(&mut self, run: &mut Run, now: Nanos) {
        let owner = Owner { workload: run.workload, predictor: Predictor::Repetition };
        let Some(cursor) = run.cursor.filter(|cursor| run.past.proof(*cursor) >= REPEAT_PROOF) else {
            return;
        };
        let to = self.window(run, run.past.proof(cursor) + 1, owner, 1);
        let ahead: Vec<(u32, FileId)> = run.past.ahead(cursor, to).collect();
        for (step, file) in ahead {
            if self.free_places(run.mount) == 0 || self.room() == 0 {
                return;
            }
            let deadline = self.deadline(run, step, now);
            let candidate = Candidate { file, predictor: Predictor::Repetition, deadline };
            self.fetch_file(run, candidate);
            run.past.issue(cursor, step);
        }
    }

    fn supply_walks(&mut self, run: &mut Run, now: Nanos) {
        let owner = Owner { workload: run.workload, predictor: Predictor::Directory };
        if run.cursor.is_some_and(|cursor| run.past.proof(cursor) >= REPEAT_PROOF) {
            return;
        }
        let mut walks: Vec<(u32, usize)> = run
            .threads
            .iter()
            .flat_map(|(tid, thread)| thread.walks().map(|(walk, _)| (*tid, walk)))
            .collect();
        walks.sort_unstable();
        let sharers = walks.len() as u64;
        for (tid, walk) in walks {
            let thread = run.threads.get(&tid);
            let Some((_, walker)) = thread.and_then(|thread| thread.walks().find(|(at, _)| *at == walk))
            else {
                continue;
            };
            for dir in walker.next_dirs(&self.catalog) {
                self.list(run.mount, dir, run.via());
            }
            let to = self.window(run, walker.proof(), owner, sharers);
            for (step, ahead) in walker.ahead(&self.catalog, to) {
                match ahead {
                    Ahead::File(file) => {
                        if self.free_places(run.mount) == 0 || self.room() == 0 {
                            return;
                        }
                        let deadline = self.deadline(run, step, now);
                        let candidate = Candidate { file, predictor: Predictor::Directory, deadline };
                        self.fetch_file(run, candidate);
                        if let Some(thread) = run.threads.get_mut(&tid) {
                            thread.issue(walk, step);
                        }
                    }
                    Ahead::Unlisted(dir) => self.list(run.mount, dir, run.via()),
                    Ahead::End => {}
                }
            }
        }
    }

    fn supply_epoch(&mut self, run: &mut Run, places: u32, now: Nanos) {
        let owner = Owner { workload: run.workload, predictor: Predictor::Epoch };
        let leave = self.free_places(run.mount).saturating_sub(places);
        while self.free_places(run.mount) > leave {
            let Some(budget) = run.guess_budget() else { return };
            let average = run.average();
            if average == 0 || budget < average || self.room() < average {
                return;
            }
            if self.ledger.trust(owner) < POOR
                && !run.visit_count.is_multiple_of(PROBATION)
                && !run.is_known_epoch()
            {
                return;
            }
            if rests(run) {
                return;
            }
            let drawn = if run.is_known_epoch() { run.draw() } else { run.draw_cheapest(&self.catalog) };
            let Some(file) = drawn else { return };
            let deadline = now.plus(SOME_TIME);
            let candidate = Candidate { file, predictor: Predictor::Epoch, deadline };
            run.guessed_bytes += self.fetch_file(run, candidate);
            if run.is_resident() {
                return;
            }
        }
    }

    /// Looks names up ahead where a set is guessed at: it costs no bytes, so it may run further ahead.
    fn supply_names(&mut self, run: &mut Run, now: Nanos) {
        while run.guesses() && self.free_places(run.mount) > FIRST_DEPTH / 2 {
            let Some(id) = run.draw_names() else { return };
            let Some(file) = self.catalog.file_mut(id) else { continue };
            if file.looked_up || file.key.is_some() || self.in_flight.contains_key(&id) {
                continue;
            }
            file.looked_up = true;
            let owner = Owner { workload: run.workload, predictor: Predictor::Epoch };
            let flight = FetchFlight {
                mount: run.mount,
                file: id,
                owner,
                door: Door::Open,
                expected: 0,
                span: 0..0,
                requests: 0,
                added: 0,
                trial: false,
            };
            let reason = "its name, in an epoch that reads every file once";
            self.fetch(flight, Extent::Ranges(Vec::new()), run.via(), now.plus(SOME_TIME), reason);
        }
    }

    fn deadline(&self, run: &Run, step: u32, now: Nanos) -> Nanos {
        let per_file = run.average() as f64 / run.rate.bytes_per_sec().max(1.0);
        now.plus(Nanos((per_file * f64::from(step) * 1e9).min(1e12) as u64))
    }

    /// Asks for the part of a file that its kind is read of; returns the bytes expected.
    fn fetch_file(&mut self, run: &Run, candidate: Candidate) -> u64 {
        let Candidate { file: id, predictor, deadline } = candidate;
        if self.in_flight.contains_key(&id) || self.active.contains_key(&id) {
            return 0;
        }
        let Some(file) = self.catalog.file(id) else {
            return 0;
        };
        let Some(class) = run.class(&file.name) else {
            return 0;
        };
        let Some(extent) = class.extent() else { return 0 };
        let size = file.size;
        let expected = match &extent {
            Extent::Whole { .. } if size == 0 => class.average(),
            Extent::Whole { limit } => size.min(*limit),
            Extent::Ranges(_) => 0,
            Extent::Shape(anchors) if size > 0 => {
                resolve(anchors, size).iter().map(|range| (range.end - range.start) * PAGE).sum()
            }
            Extent::Shape(_) => class.average(),
        };
        if let Some(residency) = &file.residency
            && size > 0
        {
            let wanted = match &extent {
                Extent::Whole { limit } => vec![0..pages_of(size.min(*limit))],
                Extent::Shape(anchors) => resolve(anchors, size),
                Extent::Ranges(ranges) => ranges.clone(),
            };
            if wanted.iter().all(|range| residency.gaps(range).is_empty()) {
                return 0;
            }
        }
        let predictor = if matches!(extent, Extent::Shape(_)) { Predictor::Shape } else { predictor };
        let owner = Owner { workload: run.workload, predictor };
        let flight = FetchFlight {
            mount: run.mount,
            file: id,
            owner,
            door: Door::Open,
            expected,
            requests: 0,
            span: match &extent {
                Extent::Whole { .. } if size > 0 => 0..pages_of(expected),
                _ => 0..u64::from(u32::MAX),
            },
            added: 0,
            trial: false,
        };
        let reason = match predictor {
            Predictor::Directory => "next in the walk through its directory",
            Predictor::Repetition => "next in the order of an earlier run or epoch",
            Predictor::Epoch => "not read yet in an epoch that reads every file once",
            _ => "the part that earlier files of its kind were read of",
        };
        self.fetch(flight, extent, run.via(), deadline, reason);
        expected
    }

    /// Asks for ranges of a file that is open, in orders of about a mebibyte.
    #[expect(clippy::too_many_arguments, reason = "what, where, in whose name, by which way, and when")]
    pub(crate) fn fetch_ranges(
        &mut self,
        id: FileId,
        mount: MountId,
        owner: Owner,
        door: Door,
        trial: bool,
        ranges: Vec<Pages>,
        now: Nanos,
    ) {
        let Some(file) = self.catalog.file(id) else { return };
        let gaps: Vec<Pages> = match &file.residency {
            Some(residency) => ranges.iter().flat_map(|range| residency.gaps(range)).collect(),
            None => ranges,
        };
        let via = match door {
            Door::Descriptor { tgid } => tgid,
            Door::Open => self.active.get(&id).map_or(0, |active| active.tgid),
        };
        let mut group: Vec<Pages> = Vec::new();
        let mut bytes = 0;
        let send = |core: &mut Self, group: &mut Vec<Pages>, bytes: &mut u64| {
            if !group.is_empty() {
                let expected = std::mem::take(bytes);
                let span = group.iter().map(|range| range.start).min().unwrap_or(0)
                    ..group.iter().map(|range| range.end).max().unwrap_or(0);
                let requests = group.iter().map(|range| (range.end - range.start).div_ceil(PIECE)).sum();
                let flight =
                    FetchFlight { mount, file: id, owner, door, expected, span, requests, added: 0, trial };
                let extent = Extent::Ranges(std::mem::take(group));
                core.fetch(flight, extent, via, now, "the stream that reads it goes on");
            }
        };
        for gap in gaps {
            let len = (gap.end - gap.start) * PAGE;
            if bytes > 0 && bytes + len > ORDER_BYTES {
                send(self, &mut group, &mut bytes);
            }
            bytes += len;
            group.push(gap);
        }
        send(self, &mut group, &mut bytes);
    }

    pub(crate) fn fetch(
        &mut self,
        flight: FetchFlight,
        extent: Extent,
        via: u32,
        deadline: Nanos,
        reason: &str,
    ) {
        let Some(store) = self.stores.get_mut(&flight.mount) else {
            return;
        };
        let Some(key) = self.catalog.file(flight.file).map(|file| file.key) else { return };
        store.outstanding += 1;
        store.flying += flight.expected;
        store.requests += flight.requests;
        if store.survival == Survival::Unknown && flight.door == Door::Open && flight.expected > 0 {
            store.unproven += 1;
        }
        let id = self.order_id();
        let path = self.catalog.path(flight.file);
        let (mount, door) = (flight.mount, flight.door);
        self.ledger.predicted(flight.owner);
        self.expected_bytes += flight.expected;
        if self.is_heard() {
            self.happen(Happening::Fetch {
                file: key,
                path: path.clone(),
                predictor: flight.owner.predictor,
                reason: reason.into(),
                bytes: flight.expected,
            });
        }
        let count = self.in_flight.get(&flight.file).map_or(0, |(count, _)| *count);
        self.in_flight.insert(flight.file, (count + 1, flight.owner));
        self.flights.insert(id, Flight::Fetch(flight));
        self.out.push(Order::Fetch { id, mount, path, file: key, door, via, extent, deadline });
    }
}
