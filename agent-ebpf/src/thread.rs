//! The state of the thread that runs: found by its id, begun at its first sight, written by nobody else.

use agent_common::state::{SLOTS, ThreadState, seat_of};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;

use crate::emit::now;
use crate::layout::at;
use crate::maps::{BLANK, READERS, SEATED, THREADS};
use crate::trouble;

/// tgid << 32 | tid.
#[inline(always)]
pub fn id() -> u64 {
    bpf_get_current_pid_tgid()
}

#[inline(always)]
pub fn is_agent(id: u64) -> bool {
    (id >> 32) as u32 == at!(agent_tgid)
}

#[inline(always)]
pub fn find(id: u64) -> Option<&'static mut ThreadState> {
    let tid = id as u32;
    let seat = SEATED.get_ptr_mut(seat_of(tid))?;
    // SAFETY: the value belongs to the running thread, so no other program writes it meanwhile; should
    // two threads take a free seat at the same moment, the later one keeps it and the other moves on at
    // its next event.
    let seat = unsafe { &mut *seat };
    if seat.tid == tid {
        return Some(seat);
    }
    if seat.tid == 0 {
        return None;
    }
    let state = THREADS.get_ptr_mut(tid)?;
    // SAFETY: as above; an evicted value stays readable until it is reused, then at worst counts are off.
    Some(unsafe { &mut *state })
}

#[inline(always)]
pub fn find_or_begin(id: u64) -> Option<&'static mut ThreadState> {
    if let Some(state) = find(id) {
        return Some(state);
    }
    begin(id);
    find(id)
}

/// Takes the thread's seat, or a place in the hash where that is taken.
#[inline(never)]
fn begin(id: u64) -> u32 {
    let (tid, tgid) = (id as u32, (id >> 32) as u32);
    let Some(seat) = SEATED.get_ptr_mut(seat_of(tid)) else {
        return 0;
    };
    // SAFETY: see `find`.
    let seat = unsafe { &mut *seat };
    if seat.tid == 0 {
        claim(seat, tid, tgid);
    } else if let Some(blank) = BLANK.get(0) {
        let _ = THREADS.insert(tid, blank, 0);
        if let Some(state) = THREADS.get_ptr_mut(tid) {
            // SAFETY: see `find`.
            claim(unsafe { &mut *state }, tid, tgid);
        } else {
            trouble::no_state(tid);
        }
    }
    let _ = READERS.insert(tgid, 1, 0);
    0
}

/// `state` is blank: it was never used, or its thread's exit has cleared it.
#[inline(always)]
fn claim(state: &mut ThreadState, tid: u32, tgid: u32) {
    state.tid = tid;
    state.tgid = tgid;
    // A thread id is used again: runs of its next life must not pass for those of the last.
    state.seq = now() as u32;
}

/// The thread ends: frees what it held.
#[inline(always)]
pub fn end(state: &mut ThreadState, tid: u32) {
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
    if let Some(seat) = SEATED.get_ptr_mut(seat_of(tid)) {
        // SAFETY: see `find`.
        let seat = unsafe { &mut *seat };
        if seat.tid == tid {
            seat.tid = 0;
            return;
        }
    }
    let _ = THREADS.remove(tid);
}
