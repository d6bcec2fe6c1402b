//! The operator's instructions on this node: what is asked, how far it is, how it ended. Pure.
//!
//! An instruction is known by its identity. One that is in hand, or ended lately, is not begun again: the answer is
//! what is known of it. Work becomes orders for the prefetch edge, a few at a time; each is answered once.

use std::collections::{BTreeMap, VecDeque};

use agent_core::{MountId, Nanos, OrderId, Outcome, PAGE, Pages};
use operator_api::report::v1 as wire;
use rustc_hash::FxHashMap;
use wire::instruction::Work;
use wire::progress::State;

/// Instructions in hand; more are refused.
const OPEN: usize = 4_096;

/// Ended ones remembered, as many as Hello may name.
const REMEMBERED: usize = 1_024;

/// Orders under way for all instructions together: enough to keep a store busy, few enough that readers' own
/// predictions, which come first, never wait for long.
const UNDER_WAY: usize = 32;

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
pub struct Piece {
    pub mount: MountId,
    /// From the root of the file system.
    pub path: Box<[u8]>,
    pub pages: Vec<Pages>,
}

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
    Pieces(Vec<Piece>),
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
    waiting: VecDeque<Piece>,
    under_way: usize,
    planned: bool,
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
    orders: FxHashMap<OrderId, (Box<str>, u64)>,
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
            under_way: 0,
            planned: false,
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

    /// All that is open, then what ended lately: for Hello.
    pub fn in_hand(&self) -> Vec<wire::Progress> {
        let open = self.held.iter().map(|(id, errand)| errand.progress(id));
        let ended = self.ended.iter().rev().map(|end| end.progress.clone());
        open.chain(ended).take(REMEMBERED).collect()
    }

    /// Plans what can be planned, and gives out orders. `plan` knows the Datasets, `holds` whether a pinned
    /// piece is still there.
    pub fn orders(
        &mut self,
        now: Nanos,
        plan: impl Fn(&Work) -> Plan,
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
        let mut out = Vec::new();
        for (_, _, id) in turns {
            let Some(errand) = self.held.get_mut(&id) else { continue };
            let due = errand.held_since.is_some_and(|since| now.since(since) >= AGAIN);
            if !errand.planned || due {
                let again = errand.planned;
                match plan(&errand.work) {
                    Plan::Wait => continue,
                    Plan::No(state, detail) => {
                        self.end(&id, state, &detail);
                        continue;
                    }
                    Plan::Pieces(pieces) => errand.begin(pieces, again, &holds, now),
                }
            }
            while self.orders.len() < UNDER_WAY
                && let Some(piece) = errand.waiting.pop_front()
            {
                self.next += 1;
                let order = OrderId(FIRST_ORDER + self.next);
                let bytes = piece.pages.iter().map(|range| (range.end - range.start) * PAGE).sum();
                self.orders.insert(order, (id.clone(), bytes));
                errand.under_way += 1;
                out.push(match errand.work {
                    Work::Drop(_) => Do::LetGo(order, piece),
                    Work::Fetch(_) | Work::Pin(_) => Do::Fetch(order, piece),
                });
            }
            if errand.waiting.is_empty() && errand.under_way == 0 && errand.held_since.is_none() {
                self.finish(&id, now);
            }
        }
        out
    }

    /// Memory is scarce: fetches in hand end with what they have.
    pub fn stop_fetching(&mut self, why: &str) {
        let fetching = |errand: &&Errand| matches!(errand.work, Work::Fetch(_)) && errand.planned;
        let ids: Vec<Box<str>> =
            self.held.iter().filter(|(_, e)| fetching(e)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.end(&id, State::Partly, why);
        }
    }

    /// An order has ended.
    pub fn ended(&mut self, order: OrderId, outcome: Outcome, now: Nanos) {
        let Some((id, bytes)) = self.orders.remove(&order) else { return };
        let Some(errand) = self.held.get_mut(&id) else { return };
        errand.under_way = errand.under_way.saturating_sub(1);
        match outcome {
            Outcome::Done => {
                errand.bytes += bytes;
                errand.files += 1;
            }
            Outcome::Absent => errand.miss("some files are gone or have become others"),
            Outcome::Refused => errand.miss("root may not open some files here"),
            Outcome::Failed => errand.miss("the store failed or was too slow for some files"),
            Outcome::Dropped => errand.miss("the prefetch queue was full"),
        }
        if errand.waiting.is_empty() && errand.under_way == 0 {
            self.finish(&id, now);
        }
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
        errand.detail = detail.into();
        self.orders.retain(|_, (of, _)| &**of != id);
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
        self.state = State::Running;
        if again {
            self.held_since = Some(now);
            self.state = State::Done;
            self.waiting = pieces.into_iter().filter(|piece| !holds(piece)).collect();
            return;
        }
        let size =
            |piece: &Piece| piece.pages.iter().map(|range| (range.end - range.start) * PAGE).sum::<u64>();
        self.bytes_total = pieces.iter().map(size).sum();
        self.files_total = pieces.len() as u64;
        self.waiting = pieces.into();
    }

    fn miss(&mut self, why: &str) {
        self.failed += 1;
        self.detail = why.into();
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
mod tests {
    use super::*;

    fn fetch(id: &str) -> wire::Instruction {
        let extent = wire::Extent { dataset: 1, ..wire::Extent::default() };
        let work = Work::Fetch(wire::Fetch { extent: Some(extent), tier: wire::Tier::PageCache.into() });
        wire::Instruction { id: id.into(), work: Some(work), ..wire::Instruction::default() }
    }

    fn pieces(count: usize) -> Plan {
        let piece =
            |n: usize| Piece { mount: MountId(1), path: n.to_string().as_bytes().into(), pages: vec![0..2] };
        Plan::Pieces((0..count).map(piece).collect())
    }

    fn ids(orders: &[Do]) -> Vec<OrderId> {
        let id = |order: &Do| match order {
            Do::Fetch(id, _) | Do::LetGo(id, _) => *id,
        };
        orders.iter().map(id).collect()
    }

    fn states(words: &[wire::Progress]) -> Vec<State> {
        words.iter().map(wire::Progress::state).collect()
    }

    #[test]
    fn an_instruction_is_done_once() {
        let mut errands = Errands::default();
        assert_eq!(errands.take(fetch("a"), Nanos(0)), None);
        assert_eq!(states(&errands.words(Nanos(0))), [State::Accepted]);
        assert!(errands.orders(Nanos(1), |_| Plan::Wait, |_| true).is_empty());
        let orders = errands.orders(Nanos(1), |_| pieces(40), |_| true);
        assert_eq!(orders.len(), UNDER_WAY);
        let known = errands.take(fetch("a"), Nanos(1)).unwrap();
        assert_eq!((known.state(), known.files_total, known.bytes_total), (State::Running, 40, 80 * PAGE));
        for id in ids(&orders) {
            errands.ended(id, Outcome::Done, Nanos(2));
        }
        let rest = errands.orders(Nanos(3), |_| panic!("planned twice"), |_| true);
        assert_eq!(rest.len(), 8);
        for (n, id) in ids(&rest).into_iter().enumerate() {
            errands.ended(id, if n == 0 { Outcome::Absent } else { Outcome::Done }, Nanos(4));
        }
        let ends = errands.words(Nanos(4));
        assert_eq!(states(&ends), [State::Partly]);
        assert!(errands.words(Nanos(5)).is_empty(), "it has been said");
        assert_eq!(errands.words(Nanos(4).plus(UNHEARD)), ends, "and is said again until it is heard");
        assert_eq!((ends[0].files, ends[0].failed_files, ends[0].bytes), (39, 1, 78 * PAGE));
        // Asked again: the same answer, no work.
        assert_eq!(errands.take(fetch("a"), Nanos(5)), Some(ends[0].clone()));
        assert!(errands.orders(Nanos(5), |_| panic!("done again"), |_| true).is_empty());
        errands.acked("a");
        errands.unheard();
        assert!(errands.words(Nanos(6)).is_empty());
        assert_eq!(errands.in_hand(), ends);
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let mut errands = Errands::default();
        let unknown = wire::Instruction { id: "u".into(), ..wire::Instruction::default() };
        assert_eq!(errands.take(unknown, Nanos(0)).unwrap().state(), State::Refused);
        errands.take(fetch("changed"), Nanos(0));
        errands.orders(Nanos(1), |_| Plan::No(State::Changed, "another version".into()), |_| true);
        errands.take(fetch("empty"), Nanos(0));
        errands.orders(Nanos(1), |_| pieces(0), |_| true);
        errands.take(wire::Instruction { useful_ms: 5, ..fetch("late") }, Nanos(0));
        errands.orders(Nanos::from_millis(6), |_| Plan::Wait, |_| true);
        errands.take(fetch("all-failed"), Nanos(0));
        for id in ids(&errands.orders(Nanos(1), |_| pieces(2), |_| true)) {
            errands.ended(id, Outcome::Failed, Nanos(1));
        }
        errands.take(fetch("withdrawn"), Nanos(0));
        errands.withdraw("withdrawn");
        assert_eq!(
            states(&errands.words(Nanos::from_millis(7))),
            [State::Changed, State::Done, State::Dropped, State::Failed, State::Dropped]
        );
    }

    #[test]
    fn a_pin_is_brought_in_again_when_its_pages_went() {
        let mut errands = Errands::default();
        let extent = Some(wire::Extent { dataset: 1, ..wire::Extent::default() });
        let work = Some(Work::Pin(wire::Pin { extent, tier: wire::Tier::PageCache.into() }));
        errands.take(wire::Instruction { work, ..fetch("pin") }, Nanos(0));
        for id in ids(&errands.orders(Nanos(1), |_| pieces(3), |_| true)) {
            errands.ended(id, Outcome::Done, Nanos(1));
        }
        assert_eq!(states(&errands.words(Nanos(2))), [State::Done]);
        assert!(errands.words(Nanos(2)).is_empty(), "it goes on");
        let soon = Nanos(2).plus(Nanos::from_millis(1_000));
        assert!(errands.orders(soon, |_| pieces(3), |_| false).is_empty());
        let later = Nanos(2).plus(AGAIN);
        let again = errands.orders(later, |_| pieces(3), |piece| *piece.path != b"1"[..]);
        assert_eq!(again.len(), 1);
        errands.unpin(1, b"");
        assert_eq!(states(&errands.words(later)), [State::Dropped]);
    }

    #[test]
    fn everything_is_bounded() {
        let mut errands = Errands::default();
        for n in 0..OPEN {
            assert_eq!(errands.take(fetch(&n.to_string()), Nanos(0)), None);
        }
        assert_eq!(errands.take(fetch("more"), Nanos(0)).unwrap().state(), State::Refused);
        assert_eq!(errands.in_hand().len(), REMEMBERED);
        for n in 0..OPEN {
            errands.withdraw(&n.to_string());
        }
        assert_eq!(errands.ended.len(), REMEMBERED);
        assert_eq!(errands.words(Nanos(1)).len(), WORDS);
    }
}
