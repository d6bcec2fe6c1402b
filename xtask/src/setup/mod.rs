//! What a fresh Debian 12 machine lacks, checked and provided piece by piece.
//!
//! Each piece answers `check` in milliseconds and `provide` only when something is missing, so a second
//! run does nothing. Nothing is mounted or configured: the agent needs neither bpffs (it pins nothing)
//! nor tracefs (it attaches no tracepoint by perf). What comes over the network is tried three times.

mod kernel;

mod programs;

mod alone;

mod debian;

mod sources;

mod toolchain;

pub mod cross;

mod linker;

mod go;

mod gomodule;

mod kubernetes;

mod stores;

mod helm;

mod crates;

use std::time::Instant;

use anyhow::{Result, bail};

use crate::console;
use crate::place::Place;

/// What the machine is being made ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Compile: a toolchain, what crates are built with, bpf-linker, the crates.
    Build,
    /// Also load BPF programs, mount file systems, open terminals: tests, demo, benchmarks.
    Run,
    /// Also compile for arm64, boot other kernels, and start a control plane of Kubernetes and a store that speaks S3, install a
    /// chart: the tests and benchmarks of the operator and its worker.
    Test,
    /// The control plane alone, with what compiles the program that starts it.
    Cluster,
    /// Compile, and boot other kernels: nothing of this machine's own kernel is needed.
    Guest,
}

/// How a piece stands; the sentence is shown as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Ready(String),
    Missing(String),
}

struct Piece {
    name: &'static str,
    check: fn(&Place) -> Result<State>,
    provide: fn(&Place) -> Result<()>,
}

const BUILD: [Piece; 4] = [
    Piece { name: "toolchain", check: toolchain::check, provide: toolchain::provide },
    Piece { name: "builders", check: programs::check_builders, provide: programs::provide_builders },
    Piece { name: "bpf-linker", check: linker::check, provide: linker::provide },
    Piece { name: "crates", check: crates::check, provide: crates::provide },
];

const KERNEL: Piece = Piece { name: "kernel", check: kernel::check, provide: kernel::provide };
const PROGRAMS: Piece = Piece { name: "programs", check: programs::check, provide: programs::provide };
const GUEST: Piece =
    Piece { name: "guests", check: programs::check_guests, provide: programs::provide_guests };

const RUN: [Piece; 2] = [KERNEL, PROGRAMS];
const TEST: [Piece; 3] = [KERNEL, PROGRAMS, GUEST];
const OTHER: Piece = Piece { name: "arm64", check: cross::check_other, provide: cross::provide_other };
const GUESTS: [Piece; 1] = [GUEST];

const KUBERNETES: Piece =
    Piece { name: "kubernetes", check: kubernetes::check, provide: kubernetes::provide };
const STORES: Piece = Piece { name: "s3 server", check: stores::check, provide: stores::provide };

const CHARTS: Piece = Piece { name: "helm", check: helm::check, provide: helm::provide };

/// Last, because they take longest: what is missing otherwise is told before.
const CLUSTER: [Piece; 1] = [KUBERNETES];
const SERVERS: [Piece; 4] = [OTHER, STORES, CHARTS, KUBERNETES];

fn pieces(purpose: Purpose) -> impl Iterator<Item = &'static Piece> {
    let none: &[Piece] = &[];
    let (run, cluster) = match purpose {
        Purpose::Build => (none, none),
        Purpose::Run => (&RUN[..], none),
        Purpose::Test => (&TEST[..], &SERVERS[..]),
        Purpose::Cluster => (none, &CLUSTER[..]),
        Purpose::Guest => (&GUESTS[..], none),
    };
    run.iter().chain(&BUILD).chain(cluster)
}

pub use programs::{provide_guest_programs, provide_peers};

/// Only says what is there and what is not; fails when something is missing.
pub fn report(place: &Place) -> Result<()> {
    let mut missing = 0;
    for piece in pieces(Purpose::Test) {
        match (piece.check)(place)? {
            State::Ready(what) => println!("ok       {:<11} {what}", piece.name),
            State::Missing(what) => {
                missing += 1;
                println!("missing  {:<11} {what}", piece.name);
            }
        }
    }
    if missing > 0 {
        bail!("{missing} missing: run `cargo xtask setup` to provide what can be provided");
    }
    Ok(())
}

/// Provides what is missing. Says one line for each piece when `aloud`, else only what it did.
pub fn provide(place: &Place, purpose: Purpose, aloud: bool) -> Result<()> {
    let started = Instant::now();
    for piece in pieces(purpose) {
        match (piece.check)(place)? {
            State::Ready(what) if aloud => console::note(&format!("  {}: {what}", piece.name)),
            State::Ready(_) => {}
            State::Missing(what) => {
                console::note(&format!("  {}: {what}", piece.name));
                (piece.provide)(place)?;
                if let State::Missing(still) = (piece.check)(place)? {
                    bail!("{}: {still}, although it was just provided", piece.name);
                }
            }
        }
    }
    if aloud {
        console::note(&format!("setup: ready ({})", console::span(started.elapsed())));
    }
    Ok(())
}
