//! The wire end to end on loopback, with real TLS: the agent's own code against the operator's.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod fixture;

mod talk;

mod trust;

mod faults;

mod restart;

mod tickets;
