//! skeleton
pub mod prefetch;
