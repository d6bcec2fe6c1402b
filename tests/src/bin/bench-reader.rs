//! `bench-reader WORKLOAD`: reads a slow store in one pattern and says in one JSON line how long it took.
//!
//! It ends with an error when a sampled byte is wrong. `--with-parent` ends it with the process that
//! started it; `--pause` waits for a line on standard input between epochs.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use rustix::process::Signal;
use tests::reader::crew::{self, Share};
use tests::reader::hot::{Hot, Paced};
use tests::reader::itinerary::Workload;
use tests::reader::oracle;
use tests::reader::outcome::Outcome;
use tests::reader::walk::Walk;
use tests::reader::warm::Warm;
use tests::store::{Control, Tree, TreeSpec};

#[derive(Debug, Parser)]
#[command(about = "One access pattern on a slow store, as a process of its own")]
struct Command {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Subcommand)]
enum What {
    #[command(flatten)]
    Read(Workload),
    /// Read a cached file as fast as possible.
    Hot(Hot),
    /// Read a cached file at a set rate.
    Paced(Paced),
    /// Walk a tree of cached small files over and over.
    Warm(Warm),
    /// Prefetch what another reader is going to read.
    #[command(subcommand)]
    Oracle(Workload),
}

#[derive(Debug, Args)]
struct Place {
    /// Where the store is mounted.
    #[arg(long, global = true)]
    mount: Option<PathBuf>,
    /// What it was told to serve.
    #[arg(long, global = true, default_value = "small:40x100x40k")]
    tree: TreeSpec,
    /// The seed it was given.
    #[arg(long, global = true, default_value_t = 1)]
    seed: u64,
    /// The seed of a random order.
    #[arg(long, global = true, default_value_t = 1)]
    order: u64,
    /// Say every access too.
    #[arg(long, global = true)]
    accesses: bool,
    #[arg(long, global = true)]
    pause: bool,
    #[arg(long, global = true)]
    with_parent: bool,
    /// The store's control socket (for the oracle).
    #[arg(long, global = true)]
    control: Option<PathBuf>,
    /// Visits under way at once (for the oracle).
    #[arg(long, global = true, default_value_t = 64)]
    depth: usize,
    #[arg(long, global = true, hide = true)]
    share: Option<Share>,
}

fn main() -> anyhow::Result<()> {
    let Command { what, place } = Command::parse();
    if place.with_parent || place.share.is_some() {
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
            .context("asking to end with the parent")?;
    }
    match what {
        What::Read(workload) => read(workload, &place),
        What::Hot(hot) => say(&hot.run()?),
        What::Paced(paced) => say(&paced.run()?),
        What::Warm(warm) => say(&warm.run()?),
        What::Oracle(workload) => foresee(workload, &place),
    }
}

fn say(outcome: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, outcome)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

fn read(workload: Workload, place: &Place) -> anyhow::Result<()> {
    let mount = place.mount.as_deref().context("give the mount point with --mount")?;
    if workload.workers() > 1 && place.share.is_none() {
        let outcome = crew::run(workload.workers())?;
        return finish(outcome, place);
    }
    let tree = Tree::build(&place.tree, place.seed)?;
    let visits = workload.visits(&tree, &place.tree, place.order);
    let mut walk = Walk::new(mount, &tree, place.seed);
    if let Some(share) = place.share {
        share.wait();
    }
    for epoch in 0..workload.epochs() {
        if epoch > 0 && place.pause {
            std::io::stdin().read_line(&mut String::new())?;
        }
        match &visits {
            None => walk.listings()?,
            Some(visits) => {
                let mine = |&(at, _): &(usize, _)| place.share.is_none_or(|share| share.takes(at));
                walk.visits(visits.iter().enumerate().filter(mine).map(|(_, visit)| visit))?;
            }
        }
        finish(walk.outcome(), place)?;
    }
    Ok(())
}

fn finish(mut outcome: Outcome, place: &Place) -> anyhow::Result<()> {
    if !place.accesses {
        outcome.accesses.clear();
        outcome.opened.clear();
    }
    say(&outcome)?;
    if outcome.wrong > 0 {
        bail!(
            "{} reads returned bytes that are not the store's: the page cache or the store is broken",
            outcome.wrong
        );
    }
    Ok(())
}

fn foresee(workload: Workload, place: &Place) -> anyhow::Result<()> {
    let mount = place.mount.as_deref().context("give the mount point with --mount")?;
    let control = place.control.as_deref().context("give the store's control socket with --control")?;
    let tree = Tree::build(&place.tree, place.seed)?;
    let visits = match workload.visits(&tree, &place.tree, place.order) {
        Some(visits) => visits,
        None => oracle::in_listing_order(&tree),
    };
    let visits = oracle::in_pieces(&tree, visits);
    oracle::wait_for_reader(&Control::at(control))?;
    oracle::prefetch(mount, &tree, &visits, place.depth);
    Ok(())
}
