//! The API and the commands, end to end: a server on a socket of its own, an engine that answers from
//! prepared views, and the real `headrace` binary asking it.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

mod commands;

mod daemon;

mod recording;

mod screen;

mod server;
