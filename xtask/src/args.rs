//! The command line, and which part of xtask answers it.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::place::Place;
use crate::setup::{self, Purpose, cross};
use crate::{cluster, codegen, compile, lint, show, test, vm};

/// Headrace's own commands: from a fresh machine to a measured table.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
pub struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what this machine lacks; does nothing the second time
    Setup {
        /// Only say what is there and what is missing
        #[arg(long)]
        check: bool,
    },
    /// Compile everything, BPF programs included
    Build {
        #[arg(long)]
        release: bool,
        /// Compile for another machine, such as aarch64-unknown-linux-gnu
        #[arg(long, value_name = "TRIPLE")]
        target: Option<String>,
    },
    /// Formatting, clippy, tidy and every test: what CI runs (needs root)
    Test,
    /// The probe's acceptance booted on stock kernels in QEMU: a table kernel × plan × case
    Vm(vm::Options),
    /// Readers on a slow store, without and with the agent, as a table (needs root)
    Demo {
        /// Handed to the demo as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure, and print a table or JSON (needs root)
    Bench(show::Bench),
    /// Placement on synthetic clusters beside simpler ways to place, as a table or JSON
    Sim {
        /// Handed to the simulator as they are, such as `--size large --case flash-crowd`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Write again what is written from code: deploy/crd
    Codegen,
    /// A Kubernetes control plane on loopback: up, down, status
    Cluster {
        /// Handed to the program as they are; `up --help` lists the options
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Formatting, clippy and tidy
    Lint {
        /// Take over the kernel ABI as it is now, after its version was raised
        #[arg(long)]
        bless: bool,
        /// Only tidy, which takes milliseconds
        #[arg(long)]
        tidy: bool,
    },
}

pub fn parse() -> Result<Args> {
    Ok(Args::parse())
}

pub fn run(args: Args) -> Result<ExitCode> {
    let place = Place::find()?;
    match args.task {
        Task::Setup { check: true } => setup::report(&place)?,
        Task::Setup { check: false } => setup::provide(&place, Purpose::Test, true)?,
        Task::Build { release, target } => {
            setup::provide(&place, Purpose::Build, false)?;
            if let Some(triple) = &target {
                cross::provide(&place, triple)?;
            }
            compile::workspace(&place, release, target.as_deref())?;
        }
        Task::Test => return test::run(&place),
        Task::Vm(options) => return vm::run(&place, &options),
        Task::Demo { arguments } => show::demo(&place, &arguments)?,
        Task::Cluster { arguments } => cluster::run(&place, &arguments)?,
        Task::Bench(bench) => show::bench(&place, &bench)?,
        Task::Sim { arguments } => show::sim(&place, &arguments)?,
        Task::Codegen => codegen::run(&place)?,
        Task::Lint { bless, tidy: true } => lint::tidy(&place, bless)?,
        Task::Lint { bless, tidy: false } => {
            setup::provide(&place, Purpose::Build, false)?;
            lint::all(&place, bless)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
