//! `headrace`: the agent and the commands that ask it.

use std::io::Write;
use std::process::ExitCode;

use agent::config::Command;
use agent::{args, cli, heap, run};

fn main() -> ExitCode {
    let ended = match args::parse() {
        Command::Agent(config) => {
            // Should something else have chosen before, it chose the same.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            heap::keep_small();
            run::run(config).map_err(anyhow::Error::from)
        }
        Command::Ask(config) => Ok(cli::run(config)),
    };
    ended.unwrap_or_else(|error| {
        // A terminal that is gone or a full disk must not hide the exit status.
        let _ = writeln!(std::io::stderr(), "headrace: {error}");
        ExitCode::FAILURE
    })
}
