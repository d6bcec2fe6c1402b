//! Pages that enter and leave the page cache of watched devices, folded into runs by the thread that
//! brought or dropped them. The first page of a run that a reader brings in is told at once and wakes
//! the agent: the reader is about to wait for its store, and nothing tells of that earlier.

use agent_common::layout::ABSENT;
use agent_common::record::{BY_AGENT, BY_RECLAIM, BY_THREAD};
use agent_common::state::{Origin, PROGRESS_PAGES, Run, SLOT_ADDED, SLOT_REMOVED, ThreadState};
use aya_ebpf::helpers::bpf_get_current_task;

use crate::emit::{WAKE, close, now_of, tell};
use crate::inode::Inode;
use crate::known::{self, Standing};
use crate::layout::at;
use crate::memory::{Memory, Probed};
use crate::{name, thread};

/// `PF_MEMALLOC` and `PF_KSWAPD` of include/linux/sched.h, unchanged from 5.10 to 6.18.
const RECLAIMS: u32 = 0x0000_0800 | 0x0002_0000;

/// The agent is awake for a while once woken: no thread wakes it more often than this.
const WAKE_NS: u64 = 100_000;

/// Inode, first page and page after the last of a folio on a watched device.
#[inline(always)]
pub fn folio<M: Memory>(folio: *const u8) -> Option<(Inode, u64, u64)> {
    let mapping = M::pointer(folio, at!(folio_mapping));
    let inode = Inode::watched::<M>(mapping)?;
    let index: u64 = M::load(folio, at!(folio_index));
    let flags: u64 = M::load(folio, at!(folio_flags));
    let pages = if flags & (1 << (at!(head_bit) & 63)) == 0 {
        1
    } else {
        // Before 5.16 the count lies in the page behind this one, beyond what a typed pointer may reach.
        u64::from(Probed::load::<u32>(folio, at!(folio_pages)))
    };
    let scale = at!(page_scale) & 15;
    Some((inode, index << scale, (index + pages) << scale))
}

#[inline(always)]
pub fn added<M: Memory>(inode: &Inode, start: u64, end: u64) {
    let id = thread::id();
    let Some(state) = thread::find_or_begin(id) else {
        return;
    };
    let by_agent = thread::is_agent(id);
    let waits = !by_agent && !writes(inode.address);
    let how = if by_agent { BY_AGENT } else { BY_THREAD };
    settle(state, SLOT_REMOVED, id);
    if extend(state, SLOT_ADDED, inode, how, start, end, id) {
        if waits && state.waiting_since == 0 {
            state.waiting_since = now_of(state);
            state.waiting_start = start;
        }
        return;
    }
    close(state, SLOT_ADDED as u32, id);
    open(state, SLOT_ADDED, inode, how, start, end);
    let mut flags = 0;
    if waits {
        let now = now_of(state);
        state.waiting_since = now;
        state.waiting_start = start;
        if now.wrapping_sub(state.woke_at) > WAKE_NS {
            state.woke_at = now;
            flags = WAKE;
        }
    }
    if let Standing::New = known::standing(inode, &mut state.way) {
        name::introduce::<M>(state, SLOT_ADDED, inode, id, flags);
    } else {
        tell(state, SLOT_ADDED as u32, id, flags);
    }
}

/// The running thread holds the inode's lock for writing: it fills the page itself and waits for no
/// store.
#[inline(always)]
fn writes(inode: *const u8) -> bool {
    if at!(inode_writer) == ABSENT {
        return false;
    }
    // SAFETY: no arguments.
    let task = unsafe { bpf_get_current_task() };
    Probed::load::<u64>(inode, at!(inode_writer)) == task
}

#[inline(always)]
pub fn removed(inode: &Inode, start: u64, end: u64) {
    let id = thread::id();
    let Some(state) = thread::find_or_begin(id) else {
        return;
    };
    // SAFETY: no arguments; the pointer is only handed to a probe read.
    let task = unsafe { bpf_get_current_task() } as *const u8;
    let how = if thread::is_agent(id) {
        BY_AGENT
    } else if Probed::load::<u32>(task, at!(task_flags)) & RECLAIMS != 0 {
        BY_RECLAIM
    } else {
        BY_THREAD
    };
    settle(state, SLOT_ADDED, id);
    if extend(state, SLOT_REMOVED, inode, how, start, end, id) {
        return;
    }
    close(state, SLOT_REMOVED as u32, id);
    open(state, SLOT_REMOVED, inode, how, start, end);
    tell(state, SLOT_REMOVED as u32, id, 0);
}

/// Pages that went must not be told after they have come again, nor the other way round: what one slot
/// still keeps is told before the other goes on.
#[inline(always)]
fn settle(state: &mut ThreadState, slot: usize, id: u64) {
    if state.runs[slot].count != state.origins[slot].told {
        tell(state, slot as u32, id, 0);
    }
}

/// Makes the slot's run longer if the pages continue it.
#[inline(always)]
fn extend(
    state: &mut ThreadState,
    slot: usize,
    inode: &Inode,
    how: u8,
    start: u64,
    end: u64,
    id: u64,
) -> bool {
    let run = &mut state.runs[slot];
    if run.ident != inode.ident(how) || run.end != start {
        return false;
    }
    run.end = end;
    run.count += 1;
    run.touched = run.touched.wrapping_add((end - start) as u32);
    if u64::from((end as u32).wrapping_sub(run.told_end)) >= PROGRESS_PAGES {
        tell(state, slot as u32, id, 0);
    }
    true
}

/// Begins a run.
#[inline(always)]
pub fn open(state: &mut ThreadState, slot: usize, inode: &Inode, how: u8, start: u64, end: u64) {
    state.seq = state.seq.wrapping_add(1);
    state.runs[slot] = Run {
        ident: inode.ident(how),
        start,
        end,
        size: inode.size,
        last_start: start as u32,
        last_end: end as u32,
        told_end: start as u32,
        touched: (end - start) as u32,
        count: 1,
        epoch: inode.epoch,
        flags: 0,
        quiet: 0,
    };
    state.origins[slot] =
        Origin { ino: inode.ino, dev: inode.dev, seq: state.seq, told: 0, how: u32::from(how) };
}
