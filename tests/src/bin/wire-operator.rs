//! `wire-operator FOLDER`: the operator's certificates, agents' streams and inventory in a process of their own,
//! without a cluster: what the benchmarks `reports` and `restart` measure.
//!
//! Datasets and nodes are those of `tests::agents::world`; each node is given instructions whose identities follow
//! from the seed. Commands come on standard input, one line each, and are answered with one line.

use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use operator::certs::vault::MemoryVault;
use operator::certs::{self, Bearer, Source, enrol};
use operator::ingest::{self, Extent, Folder, Hub, Limits, Tally, Wish, Work};
use operator::inventory::{Inventory, Tier};
use tests::agents::held;
use tests::agents::world::World;
use tokio::sync::watch;

/// As `headrace-operator`.
#[cfg(target_arch = "x86_64")]
#[global_allocator]
static HEAP: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Debug, Parser)]
struct Args {
    /// tls.crt, tls.key and ca.crt.
    folder: PathBuf,
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    #[arg(long)]
    nodes: u32,
    #[arg(long)]
    datasets: u32,
    #[arg(long)]
    per_node: u32,
    #[arg(long, default_value_t = 0)]
    runs: u32,
    #[arg(long)]
    seed: u64,
    /// Instructions for each node.
    #[arg(long, default_value_t = 0)]
    instructions: u32,
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// Agents of this process come with certificates.
struct Nobody;

impl certs::Authenticator for Nobody {
    async fn authenticate(&self, _: &str) -> Result<Bearer, enrol::Refusal> {
        Err(enrol::Refusal::Invalid("nobody enrols here".into()))
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(args.threads).enable_all().build()?;
    runtime.block_on(run(args))
}

async fn run(args: Args) -> Result<()> {
    let Args { folder, listen, nodes, datasets, per_node, runs, seed, instructions, threads: _ } = args;
    let world = World { nodes, datasets, per_node, runs, seed };
    let inventory = Arc::new(RwLock::new(Inventory::default()));
    let life = u64::from(std::process::id()) << 32 | u64::from(Instant::now().elapsed().subsec_nanos());
    let hub = Hub::new(Limits::default(), life, inventory.clone());
    declare(world, &hub);
    instruct(world, instructions, &hub)?;
    let source: Source<MemoryVault> = Source::Files { folder };
    let (serving, _) = certs::open(&source).await?;
    let listening = ingest::bind(listen)?;
    println!("{}", listening.addr());
    std::io::stdout().flush()?;
    let (stopping, stop) = watch::channel(false);
    let served = tokio::spawn(listening.serve::<Nobody>(hub.clone(), serving, None, stop));
    let answering = tokio::task::spawn_blocking(move || answer(&hub));
    answering.await?.context("reading commands failed")?;
    let _ = stopping.send(true);
    served.await??;
    Ok(())
}

fn declare(world: World, hub: &Hub) {
    let folder = |dataset| Folder {
        dataset: world.dataset_name(dataset),
        source: world.source(dataset).into(),
        prefix: "".into(),
    };
    hub.directory().set((0..world.datasets).map(folder));
    let now = hub.now();
    let mut inventory = hub.inventory().write().unwrap_or_else(PoisonError::into_inner);
    held::declare(world, &mut inventory, now);
}

fn instruct(world: World, each: u32, hub: &Hub) -> Result<()> {
    for node in 0..world.nodes {
        for (n, dataset) in (0..each).zip(world.datasets_of(node)) {
            let dataset = world.dataset_name(dataset);
            let id = format!("bench/{}/{dataset}/{n}", world.node_name(node)).into();
            let work = Work::Fetch(Extent { dataset, path: Box::default(), chunks: None }, Tier::Ram);
            let node = world.node_name(node).into();
            hub.instruct(Wish { id, node, work, reason: "benchmark".into(), useful_ms: 0, priority: 0 })?;
        }
    }
    Ok(())
}

/// `digest`: the inventory's, and how many nodes are heard; `counts`: everything counted. Ends with the input.
fn answer(hub: &Hub) -> std::io::Result<()> {
    for line in std::io::stdin().lock().lines() {
        let text = match line?.trim() {
            "digest" => {
                let inventory = hub.inventory().read().unwrap_or_else(PoisonError::into_inner);
                format!("{:032x}", inventory.digest())
            }
            "counts" => {
                let counted = |tally: &Tally| format!("\"{tally:?}\":{}", hub.counts().get(*tally));
                format!("{{{}}}", Tally::ALL.iter().map(counted).collect::<Vec<_>>().join(","))
            }
            other => format!("unknown command {other}"),
        };
        println!("{text}");
        std::io::stdout().flush()?;
    }
    Ok(())
}
