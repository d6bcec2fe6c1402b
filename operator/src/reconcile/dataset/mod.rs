//! One PersistentVolume and claim for a Dataset and each namespace that may use it, and a status that is true.

pub mod targets;

pub mod shown;

pub mod objects;

pub mod volumes;

pub mod status;

pub mod reconcile;

#[cfg(test)]
mod tests;
