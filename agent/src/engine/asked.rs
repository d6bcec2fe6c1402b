//! Workloads whose profile has been asked of the disk: once for each of their runs, however many records come
//! before the core knows of the run.

use agent_core::{Core, MountId};
use rustc_hash::FxHashSet;

/// Entries at most: as many as processes are remembered.
const MOST: usize = 1 << 16;

#[derive(Debug, Default)]
pub struct Asked(FxHashSet<(Box<str>, MountId)>);

impl Asked {
    /// Whether the disk should be asked now; it is then taken to be.
    pub fn asks(&mut self, workload: &str, mount: MountId, core: &Core) -> bool {
        let one = (workload.into(), mount);
        if self.0.contains(&one) || !core.wants_profile(workload, mount) {
            return false;
        }
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert(one)
    }

    /// Runs may have ended: what they taught is held by the core for a while only, and is on disk then.
    pub fn forget_ended(&mut self, core: &Core) {
        self.0.retain(|(workload, mount)| !core.wants_profile(workload, *mount));
    }
}

#[cfg(test)]
mod tests {
    use agent_core::{FileKey, Limits, Nanos, Observation, Reader, Via};

    use super::*;

    const MOUNT: MountId = MountId(1);

    /// Whether the disk is asked at the start of a workload's run, which then reads a few files and ends.
    fn run(core: &mut Core, asked: &mut Asked, job: u32, second: u64) -> bool {
        let at = Nanos(second * 1_000_000_000);
        let (tgid, workload) = (100 + job, format!("job{job}"));
        let label = workload.as_str().into();
        core.apply(&Observation::Process { tgid, workload: workload.as_str().into(), label }, at);
        let asks = asked.asks(&workload, MOUNT, core);
        assert!(!asked.asks(&workload, MOUNT, core), "once only");
        for ino in 0..8 {
            let (file, path) = (FileKey { dev: 5, ino }, format!("f{ino}").into_bytes().into());
            core.apply(&Observation::Sight { file, mount: MOUNT, path, size: 4_096, mtime: 0 }, at);
            let (reader, pages, via) = (Reader { tgid, tid: tgid }, 0..1, Via::Read);
            core.apply(&Observation::Access { file, reader, pages, via, count: 1, size: 4_096 }, at);
        }
        core.apply(&Observation::Exit { tgid }, at);
        core.apply(&Observation::Tick, Nanos(at.0 + 5_000_000_000));
        asked.forget_ended(core);
        asks
    }

    #[test]
    fn a_profile_that_the_core_let_go_is_read_from_disk_again() {
        let mut core = Core::new(Limits::default());
        let (source, fstype) = ("s".into(), "nfs4".into());
        let mount = Observation::Mount { mount: MOUNT, dev: 5, source, fstype, read_ahead_bytes: 0 };
        core.apply(&mount, Nanos(0));
        let mut asked = Asked::default();
        assert!((0..200).all(|job| run(&mut core, &mut asked, job, u64::from(job) * 10)));
        assert!(!run(&mut core, &mut asked, 199, 3_000), "the core holds it still");
        assert!(run(&mut core, &mut asked, 1, 3_010), "it was let go");
    }
}
