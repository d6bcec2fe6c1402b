//! One term's placement: what was decided, what of it agents were told, and what they have answered. Pure.
//!
//! An instruction's identity is that of the plan with the number of its try: the plan's is the same after a restart,
//! and the number makes another thing of a fetch whose bytes went again, which an agent would else answer from memory.

use rustc_hash::FxHashMap;

use crate::ingest::{Extent, Standing, Wish, Work};
use crate::inventory::{Chunks, DatasetId, Inventory, Millis, Name, NodeId, Tier, Version};
use crate::placement::{
    Flights, Instruction, Limits, MAX_RESUMED, Occupancy, Placement, PlanLimits, Release, plan,
};

/// Of the identities of all instructions that come from placement.
pub const PREFIX: &str = "place/";

/// A slice of a step: some 10 ms.
const SLICE: Limits = Limits { datasets: 48, moves: 512, bytes: 4 << 40 };

/// Between loads that somebody planned (50,999 where they say nothing) and those of the lowest rank.
const PRIORITY: u32 = 25_000;

/// Fetches are of no use any more after this; what has no end by then is taken back.
const PATIENCE_MS: u64 = 600_000;

/// An agent that is told to let go of something, and has not said so after this, is not asked about it again.
const LET_GO_MS: u64 = 60_000;

/// What is to be done about the agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    Ask(Wish),
    Withdraw {
        node: Name,
        id: Box<str>,
        why: &'static str,
    },
    /// Its end has been taken note of.
    Forget {
        node: Name,
        id: Box<str>,
    },
}

/// What an agent was told, and has not ended.
#[derive(Clone, Debug)]
struct Told {
    node: Name,
    id: Box<str>,
    since: Millis,
    patience_ms: u64,
    /// The copy that it is for; none: it was told in an earlier life, or lets go of something.
    copy: Option<(DatasetId, Version, u16)>,
    withdrawn: bool,
}

#[derive(Debug, Default)]
pub struct Term {
    placement: Placement,
    flights: Flights,
    released: Vec<Release>,
    /// By node and the plan's identity.
    told: FxHashMap<(NodeId, u64), Told>,
    /// It has come round every Dataset; ever after only some of them have changed.
    whole: bool,
}

impl Term {
    /// What agents have in hand from an earlier life counts as told; what of it has ended is tried no sooner than
    /// anything else that has.
    pub fn adopt(
        &mut self,
        inventory: &Inventory,
        in_hand: Vec<(Name, Box<str>, Standing)>,
        now: Millis,
    ) -> Vec<Act> {
        let mut acts = Vec::new();
        let mut adopted: FxHashMap<NodeId, usize> = FxHashMap::default();
        if !in_hand.is_empty() {
            // An agent that names more than it was ever told takes nothing from others.
            self.told.keys().for_each(|(node, _)| *adopted.entry(*node).or_default() += 1);
        }
        for (node, id, standing) in in_hand {
            let Some((plan, number)) = parse(&id) else { continue };
            let Some(at) = inventory.node_id(&node) else { continue };
            if let Some(told) = self.told.get(&(at, plan)) {
                // An earlier try's end says nothing of the one that is under way.
                if told.id != id && matches!(standing, Standing::Ended(_)) {
                    acts.push(Act::Forget { node, id });
                }
                continue;
            }
            let count = adopted.entry(at).or_default();
            if *count >= MAX_RESUMED {
                continue;
            }
            *count += 1;
            self.flights.tried(at, plan, number);
            if let Standing::Ended(_) = standing {
                self.flights.rest(at, plan, now);
                acts.push(Act::Forget { node, id });
            } else {
                self.flights.begin(at, plan, now);
                let told =
                    Told { node, id, since: now, patience_ms: PATIENCE_MS, copy: None, withdrawn: false };
                self.told.insert((at, plan), told);
            }
        }
        acts
    }

    /// Takes note of what has ended, and takes back what is of no use any more.
    pub fn settle(&mut self, standing: impl Fn(&str, &str) -> Option<Standing>, now: Millis) -> Vec<Act> {
        let mut acts = Vec::new();
        let Self { placement, flights, told, .. } = self;
        told.retain(|(node, plan), told| {
            let over = match standing(&told.node, &told.id) {
                // The node is gone, or nobody asked for so long that it was forgotten.
                None => true,
                Some(Standing::Ended(_)) => {
                    acts.push(Act::Forget { node: told.node.clone(), id: told.id.clone() });
                    true
                }
                Some(Standing::Waiting | Standing::Sent | Standing::Going(_)) => false,
            };
            if over {
                flights.rest(*node, *plan, now);
                return false;
            }
            let wanted = told
                .copy
                .is_none_or(|(dataset, version, piece)| placement.wants(dataset, version, piece, *node));
            let late = now.since(told.since) > told.patience_ms;
            if !told.withdrawn && (late || !wanted) {
                let why = if late { "it has not ended in time" } else { "it should not be there any more" };
                acts.push(Act::Withdraw { node: told.node.clone(), id: told.id.clone(), why });
                told.withdrawn = true;
                told.since = now;
                told.patience_ms = LET_GO_MS;
            } else if told.withdrawn && late {
                flights.rest(*node, *plan, now);
                return false;
            }
            true
        });
        acts
    }

    /// Decides for some Datasets; whether others wait.
    pub fn step(&mut self, inventory: &Inventory, now: Millis) -> bool {
        let step = self.placement.step(inventory, now, &SLICE);
        self.released.extend(step.releases);
        self.whole |= step.waiting == 0;
        step.waiting > 0
    }

    /// Who has been given room where.
    pub fn occupancy(&self, inventory: &Inventory) -> Occupancy {
        self.placement.occupancy(inventory, self.whole)
    }

    /// What agents are to be told now.
    pub fn plan(&mut self, inventory: &Inventory, now: Millis) -> Vec<Act> {
        let released = std::mem::take(&mut self.released);
        // What is late is taken back by `settle`, so that it is not told twice.
        let limits = PlanLimits { patience_ms: u64::MAX, ..PlanLimits::default() };
        let instructions = plan(inventory, &self.placement, &released, &mut self.flights, &limits, now);
        let mut acts = Vec::new();
        for (at, instruction) in instructions {
            let plan = instruction.id();
            let Some(wish) = self.wish(inventory, at, &instruction) else {
                self.flights.rest(at, plan, now);
                continue;
            };
            let (patience_ms, copy) = match instruction {
                Instruction::Fetch { dataset, version, piece, .. } => {
                    (PATIENCE_MS, Some((dataset, version, piece)))
                }
                Instruction::Release { .. } => (LET_GO_MS, None),
            };
            let (node, id) = (wish.node.clone(), wish.id.clone());
            self.told.insert((at, plan), Told { node, id, since: now, patience_ms, copy, withdrawn: false });
            acts.push(Act::Ask(wish));
        }
        acts
    }

    /// What agents have brought with them since `adopt` is not told a second time under another number: the next turn meets it.
    pub fn spare(
        &mut self,
        inventory: &Inventory,
        in_hand: &[(Name, Box<str>, Standing)],
        acts: &mut Vec<Act>,
    ) {
        for (node, id, _) in in_hand {
            let Some((plan, _)) = parse(id) else { continue };
            let Some(at) = inventory.node_id(node) else { continue };
            let Some(told) = self.told.get(&(at, plan)).filter(|told| told.id != *id) else { continue };
            let asked = |act: &Act| matches!(act, Act::Ask(wish) if wish.node == *node && wish.id == told.id);
            let before = acts.len();
            acts.retain(|act| !asked(act));
            if acts.len() < before {
                self.told.remove(&(at, plan));
                self.flights.end(at, plan);
            }
        }
    }

    /// In the words of the wire; none where the node has no mount of the Dataset, so that nothing can be done there.
    fn wish(&self, inventory: &Inventory, at: NodeId, instruction: &Instruction) -> Option<Wish> {
        let node = inventory.node(at)?;
        let tier = if node.capacity().is_some_and(|room| room.cache > 0) { Tier::Cache } else { Tier::Ram };
        let extent = |dataset: &DatasetId, version: &Version, chunks: Vec<Chunks>| {
            let dataset = inventory.dataset(*dataset)?.name().clone();
            let here = node.mounts(&dataset).unwrap_or(true);
            here.then(|| Extent { dataset, path: Box::default(), chunks: Some((*version, chunks)) })
        };
        let (work, reason, useful_ms) = match instruction {
            Instruction::Fetch { dataset, version, chunks, reason, .. } => (
                Work::Fetch(extent(dataset, version, chunks.clone())?, tier),
                format!("placed here: {reason}"),
                PATIENCE_MS,
            ),
            Instruction::Release { dataset, version, chunks, because, .. } => (
                Work::Drop(extent(dataset, version, vec![chunks.clone()])?, tier),
                format!("no longer placed here: {because}"),
                LET_GO_MS,
            ),
        };
        let number = self.flights.number(at, instruction.id());
        Some(Wish {
            id: format!("{PREFIX}{:016x}/{number}", instruction.id()).into(),
            node: node.name().clone(),
            work,
            reason: reason.into(),
            useful_ms: u32::try_from(useful_ms).unwrap_or(u32::MAX),
            priority: PRIORITY,
            awaits_mount: false,
        })
    }
}

/// The plan's identity, and the number of the try.
fn parse(id: &str) -> Option<(u64, u32)> {
    let (plan, number) = id.strip_prefix(PREFIX)?.split_once('/')?;
    Some((u64::from_str_radix(plan, 16).ok()?, number.parse().ok()?))
}
