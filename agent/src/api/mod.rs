//! The agent's answers to people, dashboards and scripts: gRPC over a unix socket.
//!
//! The API never touches the agent's state. It puts a `Query` with a place for the answer on a bounded
//! queue (`query`), the engine answers between two of its steps, and `convert` turns the answer into the
//! wire's messages. Events reach clients through a bounded broadcast: a slow client loses events and is
//! told how many, the engine never waits.

pub mod recording;

pub mod query;

pub mod answer;

pub mod convert;

pub mod service;

pub mod socket;

pub mod server;

pub use query::{EngineSide, Link, Query};
pub use recording::RecordSink;
pub use server::{ApiError, Listeners};
