//! The same answers for scripts.
//!
//! Numbers are bytes, counts, nanoseconds or seconds as their names say. A path is a string as it is when
//! it is UTF-8; otherwise `path` is approximate and `path_hex` exact. Characters that could harm a terminal
//! are written as \u escapes, which mean the same to a parser.

use std::io::{self, Write};

use operator_api::observability::v1 as wire;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};
use serde_json::{Value, json};

use super::text::is_unsafe;

/// One document over several lines, with a newline at the end.
pub fn pretty(value: &Value) -> String {
    write(value, Harmless(PrettyFormatter::new()))
}

/// One document on one line, with a newline at the end.
pub fn line(value: &Value) -> String {
    write(value, Harmless(CompactFormatter))
}

fn write(value: &Value, formatter: impl Formatter) -> String {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    // Writing a Value into memory has nothing that could fail.
    let _ = value.serialize(&mut serializer);
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    text.push('\n');
    text
}

/// Writes what a terminal might obey as \u escapes; all else is the inner formatter's.
struct Harmless<F>(F);

impl<F: Formatter> Formatter for Harmless<F> {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for c in fragment.chars() {
            let mut utf8 = [0; 4];
            if !is_unsafe(c) {
                writer.write_all(c.encode_utf8(&mut utf8).as_bytes())?;
                continue;
            }
            let mut utf16 = [0; 2];
            for unit in c.encode_utf16(&mut utf16) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.begin_array(w)
    }
    fn end_array<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.end_array(w)
    }
    fn begin_array_value<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(w, first)
    }
    fn end_array_value<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.end_array_value(w)
    }
    fn begin_object<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.begin_object(w)
    }
    fn end_object<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.end_object(w)
    }
    fn begin_object_key<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(w, first)
    }
    fn begin_object_value<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.begin_object_value(w)
    }
    fn end_object_value<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.end_object_value(w)
    }
}

/// Adds a path to an object, exactly.
fn with_path(mut object: Value, name: &str, path: &[u8]) -> Value {
    if let Value::Object(fields) = &mut object {
        fields.insert(name.to_owned(), json!(String::from_utf8_lossy(path)));
        if std::str::from_utf8(path).is_err() {
            let hex: String = path.iter().map(|byte| format!("{byte:02x}")).collect();
            fields.insert(format!("{name}_hex"), json!(hex));
        }
    }
    object
}

fn key(key: Option<wire::FileKey>) -> Value {
    key.map_or(Value::Null, |key| json!({"dev": key.dev, "ino": key.ino}))
}

pub fn fate(fate: Option<wire::Fate>) -> Value {
    let wire::Fate { hit_bytes, late_bytes, wasted_bytes, pending_bytes } = fate.unwrap_or_default();
    json!({
        "hit_bytes": hit_bytes, "late_bytes": late_bytes,
        "wasted_bytes": wasted_bytes, "pending_bytes": pending_bytes,
    })
}

pub fn survival(survival: i32) -> &'static str {
    match wire::Survival::try_from(survival) {
        Ok(wire::Survival::Kept) => "kept",
        Ok(wire::Survival::Dropped) => "dropped",
        Ok(wire::Survival::Refused) => "refused",
        Ok(wire::Survival::Unknown) | Err(_) => "unknown",
    }
}

pub fn predictor(predictor: i32) -> &'static str {
    match wire::Predictor::try_from(predictor) {
        Ok(wire::Predictor::Sequential) => "sequential",
        Ok(wire::Predictor::Strided) => "strided",
        Ok(wire::Predictor::Reverse) => "reverse",
        Ok(wire::Predictor::WholeFile) => "whole-file",
        Ok(wire::Predictor::Directory) => "directory",
        Ok(wire::Predictor::Repetition) => "repetition",
        Ok(wire::Predictor::Epoch) => "epoch",
        Ok(wire::Predictor::Shape) => "shape",
        Ok(wire::Predictor::Unspecified) | Err(_) => "unknown",
    }
}

pub fn check_state(state: i32) -> &'static str {
    match wire::CheckState::try_from(state) {
        Ok(wire::CheckState::Ok) => "ok",
        Ok(wire::CheckState::Warn) => "warn",
        Ok(wire::CheckState::Fail) => "fail",
        Ok(wire::CheckState::Unspecified) | Err(_) => "unknown",
    }
}

pub fn latency_kind(kind: i32) -> &'static str {
    match wire::LatencyKind::try_from(kind) {
        Ok(wire::LatencyKind::Miss) => "miss",
        Ok(wire::LatencyKind::Hit) => "hit",
        Ok(wire::LatencyKind::Unspecified) | Err(_) => "unknown",
    }
}

fn mount(mount: &wire::Mount) -> Value {
    let object = json!({
        "mount": mount.mount, "dev": mount.dev, "source": mount.source, "fstype": mount.fstype,
        "survival": survival(mount.survival), "depth": mount.depth,
        "miss_latency_ns": mount.miss_latency_ns,
    });
    let mut object = with_path(with_path(object, "point", &mount.point), "root", &mount.root);
    if !mount.more.is_empty() {
        let more = mount.more.iter();
        let more = more.map(|seen| with_path(with_path(json!({}), "point", &seen.point), "root", &seen.root));
        object["more"] = more.collect();
    }
    object
}

pub fn node(node: &wire::NodeReply) -> Value {
    let plan = node.plan.clone().unwrap_or_default();
    let refused: Vec<Value> =
        plan.refused.iter().map(|r| json!({"plan": r.plan, "reason": r.reason})).collect();
    json!({
        "hostname": node.hostname, "version": node.version, "uptime_seconds": node.uptime_seconds,
        "plan": {
            "plan": plan.plan, "hooks": plan.hooks, "unseen": plan.unseen, "refused": refused,
        },
        "mounts": node.mounts.iter().map(mount).collect::<Vec<_>>(),
        "files": node.files, "workloads": node.workloads, "reads": node.reads,
        "read_bytes": node.read_bytes, "covered_bytes": node.covered_bytes,
        "fetched_bytes": node.fetched_bytes, "fate": fate(node.fate),
        "lost_records": node.lost_records, "drops_per_cpu": node.drops_per_cpu,
        "in_flight": node.in_flight, "queued": node.queued,
        "memory_available_bytes": node.memory_available_bytes,
        "memory_total_bytes": node.memory_total_bytes,
        "memory_pressure_percent": f64::from(node.memory_pressure) / 100.0,
        "observe_only": node.observe_only,
    })
}

pub fn workload(row: &wire::Workload) -> Value {
    json!({
        "workload": row.workload, "label": row.label, "tgids": row.tgids, "runs": row.runs,
        "files_read": row.files_read, "read_bytes": row.read_bytes,
        "covered_bytes": row.covered_bytes, "fetched_bytes": row.fetched_bytes,
        "fate": fate(row.fate), "pattern": row.pattern, "reason": row.reason,
    })
}

/// `shown` is the path below the mount point, where that is known.
pub fn file(row: &wire::File, shown: &[u8]) -> Value {
    let object = json!({
        "key": key(row.key), "mount": row.mount, "size_bytes": row.size, "reads": row.reads,
        "read_bytes": row.read_bytes, "covered_bytes": row.covered_bytes,
        "resident_bytes": row.resident_bytes, "reader_bytes": row.reader_bytes,
        "readahead_bytes": row.readahead_bytes, "agent_bytes": row.agent_bytes, "pattern": row.pattern,
    });
    with_path(object, "path", shown)
}

pub fn explanation(reply: &wire::ExplainReply, shown: &[u8]) -> Value {
    let next: Vec<Value> = reply
        .next
        .iter()
        .map(|next| {
            json!({
                "what": next.what, "predictor": predictor(next.predictor), "reason": next.reason,
            })
        })
        .collect();
    json!({
        "file": file(&reply.file.clone().unwrap_or_default(), shown),
        "resident_pages": reply.resident.iter().map(|r| json!([r.start, r.end])).collect::<Vec<_>>(),
        "patterns": reply.patterns, "next": next,
    })
}

pub fn ledger_row(row: &wire::LedgerRow) -> Value {
    json!({
        "workload": row.workload, "predictor": predictor(row.predictor),
        "predictions": row.predictions, "fetched_bytes": row.fetched_bytes, "fate": fate(row.fate),
    })
}

pub fn residency(row: &wire::MountResidency, source: &str) -> Value {
    json!({
        "mount": row.mount, "source": source, "files": row.files, "size_bytes": row.size_bytes,
        "resident_bytes": row.resident_bytes, "reader_bytes": row.reader_bytes,
        "readahead_bytes": row.readahead_bytes, "agent_bytes": row.agent_bytes,
    })
}

pub fn check(check: &wire::Check) -> Value {
    json!({
        "name": check.name, "state": check_state(check.state), "finding": check.finding,
        "advice": check.advice,
    })
}

pub fn event(event: &wire::Event) -> Value {
    use wire::event::What;
    match &event.what {
        Some(What::Read(read)) => {
            let pages = read.pages.unwrap_or_default();
            let object = json!({
                "event": "read", "key": key(read.key), "tgid": read.tgid,
                "pages": [pages.start, pages.end], "count": read.count, "covered": read.covered,
            });
            with_path(object, "path", &read.path)
        }
        Some(What::Fetch(fetch)) => {
            let object = json!({
                "event": "fetch", "key": key(fetch.key), "predictor": predictor(fetch.predictor),
                "reason": fetch.reason, "bytes": fetch.bytes,
            });
            with_path(object, "path", &fetch.path)
        }
        Some(What::Pattern(found)) => {
            let object = json!({"event": "pattern", "tgid": found.tgid, "pattern": found.pattern});
            with_path(object, "path", &found.path)
        }
        Some(What::Mount(mount)) => {
            json!({"event": "mount", "source": mount.source, "survival": survival(mount.survival)})
        }
        Some(What::KernelLost(lost)) => json!({"event": "kernel-lost", "records": lost.records}),
        Some(What::Lagged(lagged)) => json!({"event": "lagged", "events": lagged.events}),
        // An event of a newer agent that this command has no name for.
        None => json!({"event": "unknown"}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_cannot_harm_a_terminal_and_means_the_same() {
        let name = "a\u{1b}[2J\u{9b}1m\u{202e}\u{e0041}\\\"\n";
        let text = line(&json!({ "path": name }));
        assert!(!text.trim_end().chars().any(is_unsafe), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["path"], name);
        assert_eq!(serde_json::from_str::<Value>(&pretty(&json!({ "path": name }))).unwrap()["path"], name);
    }

    #[test]
    fn names_that_are_not_utf8_are_exact_in_hex() {
        let row = wire::File::default();
        assert_eq!(file(&row, b"a\xff")["path_hex"], "61ff");
        assert_eq!(file(&row, b"a")["path_hex"], Value::Null);
    }
}
