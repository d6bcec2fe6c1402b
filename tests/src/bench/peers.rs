//! `bench overhead-peers`: what watching costs, beside the tools that people know.
//!
//! The same cached reads with nobody watching and with each tool in turn: a file read 4 KiB at a time as
//! fast as can be, and a walk over 20,000 small files. Each figure is time with a tool over time without,
//! where "without" is the mean of the runs right before and after; all tools take their turns in every
//! round. A run's beginning, in which the tool meets the files, and what follows are held apart, and the worse of
//! the two is the figure: by its median over the rounds, since the worse of each round would be its noise.

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
    /// Rounds of `pread4k`, a third of the rounds of `walk`: each has a run with every tool whose turn it is, and runs
    /// without between them.
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
        let mut ratios = [const { Ratios::new() }; Peer::ALL.len()];
        let rounds = options.repeats * case.rounds();
        for round in 0..rounds {
            let mut before = ground.alone()?;
            for (peer, ratios) in Peer::ALL.into_iter().zip(&mut ratios) {
                if !case.is_turn_of(peer, round) {
                    continue;
                }
                let with = ground.watched(peer)?;
                let after = ground.alone()?;
                let (first, later) = ratios.add(with, before, after);
                eprintln!(
                    "{} {} {}/{}: first {first:.3} and then {later:.3} ({:.0} and {:.0} ns, without {:.0} and {:.0})",
                    case.name(),
                    peer.name(),
                    round + 1,
                    rounds,
                    with.first,
                    with.later,
                    after.first,
                    after.later,
                );
                before = after;
            }
        }
        for (peer, ratios) in Peer::ALL.into_iter().zip(ratios) {
            let spread = ratios.worse().context("--repeats is 0")?;
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

    /// Rounds to a repeat. A walk takes a second, is bound by memory, and varies by a tenth from one process to the next, which
    /// is more than most tools cost.
    const fn rounds(self) -> usize {
        match self {
            Self::Pread4k => 1,
            Self::Walk => 3,
        }
    }

    /// A walk under strace takes as long as all other runs of a round together, and its tenths say nothing.
    const fn is_turn_of(self, peer: Peer, round: usize) -> bool {
        !matches!((self, peer), (Self::Walk, Peer::Strace)) || round.is_multiple_of(self.rounds())
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

/// Time with over the mean of the runs around it, one of each round.
#[derive(Debug)]
struct Ratios {
    first: Vec<f64>,
    later: Vec<f64>,
}

impl Ratios {
    const fn new() -> Self {
        Self { first: Vec::new(), later: Vec::new() }
    }

    /// One round's; returned as well.
    fn add(&mut self, with: Times, before: Times, after: Times) -> (f64, f64) {
        let first = with.first / f64::midpoint(before.first, after.first);
        let later = with.later / f64::midpoint(before.later, after.later);
        self.first.push(first);
        self.later.push(later);
        (first, later)
    }

    /// The moment whose median is worse.
    fn worse(self) -> Option<Spread> {
        let (first, later) = (Spread::of(self.first)?, Spread::of(self.later)?);
        Some(if first.median > later.median { first } else { later })
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
    fn the_worse_moment_counts_by_its_median() {
        let alone = Times { first: 10.0, later: 8.0 };
        let mut ratios = Ratios::new();
        // 1.1, 1.3 and 0.9; 1.0, 1.0 and 1.5: the worse of each round would be 1.3.
        for (first, later) in [(11.0, 8.0), (13.0, 8.0), (9.0, 12.0)] {
            ratios.add(Times { first, later }, alone, alone);
        }
        let worse = ratios.worse().unwrap();
        assert_eq!((worse.low, worse.median, worse.high), (0.9, 1.1, 1.3));
        let mut one = Ratios::new();
        let after = Times { first: 14.0, later: 12.0 };
        assert_eq!(one.add(Times { first: 12.0, later: 15.0 }, alone, after), (1.0, 1.5));
        assert_eq!(one.worse().map(|spread| spread.median), Some(1.5));
        assert!(Ratios::new().worse().is_none());
    }
}
