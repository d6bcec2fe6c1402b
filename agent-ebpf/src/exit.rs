//! A thread ends: its open runs are told, and with the last thread of a process that read, its end.

use agent_common::record::{Head, KIND_EXIT, Record};
use agent_common::state::SLOTS;

use crate::emit::{close, now, send};
use crate::layout::at;
use crate::maps::READERS;
use crate::memory::Memory;
use crate::thread;

/// `task` is the running thread, on its way out.
#[inline(always)]
pub fn exit<M: Memory>(task: *const u8) {
    let id = thread::id();
    if let Some(state) = thread::find_anywhere(id) {
        let mut slot = 0;
        while slot < SLOTS {
            close(state, slot as u32, id);
            slot += 1;
        }
        thread::end(id);
    }
    let tgid = (id >> 32) as u32;
    if READERS.get_ptr(tgid).is_none() {
        return;
    }
    // do_exit() has taken this thread off before the tracepoint: 0 means that it was the last.
    let signal = M::pointer(task, at!(task_signal));
    if M::load::<u32>(signal, at!(signal_live)) != 0 {
        return;
    }
    let _ = READERS.remove(tgid);
    send(
        Record {
            head: Head { kind: KIND_EXIT, tid: id as u32, tgid, at: now(), ..Head::default() },
            ..Record::default()
        },
        true,
    );
}
