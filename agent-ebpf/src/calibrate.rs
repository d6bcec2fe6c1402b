//! Which end `mm_filemap_get_pages` reports, the last page or the one after it, differs between kernels
//! of the same version line. The agent reads one byte at start and looks here; then this is detached.
//!
//! And who the agent is: in a container with processes of its own it has another number there than here.

use agent_common::state::OWN;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;

use crate::maps::CALIBRATION;
use crate::thread;

/// Never attached: the agent runs it itself, so that the running thread is its own.
#[raw_tracepoint]
pub fn ask_self(_ctx: RawTracePointContext) -> i32 {
    let _ = CALIBRATION.insert(OWN, thread::id(), 0);
    0
}

#[raw_tracepoint(tracepoint = "mm_filemap_get_pages")]
pub fn calibrate_get_pages(ctx: RawTracePointContext) -> i32 {
    let tid = thread::id() as u32;
    if CALIBRATION.get_ptr(tid).is_some() {
        let index: u64 = ctx.arg(1);
        let last: u64 = ctx.arg(2);
        let _ = CALIBRATION.insert(tid, last.wrapping_sub(index), 0);
    }
    0
}
