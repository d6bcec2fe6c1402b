//! Questions answered with rows: workloads, files, the ledger, residency.

use std::path::Path;

use operator_api::observability::v1 as wire;
use serde_json::{Value, json};

use super::answers::ask_node;
use super::client::Client;
use super::text::{Align, Table, count, printable, sentence, share, size};
use super::{CliError, json as as_json, paths, show};
use crate::config::Output;

pub async fn workloads(mut client: Client, output: Output, limit: u32) -> Result<(), CliError> {
    let reply = client.workloads(wire::WorkloadsRequest { limit }).await?.into_inner();
    let rows = &reply.workloads;
    show(
        output,
        || json!({"workloads": rows.iter().map(as_json::workload).collect::<Vec<_>>(), "total": reply.total}),
        || {
            if rows.is_empty() {
                return "Nobody has read from a watched mount yet.\n".to_owned();
            }
            let mut table = Table::new(&[
                ("WORKLOAD", Align::Left),
                ("PROCESSES", Align::Right),
                ("RUNS", Align::Right),
                ("FILES", Align::Right),
                ("READ", Align::Right),
                ("IN MEMORY", Align::Right),
                ("PREFETCHED", Align::Right),
                ("WASTED", Align::Right),
                ("PATTERN", Align::Left),
            ]);
            for row in rows {
                table.row(vec![
                    printable(row.label.as_bytes()),
                    row.tgids.len().to_string(),
                    row.runs.to_string(),
                    count(row.files_read),
                    size(row.read_bytes),
                    share(row.covered_bytes, row.read_bytes),
                    size(row.fetched_bytes),
                    size(row.fate.unwrap_or_default().wasted_bytes),
                    sentence(&row.pattern),
                ]);
            }
            let mut text = table.text();
            let hidden = reply.total.saturating_sub(rows.len() as u64);
            if hidden > 0 {
                text.push_str(&format!("{hidden} more: see --limit\n"));
            }
            text
        },
    )
}

pub async fn files(
    mut client: Client,
    output: Output,
    prefix: Option<&Path>,
    limit: u32,
) -> Result<(), CliError> {
    let mounts = ask_node(&mut client).await?.mounts;
    let spot = prefix.map(|prefix| paths::spot(&mounts, prefix)).transpose()?.unwrap_or_default();
    let request = wire::FilesRequest { prefix: spot.path, limit, mount: spot.mount };
    let files = client.files(request).await?.into_inner().files;
    let shown = |file: &wire::File| paths::shown(&mounts, file.mount, &file.path);
    let as_value = || -> Vec<Value> { files.iter().map(|file| as_json::file(file, &shown(file))).collect() };
    show(
        output,
        || json!({ "files": as_value() }),
        || {
            if files.is_empty() {
                return "No file there has been read yet.\n".to_owned();
            }
            let mut table = Table::new(&[
                ("READS", Align::Right),
                ("READ", Align::Right),
                ("COVERED", Align::Right),
                ("SIZE", Align::Right),
                ("RESIDENT", Align::Right),
                ("BY AGENT", Align::Right),
                ("PATTERN", Align::Left),
                ("PATH", Align::Left),
            ]);
            for file in &files {
                table.row(vec![
                    count(file.reads),
                    size(file.read_bytes),
                    share(file.covered_bytes, file.read_bytes),
                    size(file.size),
                    share(file.resident_bytes.min(file.size), file.size),
                    size(file.agent_bytes),
                    sentence(&file.pattern),
                    printable(&shown(file)),
                ]);
            }
            table.text()
        },
    )
}

pub async fn ledger(mut client: Client, output: Output) -> Result<(), CliError> {
    let rows = client.ledger(wire::LedgerRequest {}).await?.into_inner().rows;
    show(
        output,
        || json!({ "rows": rows.iter().map(as_json::ledger_row).collect::<Vec<_>>() }),
        || ledger_text(&rows),
    )
}

/// The ledger as a table; `replay` prints the same.
pub fn ledger_text(rows: &[wire::LedgerRow]) -> String {
    if rows.is_empty() {
        return "No prediction has been made yet.\n".to_owned();
    }
    let mut table = Table::new(&[
        ("WORKLOAD", Align::Left),
        ("PREDICTOR", Align::Left),
        ("PREDICTIONS", Align::Right),
        ("FETCHED", Align::Right),
        ("HIT", Align::Right),
        ("LATE", Align::Right),
        ("WASTED", Align::Right),
        ("PENDING", Align::Right),
    ]);
    for row in rows {
        let fate = row.fate.unwrap_or_default();
        table.row(vec![
            printable(row.workload.as_bytes()),
            as_json::predictor(row.predictor).to_owned(),
            count(row.predictions),
            size(row.fetched_bytes),
            size(fate.hit_bytes),
            size(fate.late_bytes),
            size(fate.wasted_bytes),
            size(fate.pending_bytes),
        ]);
    }
    table.text()
}

pub async fn residency(mut client: Client, output: Output, prefix: Option<&Path>) -> Result<(), CliError> {
    let mounts = ask_node(&mut client).await?.mounts;
    let spot = prefix.map(|prefix| paths::spot(&mounts, prefix)).transpose()?.unwrap_or_default();
    let request = wire::ResidencyRequest {
        prefix: spot.path,
        // All the agent counts in one answer.
        limit: 10_000,
        mount: spot.mount,
    };
    let reply = client.residency(request).await?.into_inner();
    let name = |row: &wire::MountResidency| {
        let mount = mounts.iter().find(|mount| mount.mount == row.mount);
        mount.map(|mount| mount.source.clone()).unwrap_or_default()
    };
    let as_value =
        || -> Vec<Value> { reply.mounts.iter().map(|row| as_json::residency(row, &name(row))).collect() };
    show(
        output,
        || json!({"mounts": as_value(), "partial": reply.partial}),
        || {
            if reply.mounts.is_empty() {
                return "No file there has been read yet.\n".to_owned();
            }
            let mut table = Table::new(&[
                ("SOURCE", Align::Left),
                ("FILES", Align::Right),
                ("SIZE", Align::Right),
                ("RESIDENT", Align::Right),
                ("SHARE", Align::Right),
                ("BY READERS", Align::Right),
                ("BY READ-AHEAD", Align::Right),
                ("BY AGENT", Align::Right),
            ]);
            for row in &reply.mounts {
                table.row(vec![
                    printable(name(row).as_bytes()),
                    count(row.files),
                    size(row.size_bytes),
                    size(row.resident_bytes),
                    share(row.resident_bytes.min(row.size_bytes), row.size_bytes),
                    size(row.reader_bytes),
                    size(row.readahead_bytes),
                    size(row.agent_bytes),
                ]);
            }
            let mut text = table.text();
            if reply.partial {
                text.push_str("The 10,000 most read files were counted; there are more.\n");
            }
            text
        },
    )
}
