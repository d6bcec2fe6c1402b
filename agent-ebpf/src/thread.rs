//! The state of the thread that runs: found by its id, made at its first sight, written by nobody else.

use agent_common::state::ThreadState;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;

use crate::layout::at;
use crate::maps::{BLANK, READERS, THREADS};

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
    let state = THREADS.get_ptr_mut(id as u32)?;
    // SAFETY: the key is the running thread's own, so no other program writes the value meanwhile; an
    // evicted value stays readable until its element is reused, then at worst counts are off.
    Some(unsafe { &mut *state })
}

#[inline(always)]
pub fn find_or_begin(id: u64) -> Option<&'static mut ThreadState> {
    if let Some(state) = find(id) {
        return Some(state);
    }
    begin(id);
    let state = find(id)?;
    state.tgid = (id >> 32) as u32;
    Some(state)
}

#[inline(never)]
fn begin(id: u64) -> u32 {
    if let Some(blank) = BLANK.get(0) {
        let _ = THREADS.insert(id as u32, blank, 0);
        let _ = READERS.insert((id >> 32) as u32, 1, 0);
    }
    0
}
