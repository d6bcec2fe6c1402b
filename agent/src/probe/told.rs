//! What has been passed on of each run, so that telling a run again passes on only what is new.
//!
//! The kernel tells whole runs, more than once while they grow, and the agent can read the same runs
//! from their map when nothing has been told for a while. Both end here.

use agent_common::record::{
    BY_AGENT, BY_RECLAIM, FLAG_SAMPLED, KIND_ACCESS, KIND_ADDED, KIND_REMOVED, Record, VIA_DIRECT, VIA_FAULT,
    VIA_MAPPED,
};
use agent_common::state::{ACCESS_SLOTS, Origin, Run, SLOT_ADDED, SLOTS, ThreadState};
use agent_core::observation::{Actor, Via};
use agent_core::units::{FileKey, Nanos, Reader};
use rustc_hash::FxHashMap;

use super::event::ReadEvent;

/// As many threads as the kernel's own map holds; past that the idlest are forgotten, and what is told
/// of them next is passed on whole.
const THREADS: usize = 16_384;

/// How long a thread lies before its open runs are looked at, and how the pause grows while they do
/// not change.
const FIRST_LOOK: Nanos = Nanos::from_millis(20);
const LAST_LOOK: Nanos = Nanos::from_millis(1_000);

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    seq: u32,
    count: u32,
    file: Option<FileKey>,
    end: u64,
    touched: u32,
}

#[derive(Debug)]
struct Thread {
    tgid: u32,
    slots: [Slot; SLOTS],
    look_at: Nanos,
    pause: Nanos,
    /// Its state was not there at the last look.
    gone: bool,
}

#[derive(Debug, Default)]
pub struct Told {
    threads: FxHashMap<u32, Thread>,
    /// Threads whose latest run of added pages is of this file.
    adders: FxHashMap<FileKey, Vec<u32>>,
}

impl Told {
    /// What a record of the ring says that was not known; `None` when nothing.
    pub fn record(&mut self, record: &Record, now: Nanos) -> Option<ReadEvent> {
        let head = &record.head;
        if !matches!(head.kind, KIND_ACCESS | KIND_ADDED | KIND_REMOVED) {
            return None;
        }
        if self.threads.len() >= THREADS && !self.threads.contains_key(&head.tid) {
            self.forget_idle();
        }
        let thread = self.threads.entry(head.tid).or_insert_with(|| Thread {
            tgid: head.tgid,
            slots: [Slot::default(); SLOTS],
            look_at: now.plus(FIRST_LOOK),
            pause: FIRST_LOOK,
            gone: false,
        });
        thread.tgid = head.tgid;
        thread.pause = FIRST_LOOK;
        thread.look_at = now.plus(FIRST_LOOK);
        let slot = thread.slots.get_mut(usize::from(head.slot))?;
        let before = slot.file;
        let event = slot.advance(record);
        let after = slot.file;
        if head.kind == KIND_ADDED && before != after {
            self.adder_moves(head.tid, before, after);
        }
        event
    }

    fn adder_moves(&mut self, tid: u32, from: Option<FileKey>, to: Option<FileKey>) {
        if let Some(from) = from
            && let Some(adders) = self.adders.get_mut(&from)
        {
            adders.retain(|adder| *adder != tid);
            if adders.is_empty() {
                self.adders.remove(&from);
            }
        }
        if let Some(to) = to {
            self.adders.entry(to).or_default().push(tid);
        }
    }

    /// Forgets a thread that has ended.
    fn remove(&mut self, tid: u32) {
        if let Some(thread) = self.threads.remove(&tid)
            && let Some(slot) = thread.slots.get(SLOT_ADDED)
        {
            self.adder_moves(tid, slot.file, None);
        }
    }

    /// Threads whose runs may have grown in silence, due for a look; at most `max`.
    pub fn due(&self, now: Nanos, max: usize) -> Vec<u32> {
        let due = self.threads.iter().filter(|(_, thread)| thread.look_at <= now);
        due.map(|(tid, _)| *tid).take(max).collect()
    }

    /// Threads that have an open run of added pages of this file.
    pub fn adders(&self, file: FileKey) -> Vec<u32> {
        self.adders.get(&file).cloned().unwrap_or_default()
    }

    /// A thread's runs as they stand in the kernel's map, or `None` when it has ended.
    pub fn state(&mut self, tid: u32, state: Option<&ThreadState>, now: Nanos, sink: &mut Vec<ReadEvent>) {
        let Some(thread) = self.threads.get_mut(&tid) else {
            return;
        };
        let Some(state) = state else {
            // The ends of its runs may still lie in the ring, and of a thread that is not known a run is passed on whole.
            if thread.gone {
                self.remove(tid);
            } else {
                (thread.gone, thread.look_at) = (true, now.plus(FIRST_LOOK));
            }
            return;
        };
        thread.gone = false;
        let before = sink.len();
        let runs = state.runs.iter().zip(&state.origins);
        for (number, ((run, origin), slot)) in runs.zip(&mut thread.slots).enumerate() {
            // A newer run that has been told lies in the ring and comes from there; one that has not is
            // only here.
            if run.count == 0 || (origin.seq != slot.seq && origin.told != 0) {
                continue;
            }
            sink.extend(slot.advance(&as_record(run, origin, number, tid, state.tgid(), now)));
        }
        thread.pause = if sink.len() > before {
            FIRST_LOOK
        } else {
            Nanos(thread.pause.0.saturating_mul(2).min(LAST_LOOK.0))
        };
        thread.look_at = now.plus(thread.pause);
    }

    /// Only what the thread has added, from its state.
    pub fn added(&mut self, tid: u32, state: &ThreadState, now: Nanos) -> Option<ReadEvent> {
        let slot = self.threads.get_mut(&tid)?.slots.get_mut(SLOT_ADDED)?;
        let (run, origin) = (state.runs.get(SLOT_ADDED)?, state.origins.get(SLOT_ADDED)?);
        if run.count == 0 || origin.seq != slot.seq {
            return None;
        }
        slot.advance(&as_record(run, origin, SLOT_ADDED, tid, state.tgid(), now))
    }

    /// Nothing more is passed on of this device's runs that have been told: its number may be another file system's
    /// next, whose files have the same inode numbers, and a thread keeps its runs until it reads or ends. (A run
    /// whose first record still lies in the ring is passed on, as of a device that nobody watches.)
    pub fn forget_device(&mut self, dev: u32) {
        let slots = self.threads.values_mut().flat_map(|thread| &mut thread.slots);
        for slot in slots.filter(|slot| slot.file.is_some_and(|file| file.dev == dev)) {
            slot.count = u32::MAX;
            slot.end = u64::MAX;
        }
    }

    pub fn forget_process(&mut self, tgid: u32) {
        let ended = self.threads.iter().filter(|(_, thread)| thread.tgid == tgid);
        for tid in ended.map(|(tid, _)| *tid).collect::<Vec<_>>() {
            self.remove(tid);
        }
    }

    fn forget_idle(&mut self) {
        let idle = self.threads.iter().filter(|(_, thread)| thread.pause >= LAST_LOOK);
        for tid in idle.map(|(tid, _)| *tid).collect::<Vec<_>>() {
            self.remove(tid);
        }
        if self.threads.len() >= THREADS {
            self.threads.clear();
            self.adders.clear();
        }
    }
}

impl Slot {
    fn advance(&mut self, record: &Record) -> Option<ReadEvent> {
        let head = &record.head;
        let file = FileKey { dev: head.dev, ino: head.ino };
        let fresh = self.file != Some(file) || self.seq != record.seq;
        if fresh {
            *self = Self { seq: record.seq, count: 0, file: Some(file), end: record.start, touched: 0 };
        }
        let count = record.count.saturating_sub(self.count);
        let touched = record.touched.wrapping_sub(self.touched);
        let sampled = head.flags & FLAG_SAMPLED != 0;
        if count == 0 && record.end <= self.end {
            return None;
        }
        let pages = if sampled {
            record.start..record.end
        } else if record.end > self.end {
            self.end..record.end
        } else {
            // Read again without going on: its last page.
            record.end.saturating_sub(1)..record.end
        };
        self.count = record.count.max(self.count);
        self.end = record.end.max(self.end);
        self.touched = record.touched;
        let reader = Reader { tgid: head.tgid, tid: head.tid };
        let at = Nanos(head.at);
        let by = match head.how {
            BY_AGENT => Actor::Agent,
            BY_RECLAIM => Actor::Reclaim,
            _ => Actor::Thread(reader),
        };
        Some(match head.kind {
            KIND_ADDED => ReadEvent::Added { file, pages, by, at },
            KIND_REMOVED => ReadEvent::Removed { file, pages, by, at },
            _ => ReadEvent::Access {
                file,
                reader,
                pages,
                via: match head.how {
                    VIA_FAULT => Via::Fault,
                    VIA_MAPPED => Via::Mapped,
                    VIA_DIRECT => Via::Direct,
                    _ => Via::Read,
                },
                count,
                touched: u64::from(touched),
                size: record.size,
                sampled,
                at,
            },
        })
    }
}

/// A run of the map as the kernel would tell it.
fn as_record(run: &Run, origin: &Origin, slot: usize, tid: u32, tgid: u32, now: Nanos) -> Record {
    let kind = match slot {
        slot if slot < ACCESS_SLOTS => KIND_ACCESS,
        SLOT_ADDED => KIND_ADDED,
        _ => KIND_REMOVED,
    };
    Record {
        head: agent_common::record::Head {
            kind,
            how: origin.how as u8,
            slot: slot as u8,
            flags: run.flags as u8,
            tid,
            tgid,
            dev: origin.dev,
            ino: origin.ino,
            at: now.0,
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

#[cfg(test)]
mod tests;
