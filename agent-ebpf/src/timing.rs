//! How long a read takes that adds no page itself: of each thread's reads one in so many is timed, from the
//! entry of the page cache's function to its return.

use agent_common::record::{Head, KIND_HIT, Record};
use agent_common::state::TIMED;

use crate::emit::{now, send};
use crate::inode::Inode;
use crate::thread;

/// A read begins. Threads that have read nothing watched have no state, and cost a look into an array.
#[inline(always)]
pub fn enter() {
    if let Some(state) = thread::find(thread::id()) {
        state.entries = state.entries.wrapping_add(1);
        state.entered_at = if state.entries & (TIMED - 1) == 0 { now() } else { 0 };
    }
}

/// The read returns: when it began, if it is one that is timed and its thread waits for no page of its own.
/// To be asked before the read is told, which settles that.
#[inline(always)]
pub fn leave() -> u64 {
    let Some(state) = thread::find(thread::id()) else { return 0 };
    let entered = state.entered_at;
    state.entered_at = 0;
    if state.waiting_since == 0 { entered } else { 0 }
}

#[inline(always)]
pub fn tell(inode: &Inode, entered: u64, bytes: u64) {
    let (id, at) = (thread::id(), now());
    send(
        Record {
            head: Head {
                kind: KIND_HIT,
                tid: id as u32,
                tgid: (id >> 32) as u32,
                dev: inode.dev,
                ino: inode.ino,
                at,
                ..Head::default()
            },
            start: at.wrapping_sub(entered),
            end: bytes,
            ..Record::default()
        },
        false,
    );
}
