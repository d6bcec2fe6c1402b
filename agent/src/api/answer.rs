//! What the engine says to each query: the core's views, and what only the edges know.
//!
//! Synchronous and without side effects, so that the engine's loop calls it between two steps. Only a
//! recording changes the engine, and is handed back to it.

use agent_core::Core;
use tokio::sync::oneshot;

use super::query::{NodeAnswer, Place, PlanSummary, Query, Selection};
use super::recording::RecordSink;
use crate::doctor::{self, Check};
use crate::metrics::histograms::Histograms;

/// What the edges know and the core does not.
#[derive(Debug, Default)]
pub struct EdgeFacts {
    pub plan: PlanSummary,
    /// Indexed by CPU.
    pub drops_per_cpu: Vec<u64>,
    pub places: Vec<Place>,
    pub observe_only: bool,
    /// Bytes.
    pub memory_total: u64,
    /// PSI memory, some avg10, in hundredths of a per cent.
    pub memory_pressure: u32,
    pub histograms: Histograms,
    /// Further findings for `headrace doctor`.
    pub checks: Vec<Check>,
}

/// A recording someone asks for: reply `Ok`, then feed the sink; or reply with a sentence why not.
#[derive(Debug)]
pub struct RecordingWanted {
    pub sink: RecordSink,
    pub reply: oneshot::Sender<Result<(), Box<str>>>,
}

/// Answers; an asker that has left is ignored.
pub fn answer(query: Query, core: &Core, edges: &EdgeFacts) -> Option<RecordingWanted> {
    match query {
        Query::Node { reply } => drop(reply.send(node(core, edges))),
        Query::Workloads { reply } => drop(reply.send(core.workloads())),
        Query::Files { select: Selection { mount, prefix, limit }, reply } => {
            drop(reply.send(core.files(mount, &prefix, limit)));
        }
        Query::Explain { file, mount, path, reply } => {
            let by_path = || (!path.is_empty()).then(|| core.key_of(mount, &path)).flatten();
            let by_key = file.and_then(|file| core.explain(file));
            let found = by_key.or_else(|| core.explain(by_path()?));
            drop(reply.send(found));
        }
        Query::Ledger { reply } => drop(reply.send(core.ledger())),
        Query::Histograms { reply } => match edges.histograms.encode() {
            Ok(rows) => drop(reply.send(rows)),
            Err(error) => tracing::error!("{error}"),
        },
        Query::Doctor { reply } => drop(reply.send(checks(core, edges))),
        // The engine's own: it takes them before they come here.
        Query::Outside(_) => {}
        Query::Record { sink, reply } => return Some(RecordingWanted { sink, reply }),
    }
    None
}

fn node(core: &Core, edges: &EdgeFacts) -> NodeAnswer {
    let EdgeFacts {
        plan,
        drops_per_cpu,
        places,
        observe_only,
        memory_total,
        memory_pressure,
        histograms: _,
        checks: _,
    } = edges;
    NodeAnswer {
        view: core.node(),
        plan: plan.clone(),
        drops_per_cpu: drops_per_cpu.clone(),
        places: places.clone(),
        observe_only: *observe_only,
        memory_total: *memory_total,
        memory_pressure: *memory_pressure,
    }
}

fn checks(core: &Core, edges: &EdgeFacts) -> Vec<Check> {
    let PlanSummary { plan, hooks, unseen, refused } = &edges.plan;
    let facts = doctor::agent::PlanFacts { plan, hooks, unseen, refused };
    let mut checks = doctor::agent::checks(&core.node(), facts, edges.observe_only);
    checks.extend(edges.checks.iter().cloned());
    checks
}
