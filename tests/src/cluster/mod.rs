//! A real Kubernetes for the operator's tests and benchmarks: etcd, apiserver, controller-manager and
//! scheduler on loopback, and nodes that only seem to be there.
//!
//! `programs` finds the binaries, `authority` makes certificates, `access` is a way into a cluster
//! (kubeconfig, client), `options` and `plan` say how the programs are started (pure), `process` holds one
//! of them, `control_plane` all of them, with the faults that tests ask for. `shared` is the cluster of one
//! test program, or the one that KUBECONFIG names. `fleet` are Nodes without machines, `kubelet` moves the
//! pods bound to them along, `proxy` stands in front of an apiserver and spoils its answers, `audit` counts
//! requests in the apiserver's own log, `operator` is Headrace's own program there. `standing` is the cluster of `cargo xtask cluster up`, which stays.

pub mod programs;

pub mod authority;

pub mod access;

pub mod options;

pub mod plan;

pub mod process;

pub mod control_plane;

pub mod wait;

pub mod shared;

pub mod kubelet;

pub mod fleet;

pub mod proxy;

pub mod audit;

pub mod operator;

pub mod standing;
