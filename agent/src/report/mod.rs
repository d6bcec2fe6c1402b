//! The agent's end of the wire: what is on this node, told to the operator; what the operator wants, done.
//!
//! The engine never waits for any of it: this is a task beside the API, which asks the engine as a person would.
//! While no operator answers, nothing piles up: what the operator knows and what is so are kept side by side
//! (`ledger`), and the difference is told when there is somebody to tell it to.

pub mod chunks;

pub mod ledger;

pub mod speaker;

pub mod backoff;

pub mod connect;

pub mod manifest;

pub mod first;

pub mod survey;

pub mod claim;

pub mod busy;

pub mod piece;

pub mod errands;

pub mod folder;

pub mod picture;

pub mod credential;

pub mod ended;

pub mod reporter;
