//! What a program could not do, in words, for whoever starts the agent with `--log debug`.
//!
//! Without that the level is 0 when the programs are loaded, so that the verifier takes these calls out.

use aya_log_ebpf::debug;

/// A path that is too deep, too long, or has a name that could not be read.
#[inline(never)]
pub fn path_cut(dev: u32, ino: u64, bytes: u32) -> u32 {
    debug!(
        (),
        "the path of inode {} on device {}:{} was cut after {} bytes",
        ino,
        dev >> 20,
        dev & 0xf_ffff,
        bytes
    );
    0
}

/// The map of threads' states is full: what this thread reads is not seen until others end.
#[inline(never)]
pub fn no_state(tid: u32) -> u32 {
    debug!((), "there is no room for the state of thread {}", tid);
    0
}
