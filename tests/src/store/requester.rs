//! Which process asked: FUSE's header names the thread, the benchmarks think in processes.
//!
//! /proc/TID/status gives the thread group once per thread. A thread that is gone before it can be looked
//! up stands for itself. The memory is bounded and forgotten at every reset, before thread numbers come
//! around again.

use std::collections::HashMap;

/// More threads than any agent or reader here has; beyond it the memory starts anew.
const THREADS: usize = 4_096;

#[derive(Debug, Default)]
pub struct Requesters {
    known: HashMap<u32, u32>,
}

impl Requesters {
    /// The process of thread `tid`; 0 is the kernel's own doing.
    pub fn process(&mut self, tid: u32) -> u32 {
        if tid == 0 {
            return 0;
        }
        if let Some(tgid) = self.known.get(&tid) {
            return *tgid;
        }
        if self.known.len() >= THREADS {
            self.known.clear();
        }
        let tgid = thread_group(tid).unwrap_or(tid);
        self.known.insert(tid, tgid);
        tgid
    }

    pub fn forget(&mut self) {
        self.known.clear();
    }
}

fn thread_group(tid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_belongs_to_this_process() {
        let tid = std::thread::spawn(|| {
            let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
            (tid, Requesters::default().process(tid))
        });
        let (tid, tgid) = tid.join().unwrap();
        assert_ne!(tid, tgid);
        assert_eq!(tgid, std::process::id());
        assert_eq!(Requesters::default().process(0), 0);
    }
}
