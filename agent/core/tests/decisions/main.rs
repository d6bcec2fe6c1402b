//! The core's decisions: that each pattern is told apart, and what the orders are worth, in virtual time.

mod sim;

mod benefit;

mod patterns;

mod detail;
