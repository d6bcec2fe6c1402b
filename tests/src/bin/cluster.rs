//! `cluster up|down|status`: the control plane of `cargo xtask cluster`, on loopback, until `down`
//! (see docs/cluster.md). `cluster nodes` keeps its nodes; `up` starts it.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use kube::config::Kubeconfig;
use tests::cluster::access;
use tests::cluster::control_plane::{ControlPlane, KUBECONFIG};
use tests::cluster::fleet::{Fleet, Spec};
use tests::cluster::options::{Audit, ControllerManager, Options, Scheduler};
use tests::cluster::standing::{self, Entry, Record};
use tests::cluster::{process, programs};
use tests::hygiene;

#[derive(Debug, Parser)]
#[command(about = "A Kubernetes control plane on loopback", disable_help_subcommand = true)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Start it, and print how to reach it
    Up(Up),
    /// End it; nothing is left
    Down,
    /// What runs; fails when something that was started does not
    Status,
    /// Keep nodes without machines ready, until this is ended
    #[command(hide = true)]
    Nodes {
        #[arg(long)]
        count: usize,
        #[arg(long)]
        kubeconfig: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct Up {
    /// Nodes that only seem to be there: pods on them run, and end, without a container
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(0..=5_000))]
    nodes: u16,
    /// Write the apiserver's audit log by this policy
    #[arg(long, value_name = "FILE")]
    audit_policy: Option<PathBuf>,
    /// A KubeSchedulerConfiguration as JSON (its extenders and profiles; the connection is ours)
    #[arg(long, value_name = "FILE")]
    scheduler_config: Option<PathBuf>,
    /// The controller-manager's requests a second
    #[arg(long, default_value_t = 500)]
    kube_api_qps: u32,
    #[arg(long, default_value_t = 1_000)]
    kube_api_burst: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    match Args::parse().task {
        Task::Up(options) => up(&options).await?,
        Task::Down => down()?,
        Task::Status => return status().await,
        Task::Nodes { count, kubeconfig } => nodes(count, &kubeconfig).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn up(asked: &Up) -> Result<()> {
    let options = asked.options()?;
    let folder = standing::folder()?;
    if let Some(record) = standing::read(&folder)? {
        if record.programs.iter().all(Entry::runs) {
            eprintln!("It is up already.");
            return tell(&folder, &record);
        }
        eprintln!("Some of its programs have ended; starting afresh.");
    }
    standing::end(&folder)?;
    // Should this be interrupted, what was started so far ends with it, and the folder is found by `down`.
    hygiene::on_signals()?;
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let version = programs::version()?;
    eprintln!("Starting Kubernetes {version} on loopback ...");
    process::outlive();
    let plane = match ControlPlane::start_in(&folder, &options).await {
        Ok(plane) => plane,
        Err(error) => {
            standing::end(&folder)?;
            return Err(error.into());
        }
    };
    let nodes = start_nodes(asked.nodes, &folder)?;
    let mut programs: Vec<Entry> =
        plane.processes().filter_map(|program| Entry::of(program.name(), program.id())).collect();
    programs.extend(nodes);
    let record = Record { version, server: plane.access().server.clone(), programs };
    standing::write(&folder, &record)?;
    plane.stay();
    tell(&folder, &record)
}

impl Up {
    fn options(&self) -> Result<Options> {
        let Self { nodes: _, audit_policy, scheduler_config, kube_api_qps, kube_api_burst } = self;
        let mut options = Options {
            controller_manager: Some(ControllerManager {
                qps: *kube_api_qps,
                burst: *kube_api_burst,
                ..ControllerManager::default()
            }),
            ..Options::default()
        };
        if let Some(path) = audit_policy {
            options.audit = Audit::Policy(path.clone());
        }
        if let Some(path) = scheduler_config {
            let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            let configuration =
                serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", path.display()))?;
            options.scheduler = Some(Scheduler { configuration, ..Scheduler::default() });
        }
        Ok(options)
    }
}

/// A process of its own, because this one ends.
fn start_nodes(count: u16, folder: &Path) -> Result<Option<Entry>> {
    if count == 0 {
        return Ok(None);
    }
    let log = std::fs::File::create(folder.join("nodes.log")).context("cannot create the nodes' log")?;
    let errors = log.try_clone().context("cannot share the nodes' log")?;
    let child = Command::new(std::env::current_exe().context("cannot find this program")?)
        .args(["nodes", "--count", &count.to_string(), "--kubeconfig"])
        .arg(folder.join(KUBECONFIG))
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .context("cannot start the nodes")?;
    Ok(Entry::of("nodes", child.id()))
}

fn tell(folder: &Path, record: &Record) -> Result<()> {
    let kubeconfig = folder.join(KUBECONFIG);
    eprintln!("Kubernetes {} at {}; logs in {}", record.version, record.server, folder.display());
    if let Ok(cache) = programs::cache() {
        let kubectl = cache.join("kubernetes").join(&record.version).join("kubectl");
        if kubectl.is_file() {
            eprintln!("kubectl: {}", kubectl.display());
        }
    }
    eprintln!("End it with: cargo xtask cluster down");
    println!("export KUBECONFIG={}", kubeconfig.display());
    Ok(())
}

fn down() -> Result<()> {
    let folder = standing::folder()?;
    if standing::end(&folder)? {
        eprintln!("The cluster is down; nothing is left of it.");
    } else {
        eprintln!("There is none.");
    }
    Ok(())
}

async fn status() -> Result<ExitCode> {
    let folder = standing::folder()?;
    let Some(record) = standing::read(&folder)? else {
        println!("There is no cluster: `cargo xtask cluster up` starts one.");
        return Ok(ExitCode::FAILURE);
    };
    println!("Kubernetes {} at {}", record.version, record.server);
    let mut whole = true;
    for entry in &record.programs {
        let runs = entry.runs();
        whole &= runs;
        let how = if runs { "runs" } else { "has ended" };
        println!("  {:<24} {how:<10} process {}", entry.name, entry.id);
    }
    match ready(&folder).await {
        Ok(()) => println!("  the apiserver says it is ready"),
        Err(error) => {
            whole = false;
            println!("  the apiserver is not ready: {error:#}");
        }
    }
    println!("export KUBECONFIG={}", folder.join(KUBECONFIG).display());
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ready(folder: &Path) -> Result<()> {
    let kubeconfig = Kubeconfig::read_from(folder.join(KUBECONFIG))?;
    let client = access::client(access::config(kubeconfig).await?)?;
    let asked = client.request_text(http::Request::get("/readyz").body(Vec::new())?);
    tokio::time::timeout(Duration::from_secs(10), asked).await.context("no answer within 10 s")??;
    Ok(())
}

async fn nodes(count: usize, kubeconfig: &Path) -> Result<()> {
    let client = access::client(access::config(Kubeconfig::read_from(kubeconfig)?).await?)?;
    let fleet = Fleet::join(client, Spec::new("node", count)).await?;
    eprintln!("{count} nodes are ready");
    // `down` ends this; the nodes go with the cluster.
    std::future::pending::<()>().await;
    drop(fleet);
    bail!("nothing to wait for")
}
