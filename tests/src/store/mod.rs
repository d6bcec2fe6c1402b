//! The slow store: an emulated remote file system over FUSE, a fixture for tests, benchmarks and the demo.
//!
//! A request arrives, waits the latency, then its answer passes one link of set bandwidth, first in first
//! out (`link` says exactly when). A request costs the store no thread while it waits, so hundreds can be
//! in flight. Everything that was asked is in the journal with the process that asked, which is how the
//! benchmarks know what an agent fetched without asking the agent. Same seed, same bytes, same names, same
//! listing order.
//!
//! Reading order: content, tree (what is served), link, delay (when), requester, journal (what is noted),
//! filesystem (the adapter to fuser), mount (a mounted store), control (asking it from another process).

pub mod content;
pub mod tree;

pub mod link;

pub mod journal;
pub mod requester;

mod delay;
mod filesystem;

pub mod mount;

pub mod control;

pub use control::{Control, ControlError};
pub use mount::{Mounted, StoreConfig, StoreError};
pub use tree::{Tree, TreeSpec};
