//! skeleton
pub mod mounts;
