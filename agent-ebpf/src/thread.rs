//! The state of the thread that runs: found by its id, begun at its first sight, written by nobody else.

use agent_common::state::{SLOTS, ThreadState, seat_of};
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_task};

use crate::emit::now;
use crate::layout::at;
use crate::maps::{BLANK, READERS, SEATED, THREADS};
use crate::memory::{Memory as _, Probed};
use crate::trouble;

/// `PF_EXITING` of include/linux/sched.h, unchanged from 5.10 to 7.3.
const EXITS: u32 = 0x0000_0004;

/// tgid << 32 | tid.
#[inline(always)]
pub fn id() -> u64 {
    bpf_get_current_pid_tgid()
}

#[inline(always)]
pub fn is_agent(id: u64) -> bool {
    (id >> 32) as u32 == at!(agent_tgid)
}

/// The thread's state, if it has one and its seat is taken, by itself or another: of threads whose seat is free, most
/// have none, and these must cost no more than a look into an array. `begin` finds the state of the others.
#[inline(always)]
pub fn find(id: u64) -> Option<&'static mut ThreadState> {
    let seat = SEATED.get_ptr_mut(seat_of(id as u32))?;
    // SAFETY: the value belongs to the running thread, so no other program writes it meanwhile; should
    // two threads take a free seat at the same moment, the later one keeps it and the other moves on at
    // its next event.
    let seat = unsafe { &mut *seat };
    if seat.id == id {
        return Some(seat);
    }
    if seat.id == 0 {
        return None;
    }
    kept(id)
}

/// The same, whatever has become of its seat.
#[inline(always)]
pub fn find_anywhere(id: u64) -> Option<&'static mut ThreadState> {
    let seat = SEATED.get_ptr_mut(seat_of(id as u32))?;
    // SAFETY: see `find`.
    let seat = unsafe { &mut *seat };
    if seat.id == id { Some(seat) } else { kept(id) }
}

/// In the hash; what an earlier thread of this number has left there is not this one's.
#[inline(always)]
fn kept(id: u64) -> Option<&'static mut ThreadState> {
    let state = THREADS.get_ptr_mut(id as u32)?;
    // SAFETY: as `find`; an evicted value stays readable until it is reused, then at worst counts are off.
    let state = unsafe { &mut *state };
    (state.id == id).then_some(state)
}

#[inline(always)]
pub fn find_or_begin(id: u64) -> Option<&'static mut ThreadState> {
    if let Some(state) = find(id) {
        return Some(state);
    }
    begin(id);
    find_anywhere(id)
}

/// Gives the thread its seat, or a place in the hash where that is taken; whoever was kept there while another had its
/// seat takes its runs along.
///
/// A thread on its way out is given no seat: its last files are let go of after the tracepoint of its end, and nobody
/// would free it. The hash drops by itself what is not used any more.
#[inline(never)]
fn begin(id: u64) -> u32 {
    let (tid, tgid) = (id as u32, (id >> 32) as u32);
    let Some(seat) = SEATED.get_ptr_mut(seat_of(tid)) else {
        return 0;
    };
    // SAFETY: see `find`.
    let seat = unsafe { &mut *seat };
    // SAFETY: no arguments; the pointer is only handed to a probe read.
    let task = unsafe { bpf_get_current_task() } as *const u8;
    let exits = Probed::load::<u32>(task, at!(task_flags)) & EXITS != 0;
    // An earlier thread of this number has gone without a word, as one that does not lead its process does when it
    // calls exec.
    let free = seat.id == 0 || seat.tid() == tid;
    if let Some(state) = kept(id) {
        if free && !exits {
            let _ = SEATED.set(seat_of(tid), &*state, 0);
            let _ = THREADS.remove(tid);
        }
    } else if free && !exits {
        claim(seat, id);
    } else if let Some(blank) = BLANK.get(0) {
        let _ = THREADS.insert(tid, blank, 0);
        if let Some(state) = THREADS.get_ptr_mut(tid) {
            // SAFETY: see `find`.
            claim(unsafe { &mut *state }, id);
        } else {
            trouble::no_state(tid);
        }
    }
    if !exits {
        let _ = READERS.insert(tgid, 1, 0);
    }
    0
}

#[inline(always)]
fn claim(state: &mut ThreadState, id: u64) {
    // What an earlier thread has left.
    let mut slot = 0;
    while slot < SLOTS {
        let run = &mut state.runs[slot];
        run.ident = 0;
        run.count = 0;
        state.origins[slot].told = 0;
        slot += 1;
    }
    state.waiting_since = 0;
    state.woke_at = 0;
    state.entered_at = 0;
    state.id = id;
    // A thread id is used again: runs of its next life must not pass for those of the last.
    state.seq = now() as u32;
}

/// The thread ends: frees what it held.
#[inline(always)]
pub fn end(id: u64) {
    let tid = id as u32;
    if let Some(seat) = SEATED.get_ptr_mut(seat_of(tid)) {
        // SAFETY: see `find`.
        let seat = unsafe { &mut *seat };
        if seat.id == id {
            seat.id = 0;
        }
    }
    let _ = THREADS.remove(tid);
}
