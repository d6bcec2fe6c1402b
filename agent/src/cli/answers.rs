//! Questions about one thing: the node, one file, latencies.

use std::fmt::Write;
use std::path::Path;

use hdrhistogram::Histogram;
use operator_api::observability::v1 as wire;
use serde_json::{Value, json};

use super::client::{Client, ClientError};
use super::text::{Align, Table, count, duration, printable, sentence, share, size};
use super::{CliError, json as as_json, paths, show};
use crate::config::Output;
use crate::metrics::histograms;

/// The answer to `Node`, which also says what is mounted where.
pub async fn ask_node(client: &mut Client) -> Result<wire::NodeReply, CliError> {
    Ok(client.node(wire::NodeRequest {}).await?.into_inner())
}

pub async fn node(mut client: Client, output: Output) -> Result<(), CliError> {
    let node = ask_node(&mut client).await?;
    show(output, || as_json::node(&node), || node_text(&node))
}

fn node_text(node: &wire::NodeReply) -> String {
    let mut text = String::new();
    let plan = node.plan.clone().unwrap_or_default();
    let plan_name = if plan.plan.is_empty() { "nothing attached (see headrace doctor)" } else { &plan.plan };
    let fate = node.fate.unwrap_or_default();
    let drops: u64 = node.drops_per_cpu.iter().sum();
    let mode = if node.observe_only { ", observing only" } else { "" };
    let lines = [
        ("node", format!("{}, agent {}{mode}", sentence(&node.hostname), sentence(&node.version))),
        ("plan", sentence(plan_name)),
        ("known", format!("{} files, {} workloads", count(node.files), count(node.workloads))),
        (
            "read",
            format!(
                "{} in {} reads, {} of it in memory when read",
                size(node.read_bytes),
                count(node.reads),
                share(node.covered_bytes, node.read_bytes)
            ),
        ),
        (
            "fetched",
            format!(
                "{}: {} hit, {} late, {} wasted, {} pending",
                size(node.fetched_bytes),
                size(fate.hit_bytes),
                size(fate.late_bytes),
                size(fate.wasted_bytes),
                size(fate.pending_bytes)
            ),
        ),
        ("fetches", format!("{} under way, {} waiting", count(node.in_flight), count(node.queued))),
        (
            "memory",
            format!(
                "{} of {} available, pressure {:.2} %",
                size(node.memory_available_bytes),
                size(node.memory_total_bytes),
                f64::from(node.memory_pressure) / 100.0
            ),
        ),
        ("lost", format!("{} records, {} ring-buffer drops", count(node.lost_records), count(drops))),
    ];
    for (name, value) in lines {
        let _ = writeln!(text, "{name:<9}{value}");
    }
    let mut mounts = Table::new(&[
        ("MOUNT", Align::Left),
        ("TYPE", Align::Left),
        ("SOURCE", Align::Left),
        ("WARMED PAGES", Align::Left),
        ("DEPTH", Align::Right),
        ("MISS", Align::Right),
    ]);
    for mount in &node.mounts {
        mounts.row(mount_cells(mount));
        for seen in &mount.more {
            let mut cells = vec![printable(&seen.point)];
            // The same file system: all else is said above.
            cells.resize(6, String::new());
            mounts.row(cells);
        }
    }
    if !mounts.is_empty() {
        let _ = write!(text, "\n{}", mounts.text());
    }
    text
}

fn mount_cells(mount: &wire::Mount) -> Vec<String> {
    let point = if mount.point.is_empty() { "–".to_owned() } else { printable(&mount.point) };
    let miss = if mount.miss_latency_ns == 0 { "–".to_owned() } else { duration(mount.miss_latency_ns) };
    vec![
        point,
        printable(mount.fstype.as_bytes()),
        printable(mount.source.as_bytes()),
        as_json::survival(mount.survival).to_owned(),
        mount.depth.to_string(),
        miss,
    ]
}

pub async fn explain(mut client: Client, output: Output, path: &Path) -> Result<(), CliError> {
    let mounts = ask_node(&mut client).await?.mounts;
    let key = paths::key(path);
    let spot = match (paths::spot(&mounts, path), key) {
        (Ok(spot), _) => spot,
        // The person's mount namespace is not the agent's, but the kernel's name for the file is the same.
        (Err(_), Some(_)) => paths::Spot::default(),
        (Err(unwatched), None) => return Err(unwatched.into()),
    };
    let request = wire::ExplainRequest { key, path: spot.path, mount: spot.mount };
    let reply = client.explain(request).await.map_err(ClientError::from)?.into_inner();
    let file = reply.file.clone().unwrap_or_default();
    let shown = paths::shown(&mounts, file.mount, &file.path);
    show(output, || as_json::explanation(&reply, &shown), || explain_text(&reply, &file, &shown))
}

fn explain_text(reply: &wire::ExplainReply, file: &wire::File, shown: &[u8]) -> String {
    let mut text = format!("{}\n", printable(shown));
    let _ = writeln!(
        text,
        "  {}, {} reads, {} read, {} of it in memory when read",
        size(file.size),
        count(file.reads),
        size(file.read_bytes),
        share(file.covered_bytes, file.read_bytes)
    );
    let _ = writeln!(
        text,
        "  in memory: {} ({}): {} by its readers, {} by the kernel's read-ahead, {} by the agent",
        size(file.resident_bytes),
        share(file.resident_bytes.min(file.size), file.size),
        size(file.reader_bytes),
        size(file.readahead_bytes),
        size(file.agent_bytes)
    );
    text.push_str("\nRecognised\n");
    if reply.patterns.is_empty() {
        text.push_str("  nothing yet: too little was read to tell\n");
    }
    for pattern in &reply.patterns {
        let _ = writeln!(text, "  {}", sentence(pattern));
    }
    text.push_str("\nExpected next\n");
    if reply.next.is_empty() {
        text.push_str("  nothing: no pattern speaks for what follows\n");
    }
    for next in &reply.next {
        let who = as_json::predictor(next.predictor);
        let _ = writeln!(text, "  {} ({who}): {}", sentence(&next.what), sentence(&next.reason));
    }
    text
}

/// A histogram's row: whose, of what kind, and its values.
type Row = (String, &'static str, Histogram<u64>);

pub async fn latency(mut client: Client, output: Output) -> Result<(), CliError> {
    let reply = client.histograms(wire::HistogramsRequest {}).await?.into_inner();
    let mut rows: Vec<Row> = Vec::new();
    for histogram in &reply.histograms {
        let decoded = histograms::decode(&histogram.hdr_v2)?;
        rows.push((histogram.source.clone(), as_json::latency_kind(histogram.kind), decoded));
    }
    let mut merged: Vec<Row> = Vec::new();
    for kind in ["miss", "hit"] {
        let parts: Vec<_> = rows.iter().filter(|row| row.1 == kind).map(|row| &row.2).collect();
        if !parts.is_empty() {
            merged.push(("all".to_owned(), kind, histograms::merge(parts)?));
        }
    }
    let as_value = |(source, kind, h): &Row| -> Value {
        json!({
            "source": source, "kind": kind, "count": h.len(), "mean_ns": h.mean(),
            "p50_ns": h.value_at_quantile(0.5), "p90_ns": h.value_at_quantile(0.9),
            "p99_ns": h.value_at_quantile(0.99), "p999_ns": h.value_at_quantile(0.999), "max_ns": h.max(),
        })
    };
    show(
        output,
        || {
            json!({
                "mounts": rows.iter().map(as_value).collect::<Vec<_>>(),
                "merged": merged.iter().map(as_value).collect::<Vec<_>>(),
            })
        },
        || latency_text(&rows, &merged),
    )
}

fn latency_text(rows: &[Row], merged: &[Row]) -> String {
    if rows.is_empty() {
        return "No miss has been seen yet: read something that is not in memory.\n".to_owned();
    }
    let mut table = Table::new(&[
        ("SOURCE", Align::Left),
        ("KIND", Align::Left),
        ("COUNT", Align::Right),
        ("P50", Align::Right),
        ("P90", Align::Right),
        ("P99", Align::Right),
        ("P99.9", Align::Right),
        ("MAX", Align::Right),
    ]);
    for (source, kind, h) in rows.iter().chain(merged) {
        let at = |quantile| duration(h.value_at_quantile(quantile));
        table.row(vec![
            printable(source.as_bytes()),
            (*kind).to_owned(),
            count(h.len()),
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.999),
            duration(h.max()),
        ]);
    }
    table.text()
}
