//! The operator's instructions on this node: what is asked, how far it is, how it ended. Pure.
//!
//! An instruction is known by its identity. One that is in hand, or ended lately, is not begun again: the answer is
//! what is known of it. Work becomes orders for the prefetch edge, a few at a time, of a part of a file each; each is
//! answered once. A file is done when its last order is, and fails once.

use std::collections::{BTreeMap, VecDeque};

use agent_core::{MountId, Nanos, OrderId, Outcome, PAGE};
use operator_api::report::v1 as wire;
use rustc_hash::FxHashMap;
use wire::instruction::Work;
use wire::progress::State;

use super::busy::Busy;
use super::claim::{Claim, Claims};
use super::piece::Piece;

/// Instructions in hand; more are refused.
const OPEN: usize = 4_096;

/// Ended ones remembered, as many as Hello may name.
const REMEMBERED: usize = 1_024;

/// Bytes of a sentence, as the wire has it.
const LONGEST_DETAIL: usize = 512;

/// Bytes of one order. Readers' predictions begin when an order ends: little, then. But each costs an open and a way
/// through the engine, milliseconds together, which is nothing beside the 80 ms in which 200 MB/s bring this.
const ORDER_BYTES: u64 = 16 << 20;

/// Between two words about one instruction.
const EVERY: Nanos = Nanos::from_millis(1_000);

/// Words in one message: with the longest sentences still within the operator's bound.
const WORDS: usize = 128;

/// An end that was not acknowledged is told again after this.
const UNHEARD: Nanos = Nanos::from_millis(10_000);

/// A pin whose pages went is brought in again no sooner than this.
const AGAIN: Nanos = Nanos::from_millis(30_000);

/// What the edge is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Do {
    Fetch(OrderId, Piece),
    LetGo(OrderId, Piece),
}

/// What an instruction means here, once the Dataset has been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Not known yet.
    Wait,
    /// And what they take of the room.
    Pieces(Vec<Piece>, Claim),
    /// It cannot be done; a sentence.
    No(State, String),
}

#[derive(Debug)]
struct Errand {
    work: Work,
    state: State,
    /// In greater priority first.
    priority: u32,
    until: Option<Nanos>,
    /// With the number of the file; of the one in front a part may be under way.
    waiting: VecDeque<(u64, Piece)>,
    begun: BTreeMap<u64, Begun>,
    planned: bool,
    claim: Claim,
    bytes: u64,
    files: u64,
    failed: u64,
    bytes_total: u64,
    files_total: u64,
    detail: String,
    told: Option<(State, Nanos)>,
    /// A pin that holds: when it was last brought in.
    held_since: Option<Nanos>,
    turn: u64,
}

/// A file that has orders under way.
#[derive(Debug, Default)]
struct Begun {
    orders: u32,
    failed: bool,
}

/// An order that has not been answered.
#[derive(Debug)]
struct Given {
    /// `None`: the instruction has ended before it.
    errand: Option<Box<str>>,
    mount: MountId,
    file: u64,
    bytes: u64,
    /// Whether it brings these in.
    fills: bool,
}

#[derive(Debug)]
struct End {
    progress: wire::Progress,
    /// The operator has taken note of it.
    acked: bool,
    /// When it was told last.
    said: Option<Nanos>,
}

#[derive(Debug, Default)]
pub struct Errands {
    held: BTreeMap<Box<str>, Errand>,
    /// In the order of their end.
    ended: VecDeque<End>,
    orders: FxHashMap<OrderId, Given>,
    /// Of instructions that have ended.
    unwanted: Vec<OrderId>,
    scarce: bool,
    next: u64,
}

/// Numbers of the edge's orders for instructions; the core's count from 1.
pub const FIRST_ORDER: u64 = 1 << 63;

impl Errands {
    /// Takes an instruction in; what to answer at once, if it is known or cannot be.
    pub fn take(&mut self, told: wire::Instruction, now: Nanos) -> Option<wire::Progress> {
        let wire::Instruction { id, work, reason: _, useful_ms, priority } = told;
        if let Some(errand) = self.held.get(&*id) {
            return Some(errand.progress(&id));
        }
        if let Some(end) = self.ended.iter_mut().find(|end| end.progress.id == id) {
            end.acked = false;
            return Some(end.progress.clone());
        }
        let refused = |detail: &str| {
            let state = State::Refused.into();
            Some(wire::Progress { id: id.clone(), state, detail: detail.into(), ..wire::Progress::default() })
        };
        let Some(work) = work else { return refused("the agent does not know this kind of instruction") };
        if id.is_empty() || id.len() > 128 {
            return refused("an instruction's identity must have 1 to 128 bytes");
        }
        if self.held.len() >= OPEN {
            return refused("the agent has 4096 instructions in hand; wait until some have ended");
        }
        self.next += 1;
        let until = (useful_ms > 0).then(|| now.plus(Nanos::from_millis(useful_ms.into())));
        let errand = Errand {
            work,
            state: State::Accepted,
            priority,
            until,
            waiting: VecDeque::new(),
            begun: BTreeMap::new(),
            planned: false,
            claim: Claim::default(),
            bytes: 0,
            files: 0,
            failed: 0,
            bytes_total: 0,
            files_total: 0,
            detail: String::new(),
            told: None,
            held_since: None,
            turn: self.next,
        };
        self.held.insert(id.into(), errand);
        None
    }

    /// It is not wanted any more.
    pub fn withdraw(&mut self, id: &str) {
        if self.held.contains_key(id) {
            self.end(id, State::Dropped, "withdrawn");
        }
    }

    /// The operator has taken note of an end.
    pub fn acked(&mut self, id: &str) {
        if let Some(end) = self.ended.iter_mut().find(|end| end.progress.id == id) {
            end.acked = true;
        }
    }

    /// All that is open, then ends that the operator may not know, then others, the latest first: for Hello.
    pub fn in_hand(&self) -> Vec<wire::Progress> {
        let open = self.held.iter().map(|(id, errand)| errand.progress(id));
        let ended = |acked| self.ended.iter().rev().filter(move |end| end.acked == acked);
        let ended = ended(false).chain(ended(true)).map(|end| end.progress.clone());
        open.chain(ended).take(REMEMBERED).collect()
    }

    /// Plans what can be planned, and gives out orders. `plan` knows the Datasets, and is told what others have taken
    /// of the room; `holds` knows whether a pinned piece is still there.
    pub fn orders(
        &mut self,
        now: Nanos,
        plan: impl Fn(&Work, &Claims) -> Plan,
        holds: impl Fn(&Piece) -> bool,
    ) -> Vec<Do> {
        let late: Vec<Box<str>> = self.late(now);
        for id in late {
            self.end(&id, State::Dropped, "it was of no use any more when its turn came");
        }
        let mut turns: Vec<(u32, u64, Box<str>)> = self
            .held
            .iter()
            .map(|(id, errand)| (u32::MAX - errand.priority, errand.turn, id.clone()))
            .collect();
        turns.sort_unstable();
        // What is taken is counted only when somebody asks: an order's end comes many times a second.
        let asks = self.held.values().any(|errand| errand.is_due(now));
        let mut taken = Claims::default();
        let planned = self.held.values().filter(|errand| asks && errand.planned);
        planned.for_each(|errand| taken.add(&errand.claim));
        // A pin that is looked at again has its room still, unless there is less by now: then those go that come last.
        let mut before = Claims::default();
        let mut busy = Busy::default();
        self.orders.values().for_each(|given| busy.add(given.mount, given.fills.then_some(given.bytes)));
        let mut out = Vec::new();
        for (_, _, id) in turns {
            let Some(errand) = self.held.get_mut(&id) else { continue };
            if self.scarce && !matches!(errand.work, Work::Drop(_)) {
                continue;
            }
            if errand.is_due(now) {
                let again = errand.planned;
                match plan(&errand.work, if again { &before } else { &taken }) {
                    Plan::Wait => continue,
                    Plan::No(state, detail) => {
                        self.end(&id, state, &detail);
                        continue;
                    }
                    Plan::Pieces(pieces, claim) => {
                        taken.add(&claim);
                        errand.claim = claim;
                        errand.begin(pieces, again, &holds, now);
                    }
                }
            }
            if asks {
                before.add(&errand.claim);
            }
            // A Dataset on two mounts waits for the one that its next piece is on.
            while let Some((_, front)) = errand.waiting.front()
                && busy.has_room(front.mount)
                && let Some((file, piece)) = errand.next()
            {
                self.next += 1;
                let order = OrderId(FIRST_ORDER + self.next);
                let fills = !matches!(errand.work, Work::Drop(_));
                let (mount, bytes) = (piece.mount, piece.bytes());
                busy.add(mount, fills.then_some(bytes));
                let given = Given { errand: Some(id.clone()), mount, file, bytes, fills };
                self.orders.insert(order, given);
                out.push(match errand.work {
                    Work::Drop(_) => Do::LetGo(order, piece),
                    Work::Fetch(_) | Work::Pin(_) => Do::Fetch(order, piece),
                });
            }
            if errand.is_over() && errand.held_since.is_none() {
                self.finish(&id, now);
            }
        }
        out
    }

    /// Whether memory is scarce on the node. While it is nothing is brought in: fetches in hand end with what they
    /// have, pins and what has not begun wait until it is not.
    pub fn memory(&mut self, scarce: bool) {
        self.scarce = scarce;
        let stops = |errand: &&Errand| scarce && errand.planned && matches!(errand.work, Work::Fetch(_));
        let ids: Vec<Box<str>> =
            self.held.iter().filter(|(_, e)| stops(e)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.end(&id, State::Partly, "memory got scarce on the node; ask again when it is not");
        }
    }

    /// It has been found out that nothing can be brought in at a mount: what is in hand there ends.
    pub fn close(&mut self, mount: MountId, why: &str) {
        let fills = |errand: &Errand| {
            !matches!(errand.work, Work::Drop(_)) && errand.waiting.iter().any(|(_, p)| p.mount == mount)
        };
        let ids: Vec<Box<str>> =
            self.held.iter().filter(|(_, e)| fills(e)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.end(&id, State::Refused, why);
        }
    }

    /// An order has ended.
    pub fn ended(&mut self, order: OrderId, outcome: Outcome, now: Nanos) {
        let Some(Given { errand: Some(id), file, bytes, .. }) = self.orders.remove(&order) else {
            return;
        };
        let Some(errand) = self.held.get_mut(&id) else { return };
        match outcome {
            Outcome::Done => errand.bytes += bytes,
            Outcome::Absent => errand.miss(file, "some files are gone or have become others"),
            Outcome::Refused => errand.miss(file, "root may not open some files here"),
            Outcome::Failed => errand.miss(file, "the store failed or stood still at some files"),
            Outcome::Dropped => {
                errand.miss(file, "the prefetch queue was full, or the file system was unmounted");
            }
        }
        errand.answered(file);
        if errand.is_over() {
            self.finish(&id, now);
        }
    }

    /// Orders that nobody wants any more, each told once; they are answered still, and have their places until then.
    pub fn unwanted(&mut self) -> Vec<OrderId> {
        std::mem::take(&mut self.unwanted)
    }

    /// What is to be said now, `WORDS` at most: what changed, at most once a second each, and ends until they are
    /// acknowledged.
    pub fn words(&mut self, now: Nanos) -> Vec<wire::Progress> {
        let mut words = Vec::new();
        for end in self.ended.iter_mut().filter(|end| !end.acked) {
            if words.len() < WORDS && end.said.is_none_or(|said| now.since(said) >= UNHEARD) {
                end.said = Some(now);
                words.push(end.progress.clone());
            }
        }
        for (id, errand) in &mut self.held {
            let due = errand.told.is_none_or(|(state, at)| {
                state != errand.state || (errand.state == State::Running && now.since(at) >= EVERY)
            });
            if words.len() < WORDS && due {
                errand.told = Some((errand.state, now));
                words.push(errand.progress(id));
            }
        }
        words
    }

    /// The stream broke: what was said may not have been heard.
    pub fn unheard(&mut self) {
        for end in &mut self.ended {
            end.said = None;
        }
        for errand in self.held.values_mut() {
            errand.told = None;
        }
    }

    fn late(&self, now: Nanos) -> Vec<Box<str>> {
        let late = |errand: &Errand| {
            errand.state == State::Accepted && errand.until.is_some_and(|until| until < now)
        };
        self.held.iter().filter(|(_, errand)| late(errand)).map(|(id, _)| id.clone()).collect()
    }

    fn finish(&mut self, id: &str, now: Nanos) {
        let Some(errand) = self.held.get_mut(id) else { return };
        let state = match (errand.failed, errand.files) {
            (0, _) => State::Done,
            (_, 0) => State::Failed,
            _ => State::Partly,
        };
        if matches!(errand.work, Work::Pin(_)) {
            // It goes on: what is told is that it holds now.
            errand.state = state;
            errand.held_since = Some(now);
            return;
        }
        let detail = std::mem::take(&mut errand.detail);
        self.end(id, state, &detail);
    }

    fn end(&mut self, id: &str, state: State, detail: &str) {
        let Some(mut errand) = self.held.remove(id) else { return };
        errand.state = state;
        errand.detail = detail.get(..detail.floor_char_boundary(LONGEST_DETAIL)).unwrap_or_default().into();
        for (order, given) in &mut self.orders {
            if given.errand.take_if(|of| &**of == id).is_some() {
                self.unwanted.push(*order);
            }
        }
        self.ended.push_back(End { progress: errand.progress(id), acked: false, said: None });
        while self.ended.len() > REMEMBERED {
            self.ended.pop_front();
        }
    }

    /// Pins that are being held on a Dataset are ended by a drop of it.
    pub fn unpin(&mut self, dataset: u32, path: &[u8]) {
        let covered = |errand: &Errand| match &errand.work {
            Work::Pin(wire::Pin { extent: Some(extent), .. }) => {
                extent.dataset == dataset && extent.path.starts_with(path)
            }
            _ => false,
        };
        let ids: Vec<Box<str>> =
            self.held.iter().filter(|(_, e)| covered(e)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.end(&id, State::Dropped, "dropped by a later instruction");
        }
    }
}

impl Errand {
    fn begin(&mut self, pieces: Vec<Piece>, again: bool, holds: impl Fn(&Piece) -> bool, now: Nanos) {
        self.planned = true;
        self.bytes_total = pieces.iter().map(Piece::bytes).sum();
        self.files_total = pieces.len() as u64;
        (self.bytes, self.files, self.failed) = (0, 0, 0);
        self.waiting = (0..).zip(pieces).collect();
        if !again {
            self.state = State::Running;
            return;
        }
        self.held_since = Some(now);
        self.waiting.retain(|(_, piece)| !holds(piece));
        self.files = self.files_total.saturating_sub(self.waiting.len() as u64);
        self.bytes =
            self.bytes_total.saturating_sub(self.waiting.iter().map(|(_, piece)| piece.bytes()).sum());
        if self.waiting.is_empty() {
            self.state = State::Done;
        }
    }

    /// What the next order is to do, and of which file. Letting go asks no store for anything, so that it is not cut.
    fn next(&mut self) -> Option<(u64, Piece)> {
        let most = if matches!(self.work, Work::Drop(_)) { u64::MAX } else { ORDER_BYTES / PAGE };
        let (file, rest) = self.waiting.front_mut()?;
        let (file, part) = (*file, rest.cut(most));
        if rest.pages.is_empty() {
            self.waiting.pop_front();
        }
        self.begun.entry(file).or_default().orders += 1;
        Some((file, part))
    }

    /// An order has failed, and its file with it: no more of it is asked for.
    fn miss(&mut self, file: u64, why: &str) {
        if std::mem::replace(&mut self.begun.entry(file).or_default().failed, true) {
            return;
        }
        self.failed += 1;
        self.detail = why.into();
        self.waiting.pop_front_if(|(in_front, _)| *in_front == file);
    }

    /// One order less is under way for a file.
    fn answered(&mut self, file: u64) {
        let Some(begun) = self.begun.get_mut(&file) else { return };
        begun.orders = begun.orders.saturating_sub(1);
        let waits = self.waiting.front().is_some_and(|(in_front, _)| *in_front == file);
        if begun.orders == 0 && !waits {
            self.files += u64::from(!begun.failed);
            self.begun.remove(&file);
        }
    }

    /// It is to be planned: for the first time, or as a pin whose pages may have gone.
    fn is_due(&self, now: Nanos) -> bool {
        let again = self.held_since.is_some_and(|since| now.since(since) >= AGAIN);
        !self.planned || (again && self.is_over())
    }

    /// Nothing waits, and nothing is under way.
    fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.begun.is_empty()
    }

    fn progress(&self, id: &str) -> wire::Progress {
        wire::Progress {
            id: id.into(),
            state: self.state.into(),
            bytes: self.bytes,
            files: self.files,
            failed_files: self.failed,
            bytes_total: self.bytes_total,
            files_total: self.files_total,
            detail: self.detail.clone(),
        }
    }
}

#[cfg(test)]
#[path = "errands_tests.rs"]
mod tests;
