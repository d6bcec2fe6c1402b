//! The core's decisions: that each pattern is told apart, and what the orders are worth, in virtual time.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends by panicking")]

mod folders;
mod kernel;
mod world;

mod sim;

mod again;
mod benefit;
mod beside;
mod general;

mod patterns;

mod detail;

mod lifecycle;

mod outage;

mod recorded;

mod resident;

mod room;

mod skips;

mod strangers;

mod survival;

mod told;

mod turns;
