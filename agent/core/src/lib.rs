//! Headrace's decisions, and nothing else: no I/O, no clock, no async.
//!
//! `Core::apply` folds one `Observation` into the state; `Core::orders` takes what should be done about
//! it. The same observations give the same orders, live or from a recording (`trace`).

pub mod units;

pub mod observation;

pub mod order;

pub mod view;

mod ranges;

mod residency;

mod ranking;

mod catalog;

mod rate;

mod bursts;

mod stride;

mod turns;

mod stream;

mod streams;

mod shape;

mod class;

mod route;

mod gait;

mod walk;

mod thread;

mod past;

mod again;

mod profile;

mod taught;

mod ledger;

mod domain;

mod names;

mod relative;

mod companions;

mod link;

mod store;

mod run;

mod core;

mod explain;

mod stirred;

mod memory;

mod settle;

mod advance;

mod fetch;

mod supply;

mod visits;

mod access;

mod views;

pub mod trace;

pub mod replay;

pub use core::{Core, Limits};
pub use observation::{Actor, Entry, EntryKind, Observation, OrderId, Outcome, Via};
pub use order::{Anchored, Door, Extent, Order};
pub use profile::{ProfileError, Visited, visited};
pub use ranges::MAX_SPANS;
pub use shape::resolve;
pub use stirred::{Reading, Stir, StirredFile};
pub use units::{FileKey, MountId, Nanos, PAGE, Pages, Reader, pages_of};
