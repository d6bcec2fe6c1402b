//! The readers of the figures: real processes with one access pattern each.
//!
//! `itinerary` decides what is read in which order (pure, from a seed), `walk` reads it and notes when each
//! read began, `crew` splits it among worker processes, `hot` and `warm` hold the readers of cached files for
//! the overhead figures, and `oracle` is the best prefetcher there could be: it knows the itinerary.

pub mod itinerary;
pub mod outcome;

pub mod walk;

pub mod crew;
pub mod hot;
pub mod oracle;
pub mod warm;
