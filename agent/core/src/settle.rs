//! What became of it: answers to orders, pages that entered and left the cache, and what both say of a
//! store and of the predictions.

use crate::catalog::FileId;
use crate::core::{Core, FetchFlight, Flight};
use crate::observation::{Actor, Entry, OrderId, Outcome};
use crate::order::{Door, Extent, Order};
use crate::residency::Owner;
use crate::store::Store;
use crate::units::{FileKey, MountId, Nanos, PAGE, Pages, Reader, bytes_in, pages_of};
use crate::view::{Happening, Survival};

/// From an open to the read that follows it, at the most.
const OPEN_TO_READ: Nanos = Nanos::from_millis(1_000);

/// Fetches of one file that may come to nothing before it is drawn no more: a store that is away for minutes
/// is tried with a few hundred files in turn, and a file that cannot be read ends here.
const TRIES: u8 = 8;

/// Threads remembered that emptied a file.
const EMPTIED: usize = 1_024;

impl Core {
    pub(crate) fn added_by_agent(&mut self, key: FileKey, pages: &Pages) {
        let Some(id) = self.catalog.by_key(key) else {
            return;
        };
        let owner = self.in_flight.get(&id).map(|(_, owner)| *owner);
        let claimant = owner.filter(|owner| self.is_wanted(*owner, id));
        let Some(file) = self.catalog.file_mut(id) else {
            return;
        };
        // As much as reading them will redeem. The length of a file that nobody has seen, or that has grown since, is not
        // known.
        let size = if pages.end > pages_of(file.size) { pages.end * PAGE } else { file.size };
        let bytes = bytes_in(pages, size);
        let (read, lost) = file.residency.get_or_insert_default().added_by_agent(pages, claimant, size);
        self.waste(&lost);
        self.totals.fetched_bytes += bytes;
        let Some(owner) = owner else { return };
        self.ledger.fetched(owner, bytes);
        if read > 0 {
            self.ledger.hit(owner, read, true);
        }
        if claimant.is_some() {
            self.claimed.insert(id);
        } else {
            self.ledger.wasted(owner, bytes - read);
        }
        for flight in self.flights.values_mut() {
            if let Flight::Fetch(flight) = flight
                && flight.file == id
            {
                flight.added += pages.end - pages.start;
            }
        }
    }

    /// Whether the run in whose name a file was asked for is still under way. Once it has ended nothing would
    /// settle a claim of it: its pages are waste as they come.
    fn is_wanted(&self, owner: Owner, id: FileId) -> bool {
        self.catalog.mount_of(id).is_some_and(|mount| self.runs.contains_key(&(owner.workload, mount)))
    }

    /// A reader's own request is on its way: its miss begins here.
    pub(crate) fn added_by_thread(
        &mut self,
        key: FileKey,
        pages: &Pages,
        reader: Option<Reader>,
        now: Nanos,
    ) {
        let Some(id) = self.catalog.by_key(key) else { return };
        // Their leaving may have been among records that were lost.
        self.details_again(id, key);
        if let Some(reader) = reader {
            self.reads_anew(id, reader, now);
        }
        if let Some(file) = self.catalog.file_mut(id) {
            let lost = file.residency.get_or_insert_default().added_by_thread(pages);
            self.waste(&lost);
        }
        if let Some(mount) = self.catalog.mount_of(id) {
            for run in self.runs.values_mut().filter(|run| run.mount == mount) {
                run.resident = 0;
            }
            if let Some(reader) = reader {
                self.begins(id, mount, reader, now);
            }
            self.guess(mount, now);
        }
    }

    /// Who waits for the first pages of a file will want what is read together with it: asked for now, it stands behind
    /// the reader's own request.
    fn begins(&mut self, id: FileId, mount: MountId, reader: Reader, now: Nanos) {
        let key = (self.processes.get(&reader.tgid).copied().unwrap_or(0), mount);
        let thread = self.runs.get(&key).and_then(|run| run.threads.get(&reader.tid));
        if thread.is_some_and(|thread| !thread.is_at(id)) {
            self.supply_companions(key, id, now);
        }
    }

    pub(crate) fn removed(&mut self, key: FileKey, pages: &Pages, by: Actor, now: Nanos) {
        let Some(id) = self.catalog.by_key(key) else {
            return;
        };
        self.details_again(id, key);
        let Some(file) = self.catalog.file_mut(id) else {
            return;
        };
        let Some(residency) = &mut file.residency else {
            return;
        };
        let lost = residency.removed(pages);
        if residency.is_empty() {
            file.residency = None;
        }
        if lost.is_empty() {
            return;
        }
        let Some(mount) = self.catalog.mount_of(id) else { return };
        if by == Actor::Agent {
            self.let_go(id, mount, pages, &lost, now);
            return;
        }
        self.waste(&lost);
        let among_files = lost.iter().any(|(owner, _)| owner.predictor.is_among_files());
        if let Actor::Thread(thread) = by
            && among_files
        {
            // Exits may be lost.
            if self.emptied.len() >= EMPTIED {
                self.emptied.clear();
            }
            self.emptied.insert(thread, (id, now));
        }
    }

    /// Where counters were enough the details are wanted back: pages of the file leave or come, and it will miss again; or
    /// the probe has named it anew, which ended it there, or was about to when it was ordered.
    pub(crate) fn details_again(&mut self, id: FileId, key: FileKey) {
        if self.catalog.file_mut(id).is_some_and(|file| std::mem::take(&mut file.quiet)) {
            if let Some(active) = self.active.get_mut(&id) {
                active.hits = 0;
            }
            self.out.push(Order::Detail { file: key, wanted: true });
        }
    }

    /// A thread has a file's pages brought in by itself. If it was the one to throw out those that lay ready, its
    /// open did: whoever takes memory back, or empties the cache, does not come to read just that file next.
    fn reads_anew(&mut self, id: FileId, reader: Reader, now: Nanos) {
        let opened = |(file, at): &(FileId, Nanos)| *file == id && now.since(*at) < OPEN_TO_READ;
        if !self.emptied.get(&reader).is_some_and(opened) {
            return;
        }
        self.emptied.remove(&reader);
        let Some(mount) = self.catalog.mount_of(id) else { return };
        if self.stores.get_mut(&mount).is_some_and(|store| store.met_open(false)) {
            self.judge(mount, Survival::Dropped);
        }
    }

    /// Pages left in the agent's own name: its second open of the file dropped them, or the kernel took
    /// pages back that it had made room for and then did not ask the store for.
    fn let_go(&mut self, id: FileId, mount: MountId, pages: &Pages, lost: &[(Owner, u64)], now: Nanos) {
        let on_trial = self.flights.values().any(|flight| match flight {
            Flight::Fetch(flight) => flight.file == id && flight.trial,
            Flight::List { .. } => false,
        });
        if on_trial {
            self.waste(lost);
            self.judge(mount, Survival::Dropped);
            return;
        }
        for (owner, bytes) in lost {
            self.ledger.unfetched(*owner, *bytes);
            self.totals.fetched_bytes = self.totals.fetched_bytes.saturating_sub(*bytes);
        }
        if let Some(active) = self.active.get_mut(&id) {
            active.streams.retreat(pages);
        }
        if let Some(store) = self.stores.get_mut(&mount) {
            store.turned_away(now);
        }
    }

    /// Mounts that refused our opens for long enough are tried again: nothing else would lead back.
    pub(crate) fn reconsider(&mut self, now: Nanos) {
        let due = |store: &mut Store| store.tries_again(now).then_some(store.mount);
        let mut due: Vec<MountId> = self.stores.values_mut().filter_map(due).collect();
        due.sort_unstable();
        for mount in due {
            self.judge(mount, Survival::Unknown);
        }
    }

    /// The verdict on a store, once it is found.
    pub(crate) fn judge(&mut self, mount: MountId, verdict: Survival) {
        let Some(store) = self.stores.get_mut(&mount) else {
            return;
        };
        if store.survival == verdict {
            return;
        }
        store.survival = verdict;
        let source = store.source.clone();
        self.happen(Happening::Mount { source, survival: verdict });
        if matches!(verdict, Survival::Dropped | Survival::Refused) {
            let mut stale: Vec<OrderId> = self
                .flights
                .iter()
                .filter(|(_, flight)| match flight {
                    Flight::Fetch(flight) => flight.mount == mount && flight.door == Door::Open,
                    Flight::List { .. } => false,
                })
                .map(|(id, _)| *id)
                .collect();
            stale.sort_unstable();
            self.out.extend(stale.into_iter().map(|id| Order::Cancel { id }));
        }
    }

    pub(crate) fn listed(&mut self, id: OrderId, outcome: Outcome, entries: &[Entry], now: Nanos) {
        let Some(Flight::List { mount, dir }) = self.flights.remove(&id) else {
            return;
        };
        let entries = (outcome == Outcome::Done).then_some(entries);
        if self.catalog.names() + entries.map_or(0, <[Entry]>::len) > self.limits.files {
            // Listing more than may be known would forget what is being read.
            self.catalog.listed(dir, None);
            return;
        }
        self.catalog.listed(dir, entries);
        for run in self.runs.values_mut().filter(|run| run.mount == mount) {
            run.listed(&self.catalog, dir);
        }
        self.supply(mount, now);
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of one observation, destructured by the caller"
    )]
    pub(crate) fn fetched(
        &mut self,
        id: OrderId,
        outcome: Outcome,
        key: Option<FileKey>,
        size: u64,
        bytes: u64,
        took: Nanos,
        now: Nanos,
    ) {
        let Some(Flight::Fetch(flight)) = self.flights.remove(&id) else {
            return;
        };
        self.expected_bytes = self.expected_bytes.saturating_sub(flight.expected);
        if let Some((count, _)) = self.in_flight.get_mut(&flight.file) {
            *count -= 1;
            if *count == 0 {
                self.in_flight.remove(&flight.file);
            }
        }
        // A descriptor leads to an inode whatever it is called: after a rename that is another file here.
        let renamed = flight.door != Door::Open
            && key.and_then(|key| self.catalog.by_key(key)).is_some_and(|id| id != flight.file);
        // The number of a device that has gone may be another's by now.
        if let Some(key) = key
            && !renamed
            && self.stores.contains_key(&flight.mount)
        {
            let lost = self.catalog.bind(flight.file, key, size);
            self.waste(&lost);
        }
        let Some(store) = self.stores.get_mut(&flight.mount) else {
            return;
        };
        store.outstanding = store.outstanding.saturating_sub(1);
        store.flying = store.flying.saturating_sub(flight.expected);
        if flight.requests > 0 {
            store.streaming = store.streaming.saturating_sub(flight.expected);
        }
        store.requests = store.requests.saturating_sub(flight.requests);
        // A name that is only looked up tells of its directory.
        let opens = flight.door == Door::Open && (flight.expected > 0 || flight.trial);
        match outcome {
            Outcome::Done => {
                if opens {
                    store.met_entry();
                }
                if let Some(fetches) = store.delivered(bytes, took, now) {
                    self.out.push(Order::Depth { mount: flight.mount, fetches });
                }
                if bytes > 0 {
                    store.answered();
                }
                if !renamed {
                    self.arrived(&flight, size, bytes);
                    if let Some(rest) = flight.rest.clone() {
                        self.go_on(rest, size);
                    }
                }
                self.try_survival(&flight, bytes, now);
            }
            Outcome::Absent | Outcome::Refused | Outcome::Failed | Outcome::Dropped => {
                self.advances.retain(|advance| advance.file != flight.file);
                if matches!(outcome, Outcome::Failed | Outcome::Dropped) && flight.door == Door::Open {
                    store.failed(now);
                }
                if flight.trial {
                    store.tried = false;
                } else if opens {
                    // Nothing came of which it could be seen whether it survives: a store met in an outage would
                    // use up its tries.
                    store.unproven = store.unproven.saturating_sub(1);
                }
                let refused = outcome == Outcome::Refused && opens;
                if refused && store.met_refusal(now) {
                    self.judge(flight.mount, Survival::Refused);
                }
                if let Some(active) = self.active.get_mut(&flight.file) {
                    // Not there in time: the stream may ask again, by another way where this one is closed.
                    active.orphan |= outcome == Outcome::Absent && flight.door != Door::Open;
                    active.refused |= refused;
                    active.streams.retreat(&flight.span);
                }
            }
        }
        if let Some(run) = self.runs.get_mut(&(flight.owner.workload, flight.mount)) {
            if flight.owner.predictor == crate::view::Predictor::Epoch {
                // What was charged at the order is corrected to what was fetched.
                run.guessed_bytes = (run.guessed_bytes + bytes).saturating_sub(flight.expected);
            }
            if let Some(file) = self.catalog.file_mut(flight.file).filter(|_| flight.drawn) {
                let failed = matches!(outcome, Outcome::Failed | Outcome::Dropped);
                file.failures = if failed { file.failures.saturating_add(1) } else { 0 };
                if failed && file.failures < TRIES {
                    run.put_back(flight.file);
                }
            }
            if outcome == Outcome::Done && flight.expected > 0 && !flight.trial {
                run.resident =
                    if bytes == 0 && flight.added == 0 { run.resident.saturating_add(1) } else { 0 };
            }
        }
        self.supply(flight.mount, now);
    }

    /// Where the probe did not see the pages enter (it lost records, or there is none), the answer says it.
    fn arrived(&mut self, flight: &FetchFlight, size: u64, bytes: u64) {
        if flight.added > 0 || bytes == 0 || flight.trial {
            return;
        }
        let claimant = Some(flight.owner).filter(|owner| self.is_wanted(*owner, flight.file));
        let Some(file) = self.catalog.file_mut(flight.file) else {
            return;
        };
        let residency = file.residency.get_or_insert_default();
        let wanted = flight.span.start..(flight.span.start + pages_of(bytes)).min(pages_of(size.max(bytes)));
        let gaps = residency.gaps(&wanted);
        let size = size.max(bytes);
        let lost: Vec<_> =
            gaps.iter().flat_map(|gap| residency.added_by_agent(gap, claimant, size).1).collect();
        self.waste(&lost);
        let brought = gaps.iter().map(|gap| bytes_in(gap, size)).sum();
        self.totals.fetched_bytes += brought;
        self.ledger.fetched(flight.owner, brought);
        if claimant.is_some() {
            self.claimed.insert(flight.file);
        } else {
            self.ledger.wasted(flight.owner, brought);
        }
    }

    /// Where it is not known whether pages survive an open, the first file brought in is opened once more:
    /// if its pages are still there, they survive.
    fn try_survival(&mut self, flight: &FetchFlight, bytes: u64, now: Nanos) {
        let Some(store) = self.stores.get_mut(&flight.mount) else {
            return;
        };
        if store.survival != Survival::Unknown || flight.door != Door::Open {
            return;
        }
        if flight.trial {
            // Had the second open dropped them, `removed` would have said so by now.
            self.judge(flight.mount, Survival::Kept);
        } else if bytes > 0
            && !self.active.contains_key(&flight.file)
            && !std::mem::replace(&mut store.tried, true)
        {
            let again = FetchFlight {
                expected: 0,
                added: 0,
                trial: true,
                drawn: false,
                rest: None,
                ..flight.clone()
            };
            let via = self.runs.get(&(flight.owner.workload, flight.mount)).map_or(0, crate::run::Run::via);
            let extent = Extent::Whole { limit: bytes };
            self.fetch(again, extent, via, now, "to see whether its pages survive an open");
        }
    }

    /// Records were lost: of every file pages may have gone unseen, of one read long ago most likely, and
    /// nothing would ever say so again. The edge counts the files being read anew; of the others nothing is
    /// known until they are read or fetched, which costs a look where they were there after all. One walk over
    /// the catalog, as `stir_all` takes too; the probe tells of losses ten times a second at most.
    pub(crate) fn doubt(&mut self) {
        let known = self.catalog.files().filter(|(_, file)| file.residency.is_some());
        let known: Vec<FileId> = known.map(|(id, _)| id).collect();
        for id in known {
            let Some(file) = self.catalog.file_mut(id) else { continue };
            if let Some(residency) = &mut file.residency {
                residency.doubt();
            }
            file.residency.take_if(|residency| residency.is_empty());
        }
    }

    /// Files being read, each with a process that reads it.
    pub fn being_read(&self) -> Vec<(u32, FileKey)> {
        let key = |id: &FileId| self.catalog.file(*id).and_then(|file| file.key);
        let mut files: Vec<_> =
            self.active.iter().filter_map(|(id, active)| Some((active.tgid, key(id)?))).collect();
        files.sort_unstable();
        files
    }

    /// Books claims that nobody can redeem any more.
    pub(crate) fn waste(&mut self, lost: &[(Owner, u64)]) {
        for (owner, bytes) in lost {
            self.ledger.wasted(*owner, *bytes);
        }
    }

    /// Gives up what was fetched for a run and not read.
    pub(crate) fn abandon(&mut self, workload: u32, mount: MountId) {
        let mut files: Vec<_> = self.claimed.iter().copied().collect();
        files.sort_unstable();
        for id in files {
            if self.catalog.mount_of(id) != Some(mount) {
                continue;
            }
            let Some(residency) = self.catalog.file_mut(id).and_then(|file| file.residency.as_mut()) else {
                self.claimed.remove(&id);
                continue;
            };
            let lost = residency.abandon(workload);
            if residency.claimed_pages() == 0 {
                self.claimed.remove(&id);
            }
            self.waste(&lost);
        }
    }
}
