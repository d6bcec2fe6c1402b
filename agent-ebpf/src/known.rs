//! The register of inodes that have been named: who is in it is told by number alone, who is not is named first.
//!
//! It is an array of sets, and whoever finds its set full pushes another out: that one is named again when it
//! is read again, which costs a record and a microsecond. Its allowance is then full again, and single accesses are
//! told of it even where counters were enough.

use agent_common::state::{BURST, Known, REFILL_SHIFT, Set, WAYS, set_of};

use crate::emit::now;
use crate::inode::Inode;
use crate::layout::at;
use crate::maps::KNOWN;
use crate::name;

/// What the register says of an inode.
pub enum Standing {
    Known(&'static mut Known),
    /// Named at this moment; one record of its allowance is taken.
    New(u64),
    /// Its name could not be sent: to be tried again at the next access.
    Unnamed,
}

#[inline(always)]
fn set(dev: u32, ino: u64) -> Option<&'static mut Set> {
    // SAFETY: a map value, which lives as long as the program. CPUs that write the same place at once leave either
    // inode or none that there is (number and stamp are compared), and an allowance that is a few records off.
    KNOWN.get_ptr_mut(set_of(dev, ino, at!(sets))).map(|set| unsafe { &mut *set })
}

/// The inode's place, whatever life of the number was named.
#[inline(always)]
pub fn find(dev: u32, ino: u64) -> Option<&'static mut Known> {
    set(dev, ino)?.known.iter_mut().find(|known| known.ino == ino && known.dev == dev)
}

/// Names the inode first where it is new or has changed.
#[inline(always)]
pub fn standing(inode: &Inode, id: u64) -> Standing {
    let Some(set) = set(inode.dev, inode.ino) else {
        return Standing::Unnamed;
    };
    let mut place = WAYS;
    let mut way = 0;
    while way < WAYS {
        let known = &mut set.known[way];
        if known.ino == inode.ino && known.dev == inode.dev {
            if known.stamp == inode.stamp {
                return Standing::Known(&mut set.known[way]);
            }
            place = way;
            break;
        }
        if known.dev == 0 {
            // Places are taken in order and never given back: behind an empty one there is nobody.
            place = way;
            break;
        }
        way += 1;
    }
    let now = name::sight(inode, id);
    if now == 0 {
        return Standing::Unnamed;
    }
    // A full set loses any of its inodes: of those that are read in turns, the longest unread would be the very next.
    let place = if place == WAYS { (now >> 4) as usize } else { place };
    let known = &mut set.known[place & (WAYS - 1)];
    // SAFETY: a field of a live reference, here and below. Another CPU that looks meanwhile finds the place empty.
    unsafe { core::ptr::write_volatile(&raw mut known.dev, 0) };
    known.ino = inode.ino;
    known.stamp = inode.stamp;
    known.refilled_at = now;
    known.allowance = BURST - 1;
    known.quiet = 0;
    // SAFETY: as above.
    unsafe { core::ptr::write_volatile(&raw mut known.dev, inode.dev) };
    Standing::New(now)
}

/// Takes one record from an inode's allowance.
#[inline(always)]
pub fn take(known: &mut Known) -> bool {
    if known.allowance < BURST / 2 {
        let now = now();
        let more = now.wrapping_sub(known.refilled_at) >> REFILL_SHIFT;
        if more != 0 {
            let sum = u64::from(known.allowance) + more;
            known.allowance = if sum > u64::from(BURST) { BURST } else { sum as u16 };
            known.refilled_at = now;
        }
    } else if known.allowance == BURST {
        known.refilled_at = now();
    }
    if known.allowance == 0 {
        return false;
    }
    known.allowance -= 1;
    true
}
