//! First sight of an inode: its path, walked from a dentry up to the root of its file system, sent
//! before anything else is told of it. A small file is closed again before user space could ask /proc.
//!
//! Every step is a probe read, so a dentry that is freed or renamed meanwhile gives a wrong or a cut
//! path at the worst. Names keep their bytes; each ends with NUL, the file's own comes first.

use core::mem::MaybeUninit;

use agent_common::record::{
    FLAG_TRUNCATED, FLAG_UNNAMED, Head, KIND_SIGHT, NAME_BYTES, PATH_BYTES, PATH_DEPTH, Sight, SightBuffer,
};
use agent_common::state::{COUNT_LOST, COUNT_PUT_OFF};
use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_ringbuf_output};

use crate::emit::{count, now};
use crate::inode::Inode;
use crate::layout::at;
use crate::maps::{NAMES, RING};
use crate::memory::{Memory as _, Probed};
use crate::trouble;

/// On every kernel from 5.10 to 7.3 what is wanted of a dentry lies in its first 64 bytes: one probe read instead of two.
const DENTRY: usize = 64;
type Dentry = [u64; DENTRY / 8];

/// A dentry's parent and where its name is.
#[inline(always)]
fn names(dentry: *const u8, head: &mut MaybeUninit<Dentry>) -> (*const u8, *const u8) {
    // SAFETY: the helper checks the address, fills exactly `DENTRY` bytes, and zeroes them on a fault.
    unsafe { bpf_probe_read_kernel(head.as_mut_ptr().cast(), DENTRY as u32, dentry.cast()) };
    (pointer(head, dentry, at!(dentry_parent)), pointer(head, dentry, at!(dentry_name)))
}

#[inline(always)]
fn pointer(head: &MaybeUninit<Dentry>, dentry: *const u8, offset: u32) -> *const u8 {
    if offset as usize <= DENTRY - size_of::<u64>() {
        // SAFETY: within the head, which `names` has filled; the kernel aligns its pointers.
        return unsafe { head.as_ptr().cast::<u8>().add(offset as usize).cast::<u64>().read_volatile() }
            as *const u8;
    }
    Probed::pointer(dentry, offset)
}

/// Sends the inode's name and says when; 0 when it has to be tried again at the next access.
#[inline(never)]
pub fn sight(inode: &Inode, id: u64) -> u64 {
    let Some(scratch) = NAMES.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: this CPU's value; `busy` keeps out whoever interrupts between here and the end.
    let scratch = unsafe { &mut *scratch };
    if scratch.busy != 0 {
        count(COUNT_PUT_OFF);
        return 0;
    }
    scratch.busy = 1;
    let sent = fill_and_send(&raw mut scratch.buffer, inode, id);
    scratch.busy = 0;
    sent
}

#[inline(always)]
fn fill_and_send(buffer: *mut SightBuffer, inode: &Inode, id: u64) -> u64 {
    // SAFETY: `sight` holds the buffer for us alone.
    let buffer = unsafe { &mut *buffer };
    let root = Probed::pointer(inode.sb, at!(sb_root));
    let alias = Probed::pointer(inode.address, at!(inode_alias));
    let mut dentry = alias.wrapping_sub(at!(dentry_alias) as usize);
    let mut flags = FLAG_TRUNCATED;
    // The length lives in the buffer: the verifier does not follow what is in maps, so every round looks
    // to it like the one before, and is not checked again.
    let len = &raw mut buffer.sight.len;
    // SAFETY: a field of the buffer, here and below.
    unsafe { len.write_volatile(0) };
    if alias.is_null() {
        flags = FLAG_UNNAMED;
    } else {
        for _ in 0..PATH_DEPTH {
            // SAFETY: as above.
            let offset = unsafe { len.read_volatile() };
            let ended = if offset == 0 { FLAG_UNNAMED } else { 0 };
            if dentry == root {
                flags = ended;
                break;
            }
            let mut head = MaybeUninit::uninit();
            let (parent, name) = names(dentry, &mut head);
            if parent == dentry {
                flags = ended;
                break;
            }
            if offset >= PATH_BYTES as u32 {
                break;
            }
            // SAFETY: `offset` < PATH_BYTES and the array has NAME_BYTES behind it; the helper checks `name`.
            let written = unsafe {
                bpf_probe_read_kernel_str(
                    buffer.names.as_mut_ptr().add(offset as usize).cast(),
                    NAME_BYTES as u32,
                    name.cast(),
                )
            };
            if written <= 1 || written > NAME_BYTES as i64 {
                break;
            }
            // SAFETY: as above.
            unsafe { len.write_volatile(offset + written as u32) };
            dentry = parent;
        }
    }
    // SAFETY: as above.
    let len = unsafe { len.read_volatile() };
    if flags == FLAG_TRUNCATED {
        trouble::path_cut(inode.dev, inode.ino, len);
    }
    let at = now();
    buffer.sight = Sight {
        head: Head {
            kind: KIND_SIGHT,
            how: 0,
            slot: 0,
            flags,
            tid: id as u32,
            tgid: (id >> 32) as u32,
            dev: inode.dev,
            ino: inode.ino,
            at,
        },
        size: inode.size,
        mtime: inode.mtime,
        len,
        generation: inode.generation,
    };
    // The compiler knows this bound and would leave the check out; the verifier wants to see it.
    let bytes = core::hint::black_box(u64::from(len) + size_of::<Sight>() as u64);
    if bytes > size_of::<SightBuffer>() as u64 {
        return 0;
    }
    // SAFETY: `bytes` lies within the buffer by the check above.
    let failed = unsafe {
        bpf_ringbuf_output(
            core::ptr::from_ref(&RING).cast_mut().cast(),
            core::ptr::from_mut(buffer).cast(),
            bytes,
            // A run is always told next, which wakes the agent where the ring fills.
            u64::from(BPF_RB_NO_WAKEUP),
        )
    };
    if failed != 0 {
        count(COUNT_LOST);
        return 0;
    }
    at
}
