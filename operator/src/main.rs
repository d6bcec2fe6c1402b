//! `headrace-operator`.

use std::io::Write;
use std::process::ExitCode;

use operator::{args, run};

/// After a restart thousands of agents tell everything at once, and glibc's heap was slow at it (docs/benchmarks.md).
#[cfg(target_arch = "x86_64")]
#[global_allocator]
static HEAP: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match run::run(args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A terminal that is gone must not hide the exit status.
            let _ = writeln!(std::io::stderr(), "headrace-operator: {error}");
            ExitCode::FAILURE
        }
    }
}
