//! What the operator does about Datasets and operations. Only the leader does it.
//!
//! Each kind has a pure part that looks at what was seen and says what to do, and one edge ([`write`]) that does
//! it. What is measured comes through [`measure`], what agents are asked goes through [`agents`]: neither knows
//! how. [`controller`] has kube-runtime call the right one at the right time.

#[cfg(test)]
mod standin;

pub mod measure;

pub mod agents;

pub mod write;

pub mod sentence;

pub mod event;

mod failing;

pub mod dataset;

pub mod orphans;

pub mod operation;

pub mod measured;

pub mod controller;

#[cfg(test)]
mod measured_tests;
