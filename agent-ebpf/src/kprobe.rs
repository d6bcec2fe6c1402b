//! Plan: kprobes, for kernels with neither BTF programs nor the tracepoints of 6.12. A kretprobe sees no
//! parameters, so the entry leaves them here, by thread.

use agent_common::record::{VIA_FAULT, VIA_MAPPED, VIA_READ};
use aya_ebpf::macros::{kprobe, kretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};

use crate::function::{FAULT_MAPPED, fault_pages, read_iocb};
use crate::layout::at;
use crate::maps::{ENTRIES, Entry};
use crate::memory::{Memory as _, Probed};
use crate::thread;

/// Keeps the first three parameters until the function returns.
#[inline(always)]
fn enter(ctx: &ProbeContext) {
    let entry = Entry {
        first: ctx.arg(0).unwrap_or(0),
        second: ctx.arg(1).unwrap_or(0),
        third: ctx.arg(2).unwrap_or(0),
    };
    let _ = ENTRIES.insert(thread::id() as u32, entry, 0);
}

#[inline(always)]
fn leave() -> Option<Entry> {
    let tid = thread::id() as u32;
    let entry = ENTRIES.get_ptr(tid)?;
    // SAFETY: a map value of this thread's own.
    let entry = unsafe { *entry };
    let _ = ENTRIES.remove(tid);
    Some(entry)
}

/// `filemap_read`, or `generic_file_buffered_read` before 5.12.
#[kprobe]
pub fn kprobe_read(ctx: ProbeContext) -> u32 {
    enter(&ctx);
    0
}

#[kretprobe]
pub fn kretprobe_read(ctx: RetProbeContext) -> u32 {
    if let Some(entry) = leave() {
        read_iocb::<Probed>(entry.first as *const u8, VIA_READ, ctx.ret::<i64>() - entry.third as i64);
    }
    0
}

#[kprobe]
pub fn kprobe_fault(ctx: ProbeContext) -> u32 {
    let fault = ctx.arg::<u64>(0).unwrap_or(0) as *const u8;
    let index: u64 = Probed::load(fault, at!(fault_pgoff));
    fault_pages::<Probed>(fault, VIA_FAULT, index, index + 1);
    0
}

#[kprobe]
pub fn kprobe_map_pages(ctx: ProbeContext) -> u32 {
    enter(&ctx);
    0
}

#[kretprobe]
pub fn kretprobe_map_pages(ctx: RetProbeContext) -> u32 {
    if let Some(entry) = leave()
        && ctx.ret::<u64>() as u32 & FAULT_MAPPED != 0
    {
        fault_pages::<Probed>(entry.first as *const u8, VIA_MAPPED, entry.second, entry.third + 1);
    }
    0
}

/// Where `filemap_map_pages` returns nothing (before 5.12): see `fexit_map_pages_void`.
#[kretprobe]
pub fn kretprobe_map_pages_void(_ctx: RetProbeContext) -> u32 {
    if let Some(entry) = leave() {
        let fault = entry.first as *const u8;
        let pte = Probed::pointer(fault, at!(fault_pte));
        if !pte.is_null() && Probed::load::<u64>(pte, 0) != 0 {
            fault_pages::<Probed>(fault, VIA_MAPPED, entry.second, entry.third + 1);
        }
    }
    0
}

/// tmpfs: reads by a function of its own.
#[kprobe]
pub fn kprobe_shmem(ctx: ProbeContext) -> u32 {
    enter(&ctx);
    0
}

#[kretprobe]
pub fn kretprobe_shmem(ctx: RetProbeContext) -> u32 {
    if let Some(entry) = leave() {
        read_iocb::<Probed>(entry.first as *const u8, VIA_READ, ctx.ret());
    }
    0
}

/// `filemap_splice_read(file, position, …)`, from 6.5, and its like for tmpfs.
#[kprobe]
pub fn kprobe_splice(ctx: ProbeContext) -> u32 {
    enter(&ctx);
    0
}

#[kretprobe]
pub fn kretprobe_splice(ctx: RetProbeContext) -> u32 {
    let read = ctx.ret::<i64>();
    if let Some(entry) = leave()
        && read > 0
    {
        let position: u64 = Probed::load(entry.second as *const u8, 0);
        let mapping = Probed::pointer(entry.first as *const u8, at!(file_mapping));
        crate::function::bytes::<Probed>(mapping, VIA_READ, position.wrapping_sub(read as u64), position);
    }
    0
}
