//! Plan: kprobes, for kernels with neither BTF programs nor the tracepoints of 6.12. A kretprobe sees no
//! parameters, so the entry leaves them here, by thread.

use agent_common::record::{VIA_FAULT, VIA_MAPPED, VIA_READ};
use aya_ebpf::macros::{kprobe, kretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};

use crate::function::{DIRECT, FAULT_MAPPED, direct, fault_pages, iomap, read_iocb};
use crate::layout::at;
use crate::maps::{ENTRIES, Entry};
use crate::memory::{Memory as _, Probed};
use crate::thread;

/// The functions whose parameters are kept, so that one within another does not take its place.
const READ: u64 = 1 << 32;
const MAP_PAGES: u64 = 2 << 32;
const SHMEM: u64 = 3 << 32;
const SPLICE: u64 = 4 << 32;
const SHMEM_SPLICE: u64 = 5 << 32;

/// Keeps the first three parameters until the function returns.
#[inline(always)]
fn enter(ctx: &ProbeContext, function: u64) {
    let entry = Entry {
        first: ctx.arg(0).unwrap_or(0),
        second: ctx.arg(1).unwrap_or(0),
        third: ctx.arg(2).unwrap_or(0),
    };
    let _ = ENTRIES.insert(key(function), entry, 0);
}

#[inline(always)]
fn key(function: u64) -> u64 {
    function | u64::from(thread::id() as u32)
}

#[inline(always)]
fn leave(function: u64) -> Option<Entry> {
    let key = key(function);
    let entry = ENTRIES.get_ptr(key)?;
    // SAFETY: a map value of this thread's own.
    let entry = unsafe { *entry };
    let _ = ENTRIES.remove(key);
    Some(entry)
}

/// `filemap_read`, or `generic_file_buffered_read` before 5.12.
#[kprobe]
pub fn kprobe_read(ctx: ProbeContext) -> u32 {
    enter(&ctx, READ);
    0
}

#[kretprobe]
pub fn kretprobe_read(ctx: RetProbeContext) -> u32 {
    if let Some(entry) = leave(READ) {
        read_iocb::<Probed>(entry.first as *const u8, VIA_READ, ctx.ret::<i64>() - entry.third as i64);
    }
    0
}

#[inline(always)]
fn fault(ctx: &ProbeContext) {
    let fault = ctx.arg::<u64>(0).unwrap_or(0) as *const u8;
    let index: u64 = Probed::load(fault, at!(fault_pgoff));
    fault_pages::<Probed>(fault, VIA_FAULT, index, index + 1);
}

/// `filemap_fault(fault)`.
#[kprobe]
pub fn kprobe_fault(ctx: ProbeContext) -> u32 {
    fault(&ctx);
    0
}

#[kprobe]
pub fn kprobe_map_pages(ctx: ProbeContext) -> u32 {
    enter(&ctx, MAP_PAGES);
    0
}

#[kretprobe]
pub fn kretprobe_map_pages(ctx: RetProbeContext) -> u32 {
    if let Some(entry) = leave(MAP_PAGES)
        && ctx.ret::<u64>() as u32 & FAULT_MAPPED != 0
    {
        fault_pages::<Probed>(entry.first as *const u8, VIA_MAPPED, entry.second, entry.third + 1);
    }
    0
}

/// Where `filemap_map_pages` returns nothing (before 5.12): see `fexit_map_pages_void`.
#[kretprobe]
pub fn kretprobe_map_pages_void(_ctx: RetProbeContext) -> u32 {
    if let Some(entry) = leave(MAP_PAGES) {
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
    enter(&ctx, SHMEM);
    0
}

#[kretprobe]
pub fn kretprobe_shmem(ctx: RetProbeContext) -> u32 {
    if let Some(entry) = leave(SHMEM) {
        read_iocb::<Probed>(entry.first as *const u8, VIA_READ, ctx.ret());
    }
    0
}

#[inline(always)]
fn splice(ctx: &RetProbeContext, function: u64) {
    let read = ctx.ret::<i64>();
    if let Some(entry) = leave(function)
        && read > 0
    {
        let position: u64 = Probed::load(entry.second as *const u8, 0);
        let mapping = Probed::pointer(entry.first as *const u8, at!(file_mapping));
        crate::function::bytes::<Probed>(mapping, VIA_READ, position.wrapping_sub(read as u64), position);
    }
}

/// `filemap_splice_read(file, position, …)`, from 6.5.
#[kprobe]
pub fn kprobe_splice(ctx: ProbeContext) -> u32 {
    enter(&ctx, SPLICE);
    0
}

#[kretprobe]
pub fn kretprobe_splice(ctx: RetProbeContext) -> u32 {
    splice(&ctx, SPLICE);
    0
}

/// As above, for tmpfs: `shmem_file_splice_read`.
#[kprobe]
pub fn kprobe_shmem_splice(ctx: ProbeContext) -> u32 {
    enter(&ctx, SHMEM_SPLICE);
    0
}

#[kretprobe]
pub fn kretprobe_shmem_splice(ctx: RetProbeContext) -> u32 {
    splice(&ctx, SHMEM_SPLICE);
    0
}

/// `shmem_fault(fault)`; pages around it are mapped by `filemap_map_pages` there too.
#[kprobe]
pub fn kprobe_shmem_fault(ctx: ProbeContext) -> u32 {
    fault(&ctx);
    0
}

/// `generic_file_read_iter(iocb, iter)`: see `fentry_direct`.
#[kprobe]
pub fn kprobe_direct(ctx: ProbeContext) -> u32 {
    let iocb = ctx.arg::<u64>(0).unwrap_or(0) as *const u8;
    if Probed::load::<u32>(iocb, at!(kiocb_flags)) & DIRECT != 0 {
        direct::<Probed>(iocb, ctx.arg::<u64>(1).unwrap_or(0) as *const u8);
    }
    0
}

/// `iomap_dio_rw(iocb, iter, …)`: see `fentry_iomap`, for which this also stands in where a trampoline
/// cannot take the function's seven parameters (before 6.6 on x86).
#[kprobe]
pub fn kprobe_iomap(ctx: ProbeContext) -> u32 {
    iomap::<Probed>(ctx.arg::<u64>(0).unwrap_or(0) as *const u8, ctx.arg::<u64>(1).unwrap_or(0) as *const u8);
    0
}
