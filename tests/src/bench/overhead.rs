//! `bench overhead`: what watching costs where nothing can be gained, and what the agent itself costs.
//!
//! One reader reads one cached file as fast as it can, and agents come and go beside it: they watch a
//! loop-mounted ext4 of the harness's own, and the file lies on it or on another device. Each figure is the
//! time of a read with the agent over that without, taken just before and just after, the worse of the
//! moments before and after the agent can have recognised the pattern. The `agent` case gives the agent
//! 100,000 files to know and then 50,000 reads a second in runs of ten.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::bench::disk::{LoopDisk, hot_reader};
use crate::bench::figure::{Figure, Report, Spread, quartile};
use crate::bench::lab::{Companion, StoreProcess, Subject, drop_caches, program};
use crate::clock;
use crate::hygiene::Ward;
use crate::reader::hot::{HotOutcome, PacedOutcome, SLICE, Slice};
use crate::reader::itinerary::Workload;
use crate::store::{StoreConfig, TreeSpec};

#[derive(Clone, Debug)]
pub struct Options {
    pub subject: Subject,
    /// Only these cases; all when empty.
    pub cases: Vec<String>,
    /// Pairs of runs for each figure.
    pub repeats: usize,
}

/// Case, bytes a read, and the file's size: 1 MiB for the 4 KiB reads as the issue has it.
const SIZES: [(&str, u64, u64); 3] =
    [("pread4k", 4 << 10, 1 << 20), ("pread64k", 64 << 10, 16 << 20), ("pread1m", 1 << 20, 64 << 20)];

/// How long the reader is measured without an agent and beside one, each time. Any pattern is recognised in the
/// first half of the latter.
const ALONE: Duration = Duration::from_millis(1_500);
const BESIDE: Duration = Duration::from_secs(3);

/// The moment before recognition, from when the agent says that it is ready.
const BEFORE: Duration = Duration::from_millis(300);

/// The reader ends when it is told to, and after so long when it is not.
const FORGOTTEN: Duration = Duration::from_secs(900);

/// Where `agent` lets the paced reader read.
const PACED: Duration = Duration::from_secs(10);

/// 100,000 files, of one page each: what they cost the agent does not depend on their size.
const MANY: TreeSpec = TreeSpec::Small { dirs: 100, files: 1_000, size: 4_096 };

pub fn run(options: &Options) -> Result<Report> {
    let chosen = |name: &str| options.cases.is_empty() || options.cases.iter().any(|case| case == name);
    let mut report = Report { bench: "overhead".to_owned(), figures: Vec::new() };
    let Subject::Agent(agent) = &options.subject else {
        bail!("`bench overhead` measures the agent: name its binary with --agent PATH");
    };
    let disk = LoopDisk::mount(512 << 20)?;
    for (case, size, length) in SIZES.iter().filter(|(case, ..)| chosen(case)) {
        let ground = Ground::lay(&disk, *length)?;
        for (metric, file) in [("unwatched", &ground.elsewhere), ("watched", &ground.watched)] {
            let spread = alternate(agent, &disk, file, *size, options.repeats)?;
            eprintln!("{case} {metric}: {:.3} ({:.3} to {:.3})", spread.median, spread.low, spread.high);
            report.figures.push(spread.figure(case, metric, "times"));
        }
    }
    if chosen("agent") {
        report.figures.extend(agent_itself(agent, &disk)?);
    }
    Ok(report)
}

/// The same file on the watched device and on another.
#[derive(Debug)]
struct Ground {
    watched: PathBuf,
    elsewhere: PathBuf,
}

impl Ground {
    fn lay(disk: &LoopDisk, length: u64) -> Result<Self> {
        let ground = Self { watched: disk.path().join("hot"), elsewhere: disk.beside().join("hot") };
        let bytes = vec![7; usize::try_from(length)?];
        for path in [&ground.watched, &ground.elsewhere] {
            std::fs::write(path, &bytes).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(ground)
    }
}

/// A stretch of time, between two values of `clock::now`.
type Stretch = Range<u64>;

/// Time of a read with the agent over that without, where the same process reads on while agents come and go:
/// what differs from process to process, as where its memory lies, is the same in both. The time without is
/// the mean of before and after, so that a machine that slows down or speeds up meanwhile cancels out.
fn alternate(agent: &Path, disk: &LoopDisk, file: &Path, size: u64, repeats: usize) -> Result<Spread> {
    let reader = Reading::start(file, size)?;
    let mut alone = vec![stretch(ALONE)];
    let mut beside = Vec::new();
    for _ in 0..repeats {
        let state = disk.beside().join("state");
        let _ = std::fs::remove_dir_all(&state);
        std::fs::create_dir_all(&state)?;
        let companion = Companion::agent(agent, &[disk.path()], &state)?;
        beside.push(stretch(BESIDE));
        companion.stop();
        alone.push(stretch(ALONE));
    }
    let slices = reader.end()?;
    ratios(&slices, &alone, &beside).context("the reader gave too few slices")
}

fn stretch(length: Duration) -> Stretch {
    let begun = clock::now();
    std::thread::sleep(length);
    begun..clock::now()
}

/// The worse of both moments, each the median over the stretches beside an agent.
fn ratios(slices: &[Slice], alone: &[Stretch], beside: &[Stretch]) -> Option<Spread> {
    let time = |within: &Stretch| {
        // The last slice reaches beyond the end.
        let within = within.start..within.end.saturating_sub(2 * SLICE.as_nanos() as u64);
        quartile(slices.iter().filter(|slice| within.contains(&slice.begun)).map(|slice| slice.read))
    };
    let without: Vec<f64> = alone.iter().map(time).collect::<Option<_>>()?;
    let spread = |moment: &dyn Fn(&Stretch) -> Stretch| {
        let pairs = beside.iter().zip(without.array_windows());
        let ratios = pairs
            .map(|(stretch, [before, after])| Some(time(&moment(stretch))? / f64::midpoint(*before, *after)));
        Spread::of(ratios.collect::<Option<Vec<f64>>>()?)
    };
    let first = spread(&|all| all.start..all.start + BEFORE.as_nanos() as u64)?;
    let later = spread(&|all| u64::midpoint(all.start, all.end)..all.end)?;
    Some(if first.median > later.median { first } else { later })
}

/// The hot reader while it reads.
#[derive(Debug)]
struct Reading {
    process: Ward,
}

impl Reading {
    fn start(file: &Path, size: u64) -> Result<Self> {
        let mut command = Command::new(program("bench-reader")?);
        command.args(["hot", "--until-input-ends", "--with-parent", "--size", &size.to_string()]);
        command.args(["--last", &format!("{}s", FORGOTTEN.as_secs())]).arg("--file").arg(file);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        Ok(Self { process: Ward::new(child) })
    }

    fn end(mut self) -> Result<Vec<Slice>> {
        drop(self.process.child().stdin.take());
        let out = self.process.child().stdout.take().context("bench-reader's standard output")?;
        let outcome: HotOutcome = serde_json::from_reader(out)
            .context("the reader ended without a result; its message is above")?;
        Ok(outcome.slices)
    }
}

/// What the agent takes for itself: memory with 100,000 files known, a share of a core at a high rate.
fn agent_itself(agent: &Path, disk: &LoopDisk) -> Result<Vec<Figure>> {
    eprintln!("agent: letting it see 100,000 files");
    let store = StoreProcess::start(&StoreConfig {
        tree: MANY,
        latency: Duration::ZERO,
        bandwidth: None,
        ..StoreConfig::default()
    })?;
    drop_caches()?;
    let state = disk.beside().join("state-agent");
    std::fs::create_dir_all(&state)?;
    let companion = Companion::agent(agent, &[store.path(), disk.path()], &state)?;
    let mut seen = store.read(Workload::Directory, 1)?;
    let outcome = seen.epoch()?;
    seen.finish()?;
    anyhow::ensure!(outcome.files == 100_000, "the reader saw {} files instead of 100,000", outcome.files);
    companion.settle();
    let resident = resident_mib(companion.id())?;
    eprintln!("agent: {resident:.1} MiB; reading 50,000 times a second for {} s", PACED.as_secs());
    let file = disk.path().join("paced");
    std::fs::write(&file, vec![7; 64 << 20])?;
    let lost_before = lost_records(agent, companion.socket())?;
    let before = cpu_seconds(companion.id())?;
    let paced: PacedOutcome = hot_reader(&["paced"], &file, PACED)?;
    let spent = cpu_seconds(companion.id())? - before;
    let lost = lost_records(agent, companion.socket())?;
    let peak = resident_mib(companion.id())?.max(resident);
    companion.stop();
    eprintln!(
        "agent: {:.0} reads/s in {:.0} runs/s over {:.1} s",
        paced.reads as f64 / paced.seconds,
        paced.runs as f64 / paced.seconds,
        paced.seconds
    );
    let mut rows = vec![("rss_mib", "MiB", peak), ("core_share", "share", spent / paced.seconds)];
    match lost.zip(lost_before) {
        Some((after, before)) => rows.push(("drops", "records", after - before)),
        None => eprintln!("warning: the agent's summary has no lost_records, so `drops` cannot be given"),
    }
    rows.push(("reads_per_second", "1/s", paced.reads as f64 / paced.seconds));
    let once = |(metric, unit, value)| {
        Spread { median: value, low: value, high: value }.figure("agent", metric, unit)
    };
    Ok(rows.into_iter().map(once).collect())
}

fn resident_mib(pid: u32) -> Result<f64> {
    let status =
        std::fs::read_to_string(format!("/proc/{pid}/status")).context("the agent's /proc status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS in /proc status")?;
    let kib: f64 = line.split_whitespace().next().context("a number after VmRSS")?.parse()?;
    Ok(kib / 1024.0)
}

/// Seconds of processor time that a process has taken, its own and the kernel's for it.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the agent's /proc stat")?;
    // The name may hold spaces and brackets; the fields after the last bracket do not.
    let (_, fields) = stat.rsplit_once(')').context("a bracket in /proc stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
}

/// The records that the agent says the kernel dropped. None where its summary does not tell.
fn lost_records(agent: &Path, socket: &Path) -> Result<Option<f64>> {
    let output = Command::new(agent)
        .arg("--socket")
        .arg(socket)
        .args(["top", "--once", "--output", "json"])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("asking {}", agent.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let first = serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>().next();
    Ok(first.and_then(Result::ok).and_then(|value| number_named(&value, &["lost_records", "lostRecords"])))
}

/// The first number of one of these names, at any depth.
fn number_named(value: &serde_json::Value, names: &[&str]) -> Option<f64> {
    match value {
        serde_json::Value::Object(map) => {
            let here = map.iter().find(|(key, _)| names.contains(&key.as_str()));
            // Protobuf's JSON writes 64-bit numbers as strings.
            let number = |value: &serde_json::Value| value.as_f64().or_else(|| value.as_str()?.parse().ok());
            here.and_then(|(_, value)| number(value))
                .or_else(|| map.values().find_map(|value| number_named(value, names)))
        }
        serde_json::Value::Array(items) => items.iter().find_map(|value| number_named(value, names)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worse_moment_counts() {
        let slice = SLICE.as_nanos() as u64;
        let second = 1_000_000_000;
        // Alone a read takes 1, then 3; beside the agent at first 4, later 6.
        let slices: Vec<Slice> = (0..500)
            .map(|number| number * slice)
            .map(|begun| Slice {
                begun,
                read: match begun {
                    at if at < second => 1.0,
                    at if at < second + BEFORE.as_nanos() as u64 => 4.0,
                    at if at < 4 * second => 6.0,
                    _ => 3.0,
                },
            })
            .collect();
        let (alone, beside) = ([0..second, 4 * second..5 * second], [second..4 * second]);
        assert_eq!(ratios(&slices, &alone, &beside).unwrap().median, 3.0);
        assert!(ratios(&[], &alone, &beside).is_none());
        assert!(ratios(&slices, &[], &[]).is_none());
    }

    #[test]
    fn numbers_are_found_by_name() {
        let value = serde_json::json!({"node": [{"lostRecords": "7"}]});
        assert_eq!(number_named(&value, &["lost_records", "lostRecords"]), Some(7.0));
        assert_eq!(number_named(&value, &["absent"]), None);
    }

    #[test]
    fn this_process_takes_memory_and_time() {
        let own = std::process::id();
        assert!(resident_mib(own).unwrap() > 0.5);
        assert!(cpu_seconds(own).unwrap() >= 0.0);
    }
}
