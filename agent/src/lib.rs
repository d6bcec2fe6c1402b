//! Headrace's agent as a library.

pub mod probe;

pub mod prefetch;
