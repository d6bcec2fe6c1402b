//! Headrace's agent as a library: the daemon's parts and the person's commands.
//!
//! In reading order: what was asked (`config`, from `args`), the machine's health (`doctor`), what is
//! counted (`metrics`), the API (`api`), the daemon's life (`run`), the commands (`cli`).

pub mod config;

pub mod args;

pub mod doctor;

pub mod metrics;

pub mod api;

pub mod run;

pub mod cli;
