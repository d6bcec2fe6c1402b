//! What to ask for next: keeps each store's link busy with the files that predictions among files name,
//! the surest first, within depth, memory and what a guess may cost.

use crate::catalog::{DirId, FileId};
use crate::companions::Names;
use crate::core::{Core, FetchFlight, Flight};
use crate::fetch::Candidate;
use crate::order::{Door, Extent, Order};
use crate::past::REPEAT_PROOF;
use crate::residency::Owner;
use crate::run::{LARGE, Run};
use crate::store::FIRST_DEPTH;
use crate::stream::ORDER_BYTES;
use crate::units::{MountId, Nanos, PAGE};
use crate::view::{Predictor, Survival};
use crate::walk::Ahead;

/// Entries read of one directory.
const LISTING_LIMIT: usize = 1 << 16;

/// A record this bad (hits / all) earns a predictor among files only one guess in `PROBATION`; so does a run
/// whose files are found in memory. The reader's next miss ends the latter.
const POOR: f64 = 0.25;
const PROBATION: u64 = 32;

/// When a guess without an order is wanted: after everything that has a time.
const SOME_TIME: Nanos = Nanos::from_millis(10_000);

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
        self.advance(mount, now);
        let keys = self.by_worth(mount);
        let mut epochs = Vec::new();
        for key in keys {
            let Some(mut run) = self.runs.remove(&key) else {
                continue;
            };
            if !rests(&run) {
                self.list_for(&mut run);
                if self.free_places(mount, now) > 0 {
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
            self.supply_known(*key, self.free_places(mount, now), now);
        }
    }

    fn supply_known(&mut self, key: (u32, MountId), places: u32, now: Nanos) {
        if let Some(mut run) = self.runs.remove(&key) {
            self.supply_epoch(&mut run, places, now);
            self.runs.insert(key, run);
        }
    }

    pub(crate) fn free_places(&self, mount: MountId, now: Nanos) -> u32 {
        self.stores.get(&mount).map_or(0, |store| store.free_places(now))
    }

    fn list_for(&mut self, run: &mut Run) {
        let Some(store) = self.stores.get(&run.mount) else {
            return;
        };
        if matches!(store.survival, Survival::Dropped | Survival::Refused) {
            return;
        }
        while let Some(dir) = run.next_listing() {
            if self.catalog.listing(dir).is_some() {
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
                self.supply_epoch(&mut run, self.free_places(mount, now), now);
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
            if self.free_places(run.mount, now) == 0 || self.room() == 0 {
                return;
            }
            let deadline = self.deadline(run, step, now);
            let candidate = Candidate { file, predictor: Predictor::Repetition, deadline, drawn: false };
            if self.fetch_file(run, candidate, now).is_none() {
                return;
            }
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
            let window = self.window(run, walker.proof(), owner, sharers);
            for dir in walker.next_dirs(&self.catalog, window) {
                self.list(run.mount, dir, run.via());
            }
            let to = if walker.leaps() { window } else { run.walks.limit(walker.files(), window) };
            for (step, ahead) in walker.ahead(&self.catalog, to) {
                match ahead {
                    Ahead::File(file) => {
                        if self.free_places(run.mount, now) == 0 || self.room() == 0 {
                            return;
                        }
                        let deadline = self.deadline(run, step, now);
                        let candidate =
                            Candidate { file, predictor: Predictor::Directory, deadline, drawn: false };
                        if self.fetch_file(run, candidate, now).is_none() {
                            // The files of another walk may be smaller.
                            break;
                        }
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

    /// What is read together with a file that a thread of this run has begun to read, or is about to.
    pub(crate) fn supply_companions(&mut self, key: (u32, MountId), id: FileId, now: Nanos) {
        let Some(run) = self.runs.get(&key) else { return };
        let owner = Owner { workload: run.workload, predictor: Predictor::Directory };
        let poor = self.ledger.trust(owner) < POOR && !run.visit_count.is_multiple_of(PROBATION);
        if !self.limits.prefetch || poor || rests(run) || self.catalog.names() >= self.limits.files {
            return;
        }
        let names = run.companions.of(&mut self.catalog, id);
        if names.is_empty() {
            return;
        }
        let Some(run) = self.runs.remove(&key) else { return };
        self.fetch_companions(&run, names, owner.predictor, now);
        self.runs.insert(key, run);
    }

    /// Asks for files that are read together, in their order; returns the bytes expected.
    fn fetch_companions(&mut self, run: &Run, names: Names, predictor: Predictor, now: Nanos) -> u64 {
        let mut bytes = 0;
        for (step, (dir, name)) in (1..).zip(names) {
            if self.free_places(run.mount, now) == 0 || self.catalog.names() >= self.limits.files {
                break;
            }
            let Some(file) = self.catalog.expected_in(dir, &name) else { break };
            let guessed = predictor == Predictor::Epoch;
            let deadline = if guessed { now.plus(SOME_TIME) } else { self.deadline(run, step, now) };
            let candidate = Candidate { file, predictor, deadline, drawn: false };
            let Some(expected) = self.fetch_file(run, candidate, now) else { break };
            bytes += expected;
        }
        bytes
    }

    fn supply_epoch(&mut self, run: &mut Run, places: u32, now: Nanos) {
        let owner = Owner { workload: run.workload, predictor: Predictor::Epoch };
        let leave = self.free_places(run.mount, now).saturating_sub(places);
        while self.free_places(run.mount, now) > leave {
            let Some(mut budget) = run.guess_budget() else { return };
            let mut average = run.average();
            if average > LARGE && !run.is_known_epoch() {
                // Beside the wait for its start a large file has the link for itself, which a guess would take from it.
                average = ORDER_BYTES;
                budget = budget.min(self.waits_worth(run).saturating_sub(run.guessed_bytes));
            }
            if average == 0 || budget < average || self.room() < average {
                return;
            }
            if self.ledger.trust(owner) < POOR
                && !run.visit_count.is_multiple_of(PROBATION)
                && !run.is_known_epoch()
            {
                return;
            }
            // Asked before one is drawn, which would lose its turn.
            let surety = self.surety(run, owner);
            if rests(run) || !self.lends(run.mount, surety, now) {
                return;
            }
            let drawn = if run.is_known_epoch() { run.draw() } else { run.draw_cheapest(&self.catalog) };
            let Some(file) = drawn else { return };
            let deadline = now.plus(SOME_TIME);
            let candidate = Candidate { file, predictor: Predictor::Epoch, deadline, drawn: true };
            let Some(expected) = self.fetch_file(run, candidate, now) else {
                run.put_back(file);
                return;
            };
            run.guessed_bytes += expected;
            // It would come too late when the reader finds the first one ready.
            if !run.is_known_epoch() && self.catalog.names() < self.limits.files {
                let names = run.companions.of(&mut self.catalog, file);
                run.guessed_bytes += self.fetch_companions(run, names, Predictor::Epoch, now);
            }
            if run.is_resident() {
                return;
            }
        }
    }

    /// What the readers would have read in the time of the waits for their files' starts: guesses that take the link for no longer
    /// cost them no more than they may gain.
    fn waits_worth(&self, run: &Run) -> u64 {
        let wait = self.stores.get(&run.mount).map_or(0.0, |store| store.latency().as_secs_f64());
        (run.rate.bytes_per_sec() * wait * run.distinct() as f64) as u64
    }

    /// Looks names up ahead where a set is guessed at: it costs no bytes, so it may run further ahead.
    fn supply_names(&mut self, run: &mut Run, now: Nanos) {
        while run.guesses() && self.free_places(run.mount, now) > FIRST_DEPTH / 2 {
            let Some(id) = run.draw_names(&self.catalog) else { return };
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
                drawn: false,
                rest: None,
            };
            let reason = "its name, in an epoch that reads every file once";
            self.fetch(flight, Extent::Ranges(Vec::new()), run.via(), now.plus(SOME_TIME), reason);
        }
    }

    fn deadline(&self, run: &Run, step: u32, now: Nanos) -> Nanos {
        let per_file = run.average() as f64 / run.rate.bytes_per_sec().max(1.0);
        now.plus(Nanos((per_file * f64::from(step) * 1e9).min(1e12) as u64))
    }
}
