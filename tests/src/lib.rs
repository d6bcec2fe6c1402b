//! The harness: what the end-to-end tests, the benchmarks and the demo share.
//!
//! `store` is an emulated remote file system with set latency and bandwidth, `reader` holds the access
//! patterns that the figures are taken with, `bench` runs readers on stores with and without the agent
//! and turns the evidence into figures, `cluster` is a real Kubernetes with nodes that only seem to be
//! there, `nfs` exports a folder by the kernel's own server, `podgroup` is a pod's cgroup, `sim` lets placement run on synthetic clusters, `agents` are simulated nodes for the operator.
//! Everything that is started or mounted hangs on a guard of `hygiene`, so that nothing is left behind.

pub mod clock;
pub mod nfs;
pub mod podgroup;
pub mod quantity;
pub mod store;

pub mod reader;

pub mod hygiene;

pub mod cluster;

pub mod helm;

pub mod agents;

pub mod bench;

pub mod sim;
