//! First sight of an inode: its path, walked from a dentry up to the root of its file system, sent
//! with the first run that is told of it. A small file is closed again before user space could ask /proc.
//!
//! Every step is a probe read, so a dentry that is freed or renamed meanwhile gives a wrong or a cut
//! path at the worst. Names keep their bytes; each ends with NUL, the file's own comes first, and begins on a
//! multiple of eight, with more NULs before it.

use core::hint::black_box;

use agent_common::record::{
    FLAG_TRUNCATED, FLAG_UNNAMED, KIND_SIGHT, NAME_BYTES, NameBuffer, PATH_BYTES, PATH_DEPTH, Sight,
    SightBuffer,
};
use agent_common::state::{COUNT_PUT_OFF, SLOTS, ThreadState};
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_ringbuf_output};

use crate::emit::{WAKE, about_now, count, record, tell, wake_flags};
use crate::inode::Inode;
use crate::layout::at;
use crate::maps::{NAMES, RING};
use crate::memory::{Memory, Probed};
use crate::{known, trouble};

/// On every kernel from 5.10 to 7.3 what is wanted of a dentry lies in the 72 bytes from its parent on, a short name
/// included: one probe read instead of three, each of which costs 25 ns.
const DENTRY: usize = size_of::<Dentry>();
type Dentry = [u64; 9];

/// Names that are shorter lie in the dentry itself: 32 bytes with their NUL on older kernels, 40 on newer ones.
const SHORT: usize = 40;

/// Where in the bytes from a dentry's parent on the rest is: looked up once and not in every round of the walk.
struct Places {
    /// From the dentry on.
    parent: usize,
    name: usize,
    len: usize,
    short: usize,
    /// All of it is within `DENTRY`.
    near: bool,
}

impl Places {
    #[inline(always)]
    fn of_this_kernel() -> Self {
        let parent = at!(dentry_parent) as usize;
        let within = |offset: u32| (offset as usize).wrapping_sub(parent);
        let (name, len) = (within(at!(dentry_name)), within(at!(dentry_len)));
        let short = within(at!(dentry_short));
        let near =
            name <= DENTRY - size_of::<u64>() && len <= DENTRY - size_of::<u32>() && short <= DENTRY - SHORT;
        Self { parent, name, len, short, near }
    }
}

#[inline(always)]
fn fetch(dentry: *const u8, places: &Places, head: *mut Dentry) {
    let from = dentry.wrapping_add(places.parent);
    // SAFETY: the helper checks the address, fills exactly `DENTRY` bytes, and zeroes them on a fault.
    unsafe { bpf_probe_read_kernel(head.cast(), DENTRY as u32, from.cast()) };
}

/// The `T` at a place within what has been fetched.
#[inline(always)]
fn field<T: Copy>(head: *const Dentry, place: usize) -> T {
    // SAFETY: `fetch` has filled the head, `Places::near` has checked the place; the kernel aligns its fields.
    unsafe { head.cast::<u8>().add(place).cast::<T>().read_volatile() }
}

/// Puts the name of the dentry that has been fetched at `offset` of the names, a multiple of eight below `PATH_BYTES`.
/// `len` is then its length without NUL, more than `NAME_BYTES` where there is none: read back from memory, so that the
/// verifier forgets how it was found, and follows what comes after once instead of twice, in every round.
#[inline(always)]
fn put(scratch: &mut NameBuffer, offset: usize, places: &Places, dentry: *const u8) -> usize {
    // SAFETY: NAME_BYTES lie behind `offset`. Here and below.
    let to = unsafe { scratch.buffer.names.as_mut_ptr().add(offset) };
    let (head, room) = (&raw const scratch.dentry, &raw mut scratch.len);
    let (name, len) = if places.near {
        (field::<u64>(head, places.name) as *const u8, u64::from(field::<u32>(head, places.len)))
    } else {
        (Probed::pointer(dentry, at!(dentry_name)), u64::MAX)
    };
    // One that does not end where it should is being renamed.
    let ends = || field::<u8>(head, places.short + (black_box(len) as usize & 63)) == 0;
    if len < SHORT as u64 && name == dentry.wrapping_add(places.parent).wrapping_add(places.short) && ends() {
        // All words, whatever the length: each branch would be a path of its own to the verifier.
        let mut word = 0;
        while word < SHORT / 8 {
            // SAFETY: both are multiples of eight.
            unsafe { to.cast::<u64>().add(word).write_volatile(field(head, places.short + word * 8)) };
            word += 1;
        }
        // SAFETY: a field of a live reference, here and below.
        unsafe { room.write_volatile(len) };
    } else {
        // SAFETY: as above; the helper checks `name`.
        let written = unsafe { bpf_probe_read_kernel_str(to.cast(), NAME_BYTES as u32, name.cast()) };
        // SAFETY: as above.
        unsafe { room.write_volatile(written.wrapping_sub(1) as u64) };
    }
    // SAFETY: as above.
    unsafe { room.read_volatile() as usize }
}

/// Tells a run that has just begun together with the name of its inode, which the register did not have, and enters
/// it there. Where the name cannot be sent the run is told alone, and the name tried again at the next one.
#[inline(always)]
pub fn introduce<M: Memory>(state: &mut ThreadState, slot: usize, inode: &Inode, id: u64, flags: u32) {
    let at = sight::<M>(state, slot as u32, inode, id, flags);
    if at == 0 {
        tell(state, slot as u32, id, flags);
    } else {
        known::enter(inode, &mut state.way, at);
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
    let cut = gather::<M>(scratch, inode);
    // SAFETY: the running thread's own state, a map value; `busy` holds the buffer for us alone.
    let sent = unsafe { send_named(&mut scratch.buffer, &mut *state, slot, inode, id, flags | cut) };
    scratch.busy = 0;
    sent
}

/// Fills in the names and their length. Returns what is to be said of them, as `Head::flags`.
#[inline(always)]
fn gather<M: Memory>(scratch: &mut NameBuffer, inode: &Inode) -> u32 {
    let root = M::pointer(inode.sb, at!(sb_root));
    let alias = M::pointer(inode.address, at!(inode_alias));
    if alias.is_null() {
        // SAFETY: a field of the buffer.
        unsafe { (&raw mut scratch.buffer.sight.len).write_volatile(0) };
        return u32::from(FLAG_UNNAMED);
    }
    let flags = climb(scratch, alias.wrapping_sub(at!(dentry_alias) as usize), root);
    if flags & u32::from(FLAG_TRUNCATED) != 0 {
        // SAFETY: as above.
        trouble::path_cut(inode.dev, inode.ino, unsafe {
            (&raw const scratch.buffer.sight.len).read_volatile()
        });
    }
    flags
}

/// The names from a dentry up to `root`, or to where there is no parent.
#[inline(always)]
pub fn climb(scratch: &mut NameBuffer, dentry: *const u8, root: *const u8) -> u32 {
    let mut dentry = dentry;
    // The length lives in the buffer: the verifier does not follow what is in maps, so every round looks
    // to it like the one before, and is not checked again.
    let len = &raw mut scratch.buffer.sight.len;
    // SAFETY: a field of the buffer, here and below.
    unsafe { len.write_volatile(0) };
    let places = Places::of_this_kernel();
    for _ in 0..PATH_DEPTH {
        // SAFETY: as above.
        let offset = unsafe { len.read_volatile() };
        let ended = if offset == 0 { u32::from(FLAG_UNNAMED) } else { 0 };
        if dentry == root {
            return ended;
        }
        fetch(dentry, &places, &raw mut scratch.dentry);
        let parent = field::<u64>(&raw const scratch.dentry, 0) as *const u8;
        if parent == dentry {
            return ended;
        }
        if offset >= PATH_BYTES as u32 {
            break;
        }
        // Bounds that the verifier sees in the mask itself: before 6.12 it loses those of a compare.
        let offset = black_box(offset as usize) & (PATH_BYTES - 8);
        let name = put(scratch, offset, &places, dentry);
        if name == 0 || name >= NAME_BYTES {
            break;
        }
        let name = black_box(name) & (NAME_BYTES - 1);
        // What was in the last word behind the name was another's.
        let last = offset + (name & !7);
        // SAFETY: below PATH_BYTES + NAME_BYTES, and a multiple of eight.
        unsafe {
            let word = scratch.buffer.names.as_mut_ptr().add(last).cast::<u64>();
            word.write_volatile(word.read_volatile() & ((1 << (name & 7) * 8) - 1));
            len.write_volatile(last as u32 + 8);
        }
        dentry = parent;
    }
    // As many names as there may be, and no more of them.
    fetch(dentry, &places, &raw mut scratch.dentry);
    if dentry == root || field::<u64>(&raw const scratch.dentry, 0) as *const u8 == dentry {
        return 0;
    }
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
    let at = about_now(state);
    let (run, origin) = (&mut state.runs[slot as usize], &mut state.origins[slot as usize]);
    let sight = &mut buffer.sight;
    sight.run = record(run, origin, KIND_SIGHT, slot, id, flags, at);
    sight.mtime = inode.mtime;
    sight.generation = inode.generation;
    // SAFETY: a field of the buffer. The compiler knows the bound below and would leave the check out; the verifier
    // wants to see it.
    let len = unsafe { (&raw const sight.len).read_volatile() };
    let bytes = black_box(u64::from(len) + size_of::<Sight>() as u64);
    if bytes > size_of::<SightBuffer>() as u64 {
        return 0;
    }
    // SAFETY: `bytes` lies within the buffer by the check above.
    let failed = unsafe {
        bpf_ringbuf_output(
            core::ptr::from_ref(&RING).cast_mut().cast(),
            core::ptr::from_mut(buffer).cast(),
            bytes,
            wake_flags(flags & WAKE != 0),
        )
    };
    if failed != 0 {
        // Nothing is lost yet: the run may find room without its name, and the name with the next run.
        return 0;
    }
    origin.told = run.count;
    run.told_end = run.end as u32;
    at
}
