//! First sight of an inode: its path, walked from a dentry up to the root of its file system, sent
//! with the first run that is told of it. A small file is closed again before user space could ask /proc.
//!
//! Every step is a probe read, so a dentry that is freed or renamed meanwhile gives a wrong or a cut
//! path at the worst. Names keep their bytes; each ends with NUL, the file's own comes first.

use core::mem::MaybeUninit;

use agent_common::record::{
    FLAG_TRUNCATED, FLAG_UNNAMED, KIND_SIGHT, NAME_BYTES, PATH_BYTES, PATH_DEPTH, Sight, SightBuffer,
};
use agent_common::state::{COUNT_LOST, COUNT_PUT_OFF, SLOTS, ThreadState};
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_ringbuf_output};

use crate::emit::{WAKE, count, now, record, tell, wake_flags};
use crate::inode::Inode;
use crate::layout::at;
use crate::maps::{NAMES, RING};
use crate::memory::{Memory, Probed};
use crate::{known, trouble};

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

/// Tells a run that has just begun together with the name of its inode, which the register did not have, and enters
/// it there. Where the name cannot be sent the run is told alone, and the name tried again at the next one.
#[inline(always)]
pub fn introduce<M: Memory>(
    state: &mut ThreadState,
    slot: usize,
    inode: &Inode,
    way: usize,
    id: u64,
    flags: u32,
) {
    let at = sight::<M>(state, slot as u32, inode, id, flags);
    if at == 0 {
        tell(state, slot as u32, id, flags);
    } else {
        known::enter(inode, way, at);
    }
}

/// Sends the inode's name with the run in this slot, and says when; 0 where it could not.
#[inline(never)]
fn sight<M: Memory>(state: *mut ThreadState, slot: u32, inode: &Inode, id: u64, flags: u32) -> u64 {
    if slot >= SLOTS as u32 {
        return 0;
    }
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
    let cut = gather::<M>(&raw mut scratch.buffer, inode);
    // SAFETY: the running thread's own state, a map value; `busy` holds the buffer for us alone.
    let sent = unsafe { send_named(&mut scratch.buffer, &mut *state, slot, inode, id, flags | cut) };
    scratch.busy = 0;
    sent
}

/// Fills in the names and their length. Returns what is to be said of them, as `Head::flags`.
#[inline(always)]
fn gather<M: Memory>(buffer: *mut SightBuffer, inode: &Inode) -> u32 {
    // SAFETY: `sight` holds the buffer for us alone.
    let buffer = unsafe { &mut *buffer };
    let root = M::pointer(inode.sb, at!(sb_root));
    let alias = M::pointer(inode.address, at!(inode_alias));
    let mut dentry = alias.wrapping_sub(at!(dentry_alias) as usize);
    // The length lives in the buffer: the verifier does not follow what is in maps, so every round looks
    // to it like the one before, and is not checked again.
    let len = &raw mut buffer.sight.len;
    // SAFETY: a field of the buffer, here and below.
    unsafe { len.write_volatile(0) };
    if alias.is_null() {
        return u32::from(FLAG_UNNAMED);
    }
    for _ in 0..PATH_DEPTH {
        // SAFETY: as above.
        let offset = unsafe { len.read_volatile() };
        let ended = if offset == 0 { u32::from(FLAG_UNNAMED) } else { 0 };
        if dentry == root {
            return ended;
        }
        let mut head = MaybeUninit::uninit();
        let (parent, name) = names(dentry, &mut head);
        if parent == dentry {
            return ended;
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
    // SAFETY: as above.
    trouble::path_cut(inode.dev, inode.ino, unsafe { len.read_volatile() });
    u32::from(FLAG_TRUNCATED)
}

#[inline(always)]
fn send_named(
    buffer: &mut SightBuffer,
    state: &mut ThreadState,
    slot: u32,
    inode: &Inode,
    id: u64,
    flags: u32,
) -> u64 {
    let (run, origin) = (&mut state.runs[slot as usize], &mut state.origins[slot as usize]);
    let at = now();
    let sight = &mut buffer.sight;
    sight.run = record(run, origin, KIND_SIGHT, slot, id, flags, at);
    sight.mtime = inode.mtime;
    sight.generation = inode.generation;
    // SAFETY: a field of the buffer. The compiler knows the bound below and would leave the check out; the verifier
    // wants to see it.
    let len = unsafe { (&raw const sight.len).read_volatile() };
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
            wake_flags(flags & WAKE != 0, at),
        )
    };
    if failed != 0 {
        count(COUNT_LOST);
        return 0;
    }
    origin.told = run.count;
    run.told_end = run.end as u32;
    at
}
