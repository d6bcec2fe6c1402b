//! `bench overhead-peers`: what watching costs, beside the tools that people know.
//!
//! The same cached reads with nobody watching and with each tool in turn: a file read 4 KiB at a time as
//! fast as can be, and a walk over 20,000 small files. Each figure is time with a tool over time without,
//! where "without" is the mean of the runs right before and after; all tools take their turns in every
//! round. A run's time is the worse of its beginning (the tool meets the files) and of what follows.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::bench::disk::{LoopDisk, said};
use crate::bench::figure::{Report, Spread, quartile};
use crate::bench::lab::{Subject, program};
use crate::bench::peer::{Done, Peer, Running};
use crate::reader::hot::HotOutcome;
use crate::reader::warm::WarmOutcome;

#[derive(Clone, Debug)]
pub struct Options {
    pub subject: Subject,
    /// Only these cases; all when empty.
    pub cases: Vec<String>,
    /// Rounds: each has a run with every tool, and runs without between them.
    pub repeats: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Pread4k,
    Walk,
}

/// One run of the 4 KiB reader: a pattern is recognised within its first tenths of a second.
const RUN: Duration = Duration::from_secs(2);

/// Slices of 10 ms before a pattern can have been recognised.
const BEFORE: usize = 30;

/// 200 folders of 100 files of 40 KB, the size of a small image, as in `bench first-light`.
const FOLDERS: usize = 200;
const FILES: usize = 100;
const SIZE: usize = 40_000;

/// The first meets the files, the others know them.
const PASSES: u32 = 5;

pub fn run(options: &Options) -> Result<Report> {
    let chosen = |name: &str| options.cases.is_empty() || options.cases.iter().any(|case| case == name);
    let Subject::Agent(agent) = &options.subject else {
        bail!("`bench overhead-peers` measures the agent: name its binary with --agent PATH");
    };
    let mut report = Report { bench: "overhead-peers".to_owned(), figures: Vec::new() };
    let disk = LoopDisk::mount(2 << 30)?;
    for case in [Case::Pread4k, Case::Walk] {
        if !chosen(case.name()) {
            continue;
        }
        let ground = Ground { case, at: case.lay(&disk)?, agent, disk: &disk };
        // Warm, and measured by no one.
        ground.alone()?;
        let mut ratios = [const { Vec::new() }; Peer::ALL.len()];
        for round in 0..options.repeats {
            let mut before = ground.alone()?;
            for (peer, ratios) in Peer::ALL.into_iter().zip(&mut ratios) {
                let with = ground.watched(peer)?;
                let after = ground.alone()?;
                let ratio = with.over(before, after);
                eprintln!(
                    "{} {} {}/{}: {ratio:.3} (first {:.0} and then {:.0} ns, without {:.0} and {:.0})",
                    case.name(),
                    peer.name(),
                    round + 1,
                    options.repeats,
                    with.first,
                    with.later,
                    after.first,
                    after.later,
                );
                ratios.push(ratio);
                before = after;
            }
        }
        for (peer, ratios) in Peer::ALL.into_iter().zip(ratios) {
            let spread = Spread::of(ratios).context("--repeats is 0")?;
            report.figures.push(spread.figure(case.name(), peer.name(), "times"));
        }
    }
    Ok(report)
}

impl Case {
    const fn name(self) -> &'static str {
        match self {
            Self::Pread4k => "pread4k",
            Self::Walk => "walk",
        }
    }

    /// Writes what is read; on disk before anything is timed.
    fn lay(self, disk: &LoopDisk) -> Result<PathBuf> {
        let at = disk.path().join(self.name());
        match self {
            Self::Pread4k => std::fs::write(&at, vec![7; 1 << 20])?,
            Self::Walk => {
                let bytes = vec![7; SIZE];
                for folder in 0..FOLDERS {
                    let folder = at.join(format!("d{folder:03}"));
                    std::fs::create_dir_all(&folder)?;
                    for file in 0..FILES {
                        std::fs::write(folder.join(format!("f{file:03}")), &bytes)?;
                    }
                }
            }
        }
        rustix::fs::syncfs(std::fs::File::open(disk.path())?)?;
        Ok(at)
    }
}

/// Nanoseconds a read or a file: while a watcher meets what is read, and afterwards.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Times {
    first: f64,
    later: f64,
}

impl Times {
    /// The worse of the two moments, over the mean of the runs around it.
    fn over(self, before: Self, after: Self) -> f64 {
        let first = self.first / f64::midpoint(before.first, after.first);
        first.max(self.later / f64::midpoint(before.later, after.later))
    }
}

#[derive(Debug)]
struct Ground<'a> {
    case: Case,
    at: PathBuf,
    agent: &'a Path,
    disk: &'a LoopDisk,
}

impl Ground<'_> {
    fn watched(&self, peer: Peer) -> Result<Times> {
        let running = peer.start(self.agent, self.disk)?;
        let (times, done) = self.read(Some(&running))?;
        running.finish(&done)?;
        Ok(times)
    }

    fn alone(&self) -> Result<Times> {
        self.read(None).map(|(times, _)| times)
    }

    fn read(&self, running: Option<&Running>) -> Result<(Times, Done)> {
        let reader = program("bench-reader")?;
        let mut command = match running {
            Some(running) => running.command(&reader),
            None => Command::new(&reader),
        };
        let few = "the reader was too short to be measured";
        match self.case {
            Case::Pread4k => {
                command.args(["hot", "--size", "4096", "--last", &format!("{}ms", RUN.as_millis())]);
                let outcome: HotOutcome = said(command.arg("--file").arg(&self.at))?;
                let HotOutcome { slices, reads } = outcome;
                let first = quartile(slices.iter().take(BEFORE).map(|slice| slice.read)).context(few)?;
                let later =
                    quartile(slices.iter().skip(slices.len() / 2).map(|slice| slice.read)).context(few)?;
                Ok((Times { first, later }, Done::Reads { file: self.at.clone(), reads }))
            }
            Case::Walk => {
                command.args(["warm", "--passes", &PASSES.to_string()]);
                let outcome: WarmOutcome = said(command.arg("--folder").arg(&self.at))?;
                let WarmOutcome { passes, files, bytes } = outcome;
                anyhow::ensure!(
                    files == (FOLDERS * FILES) as u64 && bytes == files * SIZE as u64,
                    "the reader saw {files} files of {bytes} bytes"
                );
                let first = quartile(passes.iter().take(1).flatten().copied()).context(few)?;
                let later = quartile(passes.iter().skip(1).flatten().copied()).context(few)?;
                let done = Done::Files { folder: self.at.clone(), files, times: u64::from(PASSES) };
                Ok((Times { first, later }, done))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worse_moment_counts() {
        let (before, after) = (Times { first: 10.0, later: 8.0 }, Times { first: 14.0, later: 12.0 });
        assert_eq!(Times { first: 12.0, later: 15.0 }.over(before, after), 1.5);
        assert_eq!(Times { first: 24.0, later: 10.0 }.over(before, after), 2.0);
    }
}
