//! `cargo xtask`: the project's own commands, from a fresh machine to a measured table.
//!
//! `setup` fetches what is missing, `build` compiles, `test` is what CI runs, `demo` and `bench` show
//! what the agent is worth, `cluster` starts a Kubernetes to try the operator on, `lint` holds the tree to
//! docs and rules. Each command sets up what it needs by itself, so nobody has to run `setup` by hand.
//!
//! Progress goes to stderr; stdout carries only results, so that `bench --json` can be piped.

mod digest;

mod place;

mod console;

mod step;

mod apt;

mod setup;

mod compile;

mod tidy;

mod lint;

mod codegen;

mod suite;

mod vm;

mod test;

mod show;

mod cluster;

mod args;

use std::process::ExitCode;

fn main() -> ExitCode {
    match args::parse().and_then(args::run) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
