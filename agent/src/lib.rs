//! skeleton

pub mod probe;
