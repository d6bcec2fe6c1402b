//! The simulator: placement on synthetic clusters, compared with simpler ways to place.
//!
//! `cluster` makes nodes, Datasets, pods and misfortunes from a seed; `world` lets pods read, tick by tick,
//! from caches, peers and a store that have only so much to give; a `policy` says where pods and bytes go.
//! One of them is the operator's own code: its inventory fed by reports, its placement, its instructions.
//! Nothing here measures time: the same seed gives the same figures on every machine.

pub mod random;

pub mod cluster;

mod cache;

pub mod world;

pub mod policy;

mod passing;

pub mod headrace;

pub mod outcome;

pub use outcome::{Options, run};

#[cfg(test)]
mod tests;
