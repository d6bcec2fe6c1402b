//! Plan: BTF tracepoints. The arguments are typed pointers, so every load is direct.
//!
//! The prototypes below are checked against the running kernel's BTF by the agent
//! (agent/src/probe/prototype.rs) before anything is loaded.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

use crate::memory::Direct;
use crate::{exit, residency};

/// `(struct address_space *mapping, pgoff_t index, pgoff_t last_index)`, at the end of each batch.
#[btf_tracepoint(function = "mm_filemap_get_pages")]
pub fn btf_get_pages(ctx: BtfTracePointContext) -> i32 {
    crate::tracepoint_raw::get_pages::<Direct>(ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

/// `(struct address_space *mapping, pgoff_t index)`, before the page is looked for.
#[btf_tracepoint(function = "mm_filemap_fault")]
pub fn btf_fault(ctx: BtfTracePointContext) -> i32 {
    crate::tracepoint_raw::fault::<Direct>(ctx.arg(0), ctx.arg(1));
    0
}

/// `(struct address_space *mapping, pgoff_t index, pgoff_t last_index)`, the last one included.
#[btf_tracepoint(function = "mm_filemap_map_pages")]
pub fn btf_map_pages(ctx: BtfTracePointContext) -> i32 {
    crate::tracepoint_raw::map_pages::<Direct>(ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

/// `(struct folio *folio)`, `(struct page *page)` before 5.16.
#[btf_tracepoint(function = "mm_filemap_add_to_page_cache")]
pub fn btf_added(ctx: BtfTracePointContext) -> i32 {
    if let Some((inode, start, end)) = residency::folio::<Direct>(ctx.arg(0)) {
        residency::added::<Direct>(&inode, start, end);
    }
    0
}

/// As above, while `folio->mapping` is still set.
#[btf_tracepoint(function = "mm_filemap_delete_from_page_cache")]
pub fn btf_removed(ctx: BtfTracePointContext) -> i32 {
    if let Some((inode, start, end)) = residency::folio::<Direct>(ctx.arg(0)) {
        residency::removed(&inode, start, end);
    }
    0
}

/// `(struct task_struct *p)`, with `bool group_dead` behind it in newer kernels.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn btf_exit(ctx: BtfTracePointContext) -> i32 {
    exit::exit::<Direct>(ctx.arg(0));
    0
}
