//! First sight of an inode: its path, walked from a dentry up to the root of its file system, sent
//! before anything else is told of it. A small file is closed again before user space could ask /proc.
//!
//! Every step is a probe read, so a dentry that is freed or renamed meanwhile gives a wrong or a cut
//! path at the worst. Names keep their bytes; each ends with NUL, the file's own comes first.

use agent_common::record::{
    FLAG_TRUNCATED, FLAG_UNNAMED, Head, KIND_SIGHT, NAME_BYTES, PATH_BYTES, PATH_DEPTH, Sight, SightBuffer,
};
use agent_common::state::{
    BURST, COUNT_LOST, COUNT_PUT_OFF, Familiar, InodeKey, Known, familiar_name, familiar_place,
};
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel_str, bpf_ringbuf_output};

use crate::emit::{count, now, wake_flags};
use crate::inode::Inode;
use crate::layout::at;
use crate::maps::{FAMILIAR, KNOWN, NAMES, RING};
use crate::memory::{Memory as _, Probed};
use crate::trouble;

#[inline(always)]
pub fn key(dev: u32, ino: u64) -> InodeKey {
    InodeKey { ino, dev, reserved: 0 }
}

/// What the look-up of an inode gave.
pub enum Sighted {
    Known(&'static mut Known),
    /// Named just now; one record of its allowance is taken.
    New,
    /// Its name could not be sent: to be tried again at the next access.
    Unnamed,
}

/// What is known of an inode that a run begins on: from its place where it is familiar, else as `known` says, and
/// it is familiar from then on.
#[inline(always)]
pub fn standing(inode: &Inode, id: u64) -> Sighted {
    let name = familiar_name(inode.dev, inode.ino, inode.epoch);
    let place = FAMILIAR.get_ptr_mut(familiar_place(inode.dev, inode.ino));
    if let Some(place) = place {
        // SAFETY: a map value; races of CPUs on the allowance cost a record more or less.
        let place = unsafe { &mut *place };
        if place.name == name && place.known.stamp == inode.stamp {
            return Sighted::Known(&mut place.known);
        }
    }
    let sighted = known(inode, id);
    if let Some(place) = place {
        // SAFETY: as above. Another CPU that looks meanwhile finds the name gone.
        let place = unsafe { &mut *place };
        match &sighted {
            // Its allowance is drawn on this time, so that files that take turns at a place stay within theirs.
            Sighted::Known(known) => fill(place, name, known),
            Sighted::New => fill(place, name, &fresh(inode)),
            Sighted::Unnamed => {}
        }
    }
    sighted
}

#[inline(always)]
fn fill(place: &mut Familiar, name: u64, known: &Known) {
    // SAFETY: a field of a live reference, here and below.
    unsafe { core::ptr::write_volatile(&raw mut place.name, 0) };
    place.known = *known;
    // SAFETY: as above.
    unsafe { core::ptr::write_volatile(&raw mut place.name, name) };
}

/// What a run's allowance is taken from.
#[inline(always)]
pub fn allowance(dev: u32, ino: u64, epoch: u32) -> Option<&'static mut Known> {
    if let Some(place) = FAMILIAR.get_ptr_mut(familiar_place(dev, ino)) {
        // SAFETY: a map value; races of CPUs on the allowance cost a record more or less.
        let place = unsafe { &mut *place };
        if place.name == familiar_name(dev, ino, epoch) {
            return Some(&mut place.known);
        }
    }
    // SAFETY: as above.
    KNOWN.get_ptr_mut(key(dev, ino)).map(|known| unsafe { &mut *known })
}

#[inline(always)]
fn fresh(inode: &Inode) -> Known {
    Known { stamp: inode.stamp, refilled_at: now(), allowance: BURST - 1, quiet: 0 }
}

/// What is known of an inode; names it first where it is new or has changed.
#[inline(always)]
pub fn known(inode: &Inode, id: u64) -> Sighted {
    let key = key(inode.dev, inode.ino);
    if let Some(known) = KNOWN.get_ptr_mut(key) {
        // SAFETY: a map value; races of CPUs on the allowance cost a record more or less.
        let known = unsafe { &mut *known };
        if known.stamp == inode.stamp {
            return Sighted::Known(known);
        }
    }
    if sight(inode.address, inode.sb, inode.dev, inode.ino, id) == 0 {
        return Sighted::Unnamed;
    }
    // Not looked up again: what was put in is known, and the look-up misses the caches.
    let _ = KNOWN.insert(key, fresh(inode), 0);
    Sighted::New
}

/// Sends the inode's name; 0 when it has to be tried again at the next access.
#[inline(never)]
fn sight(inode: *const u8, sb: *const u8, dev: u32, ino: u64, id: u64) -> u32 {
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
    let sent = fill_and_send(&raw mut scratch.buffer, inode, sb, dev, ino, id);
    scratch.busy = 0;
    sent
}

#[inline(always)]
fn fill_and_send(
    buffer: *mut SightBuffer,
    inode: *const u8,
    sb: *const u8,
    dev: u32,
    ino: u64,
    id: u64,
) -> u32 {
    // SAFETY: `sight` holds the buffer for us alone.
    let buffer = unsafe { &mut *buffer };
    let root = Probed::pointer(sb, at!(sb_root));
    let alias = Probed::pointer(inode, at!(inode_alias));
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
            let parent = Probed::pointer(dentry, at!(dentry_parent));
            // SAFETY: as above.
            let offset = unsafe { len.read_volatile() };
            if dentry == root || parent == dentry {
                flags = if offset == 0 { FLAG_UNNAMED } else { 0 };
                break;
            }
            if offset >= PATH_BYTES as u32 {
                break;
            }
            let name = Probed::pointer(dentry, at!(dentry_name));
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
        trouble::path_cut(dev, ino, len);
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
            dev,
            ino,
            at,
        },
        size: Probed::load(inode, at!(inode_size)),
        mtime: Probed::load(inode, at!(inode_mtime)),
        len,
        generation: Probed::load(inode, at!(inode_generation)),
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
            wake_flags(false, at),
        )
    };
    if failed != 0 {
        count(COUNT_LOST);
        return 0;
    }
    1
}
