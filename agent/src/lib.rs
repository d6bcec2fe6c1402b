//! Headrace's agent as a library: the daemon's parts and the person's commands.
//!
//! In reading order: what was asked (`config`, from `args`), the edges to the kernel and the machine
//! (`probe`, `mounts`, `attribute`, `prefetch`, `pressure`), what is kept (`profiles`), the machine's
//! health (`doctor`), what is counted (`metrics`), the API (`api`), the loop that joins them (`engine`), the wire to the operator (`report`),
//! the memory the process keeps (`heap`), the daemon's life (`run`), the commands (`cli`).

pub mod config;

pub mod args;

pub mod probe;

pub mod mounts;

pub mod attribute;

pub mod prefetch;

pub mod pressure;

pub mod profiles;

pub mod doctor;

pub mod metrics;

pub mod api;

pub mod engine;

pub mod report;

pub mod heap;

pub mod run;

pub mod cli;
