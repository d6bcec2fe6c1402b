//! Reads, faults and mappings of a watched file, folded into runs.
//!
//! A thread has four access slots, one for each file (and way) it read last. An access that continues
//! its slot's run makes it longer and says nothing until 256 KiB have come together; a jump ends the
//! run and begins another, which is told at once. An inode whose jumps exceed its allowance is merged
//! in batches: span, number and pages touched are kept, only the single places are not.

use agent_common::layout::ABSENT;
use agent_common::record::{FLAG_CLOSED, FLAG_SAMPLED, Head, KIND_MISS, Record, VIA_FAULT, VIA_READ};
use agent_common::state::{
    ACCESS_SLOTS, BATCH, PROGRESS_PAGES, QUIET, QUIET_PAGES, Run, SLOT_ADDED, ThreadState,
};
use aya_ebpf::helpers::generated::bpf_get_current_task_btf;

use crate::emit::{about_now, close, now_of, send, tell, tell_at};
use crate::inode::Inode;
use crate::known::{self, Standing};
use crate::layout::at;
use crate::memory::Memory;
use crate::{name, residency, thread};

/// Where a thread waited that did not wait for a page of this file.
const NOWHERE: u32 = u32::MAX;

/// Pages `start..end` (not yet cut to the file's size) of `inode` were reached by the running thread. `IN_PARTS`: the
/// hook tells a read in as many events as it takes the kernel to find its pages, all with the same end.
#[inline(always)]
pub fn access<M: Memory, const IN_PARTS: bool>(inode: &Inode, how: u8, start: u64, end: u64) {
    let end = if end > inode.pages() { inode.pages() } else { end };
    if start >= end {
        return;
    }
    let id = thread::id();
    if thread::is_agent(id) {
        if let Some(state) = thread::find(id) {
            tell_added(state, id);
        }
        return;
    }
    let Some(state) = thread::find_or_begin(id) else {
        return;
    };
    let waited = if state.waiting_since == 0 { NOWHERE } else { settle(state, inode, start, end, id) };
    let last_call = state.call;
    // Of one page there are no parts.
    if IN_PARTS && how == VIA_READ && end - start > 1 {
        state.call = call::<M>();
    }
    if !seek(state, inode, how) {
        // The slot used longest ago, near enough.
        state.current = state.current.wrapping_add(1);
    } else if !proceed::<M, IN_PARTS>(state, inode, how, start, end, waited, last_call, id) {
        return;
    }
    let slot = current(state);
    close(state, slot as u32, id);
    begin::<M>(state, slot, inode, how, start, end, id);
}

/// Tells one call of read(2) and its like from the next: how many the thread has made, low bits. Zero where the kernel
/// does not count them. Of what is no such call (io_uring, splice) nothing is counted.
#[inline(always)]
fn call<M: Memory>() -> u32 {
    if at!(task_calls) == ABSENT {
        return 0;
    }
    // SAFETY: no arguments. Kernels whose hooks tell reads in parts (6.12) have it.
    let task = unsafe { bpf_get_current_task_btf() };
    M::load::<u64>(task.cast_const().cast(), at!(task_calls)) as u32
}

/// The slot in use, read anew: the verifier then forgets on which path it was found, and follows what
/// comes after once instead of once for every path.
#[inline(always)]
fn current(state: &ThreadState) -> usize {
    // SAFETY: a field of a live reference.
    (unsafe { core::ptr::read_volatile(&raw const state.current) } & 3) as usize
}

/// Makes the slot of this file and way the current one; false where it has none.
#[inline(always)]
fn seek(state: &mut ThreadState, inode: &Inode, how: u8) -> bool {
    let ident = inode.ident(how);
    if state.runs[current(state)].ident == ident {
        return true;
    }
    let mut slot = 0;
    while slot < ACCESS_SLOTS {
        if state.runs[slot].ident == ident {
            state.current = slot as u32;
            return true;
        }
        slot += 1;
    }
    false
}

/// Goes on with the current slot's run; true where the access does not continue it.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "it is a part of `access`, apart to be read")]
fn proceed<M: Memory, const IN_PARTS: bool>(
    state: &mut ThreadState,
    inode: &Inode,
    how: u8,
    start: u64,
    end: u64,
    waited: u32,
    last_call: u32,
    id: u64,
) -> bool {
    let slot = current(state);
    let run = &mut state.runs[slot];
    // A long read comes as several events that share their end; a fault that is retried comes twice. Where
    // the thread waited for pages from the last event's start on or before it, it has begun anew: of such a
    // read the kernel may tell the end alone. So has one that has made a call meanwhile: reads of less than a
    // page share their ends too.
    let (first, last) = (start as u32, end as u32);
    let mut continued = last == run.last_end
        && (IN_PARTS && how == VIA_READ && first > run.last_start && waited > run.last_start
            || how == VIA_FAULT && first == run.last_start);
    if continued && how == VIA_READ {
        let call = if end - start > 1 { state.call } else { call::<M>() };
        continued = call == last_call;
    }
    run.last_start = first;
    run.last_end = last;
    if continued {
        return false;
    }
    if run.epoch != inode.epoch {
        run.epoch = inode.epoch;
        if !take_over(run, inode, &mut state.way) {
            return true;
        }
    }
    run.size = inode.size;
    let sampled = run.flags & u32::from(FLAG_SAMPLED) != 0;
    let adjacent = start <= run.end && start + 1 >= run.end && end >= run.end;
    if !sampled && !adjacent {
        if run.quiet == 0 {
            return true;
        }
        run.flags |= u32::from(FLAG_SAMPLED);
    }
    run.touched = run.touched.wrapping_add(last.wrapping_sub(first));
    run.count += 1;
    if start < run.start {
        run.start = start;
    }
    if end > run.end {
        run.end = end;
    }
    if sampled {
        if run.count & (BATCH - 1) == 0 {
            end_batch(state, slot as u32, id);
        }
        return false;
    }
    let step = if run.quiet == 0 { PROGRESS_PAGES } else { QUIET_PAGES };
    if u64::from((run.end as u32).wrapping_sub(run.told_end)) >= step {
        tell(state, slot as u32, id, 0);
    }
    false
}

/// The agent has changed a switch of this device: asks again for the run's file. False where details are
/// wanted again, so that a new run must begin.
#[inline(always)]
fn take_over(run: &mut Run, inode: &Inode, way: &mut u32) -> bool {
    // Pushed out meanwhile: a new run names it again.
    let Some(known) = known::find(inode.dev, inode.ino, way) else {
        return false;
    };
    let quiet = known.allowance == QUIET;
    let ends = run.quiet != 0 && !quiet;
    run.quiet = u32::from(quiet);
    !ends
}

/// Begins a run in a slot: told at once where the inode's allowance lasts.
#[inline(always)]
fn begin<M: Memory>(
    state: &mut ThreadState,
    slot: usize,
    inode: &Inode,
    how: u8,
    start: u64,
    end: u64,
    id: u64,
) {
    residency::open(state, slot, inode, how, start, end);
    match known::standing(inode, &mut state.way) {
        Standing::Known(known) if known.allowance == QUIET => state.runs[slot].quiet = 1,
        Standing::Known(known) => {
            let at = about_now(state);
            if known::take(known, at) {
                tell_at(state, slot as u32, id, 0, at);
            } else {
                state.runs[slot].flags = u32::from(FLAG_SAMPLED);
            }
        }
        Standing::New => name::introduce::<M>(state, slot, inode, id, 0),
    }
}

/// A batch of merged accesses is full: told if the allowance has grown meanwhile, else it goes on.
#[inline(never)]
fn end_batch(state: *mut ThreadState, slot: u32, id: u64) -> u32 {
    if slot >= ACCESS_SLOTS as u32 {
        return 0;
    }
    // SAFETY: the running thread's own state, a map value.
    let state = unsafe { &mut *state };
    let (run, origin) = (&state.runs[slot as usize], &state.origins[slot as usize]);
    if run.quiet != 0 {
        if run.count.wrapping_sub(origin.told) >= QUIET_PAGES as u32 {
            tell(state, slot, id, 0);
        }
        return 0;
    }
    let Some(known) = known::find(origin.dev, origin.ino, &mut state.way) else {
        return 0;
    };
    let at = about_now(state);
    if known::take(known, at) && tell_at(state, slot, id, u32::from(FLAG_CLOSED), at) != 0 {
        // Nothing is of this run any more: the next access begins another, told by itself.
        state.runs[slot as usize].ident = 0;
    }
    0
}

/// The thread reads again, so what it waited for has come: tells the pages it added and, where the page
/// it now reads was among them, how long that took. Returns the first page of this file that was waited for.
#[inline(always)]
fn settle(state: &mut ThreadState, inode: &Inode, start: u64, end: u64, id: u64) -> u32 {
    let since = state.waiting_since;
    state.waiting_since = 0;
    let at = now_of(state);
    tell_added(state, id);
    let (added, origin) = (&state.runs[SLOT_ADDED], &state.origins[SLOT_ADDED]);
    if origin.ino != inode.ino || origin.dev != inode.dev {
        return NOWHERE;
    }
    let waited = state.waiting_start as u32;
    if start < state.waiting_start || start >= added.end {
        return waited;
    }
    let end = if end < added.end { end } else { added.end };
    send(
        Record {
            head: Head {
                kind: KIND_MISS,
                tid: id as u32,
                tgid: (id >> 32) as u32,
                dev: inode.dev,
                ino: inode.ino,
                at,
                ..Head::default()
            },
            start: at.wrapping_sub(since),
            end: (end - start) << 12,
            ..Record::default()
        },
        false,
    );
    waited
}

#[inline(always)]
fn tell_added(state: &mut ThreadState, id: u64) {
    if state.runs[SLOT_ADDED].count != state.origins[SLOT_ADDED].told {
        tell(state, SLOT_ADDED as u32, id, 0);
    }
}
