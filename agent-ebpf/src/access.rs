//! Reads, faults and mappings of a watched file, folded into runs.
//!
//! A thread has four access slots, one for each file (and way) it read last. An access that continues
//! its slot's run makes it longer and says nothing until 256 KiB have come together; a jump ends the
//! run and begins another, which is told at once. An inode whose jumps exceed its allowance is merged
//! in batches: span, number and pages touched are kept, only the single places are not.

use agent_common::record::{FLAG_CLOSED, FLAG_SAMPLED, Head, KIND_MISS, Record, VIA_FAULT, VIA_READ};
use agent_common::state::{
    ACCESS_SLOTS, BATCH, BURST, Known, PROGRESS_PAGES, QUIET_PAGES, REFILL_SHIFT, Run, SLOT_ADDED,
    ThreadState,
};

use crate::emit::{close, now, send, tell};
use crate::inode::Inode;
use crate::maps::EPOCH;
use crate::{name, thread};

/// Pages `start..end` (not yet cut to the file's size) of `inode` were reached by the running thread.
#[inline(always)]
pub fn access(inode: &Inode, how: u8, start: u64, end: u64) {
    let end = if end > inode.pages() { inode.pages() } else { end };
    if start >= end {
        return;
    }
    let id = thread::id();
    if thread::is_agent(id) {
        if let Some(state) = thread::find(id) {
            state.waiting_since = 0;
            close(&mut state.runs[SLOT_ADDED], SLOT_ADDED as u32, id);
        }
        return;
    }
    let Some(state) = thread::find_or_begin(id) else {
        return;
    };
    if state.waiting_since != 0 {
        settle(state, inode, start, end, id);
    }
    if let Some(epoch) = EPOCH.get(0)
        && *epoch != state.epoch
    {
        state.epoch = *epoch;
        take_over_switches(state);
    }
    let slot = match find_slot(state, inode, how) {
        Some(slot) => slot,
        None => {
            let slot = (state.current.wrapping_add(1) & 3) as usize;
            state.current = slot as u32;
            close(&mut state.runs[slot], slot as u32, id);
            begin(state, slot, inode, how, start, end, id);
            return;
        }
    };
    state.current = slot as u32;
    let run = &mut state.runs[slot & 3];
    // A long read comes as several events that share their end; a fault that is retried comes twice.
    let continued = how == VIA_READ && end == run.last_end && start > run.last_start
        || how == VIA_FAULT && start == run.last_start;
    let last_end = run.last_end;
    run.last_start = start;
    run.last_end = end;
    if continued && last_end == end {
        return;
    }
    run.size = inode.size;
    run.touched += end - start;
    if run.flags & FLAG_SAMPLED != 0 {
        run.count += 1;
        if start < run.start {
            run.start = start;
        }
        if end > run.end {
            run.end = end;
        }
        if run.count & (BATCH - 1) == 0 {
            end_batch(run, slot as u32, id);
        }
        return;
    }
    if run.count != 0 && start <= run.end && start + 1 >= run.end && end >= run.end {
        run.count += 1;
        run.end = end;
        let step = if run.quiet == 0 { PROGRESS_PAGES } else { QUIET_PAGES };
        if end - run.told_end >= step {
            tell(run, slot as u32, id, 0);
        }
        return;
    }
    if run.quiet != 0 {
        run.flags |= FLAG_SAMPLED;
        run.count += 1;
        run.start = if start < run.start { start } else { run.start };
        run.end = if end > run.end { end } else { run.end };
        return;
    }
    run.touched -= end - start;
    close(run, slot as u32, id);
    begin(state, slot, inode, how, start, end, id);
}

#[inline(always)]
fn is_of(run: &Run, inode: &Inode, how: u8) -> bool {
    run.ino == inode.ino && run.dev == inode.dev && run.stamp == inode.stamp && run.how == how
}

#[inline(always)]
fn find_slot(state: &ThreadState, inode: &Inode, how: u8) -> Option<usize> {
    let current = (state.current & 3) as usize;
    if is_of(&state.runs[current], inode, how) {
        return Some(current);
    }
    let mut slot = 0;
    while slot < ACCESS_SLOTS {
        if is_of(&state.runs[slot], inode, how) {
            return Some(slot);
        }
        slot += 1;
    }
    None
}

/// Begins a run in a slot: told at once where the inode's allowance lasts.
#[inline(always)]
fn begin(state: &mut ThreadState, slot: usize, inode: &Inode, how: u8, start: u64, end: u64, id: u64) {
    let known = name::known(inode, id);
    state.seq = state.seq.wrapping_add(1);
    let run = &mut state.runs[slot & 3];
    let (quiet, told) = match known {
        Some(known) => (known.quiet != 0, known.quiet == 0 && take(known)),
        None => (false, true),
    };
    *run = Run {
        ino: inode.ino,
        stamp: inode.stamp,
        start,
        end,
        last_start: start,
        last_end: end,
        touched: end - start,
        size: inode.size,
        told_end: start,
        dev: inode.dev,
        seq: state.seq,
        count: 1,
        told: 0,
        how,
        flags: if told || quiet { 0 } else { FLAG_SAMPLED },
        quiet: quiet as u8,
        reserved: [0; 5],
    };
    if told {
        tell(run, slot as u32, id, 0);
    }
}

/// Takes one record from an inode's allowance.
#[inline(always)]
fn take(known: &mut Known) -> bool {
    if known.allowance < BURST / 2 {
        let now = now();
        let more = now.wrapping_sub(known.refilled_at) >> REFILL_SHIFT;
        if more != 0 {
            let sum = u64::from(known.allowance) + more;
            known.allowance = if sum > u64::from(BURST) { BURST } else { sum as u32 };
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

/// A batch of merged accesses is full: told if the allowance has grown meanwhile, else it goes on.
#[inline(never)]
fn end_batch(run: *mut Run, slot: u32, id: u64) -> u32 {
    // SAFETY: a run of a thread's state, a map value.
    let run = unsafe { &mut *run };
    if run.quiet != 0 {
        if run.count.wrapping_sub(run.told) >= QUIET_PAGES as u32 {
            tell(run, slot, id, 0);
        }
        return 0;
    }
    let Some(known) = crate::maps::KNOWN.get_ptr_mut(name::key(run.dev, run.ino)) else {
        return 0;
    };
    // SAFETY: a map value; races of CPUs on the allowance cost a record more or less.
    if take(unsafe { &mut *known }) && tell(run, slot, id, u32::from(FLAG_CLOSED)) != 0 {
        // Nothing is of this slot any more: the next access begins a run, told by itself.
        run.stamp = !run.stamp;
    }
    0
}

/// The thread reads again, so what it waited for has come: tells the pages it added and, where the page
/// it now reads was among them, how long that took.
#[inline(always)]
fn settle(state: &mut ThreadState, inode: &Inode, start: u64, end: u64, id: u64) {
    let since = state.waiting_since;
    state.waiting_since = 0;
    let added = &mut state.runs[SLOT_ADDED];
    if added.count != added.told || added.end != added.told_end {
        tell(added, SLOT_ADDED as u32, id, 0);
    }
    if added.ino != inode.ino || added.dev != inode.dev {
        return;
    }
    if start < state.waiting_start || start >= added.end {
        return;
    }
    let at = now();
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
}

/// The agent has changed a switch: asks again for each of the thread's files.
#[inline(always)]
fn take_over_switches(state: &mut ThreadState) {
    let mut slot = 0;
    while slot < ACCESS_SLOTS {
        let run = &mut state.runs[slot];
        if let Some(known) = crate::maps::KNOWN.get_ptr(name::key(run.dev, run.ino)) {
            // SAFETY: a map value; one word is read.
            let quiet = unsafe { (*known).quiet } != 0;
            if run.quiet != 0 && !quiet {
                run.stamp = !run.stamp;
            }
            run.quiet = quiet as u8;
        }
        slot += 1;
    }
}
