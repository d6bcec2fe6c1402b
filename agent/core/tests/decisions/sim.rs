//! A store, a page cache and readers in virtual time: what the core decides is carried out and felt.
//!
//! One FIFO link (a request's bytes leave after its latency, one after the other), look-ups that cost one latency
//! once. Page cache and read-ahead are `kernel`'s. Deterministic; a run of 4,000 files takes milliseconds.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};

use agent_core::{
    Actor, Core, Extent, FileKey, Limits, MountId, Nanos, Observation, Order, OrderId, Outcome, PAGE, Reader,
    Via, pages_of, resolve,
};

use crate::kernel::{Cache, ReadAhead, ranges};
use crate::world::{Step, World};

pub const MOUNT: MountId = MountId(1);
const PIECE: u64 = 32;
/// Pieces of one order under way: 8 MiB, as the agent has it.
const WINDOW: u64 = 64;

#[derive(Debug, Default, Clone)]
pub struct Felt {
    pub seconds: f64,
    pub read: u64,
    pub fetched: u64,
    pub wasted: u64,
    /// Seconds at which each file's first read ended.
    pub at: Vec<f64>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Reader(usize),
    Arrived { order: u64 },
    Opened { order: u64 },
    Listed { order: u64, dir: String },
    Tick,
}

/// What a reader has open.
#[derive(Clone, Default)]
struct Open {
    file: Option<usize>,
    ahead: ReadAhead,
    /// Since when it waits for what was not there, and bytes asked for.
    missing: Option<(u64, u64)>,
}

struct Job {
    file: usize,
    extent: Extent,
    pieces: VecDeque<std::ops::Range<u64>>,
    waiting: u64,
    bytes: u64,
    began: u64,
}

pub struct Sim<'a> {
    world: &'a World,
    pub core: Option<Core>,
    now: u64,
    seq: u64,
    due: BinaryHeap<Reverse<(u64, u64, Due)>>,
    link_free: u64,
    named: HashSet<usize>,
    sighted: HashSet<usize>,
    cache: Cache,
    ours: HashSet<(usize, u64)>,
    jobs: HashMap<u64, Job>,
    queued: Vec<(u64, u64, usize, Extent)>,
    running: u32,
    depth: u32,
    felt: Felt,
}

impl<'a> Sim<'a> {
    /// One run of readers (one list of steps each), with the core given (or without).
    pub fn run(world: &'a World, core: Option<Core>, readers: &[Vec<Step>]) -> (Felt, Option<Core>) {
        let mut sim = Sim {
            world,
            core,
            now: 1_000_000_000,
            seq: 0,
            due: BinaryHeap::new(),
            link_free: 0,
            named: HashSet::new(),
            sighted: HashSet::new(),
            cache: Cache::new(world.room),
            ours: HashSet::new(),
            jobs: HashMap::new(),
            queued: Vec::new(),
            running: 0,
            depth: 16,
            felt: Felt::default(),
        };
        sim.tell(Observation::Mount {
            mount: MOUNT,
            dev: 5,
            source: "store".into(),
            fstype: "fuse.slow".into(),
            read_ahead_bytes: 128 << 10,
        });
        // All of the page cache is available.
        let available = (world.room as u64).saturating_mul(PAGE).min(16 << 30);
        sim.tell(Observation::Memory { available, total: available / 2 * 3, psi: 0 });
        for tgid in 0..readers.len() as u32 {
            sim.tell(Observation::Process {
                tgid: 100 + tgid,
                workload: "train.py".into(),
                label: "train.py".into(),
            });
        }
        let begin = sim.now;
        let mut at: Vec<usize> = vec![0; readers.len()];
        let mut open: Vec<Open> = vec![Open::default(); readers.len()];
        for reader in 0..readers.len() {
            sim.plan(0, Due::Reader(reader));
        }
        sim.plan(100_000_000, Due::Tick);
        let mut left = readers.len();
        while left > 0 {
            let Reverse((time, _, due)) = sim.due.pop().expect("readers never wait without an event");
            sim.now = time;
            match due {
                Due::Reader(reader) => {
                    let Some(step) = readers[reader].get(at[reader]) else {
                        left -= 1;
                        continue;
                    };
                    if sim.reader_step(reader, &mut open[reader], step) {
                        at[reader] += 1;
                    }
                }
                Due::Tick => {
                    sim.tell(Observation::Tick);
                    sim.plan(100_000_000, Due::Tick);
                }
                due => sim.edge(due),
            }
        }
        sim.felt.seconds = (sim.now - begin) as f64 / 1e9;
        sim.felt.wasted += sim.ours.len() as u64 * PAGE;
        for tgid in 0..readers.len() as u32 {
            sim.tell(Observation::Exit { tgid: 100 + tgid });
        }
        (sim.felt, sim.core)
    }

    fn plan(&mut self, after: u64, due: Due) {
        self.seq += 1;
        self.due.push(Reverse((self.now + after, self.seq, due)));
    }

    fn transfer(&mut self, file: usize, start: u64, bytes: u64) -> u64 {
        // The same for one place whoever asks.
        let chance = (file as u64 ^ start << 20).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54;
        let latency = self.world.latency + self.world.latency * self.world.jitter * chance / 1024;
        let begin = (self.now + latency).max(self.link_free);
        self.link_free = begin + (bytes as f64 / self.world.bandwidth * 1e9) as u64;
        self.link_free - self.now
    }

    fn key(&self, file: usize) -> FileKey {
        FileKey { dev: 5, ino: self.world.ino(file) }
    }

    fn tell(&mut self, observation: Observation) {
        let now = Nanos(self.now);
        let Some(core) = &mut self.core else { return };
        core.apply(&observation, now);
        for order in core.orders() {
            self.carry_out(order);
        }
    }

    fn sight(&mut self, file: usize) {
        if self.sighted.insert(file) {
            let (path, size) = &self.world.files[file];
            let (path, size) = (path.as_bytes().into(), *size);
            let key = self.key(file);
            self.tell(Observation::Sight { file: key, mount: MOUNT, path, size, mtime: 0 });
        }
    }

    /// One step of a reader; false when it must come back to the same step later.
    fn reader_step(&mut self, reader: usize, open: &mut Open, step: &Step) -> bool {
        let who = Reader { tgid: 100 + reader as u32, tid: 100 + reader as u32 };
        let file = step.file;
        let size = self.world.files[file].1;
        if open.file != Some(file) {
            if self.named.insert(file) {
                let latency = self.world.latency;
                self.plan(latency, Due::Reader(reader));
                return false;
            }
            *open = Open { file: Some(file), ahead: ReadAhead::new(self.world.read_ahead), missing: None };
            if !self.world.keeps
                && let Some(pages) = self.cache.drop_file(file)
            {
                let unread = pages.clone().filter(|page| self.ours.remove(&(file, *page))).count();
                self.felt.wasted += unread as u64 * PAGE;
                let key = self.key(file);
                self.tell(Observation::Removed { file: key, pages, by: Actor::Thread(who) });
            }
        }
        let pages = step.pages.start..step.pages.end.min(pages_of(size));
        for page in pages.clone() {
            let (cache, there) = (&self.cache, |page| self.cache.ready(file, page).is_some());
            let Some(ready) = cache.ready(file, page) else {
                let end = pages.clone().rev().find(|page| !there(*page)).map_or(page, |last| last + 1);
                let asked = open.ahead.miss(page, end, there);
                let bytes = self.ask_for(file, asked, who);
                let (began, before) = open.missing.unwrap_or((self.now, 0));
                open.missing = Some((began, before + bytes));
                let last = (page..end).rev().find_map(|page| self.cache.ready(file, page)).unwrap_or(0);
                self.plan(last.saturating_sub(self.now), Due::Reader(reader));
                return false;
            };
            if let Some(asked) = open.ahead.touch(page) {
                self.ask_for(file, asked, who);
            }
            if ready > self.now {
                self.plan(ready - self.now, Due::Reader(reader));
                return false;
            }
        }
        if let Some((began, bytes)) = open.missing.take() {
            let (latency, file) = (Nanos(self.now - began), self.key(file));
            self.tell(Observation::Miss { file, latency, bytes });
        }
        self.sight(file);
        for page in pages.clone() {
            self.ours.remove(&(file, page));
            self.cache.touch(file, page);
        }
        self.felt.read += ((pages.end * PAGE).min(size)).saturating_sub(pages.start * PAGE);
        self.felt.at.push(self.now as f64 / 1e9);
        self.tell(Observation::Access {
            file: self.key(file),
            reader: who,
            pages,
            via: Via::Read,
            count: 1,
            size,
        });
        self.plan(self.world.think, Due::Reader(reader));
        true
    }

    /// What a reader's process brings in of these pages: bytes.
    fn ask_for(&mut self, file: usize, pages: std::ops::Range<u64>, who: Reader) -> u64 {
        let size = self.world.files[file].1;
        let missing: Vec<(usize, u64)> = (pages.start..pages.end.min(pages_of(size)))
            .filter(|page| self.cache.ready(file, *page).is_none())
            .map(|page| (file, page))
            .collect();
        let mut bytes = 0;
        for (file, pages) in ranges(&missing) {
            self.sight(file);
            self.tell(Observation::Added {
                file: self.key(file),
                pages: pages.clone(),
                by: Actor::Thread(who),
            });
            let long = (pages.end - pages.start) * PAGE;
            let wait = self.transfer(file, pages.start, long);
            pages.for_each(|page| self.cache.insert(file, page, self.now + wait));
            bytes += long;
        }
        self.reclaim();
        bytes
    }

    fn reclaim(&mut self) {
        let gone = self.cache.reclaim(self.now);
        let unread = gone.iter().filter(|place| self.ours.remove(*place)).count();
        self.felt.wasted += unread as u64 * PAGE;
        for (file, pages) in ranges(&gone) {
            let file = self.key(file);
            self.tell(Observation::Removed { file, pages, by: Actor::Reclaim });
        }
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::List { id, dir, .. } => {
                let dir = String::from_utf8(dir.into_vec()).unwrap();
                let latency = self.world.latency;
                self.plan(latency, Due::Listed { order: id.0, dir });
            }
            Order::Fetch { id, path, extent, deadline, .. } => {
                let path = String::from_utf8(path.into_vec()).unwrap();
                let file = self.world.by_path[&path];
                self.queued.push((deadline.0, id.0, file, extent));
                self.start();
            }
            Order::Depth { fetches, .. } => self.depth = fetches,
            Order::Cancel { .. } | Order::Resight { .. } | Order::Detail { .. } => {}
        }
    }

    fn start(&mut self) {
        while self.running < self.depth && !self.queued.is_empty() {
            let first =
                (0..self.queued.len()).min_by_key(|i| (self.queued[*i].0, self.queued[*i].1)).unwrap();
            let (_, order, file, extent) = self.queued.swap_remove(first);
            self.running += 1;
            self.jobs.insert(
                order,
                Job { file, extent, pieces: VecDeque::new(), waiting: 0, bytes: 0, began: self.now },
            );
            let wait = if self.named.insert(file) { self.world.latency } else { 0 };
            self.plan(wait, Due::Opened { order });
        }
    }

    fn edge(&mut self, due: Due) {
        match due {
            Due::Opened { order } => {
                let job = &self.jobs[&order];
                let (file, size) = (job.file, self.world.files[job.file].1);
                let ranges = match &job.extent {
                    Extent::Whole { limit } => vec![0..pages_of(size.min(*limit))],
                    Extent::Ranges(ranges) => ranges.clone(),
                    Extent::Shape(anchors) => resolve(anchors, size),
                };
                let mut pieces: Vec<std::ops::Range<u64>> = Vec::new();
                for page in ranges.into_iter().flatten().filter(|page| *page < pages_of(size)) {
                    if self.cache.ready(file, page).is_some() {
                        continue;
                    }
                    match pieces.last_mut() {
                        Some(piece) if piece.end == page && page - piece.start < PIECE => piece.end += 1,
                        _ => pieces.push(page..page + 1),
                    }
                }
                if let Some(job) = self.jobs.get_mut(&order) {
                    job.pieces = pieces.into();
                }
                self.go_on(order);
            }
            Due::Arrived { order } => {
                if let Some(job) = self.jobs.get_mut(&order) {
                    job.waiting -= 1;
                }
                self.go_on(order);
            }
            Due::Listed { order, dir } => {
                let entries = self.world.dirs.get(&dir).cloned().unwrap_or_default();
                self.tell(Observation::Listing {
                    id: OrderId(order),
                    mount: MOUNT,
                    dir: dir.into_bytes().into(),
                    outcome: Outcome::Done,
                    complete: true,
                    entries,
                });
            }
            Due::Reader(_) | Due::Tick => {}
        }
    }

    /// Asks for pieces as far as an order's window goes.
    fn go_on(&mut self, order: u64) {
        let Some(job) = self.jobs.get_mut(&order) else { return };
        let file = job.file;
        let size = self.world.files[file].1;
        let mut asked = Vec::new();
        while job.waiting < WINDOW
            && let Some(piece) = job.pieces.pop_front()
        {
            let missing: Vec<(usize, u64)> = piece
                .filter(|page| self.cache.ready(file, *page).is_none())
                .map(|page| (file, page))
                .collect();
            for (_, pages) in ranges(&missing) {
                job.waiting += 1;
                job.bytes += (pages.end - pages.start) * PAGE;
                asked.push(pages);
            }
        }
        if job.waiting == 0 {
            self.done(order);
            return;
        }
        for pages in asked {
            self.sight(file);
            let wait = self.transfer(file, pages.start, (pages.end - pages.start) * PAGE);
            for page in pages.clone() {
                self.cache.insert(file, page, self.now + wait);
                self.ours.insert((file, page));
            }
            self.felt.fetched += (pages.end * PAGE).min(size) - pages.start * PAGE;
            self.tell(Observation::Added { file: self.key(file), pages, by: Actor::Agent });
            self.plan(wait, Due::Arrived { order });
        }
        self.reclaim();
    }

    fn done(&mut self, order: u64) {
        let job = self.jobs.remove(&order).unwrap();
        self.running -= 1;
        self.start();
        let took = Nanos(self.now - job.began);
        self.tell(Observation::Fetched {
            id: OrderId(order),
            outcome: Outcome::Done,
            file: Some(self.key(job.file)),
            size: self.world.files[job.file].1,
            bytes: job.bytes,
            took,
        });
    }
}

/// The agent stops and starts again: what it knows is what its profiles say.
pub fn restart(mut core: Core) -> Core {
    core.close();
    let mut fresh = Core::new(Limits::default());
    for (workload, source, bytes) in core.changed_profiles() {
        fresh.apply(&Observation::Profile { workload, source, bytes: bytes.into() }, Nanos(0));
    }
    fresh
}
