//! Plan: fentry/fexit. Hooks the page cache's own functions where the kernel allows it: sees direct I/O
//! and tmpfs too, and which bytes were really read.
//!
//! The prototypes are checked by the agent (agent/src/probe/prototype.rs). Behind a function's
//! parameters fexit finds its return value.

use agent_common::record::{VIA_DIRECT, VIA_FAULT, VIA_MAPPED, VIA_READ};
use aya_ebpf::macros::{fentry, fexit};
use aya_ebpf::programs::{FEntryContext, FExitContext};

use crate::access::access;
use crate::inode::Inode;
use crate::layout::at;
use crate::memory::{Direct, Memory, Probed};
use crate::timing;

/// `VM_FAULT_ERROR`: out of memory, SIGBUS, poisoned, SIGSEGV, as in include/linux/mm_types.h.
const FAULT_FAILED: u32 = 0x0001 | 0x0002 | 0x0010 | 0x0020 | 0x0040 | 0x0800;
/// `VM_FAULT_NOPAGE`: the page that faulted is mapped now.
pub const FAULT_MAPPED: u32 = 0x0100;
/// `IOCB_DIRECT`, since 5.10.
pub const DIRECT: u32 = 1 << 17;

/// Bytes `from..to` of the file behind a mapping.
#[inline(always)]
pub fn bytes<M: Memory>(mapping: *const u8, how: u8, from: u64, to: u64) {
    pages::<M>(mapping, how, from >> 12, to.wrapping_add(4095) >> 12);
}

/// Pages, of 4 KiB.
#[inline(always)]
pub fn pages<M: Memory>(mapping: *const u8, how: u8, start: u64, end: u64) {
    if let Some(inode) = Inode::watched::<M>(mapping) {
        // A function returns once.
        access::<M, false>(&inode, how, start, end);
    }
}

/// A read that has returned `read`: the position stands behind it.
#[inline(always)]
pub fn read_iocb<M: Memory>(iocb: *const u8, how: u8, read: i64) {
    if read <= 0 {
        return;
    }
    let file = M::pointer(iocb, at!(kiocb_file));
    let position: u64 = M::load(iocb, at!(kiocb_pos));
    bytes::<M>(M::pointer(file, at!(file_mapping)), how, position.wrapping_sub(read as u64), position);
}

/// The mapping that a fault is about.
#[inline(always)]
pub fn fault_mapping<M: Memory>(fault: *const u8) -> *const u8 {
    let vma = M::pointer(fault, at!(fault_vma));
    let file = M::pointer(vma, at!(vma_file));
    M::pointer(file, at!(file_mapping))
}

#[inline(always)]
pub fn fault_pages<M: Memory>(fault: *const u8, how: u8, start: u64, end: u64) {
    let scale = at!(page_scale) & 15;
    pages::<M>(fault_mapping::<M>(fault), how, start << scale, end << scale);
}

/// A read that has returned, and how long it took if it is one that is timed.
#[inline(always)]
fn read_timed(iocb: *const u8, read: i64) {
    let entered = timing::leave();
    read_iocb::<Direct>(iocb, VIA_READ, read);
    if entered != 0 && read > 0 {
        let mapping = Direct::pointer(Direct::pointer(iocb, at!(kiocb_file)), at!(file_mapping));
        if let Some(inode) = Inode::watched::<Direct>(mapping) {
            timing::tell(&inode, entered, read as u64);
        }
    }
}

/// `ssize_t filemap_read(struct kiocb *iocb, struct iov_iter *iter, ssize_t already_read)`, from 5.12.
#[fentry(function = "filemap_read")]
pub fn fentry_read(_ctx: FEntryContext) -> i32 {
    timing::enter();
    0
}

/// The same.
#[fexit(function = "filemap_read")]
pub fn fexit_read(ctx: FExitContext) -> i32 {
    read_timed(ctx.arg(0), ctx.arg::<i64>(3) - ctx.arg::<i64>(2));
    0
}

/// `ssize_t generic_file_buffered_read(struct kiocb *, struct iov_iter *, ssize_t written)`, before 5.12.
#[fentry(function = "generic_file_buffered_read")]
pub fn fentry_read_old(_ctx: FEntryContext) -> i32 {
    timing::enter();
    0
}

/// The same.
#[fexit(function = "generic_file_buffered_read")]
pub fn fexit_read_old(ctx: FExitContext) -> i32 {
    read_timed(ctx.arg(0), ctx.arg::<i64>(3) - ctx.arg::<i64>(2));
    0
}

#[inline(always)]
fn splice(file: *const u8, position: *const u8, read: i64) {
    if read > 0 {
        // A pointer to a number is no typed pointer: probe.
        let position: u64 = Probed::load(position, 0);
        let mapping = Direct::pointer(file, at!(file_mapping));
        bytes::<Direct>(mapping, VIA_READ, position.wrapping_sub(read as u64), position);
    }
}

/// `ssize_t filemap_splice_read(struct file *, loff_t *, struct pipe_inode_info *, size_t, unsigned)`,
/// from 6.5; before, splice reads by `filemap_read`.
#[fexit(function = "filemap_splice_read")]
pub fn fexit_splice(ctx: FExitContext) -> i32 {
    splice(ctx.arg(0), ctx.arg(1), ctx.arg(5));
    0
}

/// As above, for tmpfs.
#[fexit(function = "shmem_file_splice_read")]
pub fn fexit_shmem_splice(ctx: FExitContext) -> i32 {
    splice(ctx.arg(0), ctx.arg(1), ctx.arg(5));
    0
}

/// `ssize_t shmem_file_read_iter(struct kiocb *, struct iov_iter *)`.
#[fexit(function = "shmem_file_read_iter")]
pub fn fexit_shmem(ctx: FExitContext) -> i32 {
    read_iocb::<Direct>(ctx.arg(0), VIA_READ, ctx.arg(2));
    0
}

/// What a direct read asks for, at its entry: it may end asynchronously, and its position then stays.
#[inline(always)]
pub fn direct<M: Memory>(iocb: *const u8, iter: *const u8) {
    let len: u64 = M::load(iter, at!(iter_count));
    let position: u64 = M::load(iocb, at!(kiocb_pos));
    let file = M::pointer(iocb, at!(kiocb_file));
    let mapping = M::pointer(file, at!(file_mapping));
    bytes::<M>(mapping, VIA_DIRECT, position, position.wrapping_add(len));
}

#[inline(always)]
pub fn iomap<M: Memory>(iocb: *const u8, iter: *const u8) {
    // `data_source`, or the lowest bit of `type`: 1 is a write.
    if M::load::<u8>(iter, at!(iter_source)) & 1 == 0 {
        direct::<M>(iocb, iter);
    }
}

/// `ssize_t generic_file_read_iter(struct kiocb *, struct iov_iter *)`: direct I/O of file systems
/// without iomap.
#[fentry(function = "generic_file_read_iter")]
pub fn fentry_direct(ctx: FEntryContext) -> i32 {
    let iocb: *const u8 = ctx.arg(0);
    if Direct::load::<u32>(iocb, at!(kiocb_flags)) & DIRECT != 0 {
        direct::<Direct>(iocb, ctx.arg(1));
    }
    0
}

/// `ssize_t iomap_dio_rw(struct kiocb *, struct iov_iter *, …)`: ext4, xfs, btrfs; writes too.
#[fentry(function = "iomap_dio_rw")]
pub fn fentry_iomap(ctx: FEntryContext) -> i32 {
    iomap::<Direct>(ctx.arg(0), ctx.arg(1));
    0
}

#[inline(always)]
fn fault(fault: *const u8, result: u32) {
    if result & FAULT_FAILED == 0 {
        let index: u64 = Direct::load(fault, at!(fault_pgoff));
        fault_pages::<Direct>(fault, VIA_FAULT, index, index + 1);
    }
}

/// `vm_fault_t filemap_fault(struct vm_fault *)`.
#[fexit(function = "filemap_fault")]
pub fn fexit_fault(ctx: FExitContext) -> i32 {
    fault(ctx.arg(0), ctx.arg::<u64>(1) as u32);
    0
}

/// `vm_fault_t shmem_fault(struct vm_fault *)`.
#[fexit(function = "shmem_fault")]
pub fn fexit_shmem_fault(ctx: FExitContext) -> i32 {
    fault(ctx.arg(0), ctx.arg::<u64>(1) as u32);
    0
}

/// `vm_fault_t filemap_map_pages(struct vm_fault *, pgoff_t start, pgoff_t end)`, from 5.12.
#[fexit(function = "filemap_map_pages")]
pub fn fexit_map_pages(ctx: FExitContext) -> i32 {
    if ctx.arg::<u64>(3) as u32 & FAULT_MAPPED != 0 {
        fault_pages::<Direct>(ctx.arg(0), VIA_MAPPED, ctx.arg(1), ctx.arg::<u64>(2) + 1);
    }
    0
}

/// `void filemap_map_pages(struct vm_fault *, pgoff_t start, pgoff_t end)`, before 5.12: whether the
/// page was there shows in its page table entry, which `filemap_map_pages` leaves in `vmf->pte`.
#[fexit(function = "filemap_map_pages")]
pub fn fexit_map_pages_void(ctx: FExitContext) -> i32 {
    let fault: *const u8 = ctx.arg(0);
    let entry: *const u8 = Probed::pointer(fault, at!(fault_pte));
    if !entry.is_null() && Probed::load::<u64>(entry, 0) != 0 {
        fault_pages::<Direct>(fault, VIA_MAPPED, ctx.arg(1), ctx.arg::<u64>(2) + 1);
    }
    0
}
