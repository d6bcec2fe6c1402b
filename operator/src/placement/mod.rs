//! Which nodes should hold which chunks, and why: a function of the inventory, without I/O or clock.
//!
//! `Placement::step` decides who should hold what; `plan` makes of it what agents are told, bounded and with
//! names of its own, so that telling twice does no harm. The algorithm is described in docs/placement.md.

pub mod piece;

pub mod rendezvous;

mod demand;

mod nearness;

mod reason;

mod room;

mod book;

mod occupancy;

mod settle;

mod step;

mod rests;

mod plan;

pub use book::Release;
pub use demand::HORIZON_S;
pub use nearness::Near;
pub use occupancy::Occupancy;
pub use piece::Pieces;
pub use plan::{Flights, Instruction, MAX_RESUMED, PlanLimits, plan};
pub use reason::{Because, Reason};
pub use room::{SILENCE_MS, allows};
pub use settle::{MARGIN, Move};
pub use step::{Holder, Limits, Placement, Step};

#[cfg(test)]
mod tests;
