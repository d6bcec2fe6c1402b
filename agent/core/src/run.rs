//! One run of a workload on one file system: who reads, which files were visited in which order, and
//! which of the predictors among files explains it.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;

use rustc_hash::FxHashMap;

use crate::again::Again;
use crate::bursts::Bursts;
use crate::catalog::{Catalog, DirId, FileId};
use crate::class::{Class, kind_of};
use crate::companions::Companions;
use crate::domain::Domain;
use crate::gait::WALK_PROOF;
use crate::names::Names;
use crate::past::{Past, REPEAT_PROOF};
use crate::profile::{FULL, MAX_FILES, Share};
use crate::rate::Rate;
use crate::thread::Thread;
use crate::units::{MountId, Nanos, Reader};
use crate::view::Predictor;

/// Threads told apart at once; when more come, all are begun anew.
const THREADS: usize = 256;

/// Visits before a set of files read in no order is taken for an epoch that draws without replacement.
pub const EPOCH_PROOF: usize = 8;

/// Bytes fetched per byte read while nothing but this run itself tells that it goes on. A reader that has
/// read n files is as likely to stop before 2n as after (the usual prior for a process of unknown length);
/// this bounds what a stop costs to fewer bytes than three times those read.
pub const SPECULATION: f64 = 2.9;

/// Names looked up ahead for each file read, in a set read in no order. A name costs the store a look-up and
/// the link nothing, and saves the reader half of a small file's waiting; eight ahead of each file know the
/// set when an eighth of it has been read.
const NAMES_PER_VISIT: usize = 8;

/// Files of the pool looked at for one that may be read, where the names of those that were say which.
const DRAWS: usize = 64;

/// Files among which a guess takes the cheapest: enough that the dear half of a set comes last.
const CANDIDATES: usize = 4;

/// Files up to this size are completed in one go; how larger ones are read takes some learning.
pub const LARGE: u64 = 1 << 20;

/// Files found in memory in a row before a run is taken to read what is there: with half of the data in
/// memory at random this happens once in 65,536 files.
const RESIDENT_PROOF: u32 = 16;

/// Kinds of file told apart per run.
const CLASSES: usize = 64;

#[derive(Debug, Default)]
pub struct Run {
    pub workload: u32,
    pub mount: MountId,
    pub tgids: Vec<u32>,
    pub last: Nanos,
    pub threads: FxHashMap<u32, Thread>,
    pub past: Past,
    /// The cursor of `past` on which the last visit stood.
    pub cursor: Option<usize>,
    visits: Vec<FileId>,
    visited: FxHashMap<FileId, Mark>,
    pub visit_count: u64,
    /// Visited files that were met again by the same process, or after it.
    repeats: usize,
    again: Again,
    pub epochs: u32,
    pub rate: Rate,
    pub read_bytes: u64,
    /// Of those, bytes of files that no walk and no repetition foresaw.
    pub stray_bytes: u64,
    /// Bytes fetched as a guess at an epoch, since the run began.
    pub guessed_bytes: u64,
    /// Files in a row that were asked for and lay in memory already, with no miss of the reader's since.
    pub resident: u32,
    pub classes: FxHashMap<Box<[u8]>, Class>,
    /// Lengths of its walks through directories, in files.
    pub walks: Bursts,
    domain: Domain,
    names_read: Names,
    pub companions: Companions,
    /// Files an epoch may still want. In the order of the past where there is one, otherwise drawn at random.
    pool: VecDeque<FileId>,
    pool_ordered: bool,
    /// Names of the pool looked up so far, and where in it the next one is.
    names: usize,
    next_name: usize,
    pub share: Share,
    /// Share of recent visits that a walk or a repetition foresaw.
    explained: f64,
    draw: u64,
}

/// Who visited a file last, and whether it is one of the `repeats`.
#[derive(Clone, Copy, Debug)]
struct Mark {
    tgid: u32,
    repeated: bool,
}

/// What a visit changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// The thread is still at a file it has begun.
    Same,
    New,
}

impl Run {
    pub fn new(workload: u32, mount: MountId) -> Self {
        Self { workload, mount, draw: 0x9E37_79B9_7F4A_7C15, ..Self::default() }
    }

    /// A process through whose root the file system can be reached; 0 when none is known.
    pub fn via(&self) -> u32 {
        self.tgids.last().copied().unwrap_or(0)
    }

    pub fn visits(&self) -> &[FileId] {
        &self.visits
    }

    pub fn was_visited(&self, file: FileId) -> bool {
        self.visited.contains_key(&file)
    }

    pub fn distinct(&self) -> usize {
        self.visited.len()
    }

    /// Whether what this run reads seems to lie in memory anyway: then asking ahead costs the machine, and
    /// gains nothing.
    pub fn is_resident(&self) -> bool {
        self.resident >= RESIDENT_PROOF
    }

    /// Takes over the order and the habits of an earlier run.
    pub fn recall(&mut self, order: Vec<FileId>, share: Share, classes: Vec<(Box<[u8]>, Class)>) {
        self.pool = order.iter().copied().collect();
        self.pool_ordered = true;
        self.past = Past::new(order);
        self.share = share;
        self.classes = classes.into_iter().take(CLASSES).collect();
    }

    pub fn class_mut(&mut self, name: &[u8]) -> Option<&mut Class> {
        let kind = kind_of(name);
        if self.classes.len() >= CLASSES && !self.classes.contains_key(&kind) {
            return None;
        }
        Some(self.classes.entry(kind).or_default())
    }

    pub fn class(&self, name: &[u8]) -> Option<&Class> {
        self.classes.get(&kind_of(name))
    }

    /// Whether how it reads large files is known, which is worth keeping even of a single one.
    pub fn knows_large(&self) -> bool {
        self.classes.values().any(|class| class.finished_files() > 0 && class.largest > LARGE)
    }

    /// Bytes that a visit reads on average.
    pub fn average(&self) -> u64 {
        let (bytes, files) = self
            .classes
            .values()
            .fold((0, 0), |(bytes, files), class| (bytes + class.bytes, files + class.finished_files()));
        bytes / u64::from(files.max(1))
    }

    /// A thread reads a file: whether that is a visit, and what it means for the predictors.
    pub fn visit(&mut self, catalog: &Catalog, reader: Reader, file: FileId, now: Nanos) -> Visit {
        self.last = now;
        if self.threads.len() >= THREADS && !self.threads.contains_key(&reader.tid) {
            self.threads.clear();
        }
        let thread = self.threads.entry(reader.tid).or_default();
        if thread.is_at(file) {
            return Visit::Same;
        }
        let led = thread.last().is_some_and(|before| self.companions.visit(catalog, before, file));
        if let Some(files) = thread.visit(catalog, file) {
            self.walks.push(u64::from(files));
        }
        self.cursor = self.past.visit(file);
        let repeated = self.cursor.is_some_and(|cursor| self.past.proof(cursor) >= 1);
        let foreseen = thread.is_walking() || repeated;
        // What is read together says nothing of the order in which samples come, not even where it is a walk through the
        // folder of one: their names are the same few then.
        let together = led && !repeated && (!foreseen || self.names_read.are_few());
        if together {
            thread.led();
        } else {
            thread.foreseen(foreseen);
            self.explained += (f64::from(u8::from(foreseen)) - self.explained) / 8.0;
        }
        self.visit_count += 1;
        if !self.visited.contains_key(&file)
            && let Some(file) = catalog.file(file)
        {
            self.names_read.visit(&file.name);
        }
        self.count(file, reader.tgid);
        if let Some(dir) = catalog.file(file).map(|file| file.dir) {
            let (visits, foreseen, guesses) = (self.visited.len(), self.explained >= 0.5, self.guesses());
            self.domain.visit(catalog, dir, visits, foreseen, guesses);
        }
        Visit::New
    }

    /// Whether a visit is the first of its file in this epoch, or one of those that begin the next.
    fn count(&mut self, file: FileId, tgid: u32) {
        let full = self.visited.len() >= MAX_FILES;
        match self.visited.entry(file) {
            Entry::Vacant(free) if !full => {
                free.insert(Mark { tgid, repeated: false });
                self.visits.push(file);
                self.again.pass();
            }
            Entry::Vacant(_) => {}
            Entry::Occupied(mut known) => {
                let mark = known.get_mut();
                // A process beside it that reads the same set in an order of its own begins nothing.
                let successor = mark.tgid == tgid || !self.tgids.contains(&mark.tgid);
                if successor && !std::mem::replace(&mut mark.repeated, true) {
                    self.repeats += 1;
                }
                mark.tgid = tgid;
                self.again.meet(file, tgid, successor);
                if self.begins_again() {
                    self.turn_epoch();
                }
            }
        }
    }

    /// Whether the files met again are the start of a new epoch rather than favourites: as many as are left
    /// unread are proof of it, as all that is read then can only be read again, and so are `EPOCH_PROOF`.
    fn begins_again(&self) -> bool {
        let left = self.known_files().saturating_sub(self.visited.len());
        let wanted = (left + REPEAT_PROOF as usize).min(EPOCH_PROOF);
        self.visits.len() >= EPOCH_PROOF && self.again.proof() >= wanted
    }

    fn turn_epoch(&mut self) {
        let order = std::mem::take(&mut self.visits);
        self.visited.clear();
        self.repeats = 0;
        self.epochs += 1;
        self.pool = order.iter().copied().collect();
        self.pool_ordered = true;
        self.past = Past::new(order);
        self.cursor = None;
        for (file, tgid) in self.again.take() {
            self.visited.insert(file, Mark { tgid, repeated: false });
            self.visits.push(file);
            self.cursor = self.past.visit(file);
        }
        self.share.note(100);
    }

    /// Files that the run could visit as far as is known.
    pub fn known_files(&self) -> usize {
        self.past.len().max(self.domain.files()).max(self.visited.len())
    }

    /// Share of the known files that this epoch has visited, in per cent.
    pub fn share_read(&self) -> u8 {
        u8::try_from((self.visited.len() * 100 / self.known_files().max(1)).min(100)).unwrap_or(100)
    }

    /// What is to be kept of the shares should it end here: a run that goes on without us counts once it has
    /// read most of the set, and says nothing before.
    pub fn share_so_far(&self) -> Share {
        let mut share = self.share.clone();
        let read = self.share_read();
        if read >= FULL && self.visited.len() >= EPOCH_PROOF {
            share.note(read);
        }
        share
    }

    /// A directory has more files than it was listed with: it is listed anew when its turn comes.
    pub fn relist(&mut self, dir: DirId) {
        self.domain.relist(dir);
    }

    /// The next directory to list, if the visits so far pay for one.
    pub fn next_listing(&mut self) -> Option<DirId> {
        self.domain.next_listing(self.visited.len())
    }

    /// A directory has been listed: its files join the pool, its directories the domain.
    pub fn listed(&mut self, catalog: &Catalog, dir: DirId) {
        for thread in self.threads.values_mut() {
            thread.relist(catalog);
        }
        let files = self.domain.listed(catalog, dir);
        if !self.pool_ordered {
            let room = MAX_FILES.saturating_sub(self.pool.len());
            self.pool.extend(files.iter().filter(|file| !self.visited.contains_key(file)).take(room));
        }
    }

    /// Whether a walk or a repetition foresees what comes; an epoch then needs no guessing.
    pub fn is_foreseen(&self) -> bool {
        self.explained >= 0.5
            || self.cursor.is_some_and(|cursor| self.past.proof(cursor) >= REPEAT_PROOF)
            || self.threads.values().flat_map(Thread::walks).any(|(_, walker)| walker.proof() > WALK_PROOF)
    }

    /// Whose predictions lead among files.
    pub fn leading(&self) -> Predictor {
        if self.cursor.is_some_and(|cursor| self.past.proof(cursor) >= REPEAT_PROOF) {
            Predictor::Repetition
        } else if self.threads.values().any(|thread| thread.walks().next().is_some()) {
            Predictor::Directory
        } else {
            Predictor::Epoch
        }
    }

    /// Whether this run, or some of its threads beside others that walk, reads a set in no order, as far as
    /// it can be seen.
    pub fn guesses(&self) -> bool {
        let strays: u64 = self.threads.values().map(|thread| u64::from(thread.strays())).sum();
        strays >= EPOCH_PROOF as u64
            && self.visited.len() >= EPOCH_PROOF
            && self.repeats * 8 <= self.visited.len()
    }

    /// Bytes that may still be guessed at: all where the workload is known to read the whole set, otherwise
    /// in proportion to what was read. `None`: no guessing at all.
    pub fn guess_budget(&self) -> Option<u64> {
        if self.is_known_epoch() && !self.is_foreseen() {
            return Some(u64::MAX);
        }
        if !self.guesses() {
            return None;
        }
        let allowed = (self.stray_bytes as f64 * SPECULATION) as u64;
        allowed.checked_sub(self.guessed_bytes).filter(|left| *left > 0)
    }

    /// Whether what was learned says that this run reads the whole set.
    pub fn is_known_epoch(&self) -> bool {
        !self.past.is_empty()
            && self.share.is_full()
            && self.visits.first().is_some_and(|file| self.past.contains(*file))
    }

    /// The next file of the pool that was not visited.
    pub fn draw(&mut self) -> Option<FileId> {
        while !self.pool.is_empty() {
            let index = if self.pool_ordered {
                0
            } else {
                // xorshift64: the same run draws the same files in a replay.
                self.draw ^= self.draw << 13;
                self.draw ^= self.draw >> 7;
                self.draw ^= self.draw << 17;
                usize::try_from(self.draw % self.pool.len() as u64).unwrap_or(0)
            };
            let file = if index == 0 { self.pool.pop_front() } else { self.pool.swap_remove_back(index) }?;
            if !self.visited.contains_key(&file) {
                return Some(file);
            }
        }
        None
    }

    /// A file that was drawn did not come after all: it takes its turn after the others.
    pub fn put_back(&mut self, file: FileId) {
        if self.pool.len() < MAX_FILES {
            self.pool.push_back(file);
        }
    }

    /// The next guess: of a few files at random the one that costs least, since a wait spared is worth the
    /// same whatever the size of the file.
    pub fn draw_cheapest(&mut self, catalog: &Catalog) -> Option<FileId> {
        let mut best = self.draw_named(catalog)?;
        if self.classes.len() < 2 {
            return Some(best);
        }
        for _ in 1..CANDIDATES {
            let Some(other) = self.draw_named(catalog) else { break };
            let cheaper = self.cost(catalog, other) < self.cost(catalog, best);
            let dearer = if cheaper { std::mem::replace(&mut best, other) } else { other };
            self.pool.push_back(dearer);
        }
        Some(best)
    }

    /// One whose name may be read, and that does not come together with another anyway.
    fn draw_named(&mut self, catalog: &Catalog) -> Option<FileId> {
        for _ in 0..DRAWS {
            let file = self.draw()?;
            let led = catalog.file(file).is_some_and(|file| self.companions.lead_to(catalog, file));
            if !led && self.may_be_read(catalog, file) {
                return Some(file);
            }
            self.pool.push_back(file);
        }
        None
    }

    fn may_be_read(&self, catalog: &Catalog, file: FileId) -> bool {
        catalog.file(file).is_some_and(|file| self.names_read.allow(&file.name))
    }

    /// Bytes that fetching a file is expected to bring.
    fn cost(&self, catalog: &Catalog, file: FileId) -> u64 {
        match catalog.file(file) {
            Some(file) if file.size > 0 => file.size,
            Some(file) => self.class(&file.name).map_or_else(|| self.average(), Class::average),
            None => u64::MAX,
        }
    }

    /// The next files of the pool whose names may be looked up: so many for each file read, all in all.
    pub fn draw_names(&mut self, catalog: &Catalog) -> Option<FileId> {
        if self.names >= self.visited.len() * NAMES_PER_VISIT || self.pool.is_empty() {
            return None;
        }
        for _ in 0..DRAWS {
            self.next_name = (self.next_name + 1) % self.pool.len();
            let file = self.pool.get(self.next_name).copied()?;
            if self.may_be_read(catalog, file) {
                self.names += 1;
                return Some(file);
            }
        }
        None
    }

    /// Files that will be drawn as places become free, where the set is drawn from at all.
    pub fn waiting(&self) -> usize {
        if !self.is_known_epoch() && !self.guesses() {
            return 0;
        }
        self.pool.iter().filter(|file| !self.visited.contains_key(file)).count()
    }
}
