//! Pods to their bytes: the webhooks and the scheduler extender.
//!
//! A pod's claims name Datasets, the inventory knows where their bytes are (`reach`). At creation the webhook
//! turns that into a preference that any scheduler understands (`affinity`, `patch`, `mutate`); at scheduling
//! the `extender` turns it into live scores. Both decide without I/O or clock; `https` listens, and where another replica
//! leads it has that one answer (`leader`). Where bytes are is never a condition: without Headrace, or with nothing known, pods are scheduled as they would be anyway.
//! The one thing required is a node on which a Dataset can be mounted at all (`mountable`).

pub mod pod;

pub mod workload;

pub mod reach;

pub mod mountable;

pub mod affinity;

pub mod patch;

pub mod review;

pub mod bound;

pub mod picture;

pub mod hearing;

pub mod objects;

pub mod mutate;

pub mod refuse;

pub mod extender;

pub mod leader;

mod room;

mod taking;

pub mod https;

pub mod pods;

pub mod register;

#[cfg(test)]
mod tests;
