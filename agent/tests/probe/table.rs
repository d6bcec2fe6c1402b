//! What is shown: a line for each cell, the failures at the end, and the last line as libtest writes it, so
//! that whoever sums up test programs can sum up this one.

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::cases;
use crate::verdict::Verdict;

#[derive(Debug)]
pub struct Table {
    results: Option<File>,
    failures: Vec<(String, String)>,
    good: u32,
    begun: Instant,
}

/// A line for whoever reads: they may have had enough (`| head`), which is no reason to panic, as `println!`
/// does, nor to leave cells out.
pub fn say(line: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

pub fn list() {
    for name in cases::names() {
        say(format_args!("{name}: test"));
    }
}

impl Table {
    pub fn begin(args: &Args) -> Self {
        let results = args.results.as_ref().map(|path| {
            File::options().append(true).create(true).open(path).expect("the file of the results")
        });
        say(format_args!("\nrunning {} tests", cases::names().filter(|name| args.wants(name)).count()));
        Self { results, failures: Vec::new(), good: 0, begun: Instant::now() }
    }

    /// Says which cells are to come, so that whoever reads the results misses those that do not.
    pub fn announce<'a>(&mut self, cells: impl Iterator<Item = (String, &'a str)>) {
        let lines: String = cells.map(|(plan, case)| format!("{plan}\t{case}\texpected\t0\t\n")).collect();
        self.result(&lines);
    }

    /// Says which cell is tried, for whoever looks at a guest that has died of it.
    pub fn begun(&mut self, plan: &str, case: &str) {
        self.result(&format!("{plan}\t{case}\tbegun\t0\t\n"));
    }

    fn result(&mut self, line: &str) {
        if let Some(results) = &mut self.results {
            results.write_all(line.as_bytes()).expect("writing a result");
        }
    }

    pub fn cell(&mut self, plan: &str, case: &str, verdict: &Verdict, took: Duration) {
        say(format_args!("{plan:<7} {case:<20} {:>6} ms  {verdict}", took.as_millis()));
        match verdict {
            Verdict::Failed(reason) => self.failures.push((format!("{plan} {case}"), reason.clone())),
            _ => self.good += 1,
        }
        if self.results.is_some() {
            let detail: String = verdict.detail().chars().map(|c| if c < ' ' { ' ' } else { c }).collect();
            // Cut to what a serial line carries in a moment; the whole of it is on the console.
            let detail: String = detail.chars().take(2000).collect();
            let line = format!("{plan}\t{case}\t{}\t{}\t{detail}\n", verdict.word(), took.as_millis());
            self.result(&line);
        }
    }

    pub fn end(self) -> ExitCode {
        let Self { results: _, failures, good, begun } = self;
        if !failures.is_empty() {
            say(format_args!("\nfailures:\n"));
        }
        for (cell, reason) in &failures {
            say(format_args!("---- {cell} ----\n{reason}\n"));
        }
        let word = if failures.is_empty() { "ok" } else { "FAILED" };
        say(format_args!(
            "\ntest result: {word}. {good} passed; {} failed; 0 ignored; 0 measured; 0 filtered out; \
             finished in {:.2}s\n",
            failures.len(),
            begun.elapsed().as_secs_f64()
        ));
        if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
