//! The register of inodes that have been named: who is in it is told by number alone, who is not is named first.
//!
//! It is an array of sets, and whoever finds its set full pushes another out: that one is named again when it
//! is read again, which costs half a microsecond. Its allowance is then full again, and single accesses are
//! told of it even where counters were enough.

use agent_common::state::{BURST, Known, QUIET, REFILL_SHIFT, Set, WAYS, digest_of, passed, set_of};
use aya_ebpf::helpers::bpf_get_prandom_u32;

use crate::inode::{Inode, number_of, seed};
use crate::layout::at;
use crate::maps::KNOWN;

/// What the register says of an inode.
pub enum Standing {
    Known(&'static mut Known),
    /// To be named, then entered.
    New,
}

#[inline(always)]
fn set(dev: u32, ino: u64) -> Option<&'static mut Set> {
    // SAFETY: a map value, which lives as long as the program. CPUs that write the same place at once leave either
    // inode or none that there is (number and stamp are compared), and an allowance that is a few records off.
    KNOWN.get_ptr_mut(set_of(dev, ino, at!(sets))).map(|set| unsafe { &mut *set })
}

/// The inode's place in its set, else the first empty one, else `WAYS`. Found in turns, and read back from
/// memory: the verifier does not follow what is in maps, so that what comes after is checked once instead of
/// once for every place.
#[inline(always)]
fn place(set: &Set, number: u64, found: &mut u32) -> usize {
    let mut way = 0;
    while way < WAYS {
        // Places are taken in order and never given back: behind an empty one there is nobody.
        if set.known[way].ident == number || set.known[way].ident == 0 {
            break;
        }
        way += 1;
    }
    let found = &raw mut *found;
    // SAFETY: a live reference's own place.
    unsafe {
        found.write_volatile(way as u32);
        found.read_volatile() as usize
    }
}

/// What the register has under the inode's number, whatever life of it was named. `found` is room for the
/// answer, `ThreadState::way`, as everywhere here.
#[inline(always)]
pub fn find(dev: u32, ino: u64, found: &mut u32) -> Option<&'static mut Known> {
    let number = number_of(dev, ino);
    let set = set(dev, ino)?;
    let way = place(set, number, found);
    set.known.get_mut(way).filter(|known| known.ident == number)
}

/// Whether the inode has been named as it is now.
#[inline(always)]
pub fn standing(inode: &Inode, found: &mut u32) -> Standing {
    let Some(set) = set(inode.dev, inode.ino) else {
        return Standing::New;
    };
    let way = place(set, inode.number, found);
    match set.known.get_mut(way) {
        Some(known) if known.ident == inode.number && known.stamp == digest_of(inode.stamp, seed()) => {
            Standing::Known(known)
        }
        _ => Standing::New,
    }
}

/// Enters an inode that has been named at `now`. Its allowance lacks the record that named it.
#[inline(always)]
pub fn enter(inode: &Inode, found: &mut u32, now: u64) {
    let Some(set) = set(inode.dev, inode.ino) else {
        return;
    };
    // Looked for again: what `standing` found is no more than what `found` said then.
    let mut way = place(set, inode.number, found);
    if way >= WAYS {
        // A full set loses any of its inodes: of those that are read in turns, the longest unread would be the very
        // next.
        // SAFETY: no arguments, no preconditions.
        way = unsafe { bpf_get_prandom_u32() } as usize;
    }
    let known = &mut set.known[way & (WAYS - 1)];
    // SAFETY: a field of a live reference, here and below. Another CPU that looks meanwhile finds the place empty.
    unsafe { core::ptr::write_volatile(&raw mut known.ident, 0) };
    known.stamp = digest_of(inode.stamp, seed());
    known.refilled_at = steps(now);
    known.allowance = BURST - 1;
    // SAFETY: as above.
    unsafe { core::ptr::write_volatile(&raw mut known.ident, inode.number) };
}

/// A moment as `Known::refilled_at` has it.
#[inline(always)]
fn steps(at: u64) -> u16 {
    (at >> REFILL_SHIFT) as u16
}

/// Takes one record from an inode's allowance at `now`; none where counters are enough.
#[inline(always)]
pub fn take(known: &mut Known, now: u64) -> bool {
    let allowance = known.allowance;
    if allowance == QUIET {
        return false;
    }
    let mut left = allowance;
    if left < BURST / 2 {
        let more = passed(known.refilled_at, steps(now));
        if more != 0 {
            let sum = u32::from(left) + u32::from(more);
            left = if sum > u32::from(BURST) { BURST } else { sum as u16 };
            known.refilled_at = steps(now);
        }
    } else if left == BURST {
        known.refilled_at = steps(now);
    }
    if left == 0 {
        return false;
    }
    known.allowance = left - 1;
    true
}
