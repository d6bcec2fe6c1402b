//! What a read means: coverage, claims redeemed, the visit it belongs to, the stream it continues.

use crate::catalog::{File, FileId};
use crate::class::Class;
use crate::core::{ACTIVE, Active, Core, Flight};
use crate::observation::Via;
use crate::order::{Door, Order};
use crate::residency::{Owner, Residency};
use crate::run::{LARGE, Run, Visit};
use crate::stream::{PIECE, Pattern, STREAM_LIMIT, Terms, Want};
use crate::thread::Thread;
use crate::units::{FileKey, MountId, Nanos, PAGE, Pages, Reader, bytes_in, pages_of};
use crate::view::{Happening, Predictor, Survival};

/// Hits in a row before a file is looked at for being settled.
const SETTLED: u32 = 256;

/// Pages that a sweep asks for at least at once: 1 MiB, so that it costs few orders.
const SWEEP: u64 = 256;

/// Of a file that has been swept so much is read, one part in so many, before a miss has it swept anew.
const AGAIN: u64 = 10;

impl Core {
    pub(crate) fn residency(&mut self, key: FileKey) -> Option<&mut Residency> {
        let id = self.catalog.by_key(key)?;
        let file = self.catalog.file_mut(id)?;
        Some(file.residency.get_or_insert_default())
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of one observation, destructured by the caller"
    )]
    pub(crate) fn access(
        &mut self,
        key: FileKey,
        reader: Reader,
        pages: &Pages,
        via: Via,
        count: u32,
        size: u64,
        now: Nanos,
    ) {
        let Some(id) = self.catalog.by_key(key) else {
            // Its first sight was lost; the next one will name it.
            self.totals.unnamed += 1;
            return;
        };
        let Some(mount) = self.catalog.mount_of(id) else {
            return;
        };
        let workload = self.processes.get(&reader.tgid).copied().unwrap_or(0);
        let Some(file) = self.catalog.file_mut(id) else {
            return;
        };
        if size > 0 {
            file.size = size;
        }
        let size = file.size;
        let mut pages = pages.start..pages.end.min(pages_of(size).max(pages.start));
        let each = (pages.end - pages.start).div_ceil(u64::from(count.max(1)));
        // What was read, and what was walked over, may begin before what is told.
        let mut walked = pages.clone();
        if let Some(streams) = self.active.get(&id).map(|active| &active.streams)
            && let Some(residency) = &file.residency
        {
            let there = |from: &u64| residency.gaps(&(*from..pages.start)).is_empty();
            let head = match via {
                Via::Read => streams.head_of(reader, &pages, count).filter(there),
                Via::Fault | Via::Mapped | Via::Direct => None,
            };
            let from = match via {
                Via::Read | Via::Fault => {
                    streams.walk_to(reader, pages.start, via == Via::Fault).filter(there)
                }
                Via::Mapped | Via::Direct => None,
            };
            walked.start = head.or(from).unwrap_or(pages.start);
            pages.start = head.unwrap_or(pages.start);
        }
        let found = match via {
            Via::Read | Via::Fault => file.residency.get_or_insert_default().read(&pages),
            Via::Mapped => {
                let (found, known) = file
                    .residency
                    .as_deref_mut()
                    .map(|residency| (residency.mapped(&pages), residency.known(&pages)))
                    .unwrap_or_default();
                // What is not there was not mapped, and no walk has come over it.
                pages.end = known.last().map_or(pages.start, |last| last.end);
                pages.start = known.first().map_or(pages.start, |first| first.start);
                walked = pages.clone();
                found
            }
            Via::Direct => crate::residency::Found { missed: pages.end - pages.start, claimed: Vec::new() },
        };
        let bytes = if pages.is_empty() {
            // Sampled, or mapped without our knowing what: so many accesses, each of at least a page, somewhere
            // in the file.
            u64::from(count) * PAGE
        } else {
            bytes_in(&pages, size)
        };
        let missed = (found.missed * PAGE).min(bytes);
        if via != Via::Mapped {
            file.reads = file.reads.saturating_add(count);
            file.read_bytes += bytes;
            file.covered_bytes += bytes - missed;
            self.totals.reads += u64::from(count);
            self.totals.read_bytes += bytes;
            self.totals.covered_bytes += bytes - missed;
        }
        let spared = self.redeem(id, mount, &pages, &found.claimed);

        if !self.runs.contains_key(&(workload, mount)) {
            self.begin_run(workload, mount);
        }
        let Some(run) = self.runs.get_mut(&(workload, mount)) else {
            return;
        };
        // What a process read may be told after its end.
        let lives = self.processes.contains_key(&reader.tgid);
        if lives && !run.tgids.contains(&reader.tgid) && run.tgids.len() < ACTIVE {
            run.tgids.push(reader.tgid);
        }
        if via != Via::Mapped {
            run.read_bytes += bytes;
            if missed > 0 {
                run.resident = 0;
            }
            if let Some(known) = self.workloads.get_mut(workload as usize) {
                known.read_bytes += bytes;
                known.covered_bytes += bytes - missed;
            }
        }
        run.rate.sample(bytes, now);
        let before = run.threads.get(&reader.tid).and_then(|thread| thread.last());
        let visit = run.visit(&self.catalog, reader, id, now);
        if via != Via::Mapped && run.threads.get(&reader.tid).is_some_and(Thread::is_astray) {
            run.stray_bytes += bytes;
        }
        match visit {
            Visit::New => {
                if let Some(store) = self.stores.get_mut(&mount).filter(|_| spared) {
                    store.link.spared();
                }
                if let Some(known) = self.workloads.get_mut(workload as usize) {
                    known.files_read += 1;
                }
                if let Some(dir) = self.catalog.outgrown(id) {
                    run.relist(dir);
                }
                if let Some(before) = before {
                    self.leave(workload, mount, before, reader.tid);
                }
                self.supply_companions((workload, mount), id, now);
            }
            Visit::Same => self.come_back(workload, mount, id, reader.tid),
        }
        if self.is_heard() {
            let (path, covered, pages) = (self.catalog.path(id), missed == 0, pages.clone());
            self.happen(Happening::Read { file: key, mount, path, tgid: reader.tgid, pages, count, covered });
        }
        if via != Via::Direct && !pages.is_empty() {
            self.follow(id, workload, mount, reader, &walked, each, via, missed > 0, now);
            if pages.end >= pages_of(size) {
                self.reach_end(workload, mount, id, reader.tid);
            }
            self.hush(id, key, missed == 0);
        }
        self.supply(mount, now);
    }

    /// Claims that a read redeemed: hits, or late where the fetch is still under way. Returns whether the file was there
    /// before its reader.
    fn redeem(&mut self, id: FileId, mount: MountId, pages: &Pages, claimed: &[(Owner, u64)]) -> bool {
        if claimed.is_empty() {
            return false;
        }
        let mut spared = false;
        let late = self.in_flight.contains_key(&id)
            && self.flights.values().any(|flight| match flight {
                Flight::Fetch(flight) => {
                    flight.file == id && flight.span.start < pages.end && pages.start < flight.span.end
                }
                Flight::List { .. } => false,
            });
        for (owner, bytes) in claimed {
            self.ledger.hit(*owner, *bytes, late);
            let Some(store) = self.stores.get_mut(&mount) else { continue };
            // What arrives behind the reader's open says nothing of what an open leaves; where nothing else has said it yet, it
            // is believed.
            if owner.predictor.is_among_files() && (!late || store.survival == Survival::Unknown) {
                store.met_open(true);
            }
            spared |= !late && owner.predictor.is_among_files();
        }
        spared
    }

    /// Follows the streams of a file and fetches what they want next.
    #[expect(
        clippy::too_many_arguments,
        reason = "who walked over what, by which way, with what success, and when"
    )]
    fn follow(
        &mut self,
        id: FileId,
        workload: u32,
        mount: MountId,
        reader: Reader,
        pages: &Pages,
        each: u64,
        via: Via,
        missed: bool,
        now: Nanos,
    ) {
        if self.active.len() >= ACTIVE && !self.active.contains_key(&id) {
            let oldest = self.active.iter().min_by_key(|(id, active)| (active.last, **id)).map(|(id, _)| *id);
            if let Some(oldest) = oldest {
                self.active.remove(&oldest);
            }
        }
        let room = self.room();
        let (Some(file), Some(store)) = (self.catalog.file(id), self.stores.get(&mount)) else {
            return;
        };
        let Some(run) = self.runs.get_mut(&(workload, mount)) else {
            return;
        };
        let mut spare = Class::default();
        let class = run.class_mut(&file.name).unwrap_or(&mut spare);
        let active = self.active.entry(id).or_default();
        active.orphan &= active.tgid == reader.tgid;
        active.tgid = reader.tgid;
        active.tid = reader.tid;
        active.last = now;
        match (via, &file.residency) {
            (Via::Mapped, Some(residency)) => {
                for known in residency.known(pages) {
                    active.fresh += active.read.insert(&known);
                }
            }
            _ => {
                active.fresh += active.read.insert(pages);
            }
        }
        active.since_sweep += pages.end - pages.start;
        let before = active.streams.latest();
        let stream = match via {
            Via::Read | Via::Fault | Via::Direct => {
                active.streams.observe(reader, pages, each, &active.read, &mut class.bursts, now)
            }
            // Mapped around a fault: progress of a walk, but no step of its own.
            Via::Mapped => match active.streams.carry(reader, pages, now) {
                Some(stream) => stream,
                None => return,
            },
        };
        let pattern = active.streams.pattern(stream);
        if matches!(pattern, Pattern::Random { .. }) {
            active.end_pass(class, file.size);
        }
        let wanted = if class.whole > class.part && file.size <= LARGE && file.size > 0 {
            // The rest of a small file, at its first page.
            let rest = pages.end..pages_of(file.size);
            (pages.start == 0 && !rest.is_empty() && !self.in_flight.contains_key(&id)).then(|| {
                let ranges = vec![rest];
                (Predictor::WholeFile, Want { pattern, ranges })
            })
        } else {
            let owner = |predictor| Owner { workload, predictor };
            let predictor = predictor_of(pattern);
            let trust = self.ledger.trust(owner(predictor));
            let limit = (room as f64 * trust) as u64;
            let terms = Terms {
                lead: store.lead(),
                file_pages: pages_of(file.size),
                limit: limit.min(STREAM_LIMIT),
                open: store.open_bytes(),
                requests: store.open_requests(),
            };
            match pattern {
                Pattern::Random { .. } if class.whole > class.part => sweep(active, file, missed, terms),
                _ => active.streams.want(stream, &class.bursts, terms),
            }
            .map(|want| (predictor_of(want.pattern), want))
        };
        // Where an open drops the file's pages, or is refused, or may: through the reader's descriptor. A
        // mapping whose descriptor is closed leaves only the open; where nothing is known, it is tried.
        let (door, trial) = match store.survival {
            Survival::Kept if !active.refused => (Some(Door::Open), false),
            Survival::Unknown if active.orphan && !active.refused => (Some(Door::Open), true),
            Survival::Kept | Survival::Unknown | Survival::Dropped | Survival::Refused if active.orphan => {
                (None, false)
            }
            Survival::Kept | Survival::Unknown | Survival::Dropped | Survival::Refused => {
                (Some(Door::Descriptor { tgid: reader.tgid }), false)
            }
        };
        if before != pattern && pattern != Pattern::New && self.is_heard() {
            let path = self.catalog.path(id);
            let pattern = crate::explain::words(pattern).into();
            self.happen(Happening::Pattern { mount, path, tgid: reader.tgid, pattern });
        }
        if let Some((predictor, want)) = wanted
            && room > 0
            && let Some(door) = door
        {
            let owner = Owner { workload, predictor };
            self.fetch_ranges(id, mount, owner, door, trial, want.ranges, now);
        }
    }

    /// A file that lies in memory whole and is read again and again has nothing left to predict: from then
    /// on counters are enough, and its readers pay for no records.
    fn hush(&mut self, id: FileId, key: FileKey, hit: bool) {
        let Some(active) = self.active.get_mut(&id) else { return };
        active.hits = if hit { active.hits.saturating_add(1) } else { 0 };
        let (settled, checked) = (active.hits >= SETTLED, active.hits.is_power_of_two());
        let Some(file) = self.catalog.file_mut(id).filter(|file| !file.quiet && settled && checked) else {
            return;
        };
        let whole = 0..pages_of(file.size);
        if file.residency.as_ref().is_some_and(|residency| residency.gaps(&whole).is_empty()) {
            file.quiet = true;
            self.out.push(Order::Detail { file: key, wanted: false });
        }
    }

    fn begin_run(&mut self, workload: u32, mount: MountId) {
        let mut run = Run::new(workload, mount);
        if let Some(known) = self.workloads.get_mut(workload as usize) {
            known.runs = known.runs.saturating_add(1);
        }
        self.recall(&mut run);
        self.runs.insert((workload, mount), run);
    }
}

/// Files of this kind are read whole, and this one in no order: what it lacks is brought in from its start to
/// its end, if all of that fits into memory.
fn sweep(active: &mut Active, file: &File, missed: bool, terms: Terms) -> Option<Want> {
    // What it brought is gone again.
    if missed && active.swept >= terms.file_pages && active.since_sweep >= terms.file_pages / AGAIN {
        (active.swept, active.since_sweep) = (0, 0);
    }
    let ahead = terms.file_pages.saturating_sub(active.swept);
    let most = (terms.open / PAGE).min(terms.requests * PIECE);
    if most < SWEEP || ahead * PAGE > terms.limit {
        return None;
    }
    let mut ranges: Vec<Pages> = Vec::new();
    let mut found = 0;
    while found < most && active.swept < terms.file_pages {
        let window = active.swept..(active.swept + most - found).min(terms.file_pages);
        active.swept = window.end;
        let gaps = file.residency.as_ref().map_or_else(|| vec![window.clone()], |known| known.gaps(&window));
        found += gaps.iter().map(|gap| gap.end - gap.start).sum::<u64>();
        ranges.extend(gaps);
    }
    (!ranges.is_empty()).then_some(Want { pattern: Pattern::Random { pages: None }, ranges })
}

/// The row of the ledger in which a stream's predictions are kept.
fn predictor_of(pattern: Pattern) -> Predictor {
    match pattern {
        Pattern::Strided { .. } => Predictor::Strided,
        Pattern::Reverse { .. } => Predictor::Reverse,
        Pattern::Random { pages: None } => Predictor::WholeFile,
        Pattern::New | Pattern::Sequential | Pattern::Random { .. } => Predictor::Sequential,
    }
}
