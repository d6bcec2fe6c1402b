//! The core's views as the wire's messages: one function each, every struct taken apart whole, so that a
//! new field breaks the build here.

use agent_core::view::{
    Expectation, Explanation, Fate, FileView, Happening, LedgerRow, MountView, Predictor, Survival,
    WorkloadView,
};
use agent_core::{FileKey, MountId, PAGE, Pages};
use operator_api::observability::v1 as wire;

use super::query::{NodeAnswer, Place, PlanSummary, Seen};
use crate::doctor::{Check, State};
use crate::metrics::histograms::{Encoded, Latency};

pub fn fate(fate: Fate) -> wire::Fate {
    let Fate { hit, late, wasted, pending } = fate;
    wire::Fate { hit_bytes: hit, late_bytes: late, wasted_bytes: wasted, pending_bytes: pending }
}

pub fn key(key: FileKey) -> wire::FileKey {
    let FileKey { dev, ino } = key;
    wire::FileKey { dev, ino }
}

pub fn key_of(key: wire::FileKey) -> FileKey {
    let wire::FileKey { dev, ino } = key;
    FileKey { dev, ino }
}

pub fn pages(pages: &Pages) -> wire::PageRange {
    wire::PageRange { start: pages.start, end: pages.end }
}

pub fn survival(survival: Survival) -> wire::Survival {
    match survival {
        Survival::Unknown => wire::Survival::Unknown,
        Survival::Kept => wire::Survival::Kept,
        Survival::Dropped => wire::Survival::Dropped,
        Survival::Refused => wire::Survival::Refused,
    }
}

pub fn predictor(predictor: Predictor) -> wire::Predictor {
    match predictor {
        Predictor::Sequential => wire::Predictor::Sequential,
        Predictor::Strided => wire::Predictor::Strided,
        Predictor::Reverse => wire::Predictor::Reverse,
        Predictor::WholeFile => wire::Predictor::WholeFile,
        Predictor::Directory => wire::Predictor::Directory,
        Predictor::Repetition => wire::Predictor::Repetition,
        Predictor::Epoch => wire::Predictor::Epoch,
        Predictor::Shape => wire::Predictor::Shape,
    }
}

fn mount(view: MountView, places: &[Place]) -> wire::Mount {
    let MountView { mount, dev, source, fstype, survival: survives, depth, miss_latency } = view;
    let seen = places.iter().filter(|place| place.mount == mount).flat_map(|place| &place.seen);
    let mut seen = seen
        .filter(|seen| seen.spot.is_some())
        .map(|Seen { point, root, spot: _ }| wire::Seen { point: point.to_vec(), root: root.to_vec() });
    let first = seen.next().unwrap_or_default();
    wire::Mount {
        mount: mount.0,
        dev,
        source: source.into(),
        fstype: fstype.into(),
        survival: survival(survives).into(),
        depth,
        miss_latency_ns: miss_latency.0,
        point: first.point,
        root: first.root,
        more: seen.collect(),
    }
}

fn plan(plan: PlanSummary) -> wire::PlanInfo {
    let PlanSummary { plan, hooks, unseen, refused } = plan;
    let refused = refused
        .into_iter()
        .map(|(plan, reason)| wire::RefusedPlan { plan: plan.into(), reason: reason.into() });
    wire::PlanInfo {
        plan: plan.into(),
        hooks: hooks.into_iter().map(String::from).collect(),
        unseen: unseen.into_iter().map(String::from).collect(),
        refused: refused.collect(),
    }
}

pub fn node(answer: NodeAnswer, uptime_seconds: u64) -> wire::NodeReply {
    let NodeAnswer {
        view,
        plan: summary,
        drops_per_cpu,
        places,
        observe_only,
        memory_total,
        memory_pressure,
    } = answer;
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    wire::NodeReply {
        hostname,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds,
        plan: Some(plan(summary)),
        mounts: view.mounts.into_iter().map(|view| mount(view, &places)).collect(),
        files: view.files,
        workloads: view.workloads,
        reads: view.reads,
        read_bytes: view.read_bytes,
        covered_bytes: view.covered_bytes,
        fetched_bytes: view.fetched_bytes,
        fate: Some(fate(view.fate)),
        lost_records: view.lost_records,
        in_flight: view.in_flight,
        queued: view.queued,
        memory_available_bytes: view.memory_available,
        memory_total_bytes: memory_total,
        memory_pressure,
        drops_per_cpu,
        observe_only,
    }
}

pub fn workload(view: WorkloadView) -> wire::Workload {
    let WorkloadView {
        workload,
        label,
        tgids,
        runs,
        files_read,
        read_bytes,
        covered_bytes,
        fetched_bytes,
        fate: fates,
        pattern,
        reason,
    } = view;
    wire::Workload {
        workload: workload.into(),
        label: label.into(),
        tgids,
        runs,
        files_read,
        read_bytes,
        covered_bytes,
        fetched_bytes,
        fate: Some(fate(fates)),
        pattern: pattern.into(),
        reason: reason.into(),
    }
}

pub fn file(view: FileView) -> wire::File {
    let FileView {
        file,
        mount: MountId(mount),
        path,
        size,
        reads,
        read_bytes,
        covered_bytes,
        resident_pages,
        resident_by_reader,
        resident_by_readahead,
        resident_by_agent,
        pattern,
    } = view;
    let bytes = |pages: u64| pages.saturating_mul(PAGE);
    wire::File {
        key: Some(key(file)),
        mount,
        path: path.into_vec(),
        size,
        reads,
        read_bytes,
        covered_bytes,
        resident_bytes: bytes(resident_pages),
        reader_bytes: bytes(resident_by_reader),
        readahead_bytes: bytes(resident_by_readahead),
        agent_bytes: bytes(resident_by_agent),
        pattern: pattern.into(),
    }
}

pub fn explanation(explanation: Explanation) -> wire::ExplainReply {
    let Explanation { file: view, resident, patterns, next } = explanation;
    let expectation = |next: Expectation| {
        let Expectation { what, predictor: who, reason } = next;
        wire::Expectation { what: what.into(), predictor: predictor(who).into(), reason: reason.into() }
    };
    wire::ExplainReply {
        file: Some(file(view)),
        resident: resident.iter().map(pages).collect(),
        patterns: patterns.into_iter().map(String::from).collect(),
        next: next.into_iter().map(expectation).collect(),
    }
}

pub fn ledger_row(row: LedgerRow) -> wire::LedgerRow {
    let LedgerRow { workload, predictor: who, predictions, fetched_bytes, fate: fates } = row;
    wire::LedgerRow {
        workload: workload.into(),
        predictor: predictor(who).into(),
        predictions,
        fetched_bytes,
        fate: Some(fate(fates)),
    }
}

/// Sums of these files, by mount.
pub fn residency(files: Vec<FileView>) -> Vec<wire::MountResidency> {
    let mut mounts = std::collections::BTreeMap::<u32, wire::MountResidency>::new();
    for view in files.into_iter().map(file) {
        let sum = mounts
            .entry(view.mount)
            .or_insert_with(|| wire::MountResidency { mount: view.mount, ..Default::default() });
        sum.files += 1;
        sum.size_bytes = sum.size_bytes.saturating_add(view.size);
        sum.resident_bytes = sum.resident_bytes.saturating_add(view.resident_bytes);
        sum.reader_bytes = sum.reader_bytes.saturating_add(view.reader_bytes);
        sum.readahead_bytes = sum.readahead_bytes.saturating_add(view.readahead_bytes);
        sum.agent_bytes = sum.agent_bytes.saturating_add(view.agent_bytes);
    }
    mounts.into_values().collect()
}

pub fn histogram(encoded: Encoded) -> wire::Histogram {
    let Encoded { source, latency, hdr_v2 } = encoded;
    let kind = match latency {
        Latency::Miss => wire::LatencyKind::Miss,
        Latency::Hit => wire::LatencyKind::Hit,
    };
    wire::Histogram { source: source.into(), kind: kind.into(), hdr_v2 }
}

pub fn check(check: Check) -> wire::Check {
    let Check { name, state, finding, advice } = check;
    let state = match state {
        State::Ok => wire::CheckState::Ok,
        State::Warn => wire::CheckState::Warn,
        State::Fail => wire::CheckState::Fail,
    };
    wire::Check { name: name.into(), state: state.into(), finding: finding.into(), advice: advice.into() }
}

/// The path a happening speaks of and its mount, if it does.
pub fn place_of(happening: &Happening) -> Option<(MountId, &[u8])> {
    match happening {
        Happening::Read { mount, path, .. }
        | Happening::Fetch { mount, path, .. }
        | Happening::Pattern { mount, path, .. } => Some((*mount, path)),
        Happening::Mount { .. } | Happening::Lost { .. } => None,
    }
}

pub fn event(happening: &Happening) -> wire::Event {
    use wire::event::{Fetch, KernelLost, MountFound, PatternFound, Read, What};
    let what = match happening {
        Happening::Read { file, mount: _, path, tgid, pages: read, count, covered } => What::Read(Read {
            key: Some(key(*file)),
            path: path.to_vec(),
            tgid: *tgid,
            pages: Some(pages(read)),
            count: *count,
            covered: *covered,
        }),
        Happening::Fetch { file, mount: _, path, predictor: who, reason, bytes } => What::Fetch(Fetch {
            key: file.map(key),
            path: path.to_vec(),
            predictor: predictor(*who).into(),
            reason: reason.to_string(),
            bytes: *bytes,
        }),
        Happening::Pattern { mount: _, path, tgid, pattern } => {
            What::Pattern(PatternFound { path: path.to_vec(), tgid: *tgid, pattern: pattern.to_string() })
        }
        Happening::Mount { source, survival: survives } => {
            What::Mount(MountFound { source: source.to_string(), survival: survival(*survives).into() })
        }
        Happening::Lost { records } => What::KernelLost(KernelLost { records: *records }),
    };
    wire::Event { what: Some(what) }
}

/// This client missed so many events.
pub fn lagged(events: u64) -> wire::Event {
    wire::Event { what: Some(wire::event::What::Lagged(wire::event::Lagged { events })) }
}
