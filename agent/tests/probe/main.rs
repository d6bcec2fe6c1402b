//! The acceptance of the probe against a real kernel, as root: known accesses are made in every way there
//! is, and what the probe told is compared with what was done, for each plan that this kernel takes.
//! Nothing may be missing and nothing invented; what a plan cannot see must be what it says it cannot.
//!
//! `cargo test` runs it on the machine at hand, `cargo xtask vm` in guests, with the same cases. It is its
//! own harness: a cell is a case under a plan, and all of them are shown, also after one has failed.
#![expect(clippy::expect_used, clippy::panic, reason = "cases fail by panicking")]

mod verdict;

mod allowed;

mod args;

mod disk;

#[path = "../../../tests/src/nfs.rs"]
mod nfs;

mod server;

mod scene;

mod cases;

mod table;

mod plans;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args = args::parse();
    // RUST_LOG=agent=debug shows the verifier's last lines.
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    if args.list {
        table::list();
        return ExitCode::SUCCESS;
    }
    let mut table = table::Table::begin(&args);
    plans::run(&args, &mut table);
    table.end()
}
