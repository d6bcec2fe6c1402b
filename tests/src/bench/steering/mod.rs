//! Benchmarks of scheduling: the operator's answers over HTTPS, and where a real kube-scheduler puts pods.
//!
//! `world` is what the operator knows where no cluster is needed, `door` serves it from a process of its own,
//! `ask` is a client that measures, `answers` the figures taken so. `stage` is a real control plane with the
//! operator's scheduling in it, `throughput` and `locality` what a real scheduler makes of that, `floor` an
//! extender that does nothing, `asked` counts what ours was asked, `spent` shows where the time went.

pub mod world;

pub mod door;

pub mod ask;

pub mod answers;

pub mod asked;

pub mod floor;

pub mod stage;

pub mod spent;

pub mod throughput;

pub mod locality;

use anyhow::Result;

use self::stage::Extender;
use super::figure::Figure;
use crate::hygiene;

#[derive(Clone, Debug)]
pub struct Options {
    /// Only these cases; all when empty.
    pub cases: Vec<String>,
    pub repeats: usize,
    /// Nodes of the cluster in `extender`; figures that count take 5,000.
    pub nodes: Option<u32>,
}

pub fn run(options: &Options) -> Result<Vec<Figure>> {
    let Options { cases, repeats, nodes } = options;
    let chosen = |name: &str| cases.is_empty() || cases.iter().any(|case| case == name);
    let mut figures = Vec::new();
    if chosen("extender") || chosen("webhook") {
        let door = answers::Door::open(answers::LARGE)?;
        if chosen("extender") {
            figures.extend(answers::extender(&door, answers::LARGE, *repeats)?);
        }
        if chosen("webhook") {
            figures.extend(answers::webhook(&door, answers::LARGE, *repeats)?);
        }
    }
    // Of these only ours is a figure of the whole; the others are taken where they are asked for.
    let asked =
        [Extender::Ours, Extender::Filtering, Extender::Floor].into_iter().filter(|asked| match asked {
            Extender::Ours => chosen(asked.case()),
            _ => cases.iter().any(|case| case == asked.case()),
        });
    let asked: Vec<Extender> = asked.collect();
    if !asked.is_empty() || chosen("locality") {
        hygiene::at_exit();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        for asked in asked {
            figures.extend(runtime.block_on(throughput::run(*repeats, *nodes, asked))?);
        }
        if chosen("locality") {
            figures.extend(runtime.block_on(locality::run(*repeats))?);
        }
    }
    Ok(figures)
}
