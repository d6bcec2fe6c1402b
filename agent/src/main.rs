//! `headrace`: the agent and the commands that ask it.

use std::process::ExitCode;

use agent::config::Command;
use agent::{args, cli, run};

fn main() -> ExitCode {
    let ended = match args::parse() {
        Command::Agent(config) => run::run(config).map_err(anyhow::Error::from),
        Command::Ask(config) => Ok(cli::run(config)),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("headrace: {error}");
        ExitCode::FAILURE
    })
}
