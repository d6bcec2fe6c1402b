//! `bench operator`, the cases of the wire: `reports`, what thousands of reporting nodes cost the operator, and
//! `restart`, how soon it knows everything again.
//!
//! The operator's side is the process `wire-operator`: its certificates, the agents' streams and the inventory,
//! without the parts that talk to an API server. The agents are simulated (`agents`), in this process.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use operator::certs::Authority;

use crate::agents::fleet::Fleet;
use crate::agents::world::World;
use crate::bench::figure::{Figure, Spread};
use crate::bench::lab;
use crate::hygiene::{Folder, Ward};

/// The cluster.
const NODES: u32 = 5_000;
const DATASETS: u32 = 10_000;
const PER_NODE: u32 = 40;
const RUNS: u32 = 5;
const PERIOD: Duration = Duration::from_secs(5);
const SEED: u64 = 4;

/// How long the steady state is watched, in pieces of which each gives a value.
const PIECES: u32 = 4;
const PIECE: Duration = Duration::from_secs(10);

const RESTARTS: u32 = 3;

/// All nodes must have come, and all must have been told, within this.
const PATIENCE: Duration = Duration::from_secs(60);

pub const CASES: [&str; 2] = ["reports", "restart"];

#[derive(Clone, Debug)]
pub struct Options {
    /// Only these cases; all when empty.
    pub cases: Vec<String>,
    /// Fewer, for a look.
    pub nodes: Option<u32>,
}

pub fn run(options: &Options) -> Result<Vec<Figure>> {
    let chosen = |case: &str| options.cases.is_empty() || options.cases.iter().any(|name| name == case);
    let world = World {
        nodes: options.nodes.unwrap_or(NODES),
        datasets: DATASETS,
        per_node: PER_NODE,
        runs: RUNS,
        seed: SEED,
    };
    let mut figures = Vec::new();
    if chosen("reports") {
        figures.extend(reports(world)?);
    }
    if chosen("restart") {
        figures.extend(restart(world, PERIOD)?);
    }
    Ok(figures)
}

/// Steady state: every node reports each interval.
fn reports(world: World) -> Result<Vec<Figure>> {
    let stage = Stage::new(world)?;
    let mut operator = stage.start(0, None)?;
    let fleet = stage.fleet(&operator, PERIOD)?;
    stage.wait(&fleet, "connect", |fleet| fleet.connected() == world.nodes)?;
    // One interval for everybody's snapshot to be behind them.
    std::thread::sleep(PERIOD);
    let mut cores = Vec::new();
    let mut memory = Vec::new();
    for _ in 0..PIECES {
        let (before, reports) = (processor_time(operator.id())?, fleet.shared.reports.load(Relaxed));
        let begun = Instant::now();
        std::thread::sleep(PIECE);
        let passed = begun.elapsed().as_secs_f64();
        cores.push((processor_time(operator.id())? - before) / passed);
        memory.push(resident_mib(operator.id())?);
        let rate = (fleet.shared.reports.load(Relaxed) - reports) as f64 / passed;
        let wanted = f64::from(world.nodes) / PERIOD.as_secs_f64();
        ensure!(
            rate > wanted * 0.95,
            "the agents sent {rate:.0} reports a second, not {wanted:.0}: the machine is too busy"
        );
    }
    ensure!(fleet.connected() == world.nodes, "{} agents lost their stream", world.nodes - fleet.connected());
    eprintln!("operator: {}", operator.ask("counts")?);
    let figure = |values: Vec<f64>, metric, unit| {
        Spread::of(values)
            .map(|spread| spread.figure("reports", metric, unit))
            .context("nothing was measured")
    };
    Ok(vec![figure(cores, "cores", "cores")?, figure(memory, "rss_mib", "MiB")?])
}

/// The operator is killed while every node reports changes, and started again; its inventory must become what the
/// agents hold, which its former self had not all been told.
pub fn restart(world: World, period: Duration) -> Result<Vec<Figure>> {
    let stage = Stage::new(world)?;
    let mut operator = stage.start(1, None)?;
    let addr = operator.addr;
    let fleet = stage.fleet(&operator, period)?;
    stage.wait(&fleet, "connect", |fleet| fleet.connected() == world.nodes)?;
    let mut seconds = Vec::new();
    let mut former = None;
    for _ in 0..RESTARTS {
        fleet.shared.changing.store(true, Relaxed);
        std::thread::sleep(period * 2);
        operator.kill()?;
        // A node that has lost its operator changes nothing until it has another: what each held at the kill is what
        // the new one must come to. With changes after that there would be nothing to compare with.
        fleet.shared.changing.store(false, Relaxed);
        operator = stage.start(1, Some(addr))?;
        let (held, passed) = whole_again(&mut operator, &fleet, world)?;
        ensure!(
            former.replace(held) != Some(held),
            "the load changed nothing: the digest is still {held:032x}"
        );
        seconds.push(passed.as_secs_f64());
    }
    let shared = &fleet.shared;
    let instructed = shared.instructions.load(Relaxed);
    ensure!(instructed >= u64::from(world.nodes), "only {instructed} instructions reached the agents");
    eprintln!("operator: {}; resyncs {}", operator.ask("counts")?, shared.resyncs.load(Relaxed));
    let doubles = shared.doubles.load(Relaxed) as f64;
    let spread = Spread::of(seconds).context("nothing was measured")?;
    let doubles = Spread { median: doubles, low: doubles, high: doubles };
    Ok(vec![
        spread.figure("restart", "seconds", "s"),
        doubles.figure("restart", "double_instructions", "instructions"),
    ])
}

/// What all agents hold, and how long after this call the operator's inventory was that.
fn whole_again(operator: &mut Operator, fleet: &Fleet, world: World) -> Result<(u128, Duration)> {
    let listening = Instant::now();
    // The digest reads everything under the lock that reports are taken in with, a quarter of a second of a core: it is
    // asked for once every agent has told something and nothing more comes.
    let mut told = None;
    while listening.elapsed() < PATIENCE {
        let all = operator.count("Snapshots")? >= u64::from(world.nodes);
        let ranges = Some(operator.count("Ranges")?);
        if all && ranges == told {
            break;
        }
        told = ranges;
        std::thread::sleep(Duration::from_millis(20));
    }
    let (mut held, mut before) = (None, None);
    loop {
        let heard = operator.ask("digest")?;
        let passed = listening.elapsed();
        let since = match before {
            Some((same, since)) if same == heard => since,
            _ => passed,
        };
        // The agents are asked when nothing changes any more: their answer takes cores that the operator would miss.
        if held.is_none() && since < passed {
            held = Some(fleet.digest()?);
        }
        if let Some(held) = held.filter(|held| format!("{held:032x}") == heard) {
            return Ok((held, since));
        }
        ensure!(
            passed < PATIENCE,
            "the inventory is {heard} after {PATIENCE:?}, the agents hold {}; {}",
            held.map_or_else(|| "what changes all the time".to_owned(), |held| format!("{held:032x}")),
            operator.ask("counts")?
        );
        before = Some((heard, since));
        std::thread::sleep(Duration::from_millis(50));
    }
}

struct Stage {
    world: World,
    folder: Folder,
    authority: Authority,
    program: PathBuf,
}

impl Stage {
    fn new(world: World) -> Result<Self> {
        let folder = Folder::new()?;
        let now = SystemTime::now();
        let authority = Authority::create(now)?;
        let server = authority.sign_server(&["127.0.0.1".to_owned()], now)?;
        let certificates = folder.path().join("certificates");
        std::fs::create_dir(&certificates)?;
        write_pem(&certificates.join("ca.crt"), "CERTIFICATE", authority.certificate())?;
        let own = server.chain.first().context("no certificate was made")?;
        write_pem(&certificates.join("tls.crt"), "CERTIFICATE", own)?;
        write_pem(&certificates.join("tls.key"), "PRIVATE KEY", server.key.expose())?;
        let program = lab::program("wire-operator")?;
        Ok(Self { world, folder, authority, program })
    }

    fn start(&self, instructions: u32, at: Option<SocketAddr>) -> Result<Operator> {
        let World { nodes, datasets, per_node, runs, seed } = self.world;
        let mut command = Command::new(&self.program);
        command.arg(self.folder.path().join("certificates"));
        for (flag, value) in [
            ("--nodes", nodes.to_string()),
            ("--datasets", datasets.to_string()),
            ("--per-node", per_node.to_string()),
            ("--runs", runs.to_string()),
            ("--seed", seed.to_string()),
            ("--instructions", instructions.to_string()),
        ] {
            command.arg(flag).arg(value);
        }
        if let Some(at) = at {
            command.arg("--listen").arg(at.to_string());
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(questions), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the operator's pipes are missing");
        };
        let mut answers = BufReader::new(answers);
        let ward = Ward::new(child);
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let addr = line
            .trim()
            .parse()
            .with_context(|| format!("the operator said {line:?}, not where it listens"))?;
        Ok(Operator { ward, questions, answers, addr })
    }

    fn fleet(&self, operator: &Operator, period: Duration) -> Result<Fleet> {
        let url = format!("https://{}", operator.addr);
        Fleet::start(self.world, period, &url, &self.authority, 2)
    }

    fn wait(&self, fleet: &Fleet, what: &str, done: impl Fn(&Fleet) -> bool) -> Result<()> {
        let given_up = Instant::now() + PATIENCE;
        while !done(fleet) {
            ensure!(
                Instant::now() < given_up,
                "the agents did not {what} within {PATIENCE:?}: {:?}",
                fleet.shared
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

fn write_pem(path: &Path, label: &str, der: &[u8]) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(crate::agents::pem(label, der).as_bytes())?;
    Ok(())
}

struct Operator {
    ward: Ward,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    addr: SocketAddr,
}

impl Operator {
    fn id(&self) -> u32 {
        self.ward.id()
    }

    fn ask(&mut self, question: &str) -> Result<String> {
        writeln!(self.questions, "{question}")?;
        let mut line = String::new();
        let read = self.answers.read_line(&mut line)?;
        ensure!(read > 0, "the operator has ended");
        Ok(line.trim().to_owned())
    }

    /// One of its counts.
    fn count(&mut self, name: &str) -> Result<u64> {
        let counts: serde_json::Value = serde_json::from_str(&self.ask("counts")?)?;
        counts[name].as_u64().with_context(|| format!("the operator counts no {name}"))
    }

    /// As kill -9 does.
    fn kill(&mut self) -> Result<()> {
        self.ward.child().kill()?;
        self.ward.child().wait()?;
        Ok(())
    }
}

/// Seconds of processor time that a process has used.
fn processor_time(process: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // utime and stime are the 14th and 15th, two of which stand before the name's end.
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    let ticks = ticks(11).zip(ticks(12)).context("/proc/PID/stat is not what it was")?;
    Ok((ticks.0 + ticks.1) / rustix::param::clock_ticks_per_second() as f64)
}

fn resident_mib(process: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}
