//! `headrace-worker`.

use std::process::ExitCode;

use clap::Parser;
use worker::args::Args;
use worker::run;

fn main() -> ExitCode {
    // Fails only where one is chosen already, and it is the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    run::run(&Args::parse())
}
