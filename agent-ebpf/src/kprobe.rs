//! Plan: kprobes, for kernels that take no fentry and have not the tracepoints of 6.12. A kretprobe sees no
//! parameters, so the entry leaves them here, by thread.

use agent_common::record::{VIA_FAULT, VIA_MAPPED, VIA_READ};
use agent_common::state::COUNT_LOST;
use aya_ebpf::macros::{kprobe, kretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};

use crate::access::access;
use crate::emit::count;
use crate::function::{DIRECT, FAULT_MAPPED, bytes, direct, fault_pages, iomap, read_iocb};
use crate::inode::Inode;
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
        mapping: 0,
        position: 0,
        bytes: 0,
        number: 0,
        generation: 0,
        tgid: 0,
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

/// A function that waits for the store is entered. Returns of no more than ten threads at once, or two for each CPU, are
/// caught (`register_kretprobe`); others pass without a word. So what is asked for is kept as well: `overdue`.
#[inline(always)]
fn enter_read(function: u64, first: u64, second: u64, third: u64) {
    overdue(key(function));
    keep(function, first, second, third);
}

/// Apart from `overdue`, for which there is not room enough on one stack. Of what is not watched nothing is kept.
#[inline(never)]
fn keep(function: u64, first: u64, second: u64, third: u64) -> u32 {
    let (file, position, bytes) = if function == READ {
        let iocb = first as *const u8;
        let bytes = Probed::load(second as *const u8, at!(iter_count));
        (Probed::pointer(iocb, at!(kiocb_file)), Probed::load(iocb, at!(kiocb_pos)), bytes)
    } else {
        (first as *const u8, Probed::load(second as *const u8, 0), third)
    };
    let mapping = Probed::pointer(file, at!(file_mapping));
    let Some(inode) = Inode::watched::<Probed>(mapping) else {
        return 0;
    };
    let entry = Entry {
        first,
        second,
        third,
        mapping: mapping as u64,
        position,
        bytes,
        number: inode.number,
        generation: inode.generation,
        tgid: (thread::id() >> 32) as u32,
    };
    let _ = ENTRIES.insert(key(function), entry, 0);
    0
}

/// The thread enters a function again, or ends: if it is still within it by what is kept, its return was not caught, and
/// what it asked for is told as read. Where one such function is called within another by the same thread (ecryptfs)
/// that comes before the outer one's return, which then finds nothing. Where the file is gone, it is counted as lost.
#[inline(never)]
fn overdue(key: u64) -> u32 {
    let Some(entry) = ENTRIES.get_ptr(key) else {
        return 0;
    };
    // SAFETY: a map value of this thread's own.
    let entry = unsafe { &*entry };
    let inode = Inode::watched::<Probed>(entry.mapping as *const u8);
    let start = entry.position >> 12;
    let end = entry.position.wrapping_add(entry.bytes).wrapping_add(4095) >> 12;
    let same = |inode: &Inode| {
        inode.number == entry.number
            && inode.generation == entry.generation
            && entry.tgid == (thread::id() >> 32) as u32
    };
    let inode = inode.filter(same);
    let _ = ENTRIES.remove(key);
    match inode {
        Some(inode) => access::<Probed, false>(&inode, VIA_READ, start, end),
        None => count(COUNT_LOST),
    }
    0
}

/// The running thread ends. Where this plan is not in use there is nothing to be found.
#[inline(always)]
pub fn end() {
    overdue(key(READ));
    overdue(key(SPLICE));
}

/// `filemap_read(iocb, iter, already)`, or `generic_file_buffered_read` before 5.12.
#[kprobe]
pub fn kprobe_read(ctx: ProbeContext) -> u32 {
    enter_read(READ, ctx.arg(0).unwrap_or(0), ctx.arg(1).unwrap_or(0), ctx.arg(2).unwrap_or(0));
    0
}

#[kretprobe]
pub fn kretprobe_read(ctx: RetProbeContext) -> u32 {
    if let Some(entry) = leave(READ) {
        let read = ctx.ret::<i64>() - entry.third as i64;
        if read > 0 {
            let position: u64 = Probed::load(entry.first as *const u8, at!(kiocb_pos));
            let from = position.wrapping_sub(read as u64);
            bytes::<Probed>(entry.mapping as *const u8, VIA_READ, from, position);
        }
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
        bytes::<Probed>(mapping, VIA_READ, position.wrapping_sub(read as u64), position);
    }
}

/// `filemap_splice_read(file, position, pipe, len, …)`, from 6.5.
#[kprobe]
pub fn kprobe_splice(ctx: ProbeContext) -> u32 {
    enter_read(SPLICE, ctx.arg(0).unwrap_or(0), ctx.arg(1).unwrap_or(0), ctx.arg(3).unwrap_or(0));
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
