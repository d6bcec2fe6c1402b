//! `bench first-light`: every row without and with the agent, interleaved, caches dropped before each run.
//!
//! A run without the agent that lasts over 15 s is taken twice, all others five times. Rows whose run
//! without the agent is the very same (one shuffled epoch on the same store) share it. The agent is started
//! anew for every timed run, with the state the row allows it, and the store must not have been asked for
//! anything by the time the reader asks first.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::bench::case::{self, Case, Timed};
use crate::bench::evidence::Evidence;
use crate::bench::figure::{Figure, Report, Spread};
use crate::bench::lab::{Companion, StoreProcess, Subject, copy_state, drop_caches};
use crate::hygiene::Folder;
use crate::reader::itinerary::Workload;

/// A longer run without the agent is taken `FEW` times.
const LONG_SECONDS: f64 = 15.0;
const FEW: usize = 2;

#[derive(Clone, Debug)]
pub struct Options {
    pub subject: Subject,
    /// Only these rows; all when empty.
    pub cases: Vec<String>,
    pub open_charged: bool,
    /// Timed runs of each kind; 5 for figures that count.
    pub repeats: usize,
}

/// One timed run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub seconds: f64,
    pub evidence: Evidence,
    /// What the link allows for these bytes.
    pub limit: f64,
}

/// The runs of one case.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    pub without: Vec<Run>,
    pub with: Vec<Run>,
}

/// Runs without the agent that a later row may share.
type Shared = Vec<(String, Vec<Run>)>;

pub fn run(options: &Options) -> Result<Report> {
    let all = if options.open_charged { case::open_charged() } else { case::first_light() };
    let chosen = |case: &Case| {
        options.cases.is_empty() || options.cases.iter().any(|name| name == case.row || name == case.name)
    };
    let cases: Vec<Case> = all.into_iter().filter(chosen).collect();
    anyhow::ensure!(
        !cases.is_empty(),
        "no case is called {}: see docs/benchmarks.md",
        options.cases.join(", ")
    );
    let begun = Instant::now();
    let mut shared = Shared::new();
    let mut report = Report {
        bench: if options.open_charged { "first-light-open-charged" } else { "first-light" }.to_owned(),
        figures: Vec::new(),
    };
    for (number, case) in cases.iter().enumerate() {
        eprintln!("[{:>5.0} s] {}/{} {}", begun.elapsed().as_secs_f64(), number + 1, cases.len(), case.name);
        let runs = run_case(case, options, &mut shared).with_context(|| format!("case {}", case.name))?;
        report.figures.extend(figures(case.name, &runs, case.timed));
    }
    worst_of(&mut report.figures, &cases);
    eprintln!("[{:>5.0} s] done", begun.elapsed().as_secs_f64());
    Ok(report)
}

/// All runs of a case on one mount.
pub fn run_case(case: &Case, options: &Options, shared: &mut Vec<(String, Vec<Run>)>) -> Result<Runs> {
    let store = StoreProcess::start(&case.store)?;
    let folder = Folder::new()?;
    let (lessons, state) = (folder.path().join("lessons"), folder.path().join("state"));
    std::fs::create_dir(&lessons)?;
    let subject = &options.subject;
    if matches!(subject, Subject::Agent(_)) {
        for (number, lesson) in case.lessons.iter().enumerate() {
            // Orders of their own: what is known afterwards is the set and the habit, not the order.
            let order = 1_000 + number as u64;
            eprint!("    lesson {}: ", number + 1);
            let run = timed(&store, subject, &lessons, *lesson, order, Timed::Whole)?;
            eprintln!("{:.2} s", run.seconds);
        }
    }
    let key = format!("{:?} {:?}", case.store, baseline(case.workload));
    let known = shared.iter().find(|(name, _)| *name == key).map(|(_, runs)| runs.clone());
    let mut runs = Runs { without: known.clone().unwrap_or_default(), with: Vec::new() };
    let mut carried = false;
    for number in 0..options.repeats {
        let order = 1 + number as u64;
        let long = runs.without.first().is_some_and(|run| run.seconds > LONG_SECONDS);
        if known.is_none() && (!long || runs.without.len() < FEW) {
            let how = if case.timed == Timed::SecondEpoch { Timed::Whole } else { case.timed };
            eprint!("    without: ");
            let run = timed(&store, &Subject::None, &state, baseline(case.workload), order, how)?;
            eprintln!("{:.2} s", run.seconds);
            runs.without.push(run);
        }
        if *subject == Subject::None {
            continue;
        }
        if !(case.carries && carried) {
            copy_state(&lessons, &state)?;
            carried = true;
        }
        eprint!("    with:    ");
        let run = timed(&store, subject, &state, case.workload, order, case.timed)?;
        let Evidence { early, omitted, .. } = run.evidence;
        eprintln!(
            "{:.2} s, {:.2} of the limit, covered {:.2}, fetched {:.2}, waste {:.3}",
            run.seconds,
            run.limit / run.seconds,
            run.evidence.coverage(),
            run.evidence.fetched(),
            run.evidence.waste()
        );
        if early > 0 && case.timed != Timed::SecondEpoch {
            eprintln!(
                "    warning: the store was asked {early} times before the reader's first request: this run does not count as a fair one"
            );
        }
        if omitted > 0 {
            eprintln!(
                "    warning: the store's journal lacks {omitted} entries: coverage and waste are too low"
            );
        }
        runs.with.push(run);
    }
    if known.is_none() {
        shared.push((key, runs.without.clone()));
    }
    Ok(runs)
}

/// The run without an agent that a workload is compared with: a second epoch without is like a first.
fn baseline(workload: Workload) -> Workload {
    match workload {
        Workload::Shuffled { epochs: _, files, workers } => Workload::Shuffled { epochs: 1, files, workers },
        other => other,
    }
}

fn timed(
    store: &StoreProcess,
    subject: &Subject,
    state: &Path,
    workload: Workload,
    order: u64,
    how: Timed,
) -> Result<Run> {
    drop_caches()?;
    store.control().reset()?;
    let companion = Companion::start(subject, store, state, workload, order)?;
    let mut reader = store.read(workload, order)?;
    let mut outcome = reader.epoch()?;
    if how == Timed::SecondEpoch {
        if let Some(companion) = &companion {
            companion.settle();
        }
        drop_caches()?;
        store.control().reset()?;
        reader.go_on()?;
        outcome = reader.epoch()?;
    }
    reader.finish()?;
    let agent = companion.as_ref().map(Companion::id);
    if let Some(companion) = companion {
        companion.settle();
        companion.stop();
    }
    let record = store.control().journal()?;
    let config = store.config();
    let limit = config.bandwidth.map_or(0.0, |rate| outcome.bytes as f64 / rate as f64)
        + config.latency.as_secs_f64();
    let seconds = match how {
        Timed::Whole | Timed::SecondEpoch => outcome.seconds,
        Timed::FromFile(first) => outcome.seconds_from(first),
    };
    Ok(Run { seconds, evidence: Evidence::weigh(&record, &outcome, agent, !config.keep_pages), limit })
}

/// The metrics of one case.
pub fn figures(case: &str, runs: &Runs, timed: Timed) -> Vec<Figure> {
    let over = |runs: &[Run], value: fn(&Run) -> f64| Spread::of(runs.iter().map(value));
    let without = over(&runs.without, |run| run.seconds);
    let with = over(&runs.with, |run| run.seconds);
    let speedup = without.zip(with).map(|(without, with)| without.over(with));
    // The limit is of the whole run; a part of one has none.
    let of_limit =
        over(&runs.with, |run| run.limit / run.seconds).filter(|_| !matches!(timed, Timed::FromFile(_)));
    let rows = [
        ("speedup", "times", speedup),
        ("of_limit", "share", of_limit),
        ("coverage", "share", over(&runs.with, |run| run.evidence.coverage())),
        ("waste", "share", over(&runs.with, |run| run.evidence.waste())),
        ("fetched", "share", over(&runs.with, |run| run.evidence.fetched())),
        ("readahead_waste", "share", over(&runs.with, |run| run.evidence.readahead())),
        ("early_requests", "count", over(&runs.with, |run| run.evidence.early as f64)),
        ("seconds_with", "s", with),
        ("seconds_without", "s", without),
        ("coverage_without", "share", over(&runs.without, |run| run.evidence.coverage())),
    ];
    rows.into_iter().filter_map(|(metric, unit, spread)| Some(spread?.figure(case, metric, unit))).collect()
}

/// Adds the rows that several cases make up: of each metric the worst.
fn worst_of(figures: &mut Vec<Figure>, cases: &[Case]) {
    let mut rows: Vec<&str> =
        cases.iter().filter(|case| case.row != case.name).map(|case| case.row).collect();
    rows.dedup();
    for row in rows {
        let members: Vec<&str> = cases.iter().filter(|case| case.row == row).map(|case| case.name).collect();
        for metric in
            ["speedup", "of_limit", "coverage", "waste", "fetched", "readahead_waste", "early_requests"]
        {
            let more_is_worse = matches!(metric, "waste" | "fetched" | "readahead_waste" | "early_requests");
            let worse = |a: &&Figure, b: &&Figure| match more_is_worse {
                true => a.value.total_cmp(&b.value),
                false => b.value.total_cmp(&a.value),
            };
            let of_row = figures.iter().filter(|f| f.metric == metric && members.contains(&&*f.case));
            if let Some(worst) = of_row.max_by(worse) {
                let worst = Figure { case: row.to_owned(), ..worst.clone() };
                figures.push(worst);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seconds: f64) -> Run {
        Run { seconds, evidence: Evidence::default(), limit: 1.0 }
    }

    #[test]
    fn the_worst_of_a_row_counts() {
        let cases: Vec<Case> = case::first_light().into_iter().filter(|case| case.row == "sparse").collect();
        let mut all = Vec::new();
        for (case, seconds) in cases.iter().zip([2.0, 4.0, 1.0]) {
            let runs = Runs { without: vec![run(4.0)], with: vec![run(seconds)] };
            all.extend(figures(case.name, &runs, case.timed));
        }
        worst_of(&mut all, &cases);
        let sparse = all.iter().find(|f| f.case == "sparse" && f.metric == "speedup").unwrap();
        assert!((sparse.value - 1.0).abs() < 1e-9);
    }
}
