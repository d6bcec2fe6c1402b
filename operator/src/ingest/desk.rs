//! Which instruction is where: waiting, sent, going on, ended. Pure; the hub holds it under a lock.
//!
//! A wish is known by its identity, which follows from what is asked. After a restart the desk is empty; an
//! agent that comes tells what it has in hand, and a wish that is made again meets it here and is not sent.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::inventory::{CHUNK, Millis, Name};

use super::work::{FOR_PODS, LONGEST_ID, MOST_IN_HAND, Progress, State, Wish, Work};

/// Wishes for one node that have not ended.
const OPEN: usize = 4_096;

/// Ended ones that nobody has asked about yet; the oldest go first.
const ENDED: usize = 1_024;

/// What was asked of a node that is gone is remembered until nobody has asked about it for so long: a DataLoad does at
/// each look, some seconds apart, and would otherwise ask the node again, and wait for it.
const GONE_MS: u64 = 600_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Until the node's agent is there.
    Waiting,
    Sent,
    Going(Progress),
    Ended(Progress),
}

/// What became of a wish that was put on the desk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    New,
    /// It was there already.
    Known(Standing),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeskError {
    #[error(
        "an instruction's identity must have 1 to {LONGEST_ID} bytes, this one has {0}; this is a fault of the program"
    )]
    Identity(usize),
    #[error("{OPEN} instructions are open for node {0}; wait until some have ended")]
    Full(Name),
    #[error("another replica leads: it asks, and agents listen to it alone")]
    NotLeading,
}

#[derive(Debug)]
struct Entry {
    /// None where only the agent's word is known, where it is not wanted any more, and where it has ended for good: its runs
    /// of chunks are the largest part of it.
    wish: Option<Arc<Wish>>,
    /// Somebody here wants it, or has wanted it until its end.
    asked: bool,
    /// Since the node is gone, or since that was looked at.
    asked_lately: bool,
    standing: Standing,
    /// The agent is to be told that it is not wanted.
    withdrawn: bool,
    /// Nobody here wants it: if its agent comes again and still has it, that word was lost.
    dismissed: bool,
    /// Order of arrival.
    turn: u64,
}

#[derive(Debug, Default)]
struct Orders {
    entries: FxHashMap<Box<str>, Entry>,
    /// In the order of their end; some may be gone.
    ended: VecDeque<Box<str>>,
    open: usize,
    /// When the node went, or was looked at after that.
    gone: Option<Millis>,
}

/// What an agent is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    Instruct(Arc<Wish>),
    Withdraw(Box<str>),
}

#[derive(Debug, Default)]
pub struct Desk {
    nodes: FxHashMap<Name, Orders>,
    turn: u64,
}

impl Desk {
    pub fn instruct(&mut self, wish: Wish) -> Result<Placed, DeskError> {
        if wish.id.is_empty() || wish.id.len() > LONGEST_ID {
            return Err(DeskError::Identity(wish.id.len()));
        }
        self.turn += 1;
        let orders = self.nodes.entry(wish.node.clone()).or_default();
        if let Some(entry) = orders.entries.get_mut(&wish.id) {
            let standing = entry.standing.clone();
            if entry.wish.is_none() && entry.may_begin_again(&wish) {
                entry.wish = Some(Arc::new(wish));
            }
            (entry.asked, entry.asked_lately) = (true, true);
            (entry.withdrawn, entry.dismissed) = (false, false);
            return Ok(Placed::Known(standing));
        }
        if orders.open >= OPEN {
            return Err(DeskError::Full(wish.node));
        }
        orders.open += 1;
        let id = wish.id.clone();
        let (wish, asked) = (Some(Arc::new(wish)), true);
        let entry = Entry { wish, asked, asked_lately: true, ..Entry::new(Standing::Waiting, self.turn) };
        orders.entries.insert(id, entry);
        Ok(Placed::New)
    }

    /// It is not wanted any more. What was not sent ends here, the rest when the agent says so. A pin that is being
    /// held is DONE and goes on: its agent is told even where its end was long ago and is forgotten here.
    pub fn withdraw(&mut self, node: &str, id: &str) {
        let Some(orders) = self.nodes.get_mut(node) else { return };
        let dropped = || Progress { state: State::Dropped, ..Progress::default() };
        if let Some(entry) = orders.entries.get_mut(id) {
            (entry.wish, entry.asked, entry.dismissed) = (None, false, true);
            match entry.standing {
                Standing::Waiting => orders.end(id, dropped()),
                Standing::Sent | Standing::Going(_) => entry.withdrawn = true,
                Standing::Ended(_) => {
                    entry.withdrawn = true;
                    // A pin that was held may have left the row.
                    orders.line_up(id);
                }
            }
            return;
        }
        orders.note(id.into(), dropped(), self.turn);
        if let Some(entry) = orders.entries.get_mut(id) {
            (entry.withdrawn, entry.dismissed) = (true, true);
        }
    }

    /// Withdraws what has not ended, of identities that begin so. Whether there was any.
    pub fn call_off(&mut self, node: &str, prefix: &str) -> bool {
        let Some(orders) = self.nodes.get(node) else { return false };
        let open = orders.entries.iter().filter(|(_, entry)| !matches!(entry.standing, Standing::Ended(_)));
        let open = open.map(|(id, _)| id.clone()).filter(|id| id.starts_with(prefix));
        let open: Vec<Box<str>> = open.collect();
        for id in &open {
            self.withdraw(node, id);
        }
        !open.is_empty()
    }

    /// Those that have not ended.
    pub fn open(&self) -> usize {
        self.nodes.values().map(|orders| orders.open).sum()
    }

    /// What nodes were told to bring in and have not yet: (node, Dataset, bytes), as far as bytes are known. In no
    /// order.
    pub fn under_way(&self) -> Vec<(Name, Name, u64)> {
        let entries = self.nodes.iter().flat_map(|(node, orders)| {
            orders.entries.values().filter_map(move |entry| {
                let wish = entry.wish.as_ref()?;
                // Its mount may never come; that a pod there reads it is known anyway.
                if wish.awaits_mount && entry.standing == Standing::Waiting {
                    return None;
                }
                let (Work::Fetch(extent, _) | Work::Pin(extent, _)) = &wish.work else { return None };
                let asked = extent
                    .chunks
                    .as_ref()
                    .map(|(_, runs)| runs.iter().map(|run| u64::from(run.end.saturating_sub(run.start))));
                let asked = asked.map(|chunks| chunks.sum::<u64>().saturating_mul(CHUNK));
                let left = match &entry.standing {
                    Standing::Waiting | Standing::Sent => asked?,
                    Standing::Going(progress) => {
                        asked.unwrap_or(progress.bytes_total).saturating_sub(progress.bytes)
                    }
                    Standing::Ended(_) => return None,
                };
                (left > 0).then(|| (node.clone(), extent.dataset.clone(), left))
            })
        });
        entries.collect()
    }

    /// What agents say they have in hand, or have done, and nobody here has asked for, or told them to let go of:
    /// (node, identity, standing).
    pub fn unasked(&self, prefix: &str) -> Vec<(Name, Box<str>, Standing)> {
        let all = self.nodes.iter().flat_map(|(node, orders)| {
            let unasked = orders
                .entries
                .iter()
                .filter(|(id, entry)| !entry.asked && !entry.dismissed && id.starts_with(prefix));
            unasked.map(|(id, entry)| (node.clone(), id.clone(), entry.standing.clone()))
        });
        all.collect()
    }

    pub fn standing(&self, node: &str, id: &str) -> Option<&Standing> {
        self.nodes.get(node)?.entries.get(id).map(|entry| &entry.standing)
    }

    /// Whoever wished it has taken note of its end.
    pub fn forget(&mut self, node: &str, id: &str) {
        let Some(orders) = self.nodes.get_mut(node) else { return };
        if orders.entries.get(id).is_some_and(|entry| matches!(entry.standing, Standing::Ended(_))) {
            orders.entries.remove(id);
        }
        if orders.entries.is_empty() {
            self.nodes.remove(node);
        }
    }

    /// The node is no more: whatever was open for it is dropped, and remembered for who asked for it; of nodes that went
    /// before what nobody asks about any more is forgotten.
    pub fn lose(&mut self, node: &str, now: Millis) {
        self.nodes.retain(|_, orders| orders.remains(now));
        if let Some(orders) = self.nodes.get_mut(node) {
            orders.gone = Some(now);
            orders.entries.values_mut().for_each(|entry| entry.asked_lately = false);
            orders.entries.retain(|_, entry| entry.asked || !matches!(entry.standing, Standing::Ended(_)));
            let open = orders.entries.iter().filter(|(_, e)| !matches!(e.standing, Standing::Ended(_)));
            let open: Vec<Box<str>> = open.map(|(id, _)| id.clone()).collect();
            for id in open {
                let detail = "the node is gone".into();
                orders.end(&id, Progress { state: State::Failed, detail, ..Progress::default() });
            }
        }
    }

    /// An agent has come and told what it has in hand: what was sent and is not there got lost on its way, or with
    /// the agent's former life, and waits again, pins that were held too; what is there and was forgotten here is known
    /// again, and what is there against our word may be told again. Returns how many it had.
    pub fn attach(&mut self, node: &Name, in_hand: Vec<(Box<str>, Progress)>) -> usize {
        let held: FxHashSet<&str> = in_hand.iter().map(|(id, _)| &**id).collect();
        // An agent with more than it may name has not said that the rest is lost.
        let all = in_hand.len() < MOST_IN_HAND;
        if let Some(orders) = self.nodes.get_mut(node) {
            orders.gone = None;
            orders.lost(|id| !held.contains(id), all);
        }
        let count = in_hand.len();
        for (id, progress) in in_hand {
            self.turn += 1;
            // Should it be asked for again the agent answers with what it knows; a thousand nodes remember a million of them.
            let known = || self.nodes.get(node).is_some_and(|orders| orders.entries.contains_key(&id));
            if progress.state.is_end() && id.starts_with(FOR_PODS) && !known() {
                continue;
            }
            let orders = self.nodes.entry(node.clone()).or_default();
            if let Some(entry) = orders.entries.get_mut(&id) {
                entry.dismissed = entry.withdrawn;
            }
            orders.note(id, progress, self.turn);
        }
        count
    }

    /// What an agent says of an instruction. Whether its end should be acknowledged: always, also where nobody
    /// remembers the wish, or the agent would tell it for ever.
    pub fn progress(&mut self, node: &Name, id: Box<str>, progress: Progress) -> bool {
        let ends = progress.state.is_end();
        if let Some(orders) = self.nodes.get_mut(node)
            && orders.entries.contains_key(&id)
        {
            orders.note(id, progress, self.turn);
        }
        ends
    }

    /// Takes what an agent is to be told that has these Datasets on mounts, the most urgent first, `limit` at most.
    pub fn due(&mut self, node: &str, limit: usize, mounted: impl Fn(&Name) -> bool) -> Vec<Due> {
        let Some(orders) = self.nodes.get_mut(node) else { return Vec::new() };
        let mut due = Vec::new();
        orders.entries.retain(|id, entry| {
            let told = std::mem::take(&mut entry.withdrawn);
            if told {
                due.push(Due::Withdraw(id.clone()));
            }
            // What has ended and is wanted by nobody: where that word is lost, the agent names it when it comes again.
            !(told && matches!(entry.standing, Standing::Ended(_)))
        });
        let waiting = orders.entries.values().filter(|entry| entry.standing == Standing::Waiting);
        let mut wishes: Vec<(u64, Arc<Wish>)> =
            waiting.filter_map(|entry| Some((entry.turn, entry.wish.clone()?))).collect();
        wishes.retain(|(_, wish)| !wish.awaits_mount || mounted(&wish.work.extent().dataset));
        wishes.sort_unstable_by_key(|(turn, wish)| (std::cmp::Reverse(wish.priority), *turn));
        wishes.truncate(limit);
        for (_, wish) in wishes {
            if let Some(entry) = orders.entries.get_mut(&wish.id) {
                entry.standing = Standing::Sent;
            }
            due.push(Due::Instruct(wish));
        }
        due
    }
}

impl Entry {
    fn new(standing: Standing, turn: u64) -> Self {
        let (asked, asked_lately) = (false, false);
        Self { wish: None, asked, asked_lately, standing, withdrawn: false, dismissed: false, turn }
    }

    /// Whether it may have to be told again: a pin that has ended goes on at its agent, and with the agent's next life.
    fn may_begin_again(&self, wish: &Wish) -> bool {
        !matches!(self.standing, Standing::Ended(_)) || matches!(wish.work, Work::Pin(..))
    }

    fn is_held_pin(&self) -> bool {
        let done = matches!(&self.standing, Standing::Ended(progress) if progress.state == State::Done);
        done && self.wish.as_ref().is_some_and(|wish| matches!(wish.work, Work::Pin(..)))
    }
}

impl Orders {
    /// The agent does not have these: those that are wanted wait again, the others are over.
    fn lost(&mut self, lost: impl Fn(&str) -> bool, pins: bool) {
        let mut over = Vec::new();
        for (id, entry) in &mut self.entries {
            let open = matches!(entry.standing, Standing::Sent | Standing::Going(_));
            let pin = pins && entry.is_held_pin();
            if !(open || pin) || !lost(id) {
                continue;
            }
            if entry.wish.is_none() {
                over.push(id.clone());
                continue;
            }
            self.open += usize::from(pin);
            entry.standing = Standing::Waiting;
        }
        for id in over {
            let detail = "its agent has begun anew and does not know it".into();
            self.end(&id, Progress { state: State::Dropped, detail, ..Progress::default() });
        }
    }

    /// Whether there is anything left to remember; of a node that is gone what was asked about lately.
    fn remains(&mut self, now: Millis) -> bool {
        if self.gone.is_some_and(|gone| now.0.saturating_sub(gone.0) >= GONE_MS) {
            self.gone = Some(now);
            self.entries.retain(|_, entry| std::mem::take(&mut entry.asked_lately));
            self.ended.retain(|id| self.entries.contains_key(id));
            let open = self.entries.values().filter(|entry| !matches!(entry.standing, Standing::Ended(_)));
            self.open = open.count();
        }
        self.gone.is_none() || !self.entries.is_empty()
    }

    fn note(&mut self, id: Box<str>, progress: Progress, turn: u64) {
        if progress.state.is_end() {
            if !self.entries.contains_key(&id) {
                self.open += 1;
                self.entries.insert(id.clone(), Entry::new(Standing::Sent, turn));
            }
            self.end(&id, progress);
            return;
        }
        match self.entries.get_mut(&id) {
            // What has ended does not go on: an old word that came late.
            Some(Entry { standing: Standing::Ended(_), .. }) => {}
            Some(entry) => entry.standing = Standing::Going(progress),
            None if self.open < OPEN => {
                self.open += 1;
                self.entries.insert(id, Entry::new(Standing::Going(progress), turn));
            }
            None => {}
        }
    }

    fn end(&mut self, id: &str, mut progress: Progress) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if let Standing::Ended(known) = &mut entry.standing {
            // Hello leaves sentences out that do not fit; what was said before stays.
            if progress.detail.is_empty() && progress.state == known.state {
                progress.detail = std::mem::take(&mut known.detail);
            }
            // A pin that let go tells of a second end.
            let let_go = entry.is_held_pin() && progress.state != State::Done;
            entry.standing = Standing::Ended(progress);
            if let_go {
                self.line_up(id);
            }
            return;
        }
        entry.standing = Standing::Ended(progress);
        if entry.wish.as_ref().is_some_and(|wish| !entry.may_begin_again(wish)) {
            entry.wish = None;
        }
        self.open = self.open.saturating_sub(1);
        self.line_up(id);
    }

    /// It is the last that has ended, and what ended longest ago is forgotten. A pin that is held leaves the row and stays: it is told again to an agent that
    /// begins anew, and there are no more of them than its agent takes, until it is withdrawn.
    fn line_up(&mut self, id: &str) {
        self.ended.push_back(id.into());
        while self.ended.len() > ENDED {
            // A pin that waits again has ended before, and will again.
            if let Some(oldest) = self.ended.pop_front()
                && self
                    .entries
                    .get(&oldest)
                    .is_some_and(|e| matches!(e.standing, Standing::Ended(_)) && !e.is_held_pin())
            {
                self.entries.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests;
