//! `replay`: the agent's decisions over a recording, without agent, root or kernel.
//!
//! The same core folds the same observations at the times they were recorded, so two runs print the same
//! bytes. What is damaged is told on stderr, counted as lost, and the rest is used.

use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use agent_core::trace::{Decoder, TraceError};
use agent_core::{Core, Limits, Nanos, Observation, Order};
use serde_json::json;

use super::lists::ledger_text;
use super::text::{count, printable, share, size};
use super::{CliError, json as as_json, show};
use crate::api::convert;
use crate::config::Output;

/// A recording is read into memory whole; an hour of a very busy node is below this.
const LARGEST: u64 = 4 << 30;

/// Sentences about damage before the rest is only counted.
const TOLD: u64 = 10;

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("{path} could not be read: {source}; name a file that `headrace record` wrote")]
    Read { path: String, source: io::Error },
    #[error("{path} is larger than 4 GiB, which is more than replay holds in memory: record a shorter time")]
    Large { path: String },
    #[error("{path}: {source}")]
    Foreign { path: String, source: TraceError },
}

/// What a replay counted.
#[derive(Debug, Default)]
struct Tally {
    observations: u64,
    damages: u64,
    lost: u64,
    fetches: u64,
    lists: u64,
    cancels: u64,
    /// Nanoseconds from the first to the last observation.
    span: u64,
}

pub fn replay(path: &Path, output: Output) -> Result<ExitCode, CliError> {
    let bytes = read(path)?;
    let decoder = Decoder::new(&bytes).map_err(|source| ReplayError::Foreign {
        path: name(path),
        source,
    })?;
    let mut core = Core::new(Limits::default());
    let tally = fold(decoder, &mut core, |damage| {
        eprintln!("headrace: {}: {damage}", name(path))
    });
    let (node, rows) = (core.node(), core.ledger());
    let rows: Vec<_> = rows.into_iter().map(convert::ledger_row).collect();
    show(
        output,
        || {
            json!({
                "observations": tally.observations, "span_ns": tally.span, "damages": tally.damages,
                "lost_observations": tally.lost, "reads": node.reads, "read_bytes": node.read_bytes,
                "covered_bytes": node.covered_bytes, "files": node.files, "workloads": node.workloads,
                "orders": {"fetch": tally.fetches, "list": tally.lists, "cancel": tally.cancels},
                "fate": as_json::fate(Some(convert::fate(node.fate))),
                "rows": rows.iter().map(as_json::ledger_row).collect::<Vec<_>>(),
            })
        },
        || {
            let mut text = String::new();
            let _ = writeln!(
                text,
                "{} observations over {:.3} s; {} read, {} of it in memory when read",
                count(tally.observations),
                Nanos(tally.span).as_secs_f64(),
                size(node.read_bytes),
                share(node.covered_bytes, node.read_bytes)
            );
            let _ = writeln!(
                text,
                "{} fetches, {} listings, {} cancellations ordered",
                count(tally.fetches),
                count(tally.lists),
                count(tally.cancels)
            );
            if tally.damages > 0 {
                let _ = writeln!(
                    text,
                    "{} damages, {} observations lost",
                    tally.damages, tally.lost
                );
            }
            let _ = write!(text, "\n{}", ledger_text(&rows));
            text
        },
    )?;
    Ok(if tally.damages > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn name(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    printable(path.as_os_str().as_bytes())
}

fn read(path: &Path) -> Result<Vec<u8>, ReplayError> {
    let failed = |source| ReplayError::Read {
        path: name(path),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    // A device has no size of its own: the bound is on what is read.
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(ReplayError::Large { path: name(path) });
    }
    Ok(bytes)
}

/// Runs the core over the recording as the engine runs it over events: fold one, take what is due.
fn fold(
    recording: impl Iterator<Item = Result<(Nanos, Observation), TraceError>>,
    core: &mut Core,
    mut tell: impl FnMut(&TraceError),
) -> Tally {
    let mut tally = Tally::default();
    let mut first: Option<Nanos> = None;
    let mut last = Nanos(0);
    for record in recording {
        let (at, observation) = match record {
            Ok(record) => {
                first.get_or_insert(record.0);
                record
            }
            Err(damage) => {
                // A recorder that was killed leaves a good recording without its end mark.
                let harmless = matches!(damage, TraceError::Unfinished { .. });
                if !harmless {
                    tally.damages += 1;
                }
                if harmless || tally.damages <= TOLD {
                    tell(&damage);
                }
                tally.lost += damage.lost();
                (
                    last,
                    Observation::Lost {
                        records: damage.lost(),
                    },
                )
            }
        };
        last = last.max(at);
        tally.observations += 1;
        core.apply(&observation, at);
        for order in core.orders(at) {
            match order {
                Order::Fetch { .. } => tally.fetches += 1,
                Order::List { .. } => tally.lists += 1,
                Order::Cancel { .. } => tally.cancels += 1,
                Order::Depth { .. } | Order::Detail { .. } => {}
            }
        }
        // Nobody listens here, and what nobody takes would only be kept.
        drop(core.happenings());
    }
    tally.span = first.map_or(0, |first| last.since(first).0);
    tally
}
