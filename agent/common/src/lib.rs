//! The ABI between Headrace's BPF programs (`agent-ebpf`) and its agent.
//!
//! Both sides ship inside one binary, so the version only guards against a stale object: the agent
//! refuses one whose `ABI_VERSION` differs. `layout` goes down once, as a read-only global; `record`
//! comes up through the ring buffer; `state` lives in maps that both sides read. Everything is
//! `repr(C)` with its padding spelled out, and sizes are asserted here.
//!
//! Page ranges are half-open and counted in 4 KiB pages, whatever the kernel's own page size is.
#![cfg_attr(not(test), no_std)]

pub mod plain;

pub mod layout;

pub mod record;

pub mod state;

/// Raised with every change of a type in this crate.
pub const ABI_VERSION: u32 = 9;
