//! `replay`: the agent's decisions over a recording, without agent, root or kernel.
//!
//! The same core folds the same observations at the times they were recorded, so two runs print the same
//! bytes. What is damaged is told on stderr, counted as lost, and the rest is used.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use agent_core::Limits;
use agent_core::replay::Replay;
use agent_core::trace::TraceError;
use serde_json::json;

use super::text::printable;
use super::{CliError, json, show, tell};
use crate::api::convert;
use crate::config::Output;

/// A recording is read into memory whole; an hour of a very busy node is below this.
const LARGEST: u64 = 4 << 30;

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("{path} could not be read: {source}; name a file that `headrace record` wrote")]
    Read { path: String, source: io::Error },
    #[error("{path} is larger than 4 GiB, which is more than replay holds in memory: record a shorter time")]
    Large { path: String },
    #[error("{path}: {source}")]
    Foreign { path: String, source: TraceError },
}

pub fn replay(path: &Path, output: Output) -> Result<ExitCode, CliError> {
    let bytes = read(path)?;
    let found = agent_core::replay::replay(&bytes, Limits::default())
        .map_err(|source| ReplayError::Foreign { path: name(path), source })?;
    // A recorder that was killed leaves a good recording without its end mark.
    let is_damage = |flaw: &&TraceError| !matches!(flaw, TraceError::Unfinished { .. });
    let damages = found.flaws.iter().filter(is_damage).count() as u64 + found.further_flaws;
    for flaw in &found.flaws {
        tell(&format!("headrace: {}: {flaw}", name(path)));
    }
    show(output, || as_json(&found, damages), || found.to_string())?;
    Ok(if damages > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn as_json(found: &Replay, damages: u64) -> serde_json::Value {
    let Replay { observations, left_out, span, orders, flaws, further_flaws: _, node, workloads: _, ledger } =
        found;
    let lost: u64 = flaws.iter().map(TraceError::lost).sum();
    let rows = ledger.iter().cloned().map(convert::ledger_row);
    json!({
        "observations": observations, "left_out": left_out, "span_ns": span.0, "damages": damages,
        "lost_observations": lost, "reads": node.reads, "read_bytes": node.read_bytes,
        "covered_bytes": node.covered_bytes, "files": node.files, "workloads": node.workloads,
        "orders": {
            "fetch": orders.fetches, "list": orders.listings, "cancel": orders.cancels, "done": orders.done,
            "absent": orders.absent, "dropped": orders.dropped, "fetched_bytes": orders.fetched_bytes,
        },
        "fate": json::fate(Some(convert::fate(node.fate))),
        "rows": rows.map(|row| json::ledger_row(&row)).collect::<Vec<_>>(),
    })
}

fn name(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    printable(path.as_os_str().as_bytes())
}

fn read(path: &Path) -> Result<Vec<u8>, ReplayError> {
    let failed = |source| ReplayError::Read { path: name(path), source };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    // A device has no size of its own: the bound is on what is read.
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(ReplayError::Large { path: name(path) });
    }
    Ok(bytes)
}
