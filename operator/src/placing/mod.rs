//! Placement as a part of the running operator: while this replica leads, what placement decides becomes what
//! agents are told.
//!
//! `term` (pure) keeps one term's decisions and what became of them; here are the clock, the inventory's lock and
//! the hub. Nothing outlives the term: the next leader, or this one when it leads again, decides anew from what
//! agents hold, and meets what they have in hand.

mod term;

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::ingest::Hub;
use crate::inventory::Name;

use term::{Act, Term};

#[cfg(test)]
mod tests;

/// Agents come within three seconds of a leader's listening and tell all they hold: decided before that, copies
/// would be wanted where none are lacking.
const SETTLE: Duration = Duration::from_secs(10);

/// Between two looks when nothing has ended meanwhile.
const PERIOD: Duration = Duration::from_secs(3);

/// After an end the next one is told sooner, but looking takes no more than a twentieth of the time.
const SHORTEST: Duration = Duration::from_millis(200);
const SHARE: u32 = 20;

/// Slices of a step, each with the inventory's lock for itself: a pod's scheduler waits for one of them at most.
const SLICES: usize = 8;

/// Decides and tells until it is dropped, as it is when this replica does not lead any more.
pub async fn run(hub: Arc<Hub>) {
    tokio::time::sleep(SETTLE).await;
    let mut ends = hub.ends();
    let mut term = Term::default();
    loop {
        let begun = Instant::now();
        let own = hub.clone();
        let turned = tokio::task::spawn_blocking(move || {
            turn(&own, &mut term);
            term
        });
        term = turned.await.unwrap_or_else(|error| {
            tracing::error!("placement begins anew after a fault of the program, please report it: {error}");
            Term::default()
        });
        let pause = (begun.elapsed() * SHARE).clamp(SHORTEST, PERIOD);
        tokio::time::sleep(pause).await;
        // None: the period is over.
        let _ = tokio::time::timeout(PERIOD.saturating_sub(pause), ended(&mut ends)).await;
    }
}

/// Waits until something of placement has ended; what was missed may have been that.
async fn ended(ends: &mut broadcast::Receiver<(Name, Box<str>)>) {
    loop {
        match ends.recv().await {
            Ok((_, id)) if !id.starts_with(term::PREFIX) => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

fn turn(hub: &Hub, term: &mut Term) {
    let now = hub.now();
    let read = || hub.inventory().read().unwrap_or_else(PoisonError::into_inner);
    let mut acts = term.adopt(&read(), hub.unasked(term::PREFIX), now);
    acts.extend(term.settle(|node, id| hub.standing(node, id), now));
    for _ in 0..SLICES {
        if !term.step(&read(), now) {
            break;
        }
    }
    hub.occupy(term.occupancy(&read()));
    let mut asks = term.plan(&read(), now);
    if !asks.is_empty() {
        term.spare(&read(), &hub.unasked(term::PREFIX), &mut asks);
    }
    acts.extend(asks);
    for act in acts {
        match act {
            Act::Forget { node, id } => hub.forget(&node, &id),
            Act::Withdraw { node, id, why } => {
                tracing::debug!(%node, id, why, "placement takes an instruction back");
                hub.withdraw(&node, &id);
            }
            Act::Ask(wish) => {
                let (node, id) = (wish.node.clone(), wish.id.clone());
                tracing::debug!(%node, id, reason = %wish.reason, "placement");
                if let Err(error) = hub.instruct(wish) {
                    tracing::debug!(%node, id, %error, "not told; it is looked at again");
                }
            }
        }
    }
}
