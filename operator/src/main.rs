//! `headrace-operator`.

use std::io::Write;
use std::process::ExitCode;

use operator::{args, run};

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
