//! skeleton
pub mod mounts;

pub mod attribute;
