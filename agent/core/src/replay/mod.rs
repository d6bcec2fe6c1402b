//! A recording run through the core again, with a simulated store that answers its orders.
//!
//! The replayed core makes its own orders, so what the recording session's agent did (its fetches, its
//! listings, the pages it brought in) is left out, and the store of the replay answers instead: it holds
//! the files and directories that the recording tells of, and takes the median of the misses recorded so
//! far. Readers are not simulated: they read when they read in the recording, so a replay tells what would
//! have been in memory in time, not how much sooner they would have ended. Events are ordered by time,
//! then by number; the same recording gives the same ledger, byte for byte.

mod ranges;

mod catalog;

mod extent;

mod world;

mod ledger;

#[cfg(test)]
mod tests;

use crate::core::{Core, Limits};
use crate::observation::Observation;
use crate::order::Order;
use crate::trace::{Decoder, TraceError};
use crate::units::Nanos;
use crate::view::{LedgerRow, NodeView, WorkloadView};
use catalog::Catalog;
use world::World;

/// Damages listed one by one; of a recording that has more the count is enough.
const MAX_FLAWS: usize = 64;

/// What came of a replay; prints as the ledger.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replay {
    /// Good observations of the recording.
    pub observations: u64,
    /// Of these, left out because they answer orders that this core has not made.
    pub left_out: u64,
    /// From the first to the last observation.
    pub span: Nanos,
    pub orders: OrderCounts,
    /// What of the recording could not be read, the first 64.
    pub flaws: Vec<TraceError>,
    pub further_flaws: u64,
    pub node: NodeView,
    pub workloads: Vec<WorkloadView>,
    pub ledger: Vec<LedgerRow>,
}

/// The orders of the replayed core and their outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrderCounts {
    pub fetches: u64,
    pub listings: u64,
    pub cancels: u64,
    pub done: u64,
    pub absent: u64,
    pub dropped: u64,
    pub fetched_bytes: u64,
}

/// What decides: the core, or a test's stand-in for it.
trait Mind {
    fn apply(&mut self, observation: &Observation, now: Nanos);
    fn orders(&mut self, now: Nanos) -> Vec<Order>;
}

impl Mind for Core {
    fn apply(&mut self, observation: &Observation, now: Nanos) {
        Core::apply(self, observation, now);
        // What is worth showing live is not shown here; taken so that it does not pile up.
        drop(self.happenings());
    }

    fn orders(&mut self, _now: Nanos) -> Vec<Order> {
        Core::orders(self)
    }
}

/// Runs a recording through a new core. Fails only where nothing of it can be read.
pub fn replay(recording: &[u8], limits: Limits) -> Result<Replay, TraceError> {
    let mut core = Core::new(limits);
    let mut found = run(recording, &mut core)?;
    found.node = core.node();
    found.node.mounts.sort_by_key(|mount| mount.mount);
    found.workloads = core.workloads();
    found.workloads.sort_by(|one, other| one.workload.cmp(&other.workload));
    found.ledger = core.ledger();
    found
        .ledger
        .sort_by(|one, other| (&one.workload, one.predictor).cmp(&(&other.workload, other.predictor)));
    Ok(found)
}

fn run(recording: &[u8], mind: &mut impl Mind) -> Result<Replay, TraceError> {
    let mut world = World::new(Catalog::gather(Decoder::new(recording)?));
    let mut found = Replay::default();
    let (mut first, mut now) = (None, Nanos::default());
    for item in Decoder::new(recording)? {
        let observation = match item {
            Ok((at, observation)) => {
                first.get_or_insert(at);
                // Records of two CPUs may be swapped; the core's time only goes forward.
                now = now.max(at);
                found.observations += 1;
                observation
            }
            Err(flaw) => {
                let records = flaw.lost();
                if found.flaws.len() < MAX_FLAWS {
                    found.flaws.push(flaw);
                } else {
                    found.further_flaws += 1;
                }
                if records == 0 {
                    continue;
                }
                Observation::Lost { records }
            }
        };
        pass_time(&mut world, mind, now);
        for observation in world.admit(observation) {
            mind.apply(&observation, now);
        }
        world.carry_out(mind.orders(now), now);
    }
    world.close();
    // What is under way when the recording ends comes home; new orders are turned away.
    pass_time(&mut world, mind, Nanos(u64::MAX));
    found.span = now.since(first.unwrap_or_default());
    (found.orders, found.left_out) = world.totals();
    Ok(found)
}

/// Lets everything of the simulated store happen that is due until then.
fn pass_time(world: &mut World, mind: &mut impl Mind, until: Nanos) {
    while let Some((at, observation)) = world.happen(until) {
        mind.apply(&observation, at);
        world.carry_out(mind.orders(at), at);
    }
}
