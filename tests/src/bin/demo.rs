//! `demo`: five readers on an emulated remote store, without and with the agent, and a table of what it did.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use tests::bench::case::{Case, Timed};
use tests::bench::first_light::{Options, Run, Runs, run_case};
use tests::bench::lab::{self, Subject};
use tests::hygiene;
use tests::quantity::say_bytes;
use tests::reader::itinerary::Workload;
use tests::store::{StoreConfig, TreeSpec};

#[derive(Debug, Parser)]
#[command(
    about = "Shows what the agent does for five readers of a slow store; needs root, takes about two minutes"
)]
struct Args {
    /// The headrace binary (default: beside this program); `oracle:DEPTH` shows the best there could be.
    #[arg(long)]
    agent: Option<Subject>,
}

/// One row of the table: what a person calls it, and the case.
struct Scene {
    title: &'static str,
    case: Case,
}

fn main() -> Result<()> {
    let args = Args::parse();
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "the demo mounts a file system and loads BPF programs: run it as root"
    );
    hygiene::on_signals()?;
    for at in hygiene::remove_stale()? {
        eprintln!("Removed the mount {} that an earlier run had left.", at.display());
    }
    let subject = match args.agent {
        Some(subject) => subject,
        None => Subject::Agent(lab::program("headrace").context("the demo shows the agent at work")?),
    };
    println!("{INTRODUCTION}");
    let options = Options { subject, cases: Vec::new(), open_charged: false, repeats: 1 };
    let begun = Instant::now();
    let mut shared = Vec::new();
    let mut rows = Vec::new();
    let scenes = scenes();
    for (number, Scene { title, case }) in scenes.iter().enumerate() {
        eprintln!("{} of {}: {title}", number + 1, scenes.len());
        let runs = run_case(case, &options, &mut shared).with_context(|| format!("showing `{title}`"))?;
        rows.extend(row(title, &runs));
    }
    println!("\n{HEAD}");
    for row in rows {
        println!("{row}");
    }
    println!("\n{EXPLANATION}\nTook {:.0} s.", begun.elapsed().as_secs_f64());
    Ok(())
}

const INTRODUCTION: &str = "\
An emulated remote file system (5 ms for every look-up and read, 60 or 200 MB/s) is mounted, and ordinary
programs read it: first by themselves, then with `headrace agent` watching the mount. Before every run the
kernel's caches are emptied, and nobody tells the agent what will be read.\n";

const HEAD: &str = "\
what is read                               without      with   faster   in memory   prefetched     wasted
---------------------------------------------------------------------------------------------------------";

const EXPLANATION: &str = "\
`in memory` is the share of the bytes that were in the page cache when the program asked for them, with the
agent running; `prefetched` is what the agent had brought from the store, `wasted` what of that nobody read.
All of it is counted by the store, not by the agent.";

fn row(title: &str, runs: &Runs) -> Option<String> {
    let (without, with): (&Run, &Run) = runs.without.first().zip(runs.with.first())?;
    let evidence = with.evidence;
    Some(format!(
        "{title:<40} {:>8.2} s {:>7.2} s {:>6.1} x {:>9.0} % {:>12} {:>10}",
        without.seconds,
        with.seconds,
        without.seconds / with.seconds,
        evidence.coverage() * 100.0,
        say_bytes(evidence.fetched),
        say_bytes(evidence.wasted)
    ))
}

fn scenes() -> Vec<Scene> {
    let scene = |title, name, tree, bandwidth, workload| Scene {
        title,
        case: Case {
            name,
            row: name,
            store: StoreConfig {
                tree,
                latency: Duration::from_millis(5),
                bandwidth: Some(bandwidth),
                ..StoreConfig::default()
            },
            workload,
            lessons: Vec::new(),
            carries: false,
            timed: Timed::Whole,
            small: false,
        },
    };
    let images = TreeSpec::Small { dirs: 20, files: 50, size: 40_000 };
    let table = TreeSpec::Parquet { files: 60, columns: 20, column: 256 << 10 };
    let epoch = Workload::Shuffled { epochs: 1, files: None, workers: 1 };
    let mut known =
        scene("the same program's next run, new order", "shuffled-known", images.clone(), 60_000_000, epoch);
    known.case.lessons = vec![epoch];
    vec![
        scene(
            "one large file from start to end",
            "sequential",
            TreeSpec::Large { size: 256 << 20 },
            200_000_000,
            Workload::Sequential,
        ),
        scene(
            "1,000 small files, folder by folder",
            "directory",
            images.clone(),
            60_000_000,
            Workload::Directory,
        ),
        scene("1,000 small files, shuffled", "shuffled-first", images, 60_000_000, epoch),
        known,
        scene("60 Parquet-like files, 3 of 20 columns", "footer", table, 200_000_000, Workload::Footer),
    ]
}
