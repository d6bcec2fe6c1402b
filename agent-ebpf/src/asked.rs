//! Where a directory that the agent has open lies in its file system. mountinfo says so of every mount but NFS's,
//! whose root it calls "/" whatever was mounted, while names are told from the root of the export.
//!
//! Never attached: the agent runs it itself, so that the running task is its own.

use agent_common::record::{ASKED_CUT, ASKED_FOUND, ASKED_NOTHING, FLAG_TRUNCATED};
use aya_ebpf::helpers::generated::bpf_get_current_task;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;

use crate::layout::at;
use crate::maps::ASKED;
use crate::memory::{Memory as _, Probed};
use crate::name::climb;

/// Takes a descriptor of the task that runs it; its names are then in `ASKED`, its own first.
#[raw_tracepoint]
pub fn ask_path(ctx: RawTracePointContext) -> i32 {
    let descriptor: u64 = ctx.arg(0);
    let Some(asked) = ASKED.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: a live map value; the agent asks one question at a time.
    let asked = unsafe { &mut *asked };
    // SAFETY: the helper has no conditions.
    let task = unsafe { bpf_get_current_task() } as *const u8;
    let files = Probed::pointer(task, at!(task_files));
    let table = Probed::pointer(files, at!(files_table));
    let open = Probed::pointer(table, at!(table_files));
    let file = Probed::pointer(open, (descriptor as u32).wrapping_mul(size_of::<u64>() as u32));
    let dentry = Probed::pointer(file, at!(file_dentry));
    if dentry.is_null() {
        asked.answer = ASKED_NOTHING;
        return 0;
    }
    let root = Probed::pointer(Probed::pointer(dentry, at!(dentry_sb)), at!(sb_root));
    let cut = climb(&mut asked.names, dentry, root) & u32::from(FLAG_TRUNCATED) != 0;
    asked.answer = if cut { ASKED_CUT } else { ASKED_FOUND };
    0
}
