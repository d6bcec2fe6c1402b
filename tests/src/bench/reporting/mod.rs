//! `bench operator`, the cases of reporting agents: `reports`, what thousands of reporting nodes cost the operator, and
//! `restart`, how soon it knows everything again.
//!
//! The operator is the whole program on a real control plane (`stage`). The agents are simulated (`agents`), in this
//! process; they do what they are told.

mod stage;

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::agents::fleet::Fleet;
use crate::agents::world::World;
use crate::bench::figure::{Figure, Spread};
use crate::bench::usage::{processor_time, resident_mib};
use crate::cluster::operator::Operator;
use stage::Stage;

/// The cluster, with as many Datasets as its case `datasets` has.
const NODES: u32 = 5_000;
const DATASETS: u32 = 1_000;
const PER_NODE: u32 = 40;
const RUNS: u32 = 5;
const PERIOD: Duration = Duration::from_secs(5);
const SEED: u64 = 4;

/// Placement looks ten seconds after the first agents have come; what it orders then is done by the end of this.
const SETTLE: Duration = Duration::from_secs(60);

/// How long the steady state is watched, in pieces of which each gives a value: four minutes, in which placement goes on
/// filling the nodes. What grows, and what is forgotten too soon, does not show in one.
const PIECES: u32 = 24;
const PIECE: Duration = Duration::from_secs(10);

const RESTARTS: u32 = 3;

/// DataLoads that are under way at each kill: each goes round its Dataset's nodes.
const LOADS: u32 = 20;

/// All nodes must have come, and all must have been told, within this.
const PATIENCE: Duration = Duration::from_secs(120);

/// So long nothing new must have come before the inventory is asked for its digest.
const QUIET: Duration = Duration::from_millis(250);

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
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let stage = Stage::set(world).await?;
        let mut figures = Vec::new();
        if chosen("reports") {
            figures.extend(reports(&stage).await?);
        }
        if chosen("restart") {
            figures.extend(restarts(&stage, PERIOD).await?);
        }
        Ok(figures)
    })
}

/// `restart` on a control plane of its own.
pub async fn restart(world: World, period: Duration) -> Result<Vec<Figure>> {
    restarts(&Stage::set(world).await?, period).await
}

/// Steady state: every node reports each interval.
async fn reports(stage: &Stage) -> Result<Vec<Figure>> {
    let world = stage.world;
    let operator = stage.start().await?;
    let fleet = stage.agents(PERIOD)?;
    all_connect(&fleet, world).await?;
    tokio::time::sleep(SETTLE).await;
    let mut cores = Vec::new();
    let mut memory = Vec::new();
    for _ in 0..PIECES {
        let (before, reports) = (processor_time(operator.id())?, fleet.shared.reports.load(Relaxed));
        let begun = Instant::now();
        tokio::time::sleep(PIECE).await;
        let passed = begun.elapsed().as_secs_f64();
        cores.push((processor_time(operator.id())? - before) / passed);
        memory.push(resident_mib(operator.id())?);
        let rate = (fleet.shared.reports.load(Relaxed) - reports) as f64 / passed;
        eprintln!(
            "    {:.3} cores, {:.0} MiB; {rate:.0} reports a second, {} instructions so far",
            cores.last().copied().unwrap_or_default(),
            memory.last().copied().unwrap_or_default(),
            fleet.shared.instructions.load(Relaxed),
        );
        let wanted = f64::from(world.nodes) / PERIOD.as_secs_f64();
        ensure!(
            rate > wanted * 0.95,
            "the agents sent {rate:.0} reports a second, not {wanted:.0}: the machine is too busy"
        );
    }
    let doubles = fleet.shared.doubles.load(Relaxed);
    ensure!(doubles == 0, "{doubles} instructions came twice: {:?}", fleet.shared.twice);
    ensure!(fleet.connected() == world.nodes, "{} agents lost their stream", world.nodes - fleet.connected());
    let figure = |values: Vec<f64>, metric, unit| {
        Spread::of(values)
            .map(|spread| spread.figure("reports", metric, unit))
            .context("nothing was measured")
    };
    Ok(vec![figure(cores, "cores", "cores")?, figure(memory, "rss_mib", "MiB")?])
}

/// The operator is killed while every node reports changes and DataLoads are under way, and started again; its inventory
/// must become what the agents hold, which its former self had not all been told.
async fn restarts(stage: &Stage, period: Duration) -> Result<Vec<Figure>> {
    let world = stage.world;
    let mut operator = stage.start().await?;
    let fleet = stage.agents(period)?;
    all_connect(&fleet, world).await?;
    let mut seconds = Vec::new();
    let mut former = None;
    for round in 0..RESTARTS {
        fleet.shared.changing.store(true, Relaxed);
        tokio::time::sleep(period * 2).await;
        let loaded = fleet.shared.loads.load(Relaxed);
        // A Dataset that people have loaded twice at once is asked for twice.
        stage.load(round, LOADS.min(world.datasets / RESTARTS)).await?;
        wait(&fleet, "get a DataLoad's instructions", |fleet| fleet.shared.loads.load(Relaxed) > loaded)
            .await?;
        // Some are under way then, and some have not been told.
        tokio::time::sleep(period / 5).await;
        operator.kill().context("killing the operator")?;
        // A node that has lost its operator changes nothing until it has another: what each held at the kill is what
        // the new one must come to. With changes after that there would be nothing to compare with.
        fleet.shared.changing.store(false, Relaxed);
        operator = stage.start_listening().await?;
        let (held, passed) = whole_again(&operator, &fleet, stage).await?;
        ensure!(
            former.replace(held) != Some(held),
            "the load changed nothing: the digest is still {held:032x}"
        );
        eprintln!(
            "    {:.2} s; {} instructions so far, {} of DataLoads",
            passed.as_secs_f64(),
            fleet.shared.instructions.load(Relaxed),
            fleet.shared.loads.load(Relaxed)
        );
        seconds.push(passed.as_secs_f64());
    }
    // The last life's instructions come too.
    fleet.shared.changing.store(true, Relaxed);
    tokio::time::sleep(period * 4).await;
    let shared = &fleet.shared;
    let instructed = shared.instructions.load(Relaxed);
    let doubles = shared.doubles.load(Relaxed);
    eprintln!(
        "    {instructed} instructions, {doubles} of them double; resyncs {}",
        shared.resyncs.load(Relaxed)
    );
    for words in shared.twice.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter() {
        eprintln!("    double: {words}");
    }
    let spread = Spread::of(seconds).context("nothing was measured")?;
    let doubles = Spread { median: doubles as f64, low: doubles as f64, high: doubles as f64 };
    Ok(vec![
        spread.figure("restart", "seconds", "s"),
        doubles.figure("restart", "double_instructions", "instructions"),
    ])
}

/// What all agents hold, and how long after this call the operator's inventory was that.
///
/// Asking for the digest takes a quarter of a second, with the lock that reports are taken in with. So it is asked once
/// every agent has told something, the cluster has been listed, and nothing has come for a while; where it is right then, the inventory
/// was whole when the last of that came, and where it is not, it has not been until then.
async fn whole_again(operator: &Operator, fleet: &Fleet, stage: &Stage) -> Result<(u128, Duration)> {
    let listening = Instant::now();
    let (mut told, mut since) = ((None, None), listening);
    let (mut listed, mut held) = (false, None);
    while listening.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = (stage.count(operator, "snapshots").await, stage.count(operator, "ranges").await);
        if now != told {
            (told, since) = (now, Instant::now());
        }
        if !listed && operator.is_ready().await {
            (listed, since) = (true, Instant::now());
        }
        if !listed || now.0 < Some(u64::from(stage.world.nodes)) || since.elapsed() < QUIET {
            continue;
        }
        let heard = operator.digest().await?;
        let asked = Instant::now();
        let held = match held {
            Some(held) => held,
            None => *held.insert(tokio::task::block_in_place(|| fleet.digest(&stage.declared))?),
        };
        if format!("{held:032x}") == heard {
            return Ok((held, since - listening));
        }
        since = asked;
    }
    anyhow::bail!(
        "after {PATIENCE:?} the inventory is still not what the agents hold; told: {told:?}, listed: {listed}"
    )
}

async fn all_connect(fleet: &Fleet, world: World) -> Result<()> {
    wait(fleet, "connect", |fleet| fleet.connected() == world.nodes).await
}

async fn wait(fleet: &Fleet, what: &str, done: impl Fn(&Fleet) -> bool) -> Result<()> {
    let given_up = Instant::now() + PATIENCE;
    while !done(fleet) {
        ensure!(
            Instant::now() < given_up,
            "the agents did not {what} within {PATIENCE:?}: {:?}",
            fleet.shared
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
