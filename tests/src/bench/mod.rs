//! Benchmarks: readers on slow stores, without and with the agent, weighed by what the store saw.
//!
//! `figure` is what a benchmark says, `ranges` and `evidence` turn the store's journal and the reader's
//! accesses into bytes fetched, wasted and covered (pure), `lab` starts and stops stores, readers and
//! agents, `case` lists the rows of the table, `first_light` and `overhead` run them; `guest` asks the least of
//! them of another kernel; `datasets` measures the operator on a real control plane, `operator_wire` its end of
//! the wire.

pub mod figure;

pub mod ranges;

pub mod evidence;

pub mod lab;

pub mod case;

pub mod first_light;

pub mod overhead;

pub mod guest;

pub mod datasets;

pub mod steering;

pub mod operator_wire;
