//! The way up: records into the ring, losses into the counters, wake-ups only where they pay.
//!
//! A wake-up costs the reader 5 µs, so records lie until the agent's next look, a millisecond at the
//! most while anything flows. Two things wake it: a reader that is about to wait for its store, and a
//! ring that fills.

use agent_common::record::{FLAG_CLOSED, Head, KIND_ACCESS, KIND_ADDED, KIND_REMOVED, Record};
use agent_common::state::{ACCESS_SLOTS, COUNT_LOST, Origin, Run, SLOT_ADDED, SLOTS, ThreadState};
use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::bpf_jiffies64;

use crate::layout::at;
use crate::maps::{COUNTS, RING, WOKEN};

/// The least time between two wake-ups because of a filling ring: the agent is awake by then.
const FILLING_NS: u64 = 1_000_000;

#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: no arguments, no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Now, remembered for `about_now`.
#[inline(always)]
pub fn now_of(state: &mut ThreadState) -> u64 {
    // SAFETY: no arguments, no preconditions.
    state.tick = unsafe { bpf_jiffies64() };
    state.ticked_at = now();
    state.ticked_at
}

/// When the thread last looked at the clock in the running tick of the kernel: a look costs 70 ns in a virtual machine,
/// the tick, which the compiler of BPF programs loads from memory, one. The agent knows better when records come one
/// after another (`Probe::drain`); what is measured, as how long a page took, asks anew.
#[inline(always)]
pub fn about_now(state: &mut ThreadState) -> u64 {
    // SAFETY: no arguments, no preconditions.
    if state.tick == unsafe { bpf_jiffies64() } { state.ticked_at } else { now_of(state) }
}

#[inline(always)]
pub fn count(counter: u32) {
    if let Some(value) = COUNTS.get_ptr_mut(counter) {
        // SAFETY: the value of this CPU; nothing else writes it but a program that interrupts this one.
        unsafe { *value += 1 }
    }
}

/// Flags for a submit: whether to wake the agent with it.
#[inline(always)]
pub fn wake_flags(wake: bool) -> u64 {
    if wake {
        return u64::from(BPF_RB_FORCE_WAKEUP);
    }
    if RING.query(u64::from(BPF_RB_AVAIL_DATA)) > u64::from(at!(ring_quarter))
        && let Some(woken) = WOKEN.get_ptr_mut(0)
    {
        // Looked at anew: records carry times that differ from thread to thread.
        let now = now();
        // SAFETY: an array map's value; a race of two CPUs only wakes twice.
        unsafe {
            if now.saturating_sub(*woken) > FILLING_NS {
                *woken = now;
                return u64::from(BPF_RB_FORCE_WAKEUP);
            }
        }
    }
    u64::from(BPF_RB_NO_WAKEUP)
}

#[inline(always)]
pub fn send(record: Record, wake: bool) -> bool {
    let Some(mut entry) = RING.reserve::<Record>(0) else {
        count(COUNT_LOST);
        return false;
    };
    let flags = wake_flags(wake);
    entry.write(record);
    entry.submit(flags);
    true
}

/// `tell` with this flag wakes the agent.
pub const WAKE: u32 = 1 << 8;

/// Tells the run so far. `id` is tgid << 32 | tid; `flags` as `Head::flags`, with `WAKE`.
#[inline(always)]
pub fn tell(state: &mut ThreadState, slot: u32, id: u64, flags: u32) -> u32 {
    let at = about_now(state);
    tell_at(state, slot, id, flags, at)
}

/// The same, where it is known when.
#[inline(never)]
pub fn tell_at(state: *mut ThreadState, slot: u32, id: u64, flags: u32, at: u64) -> u32 {
    if slot >= SLOTS as u32 {
        return 0;
    }
    // SAFETY: callers hand in the running thread's own state, a map value.
    let state = unsafe { &mut *state };
    let (run, origin) = (&mut state.runs[slot as usize], &mut state.origins[slot as usize]);
    let kind = if slot < ACCESS_SLOTS as u32 {
        KIND_ACCESS
    } else if slot == SLOT_ADDED as u32 {
        KIND_ADDED
    } else {
        KIND_REMOVED
    };
    if send(record(run, origin, kind, slot, id, flags, at), flags & WAKE != 0) {
        origin.told = run.count;
        run.told_end = run.end as u32;
        return 1;
    }
    0
}

/// The run so far, as it is told.
#[inline(always)]
pub fn record(run: &Run, origin: &Origin, kind: u8, slot: u32, id: u64, flags: u32, at: u64) -> Record {
    Record {
        head: Head {
            kind,
            how: origin.how as u8,
            slot: slot as u8,
            flags: (run.flags | flags) as u8,
            tid: id as u32,
            tgid: (id >> 32) as u32,
            dev: origin.dev,
            ino: origin.ino,
            at,
        },
        start: run.start,
        end: run.end,
        size: run.size,
        touched: run.touched,
        reserved: 0,
        seq: origin.seq,
        count: run.count,
    }
}

/// Tells what has not been told of a run that ends.
#[inline(always)]
pub fn close(state: &mut ThreadState, slot: u32, id: u64) {
    if slot < SLOTS as u32 && state.runs[slot as usize].count != state.origins[slot as usize].told {
        tell(state, slot, id, u32::from(FLAG_CLOSED));
    }
}
