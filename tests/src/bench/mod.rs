//! Benchmarks: readers on slow stores, without and with the agent, weighed by what the store saw.
//!
//! `figure` is what a benchmark says, `usage` what another process takes, `ranges` and `evidence` turn the store's journal and the reader's
//! accesses into bytes fetched, wasted and covered (pure), `lab` starts and stops stores, readers and
//! agents, `case` lists the rows of the table, `first_light` runs them; `disk` is a local disk of the harness's
//! own, on which `overhead` measures what watching costs and `peers` what it costs with other tools; `guest`
//! asks the least of them of another kernel, and `volumes` prefetch on real NFS; `datasets`, `steering` and `reporting` measure the operator
//! on a real control plane.

pub mod figure;

pub mod usage;

pub mod ranges;

pub mod evidence;

pub mod lab;

pub mod case;

pub mod disk;

pub mod first_light;

pub mod overhead;

pub mod volumes;

pub mod guest;

pub mod peer;

pub mod peers;

pub mod datasets;

pub mod steering;

pub mod reporting;
