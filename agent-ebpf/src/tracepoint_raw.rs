//! Plan: raw tracepoints. The same hooks as the BTF tracepoints; the arguments are bare addresses, so
//! every load is a probe read. What both do with their arguments stands here.

use agent_common::record::{VIA_FAULT, VIA_MAPPED, VIA_READ};
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;

use crate::access::access;
use crate::inode::Inode;
use crate::layout::at;
use crate::memory::{Memory, Probed};
use crate::{exit, kprobe, residency};

#[inline(always)]
fn reach<M: Memory>(mapping: *const u8, how: u8, start: u64, end: u64) {
    if let Some(inode) = Inode::watched::<M>(mapping) {
        let scale = at!(page_scale) & 15;
        access::<M, true>(&inode, how, start << scale, end << scale);
    }
}

#[inline(always)]
pub fn get_pages<M: Memory>(mapping: *const u8, index: u64, last: u64) {
    let end = last.wrapping_add(1).wrapping_sub(u64::from(at!(last_exclusive)));
    reach::<M>(mapping, VIA_READ, index, end);
}

#[inline(always)]
pub fn fault<M: Memory>(mapping: *const u8, index: u64) {
    reach::<M>(mapping, VIA_FAULT, index, index + 1);
}

#[inline(always)]
pub fn map_pages<M: Memory>(mapping: *const u8, index: u64, last: u64) {
    reach::<M>(mapping, VIA_MAPPED, index, last.wrapping_add(1));
}

#[raw_tracepoint(tracepoint = "mm_filemap_get_pages")]
pub fn raw_get_pages(ctx: RawTracePointContext) -> i32 {
    get_pages::<Probed>(ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

#[raw_tracepoint(tracepoint = "mm_filemap_fault")]
pub fn raw_fault(ctx: RawTracePointContext) -> i32 {
    fault::<Probed>(ctx.arg(0), ctx.arg(1));
    0
}

#[raw_tracepoint(tracepoint = "mm_filemap_map_pages")]
pub fn raw_map_pages(ctx: RawTracePointContext) -> i32 {
    map_pages::<Probed>(ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

#[raw_tracepoint(tracepoint = "mm_filemap_add_to_page_cache")]
pub fn raw_added(ctx: RawTracePointContext) -> i32 {
    if let Some((inode, start, end)) = residency::folio::<Probed>(ctx.arg(0)) {
        residency::added::<Probed>(&inode, start, end);
    }
    0
}

#[raw_tracepoint(tracepoint = "mm_filemap_delete_from_page_cache")]
pub fn raw_removed(ctx: RawTracePointContext) -> i32 {
    if let Some((inode, start, end)) = residency::folio::<Probed>(ctx.arg(0)) {
        residency::removed(&inode, start, end);
    }
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn raw_exit(ctx: RawTracePointContext) -> i32 {
    kprobe::end();
    exit::exit::<Probed>(ctx.arg(0));
    0
}
