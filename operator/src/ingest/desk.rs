//! Which instruction is where: waiting, sent, going on, ended. Pure; the hub holds it under a lock.
//!
//! A wish is known by its identity, which follows from what is asked. After a restart the desk is empty; an
//! agent that comes tells what it has in hand, and a wish that is made again meets it here and is not sent.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::inventory::{CHUNK, Name};

use super::work::{LONGEST_ID, Progress, State, Wish, Work};

/// Wishes for one node that have not ended.
const OPEN: usize = 4_096;

/// Ended ones that nobody has asked about yet; the oldest go first.
const ENDED: usize = 1_024;

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
    /// None where only the agent's word is known.
    wish: Option<Arc<Wish>>,
    standing: Standing,
    withdrawn: bool,
    /// Order of arrival.
    turn: u64,
}

#[derive(Debug, Default)]
struct Orders {
    entries: FxHashMap<Box<str>, Entry>,
    /// In the order of their end; some may be gone.
    ended: VecDeque<Box<str>>,
    open: usize,
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
            entry.wish.get_or_insert_with(|| Arc::new(wish));
            return Ok(Placed::Known(standing));
        }
        if orders.open >= OPEN {
            return Err(DeskError::Full(wish.node));
        }
        orders.open += 1;
        let id = wish.id.clone();
        let entry = Entry {
            wish: Some(Arc::new(wish)),
            standing: Standing::Waiting,
            withdrawn: false,
            turn: self.turn,
        };
        orders.entries.insert(id, entry);
        Ok(Placed::New)
    }

    /// It is not wanted any more. What was not sent ends here, the rest when the agent says so.
    pub fn withdraw(&mut self, node: &str, id: &str) {
        let Some(orders) = self.nodes.get_mut(node) else { return };
        let Some(entry) = orders.entries.get_mut(id) else { return };
        match entry.standing {
            Standing::Waiting => {
                let ended = Progress { state: State::Dropped, ..Progress::default() };
                orders.end(id, ended);
            }
            Standing::Sent | Standing::Going(_) => entry.withdrawn = true,
            // A pin that is being held is DONE and goes on.
            Standing::Ended(_) => entry.withdrawn = true,
        }
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
                let (Work::Fetch(extent, _) | Work::Pin(extent, _)) = &entry.wish.as_ref()?.work else {
                    return None;
                };
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

    /// What agents say they have in hand, or have done, and nobody here has asked for: (node, identity, standing).
    pub fn unasked(&self, prefix: &str) -> Vec<(Name, Box<str>, Standing)> {
        let all = self.nodes.iter().flat_map(|(node, orders)| {
            let unasked =
                orders.entries.iter().filter(|(id, entry)| entry.wish.is_none() && id.starts_with(prefix));
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

    /// The node is no more: whatever was open for it is dropped.
    pub fn lose(&mut self, node: &str) {
        if let Some(orders) = self.nodes.get_mut(node) {
            let open = orders.entries.iter().filter(|(_, e)| !matches!(e.standing, Standing::Ended(_)));
            let open: Vec<Box<str>> = open.map(|(id, _)| id.clone()).collect();
            for id in open {
                let detail = "the node is gone".into();
                orders.end(&id, Progress { state: State::Failed, detail, ..Progress::default() });
            }
        }
    }

    /// An agent has come and told what it has in hand: what was sent and is not there got lost on its way and
    /// waits again; what is there and was forgotten here is known again. Returns how many it had.
    pub fn attach(&mut self, node: &Name, in_hand: Vec<(Box<str>, Progress)>) -> usize {
        let held: FxHashSet<&str> = in_hand.iter().map(|(id, _)| &**id).collect();
        for (id, entry) in self.nodes.get_mut(node).into_iter().flat_map(|orders| &mut orders.entries) {
            if matches!(entry.standing, Standing::Sent | Standing::Going(_)) && !held.contains(&**id) {
                entry.standing = Standing::Waiting;
            }
        }
        let count = in_hand.len();
        for (id, progress) in in_hand {
            self.turn += 1;
            let orders = self.nodes.entry(node.clone()).or_default();
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

    /// Takes what an agent is to be told, the most urgent first, `limit` at most.
    pub fn due(&mut self, node: &str, limit: usize) -> Vec<Due> {
        let Some(orders) = self.nodes.get_mut(node) else { return Vec::new() };
        let mut due = Vec::new();
        for (id, entry) in &mut orders.entries {
            if std::mem::take(&mut entry.withdrawn) {
                due.push(Due::Withdraw(id.clone()));
            }
        }
        let waiting = orders.entries.values().filter(|entry| entry.standing == Standing::Waiting);
        let mut wishes: Vec<(u64, Arc<Wish>)> =
            waiting.filter_map(|entry| Some((entry.turn, entry.wish.clone()?))).collect();
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

impl Orders {
    fn note(&mut self, id: Box<str>, progress: Progress, turn: u64) {
        if progress.state.is_end() {
            if !self.entries.contains_key(&id) {
                self.open += 1;
                let standing = Standing::Sent;
                self.entries.insert(id.clone(), Entry { wish: None, standing, withdrawn: false, turn });
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
                let standing = Standing::Going(progress);
                self.entries.insert(id, Entry { wish: None, standing, withdrawn: false, turn });
            }
            None => {}
        }
    }

    fn end(&mut self, id: &str, progress: Progress) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if matches!(entry.standing, Standing::Ended(_)) {
            // A pin that let go tells of a second end.
            entry.standing = Standing::Ended(progress);
            return;
        }
        entry.standing = Standing::Ended(progress);
        self.open = self.open.saturating_sub(1);
        self.ended.push_back(id.into());
        while self.ended.len() > ENDED {
            if let Some(oldest) = self.ended.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::work::Extent;
    use crate::inventory::{Tier, Version};

    fn wish(id: &str, priority: u32) -> Wish {
        let extent = Extent { dataset: "a/b".into(), path: Box::default(), chunks: None };
        let work = Work::Fetch(extent, Tier::Ram);
        Wish { id: id.into(), node: "n1".into(), work, reason: "test".into(), useful_ms: 0, priority }
    }

    fn progress(state: State) -> Progress {
        Progress { state, bytes: 7, ..Progress::default() }
    }

    fn sent(desk: &mut Desk) -> Vec<String> {
        let name = |due| match due {
            Due::Instruct(wish) => wish.id.to_string(),
            Due::Withdraw(id) => format!("-{id}"),
        };
        desk.due("n1", 10).into_iter().map(name).collect()
    }

    #[test]
    fn agents_that_have_nothing_in_hand_take_no_room() {
        let mut desk = Desk::default();
        assert_eq!(desk.attach(&"n1".into(), Vec::new()), 0);
        assert!(desk.nodes.is_empty());
        assert_eq!(desk.attach(&"n1".into(), vec![("a".into(), progress(State::Running))]), 1);
        assert_eq!(desk.nodes.len(), 1);
    }

    #[test]
    fn the_same_wish_is_sent_once() {
        let mut desk = Desk::default();
        assert_eq!(desk.instruct(wish("a", 0)), Ok(Placed::New));
        assert_eq!(desk.instruct(wish("b", 5)), Ok(Placed::New));
        assert_eq!(desk.instruct(wish("a", 0)), Ok(Placed::Known(Standing::Waiting)));
        assert_eq!(sent(&mut desk), ["b", "a"]);
        assert_eq!(desk.instruct(wish("a", 0)), Ok(Placed::Known(Standing::Sent)));
        assert!(sent(&mut desk).is_empty());
        assert!(!desk.progress(&"n1".into(), "a".into(), progress(State::Running)));
        assert!(desk.progress(&"n1".into(), "a".into(), progress(State::Done)));
        // Late words change nothing.
        assert!(!desk.progress(&"n1".into(), "a".into(), progress(State::Running)));
        assert_eq!(desk.standing("n1", "a"), Some(&Standing::Ended(progress(State::Done))));
        desk.forget("n1", "a");
        assert_eq!(desk.standing("n1", "a"), None);
    }

    #[test]
    fn after_a_restart_what_the_agent_has_is_not_sent_again() {
        // Made again before the agent comes, and after.
        let mut desk = Desk::default();
        desk.instruct(wish("before", 0)).unwrap();
        desk.instruct(wish("fresh", 0)).unwrap();
        let in_hand = ["before", "after", "done"]
            .map(|id| (id.into(), progress(if id == "done" { State::Done } else { State::Running })));
        assert_eq!(desk.attach(&"n1".into(), in_hand.to_vec()), 3);
        assert!(matches!(desk.instruct(wish("after", 0)), Ok(Placed::Known(Standing::Going(_)))));
        assert!(matches!(desk.instruct(wish("done", 0)), Ok(Placed::Known(Standing::Ended(_)))));
        assert_eq!(sent(&mut desk), ["fresh"]);
    }

    #[test]
    fn what_got_lost_on_its_way_is_sent_again() {
        let mut desk = Desk::default();
        desk.instruct(wish("a", 0)).unwrap();
        assert_eq!(sent(&mut desk), ["a"]);
        desk.attach(&"n1".into(), vec![]);
        assert_eq!(sent(&mut desk), ["a"]);
    }

    #[test]
    fn a_withdrawal_reaches_what_was_sent() {
        let mut desk = Desk::default();
        desk.instruct(wish("a", 0)).unwrap();
        sent(&mut desk);
        desk.instruct(wish("b", 0)).unwrap();
        desk.withdraw("n1", "a");
        desk.withdraw("n1", "b");
        desk.withdraw("n1", "c");
        assert_eq!(sent(&mut desk), ["-a"]);
        assert!(sent(&mut desk).is_empty());
        assert_eq!(
            desk.standing("n1", "b"),
            Some(&Standing::Ended(Progress { state: State::Dropped, ..Progress::default() }))
        );
    }

    #[test]
    fn what_is_under_way_is_known_until_it_ends() {
        let mut desk = Desk::default();
        let mut part = wish("a", 0);
        part.work = Work::Fetch(
            Extent {
                dataset: "a/b".into(),
                path: Box::default(),
                chunks: Some((Version(1), vec![2..4, 9..10])),
            },
            Tier::Ram,
        );
        desk.instruct(part).unwrap();
        desk.instruct(wish("of unknown size", 0)).unwrap();
        let one = |bytes| vec![(Name::from("n1"), Name::from("a/b"), bytes)];
        assert_eq!(desk.under_way(), one(3 * CHUNK));
        sent(&mut desk);
        desk.progress(&"n1".into(), "a".into(), progress(State::Running));
        assert_eq!(desk.under_way(), one(3 * CHUNK - 7));
        desk.progress(&"n1".into(), "a".into(), progress(State::Done));
        assert_eq!(desk.under_way(), []);
        let going = Progress { bytes_total: 100, ..progress(State::Running) };
        desk.progress(&"n1".into(), "of unknown size".into(), going);
        assert_eq!(desk.under_way(), one(93));
    }

    #[test]
    fn everything_is_bounded() {
        let mut desk = Desk::default();
        for n in 0..OPEN {
            desk.instruct(wish(&n.to_string(), 0)).unwrap();
        }
        assert_eq!(desk.instruct(wish("more", 0)), Err(DeskError::Full("n1".into())));
        assert_eq!(desk.instruct(wish("", 0)), Err(DeskError::Identity(0)));
        for n in 0..OPEN {
            desk.progress(&"n1".into(), n.to_string().into(), progress(State::Done));
        }
        assert_eq!(desk.nodes["n1"].entries.len(), ENDED);
        assert_eq!(desk.instruct(wish("more", 0)), Ok(Placed::New));
    }
}
