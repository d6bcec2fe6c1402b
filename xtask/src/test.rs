//! `cargo xtask test`: everything that must hold before a change goes in, in the order of cost; guests run beside
//! the tests, on what these leave of the cores.
//!
//! A failed section does not hide the next ones; only what cannot work without it is left out. The last
//! line is always `N passed, N failed`, summed over all test programs, sections that failed included.

use std::process::ExitCode;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::console;
use crate::lint;
use crate::place::{self, Place};
use crate::setup::{self, Purpose};
use crate::suite::{self, Tally};
use crate::vm::{self, Booted, Fleet};

struct Sections {
    done: Vec<(&'static str, Duration, bool)>,
}

impl Sections {
    /// Runs a section and says how it went; `None` when it failed.
    fn run<T>(&mut self, title: &'static str, work: impl FnOnce() -> Result<T>) -> Option<T> {
        console::section(title);
        let started = Instant::now();
        let result = work();
        self.done.push((title, started.elapsed(), result.is_ok()));
        result.map_err(|error| console::note(&format!("{title}: {error:#}"))).ok()
    }

    /// Waits for the guests that run beside the tests, and shows their table where it can be read.
    fn join(&mut self, title: &'static str, guests: ScopedJoinHandle<'_, (Duration, Result<Booted>)>) {
        console::section(title);
        let (took, booted) = guests.join().unwrap_or_else(|_| {
            (Duration::ZERO, Err(anyhow::anyhow!("the thread that runs them has panicked")))
        });
        let result = booted.and_then(|booted| {
            anyhow::ensure!(booted.report(), "cells failed (each is shown above, after FAILED)");
            Ok(())
        });
        self.done.push((title, took, result.is_ok()));
        if let Err(error) = result {
            console::note(&format!("{title}: {error:#}"));
        }
    }
}

pub fn run(place: &Place) -> Result<ExitCode> {
    place::need_root("`cargo xtask test`", "loads BPF programs and mounts file systems", "cargo xtask test")?;
    let mut sections = Sections { done: Vec::new() };
    let mut tally = Tally::default();
    if sections.run("setup", || setup::provide(place, Purpose::Test, true)).is_some() {
        sections.run("format", || lint::format(place));
        sections.run("clippy", || lint::clippy(place));
        sections.run("arm64", || lint::other_machine(place));
        sections.run("tidy", || lint::tidy(place, false));
        // Two kernels that are not this machine's; all of them are `cargo xtask vm --all`.
        let fleet = sections.run("guests' build", || vm::prepare(place, &vm::Options::quick()));
        let built = sections.run("tests' build", || suite::build(place)).is_some();
        thread::scope(|scope| {
            // Tests wait more than they compute, and guests take what is left: compilers leave nothing.
            let guests = fleet.as_ref().map(|fleet| scope.spawn(|| booted(fleet)));
            if built {
                sections.run("tests", || tests(place, &mut tally));
            }
            if let Some(guests) = guests {
                sections.join("guests", guests);
            }
        });
    }
    Ok(close(&sections, &tally))
}

fn tests(place: &Place, tally: &mut Tally) -> Result<()> {
    let (sum, content) = suite::run(place)?;
    *tally = sum;
    anyhow::ensure!(content && sum.failures() == 0 && sum.passed > 0, explain(&sum));
    Ok(())
}

/// How long the guests took, and what they found.
fn booted(fleet: &Fleet) -> (Duration, Result<Booted>) {
    let started = Instant::now();
    let booted = fleet.boot();
    (started.elapsed(), booted)
}

fn explain(sum: &Tally) -> String {
    let mut parts = Vec::new();
    if sum.failed > 0 {
        parts.push(format!("{} failed (each is shown above, after `failures:`)", sum.failed));
    }
    if sum.unfinished > 0 {
        parts.push(format!("{} test programs ended without a result", sum.unfinished));
    }
    if sum.ignored > 0 {
        parts.push(format!(
            "{} ignored: a test that is not run proves nothing, remove #[ignore]",
            sum.ignored
        ));
    }
    if parts.is_empty() {
        parts.push("cargo test failed (see its error above)".to_owned());
    }
    parts.join("; ")
}

fn close(sections: &Sections, tally: &Tally) -> ExitCode {
    println!();
    for (title, took, good) in &sections.done {
        println!("{:<7} {title:<14} {:>12}", if *good { "ok" } else { "FAILED" }, console::span(*took));
    }
    // The section `tests` fails through its tests; it counts by itself only if none of them did.
    let others = sections.done.iter().filter(|(title, _, good)| !good && *title != "tests").count() as u64;
    let silent =
        sections.done.iter().any(|(title, _, good)| !good && *title == "tests") && tally.failures() == 0;
    let failed = tally.failures() + others + u64::from(silent);
    println!("\n{} passed, {failed} failed", tally.passed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
