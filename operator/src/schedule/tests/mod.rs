//! Scheduling through its two doors: a review in, an answer out; extender arguments in, scores out.

mod binding;
mod extending;
pub(super) mod known;
mod leading;
mod mutating;
mod picturing;
mod pods;
mod refusing;
mod serving;
