//! Runs that begin and end, and the profiles they leave behind.

use rustc_hash::FxHashSet;

use crate::catalog::{Catalog, FileId};
use crate::core::{Core, Flight, WORKLOADS, Workload};
use crate::order::Order;
use crate::profile::{MAX_FILES, Profile, Share};
use crate::run::Run;
use crate::units::{MountId, Nanos};
use crate::view::Survival;

/// A run without processes is over after this: a shell loop starts the next `cat` sooner.
const GRACE: Nanos = Nanos::from_millis(2_000);

/// Profiles of runs under way are given out this often, so that a crash loses little.
const SAVE_EVERY: Nanos = Nanos::from_millis(30_000);

/// Runs with fewer visits teach nothing about sets of files.
const WORTH_KEEPING: usize = 4;

/// Processes known at once: more than a node's pid limit in common settings.
const PROCESSES: usize = 1 << 16;

impl Core {
    pub(crate) fn identify(&mut self, tgid: u32, workload: &str, label: &str) {
        // Not at the next tick only: who comes before that would share a row for as long as it lives.
        if !self.crowded && !self.workload_ids.contains_key(workload) {
            self.make_room();
        }
        let id = match self.workload_ids.get(workload) {
            Some(id) => *id,
            None if self.workloads.len() < WORKLOADS => {
                let id = u32::try_from(self.workloads.len()).unwrap_or(0);
                self.workloads.push(Workload::new(workload, label));
                self.workload_ids.insert(workload.into(), id);
                id
            }
            None => match self.spare.pop() {
                Some(id) => {
                    if let Some(row) = self.workloads.get_mut(id as usize) {
                        *row = Workload::new(workload, label);
                    }
                    self.workload_ids.insert(workload.into(), id);
                    id
                }
                None => 0,
            },
        };
        if self.processes.len() >= PROCESSES {
            // Exits were lost; the processes that still read are identified again, and join their runs again. Of the others
            // nobody would say any more that they have ended, and their runs would never be over.
            self.processes.clear();
            for run in self.runs.values_mut() {
                run.tgids.clear();
            }
        }
        let before = self.processes.insert(tgid, id);
        if let Some(before) = before.filter(|before| *before != id) {
            // It has called exec: what it was reads no more.
            for run in self.runs.values_mut().filter(|run| run.workload == before) {
                run.tgids.retain(|running| *running != tgid);
            }
        }
    }

    /// The table of workloads is full: those without a process, a run or a fetch under way make room for others, all at
    /// once. What was counted of them is the unknown one's from now on.
    fn make_room(&mut self) {
        if self.workloads.len() < WORKLOADS || !self.spare.is_empty() {
            return;
        }
        let mut used: FxHashSet<u32> = self.processes.values().copied().collect();
        used.extend(self.runs.keys().map(|(workload, _)| *workload));
        used.extend(self.flights.values().filter_map(|flight| match flight {
            Flight::Fetch(flight) => Some(flight.owner.workload),
            Flight::List { .. } => None,
        }));
        let Some((unknown, rows)) = self.workloads.split_first_mut() else { return };
        for (id, row) in (1u32..).zip(rows) {
            if used.contains(&id) {
                continue;
            }
            self.ledger.fold(id, 0);
            self.workload_ids.remove(&row.key);
            let gone = std::mem::replace(row, Workload::new("", ""));
            unknown.take_over(&gone);
            self.spare.push(id);
        }
        self.crowded = self.spare.is_empty();
    }

    pub(crate) fn exit(&mut self, tgid: u32) {
        self.processes.remove(&tgid);
        self.emptied.retain(|thread, _| thread.tgid != tgid);
        for run in self.runs.values_mut() {
            run.tgids.retain(|running| *running != tgid);
        }
    }

    pub(crate) fn teach(&mut self, workload: &str, source: &str, bytes: &[u8]) {
        // A damaged profile is one that was never learned; the edge has told of it when it read it.
        if let Ok(profile) = Profile::decode(bytes) {
            self.taught.hold(workload, source, profile);
        }
    }

    /// Whether a stored profile of this workload would be of use now.
    pub fn wants_profile(&self, workload: &str, mount: MountId) -> bool {
        let Some(store) = self.stores.get(&mount) else {
            return false;
        };
        // A workload without a row of its own is not told apart: it has no use for one.
        let Some(id) = self.workload_ids.get(workload) else {
            return false;
        };
        !self.runs.contains_key(&(*id, mount)) && !self.taught.holds(workload, &store.source)
    }

    /// Hands what was learned before to a run that begins.
    pub(crate) fn recall(&mut self, run: &mut Run) {
        let Some(store) = self.stores.get_mut(&run.mount) else {
            return;
        };
        let Some(workload) = self.workloads.get(run.workload as usize) else {
            return;
        };
        let Some(profile) = self.taught.take(&workload.key, &store.source) else {
            return;
        };
        let Profile { survival, share, dirs, files, classes } = profile;
        // That they are dropped, or that root is refused, is found again with one file: it may have changed.
        if store.survival == Survival::Unknown && survival == Survival::Kept {
            store.survival = survival;
        }
        // Of folders each part of the path is a name of its own.
        let parts = |path: &[u8]| 1 + path.iter().filter(|byte| **byte == b'/').count();
        let folders: usize = dirs.iter().map(|path| parts(path)).sum();
        if self.catalog.names() + files.len() + folders > self.limits.files {
            return;
        }
        let dirs: Vec<_> = dirs.iter().map(|path| self.catalog.dir_at(run.mount, path)).collect();
        let mut order = Vec::with_capacity(files.len());
        for (dir, name, size) in files {
            let Some(dir) = dirs.get(dir as usize) else {
                continue;
            };
            let id = self.catalog.file_in(*dir, &name);
            if let Some(file) = self.catalog.file_mut(id)
                && file.key.is_none()
            {
                file.size = size;
            }
            order.push(id);
        }
        run.recall(order, share, classes);
    }

    pub(crate) fn tick(&mut self, now: Nanos) {
        let mut over: Vec<(u32, MountId)> = self
            .runs
            .iter()
            .filter(|(_, run)| run.tgids.is_empty() && now.since(run.last) > GRACE)
            .map(|(key, _)| *key)
            .collect();
        over.sort_unstable();
        for key in over {
            if let Some(run) = self.runs.remove(&key) {
                self.end_run(run, true);
            }
        }
        self.crowded = false;
        self.make_room();
        if now.since(self.saved) > SAVE_EVERY {
            self.saved = now;
            self.save_all();
        }
        let mut mounts: Vec<MountId> = self.stores.keys().copied().collect();
        mounts.sort_unstable();
        for mount in mounts {
            self.supply(mount, now);
            self.guess(mount, now);
        }
    }

    fn save_all(&mut self) {
        let mut keys: Vec<(u32, MountId)> = self.runs.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            if let Some(run) = self.runs.get(&key)
                && let Some(changed) = self.profile_of(run, run.share_so_far())
            {
                self.changed.push(changed);
            }
        }
    }

    /// Ends a run: its visits teach, its unread bytes are waste, its profile is given out.
    fn end_run(&mut self, mut run: Run, finished: bool) {
        let mut lasts: Vec<(u32, FileId)> =
            run.threads.iter().flat_map(|(tid, thread)| thread.at().map(|file| (*tid, file))).collect();
        lasts.sort_unstable();
        let (workload, mount) = (run.workload, run.mount);
        for (tid, file) in lasts {
            if let Some(active) = self.active.get(&file)
                && active.tid == tid
                && let Some(active) = self.active.remove(&file)
                && active.taught.is_none()
                && let Some(known) = self.catalog.file(file)
                && let Some(class) = run.class_mut(&known.name)
            {
                class.finished(&active.read, known.size);
            }
        }
        if finished && run.distinct() >= WORTH_KEEPING {
            let share = run.share_read();
            run.share.note(share);
        } else {
            run.share = run.share_so_far();
        }
        if let Some(changed) = self.profile_of(&run, run.share.clone()) {
            // The next run may begin before the edge has written this one down.
            if let Ok(profile) = Profile::decode(&changed.2)
                && finished
            {
                self.taught.hold(&changed.0, &changed.1, profile);
            }
            self.changed.push(changed);
        }
        self.abandon(workload, mount);
    }

    fn profile_of(&self, run: &Run, share: Share) -> Option<(Box<str>, Box<str>, Vec<u8>)> {
        let store = self.stores.get(&run.mount)?;
        let workload = self.workloads.get(run.workload as usize)?;
        // Process 0 stands for all that could not be told apart: nothing to learn from.
        if run.workload == 0 || run.distinct() < WORTH_KEEPING && run.past.is_empty() && !run.knows_large() {
            return None;
        }
        // A run that quits early does not replace the order of one that read all.
        let order = if run.visits().len() * 2 >= run.past.len() { run.visits() } else { run.past.order() };
        let mut profile = Profile {
            survival: store.survival,
            share,
            classes: run.classes.iter().map(|(kind, class)| (kind.clone(), class.clone())).collect(),
            ..Profile::default()
        };
        profile.classes.sort_by(|a, b| a.0.cmp(&b.0));
        let mut places = rustc_hash::FxHashMap::default();
        for file in order.iter().take(MAX_FILES).filter_map(|id| self.catalog.file(*id)) {
            let next = u32::try_from(places.len()).unwrap_or(u32::MAX);
            let place = *places.entry(file.dir).or_insert(next);
            if place == next {
                profile.dirs.push(self.catalog.dir_path(file.dir));
            }
            profile.files.push((place, file.name.clone(), file.size));
        }
        Some((workload.key.clone(), store.source.clone(), profile.encode()))
    }

    /// Takes the profiles that changed since the last call, as (workload, mount source, bytes): the edge
    /// stores them and hands them back as `Observation::Profile` when the workload is next seen.
    pub fn changed_profiles(&mut self) -> Vec<(Box<str>, Box<str>, Vec<u8>)> {
        std::mem::take(&mut self.changed)
    }

    /// The agent stops: runs whose processes are gone have ended, the others go on without us.
    pub fn close(&mut self) {
        let mut runs: Vec<Run> = self.runs.drain().map(|(_, run)| run).collect();
        runs.sort_by_key(|run| (run.workload, run.mount));
        for run in runs {
            let finished = run.tgids.is_empty();
            self.end_run(run, finished);
        }
    }

    pub(crate) fn unmount(&mut self, mount: MountId) {
        for key in self.runs_at(mount) {
            if let Some(run) = self.runs.remove(&key) {
                self.end_run(run, true);
            }
        }
        let gone = |catalog: &Catalog, file: FileId| catalog.mount_of(file) == Some(mount);
        self.active.retain(|file, _| !gone(&self.catalog, *file));
        let lost = self.catalog.unbind_mount(mount);
        self.waste(&lost);
        self.stores.remove(&mount);
    }

    /// The catalog is full: all names are let go and learned anew. Runs leave their profiles first.
    pub(crate) fn start_over(&mut self) {
        let runs: Vec<Run> = self.runs.drain().map(|(_, run)| run).collect();
        for run in runs {
            self.end_run(run, false);
        }
        self.active.clear();
        self.in_flight.clear();
        self.advances.clear();
        self.claimed.clear();
        self.emptied.clear();
        self.flights.clear();
        self.expected_bytes = 0;
        let lost = self.catalog.start_over();
        self.waste(&lost);
        self.stir_all();
        let mut mounts: Vec<MountId> = self.stores.keys().copied().collect();
        mounts.sort_unstable();
        for mount in mounts {
            if let Some(store) = self.stores.get_mut(&mount) {
                store.outstanding = 0;
                store.flying = 0;
                store.streaming = 0;
                store.requests = 0;
            }
            self.out.push(Order::Resight { mount });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Limits;
    use crate::observation::{Observation, Via};
    use crate::units::{FileKey, Reader};

    const MOUNT: MountId = MountId(1);

    fn process(tgid: u32, workload: &str) -> Observation {
        Observation::Process { tgid, workload: workload.into(), label: workload.into() }
    }

    /// A script of its own reads a few files and ends.
    fn job(core: &mut Core, job: u32) {
        let at = Nanos::from_millis(u64::from(job) * 10_000);
        let (tgid, workload) = (100 + job, format!("job{job}"));
        let label = workload.as_str().into();
        core.apply(&Observation::Process { tgid, workload: workload.into(), label }, at);
        for ino in 0..8 {
            let (file, path) = (FileKey { dev: 5, ino }, format!("f{ino}").into_bytes().into());
            core.apply(&Observation::Sight { file, mount: MOUNT, path, size: 4_096, mtime: 0 }, at);
            let (reader, pages, via) = (Reader { tgid, tid: tgid }, 0..1, Via::Read);
            core.apply(&Observation::Access { file, reader, pages, via, count: 1, size: 4_096 }, at);
        }
        core.apply(&Observation::Exit { tgid }, at);
        core.apply(&Observation::Tick, at.plus(Nanos::from_millis(5_000)));
    }

    #[test]
    fn of_many_workloads_few_profiles_are_held_and_none_is_lost() {
        let mut core = Core::new(Limits::default());
        let (source, fstype) = ("s".into(), "nfs4".into());
        let mount = Observation::Mount { mount: MOUNT, dev: 5, source, fstype, read_ahead_bytes: 0 };
        core.apply(&mount, Nanos(0));
        for number in 0..200 {
            job(&mut core, number);
        }
        assert_eq!(core.taught.len(), 64);
        assert!(!core.wants_profile("job199", MOUNT), "it is held");
        assert!(core.wants_profile("job1", MOUNT), "it gave way, and is wanted again");
        let written = core.changed_profiles();
        let (workload, source, bytes) = written.iter().find(|(workload, ..)| &**workload == "job1").unwrap();
        core.teach(workload, source, bytes);
        assert!(!core.wants_profile("job1", MOUNT), "it is held again");
        // One gave way for it, not all of them.
        assert_eq!(core.taught.len(), 64);
        assert!(!core.wants_profile("job199", MOUNT));
    }

    #[test]
    fn of_workloads_without_end_the_latest_are_told_apart() {
        let mut core = Core::new(Limits::default());
        let (source, fstype) = ("s".into(), "nfs4".into());
        let mount = Observation::Mount { mount: MOUNT, dev: 5, source, fstype, read_ahead_bytes: 0 };
        core.apply(&mount, Nanos(0));
        let number = u32::try_from(WORKLOADS).unwrap();
        for number in 0..number + 10 {
            job(&mut core, number);
        }
        let last = format!("job{}", number + 9);
        let told = core.workloads();
        assert!(told.iter().any(|view| *view.workload == *last), "{} of them", told.len());
        assert_eq!(core.node().workloads + 1, told.len() as u64, "and the unknown one");
        let all = u64::from(number) + 10;
        let files: u64 = told.iter().map(|view| view.files_read).sum();
        let (read, covered) = told
            .iter()
            .fold((0, 0), |(read, covered), view| (read + view.read_bytes, covered + view.covered_bytes));
        assert_eq!(files, 8 * all, "what those read that made room is not lost");
        assert_eq!((read, covered), (core.node().read_bytes, core.node().covered_bytes));
        assert_eq!(core.workloads.iter().map(|row| u64::from(row.runs)).sum::<u64>(), all);
        assert!(core.workloads.len() == WORKLOADS && core.workload_ids.len() < WORKLOADS);
    }

    #[test]
    fn who_comes_when_the_table_has_just_filled_up_is_told_apart() {
        let mut core = Core::new(Limits::default());
        let mut come = |tgid: u32, stays: bool| {
            let workload = format!("job{tgid}");
            core.apply(&process(tgid, &workload), Nanos(1));
            if !stays {
                core.apply(&Observation::Exit { tgid }, Nanos(1));
            }
            core.workload_ids.contains_key(&*workload)
        };
        let rows = u32::try_from(WORKLOADS).unwrap() - 1;
        assert!((0..rows).all(|tgid| come(tgid, false)));
        // No tick has come since: all of them have gone, and none that comes now.
        assert!((rows..2 * rows).all(|tgid| come(tgid, true)));
        assert!((2 * rows..2 * rows + 100).all(|tgid| !come(tgid, true)), "every row has somebody");
    }

    #[test]
    fn a_run_whose_readers_ends_were_lost_is_over_when_all_processes_are_forgotten() {
        let mut core = Core::new(Limits::default());
        let (source, fstype) = ("s".into(), "nfs4".into());
        let mount = Observation::Mount { mount: MOUNT, dev: 5, source, fstype, read_ahead_bytes: 0 };
        core.apply(&mount, Nanos(0));
        let file = FileKey { dev: 5, ino: 1 };
        let path = b"f"[..].into();
        core.apply(&Observation::Sight { file, mount: MOUNT, path, size: 4_096, mtime: 0 }, Nanos(1));
        core.apply(&process(1, "lost"), Nanos(1));
        let (reader, via) = (Reader { tgid: 1, tid: 1 }, Via::Read);
        core.apply(&Observation::Access { file, reader, pages: 0..1, via, count: 1, size: 4_096 }, Nanos(1));
        let processes = u32::try_from(PROCESSES).unwrap();
        let ticked = |core: &mut Core| {
            core.apply(&Observation::Tick, Nanos::from_millis(5_000));
            core.runs.len()
        };
        (2..=processes).for_each(|tgid| core.apply(&process(tgid, "flood"), Nanos(2)));
        assert_eq!(ticked(&mut core), 1, "it may read on");
        core.apply(&process(processes + 1, "flood"), Nanos(2));
        assert_eq!(ticked(&mut core), 0);
    }

    #[test]
    fn who_calls_exec_leaves_the_run_of_what_it_was() {
        let mut core = Core::new(Limits::default());
        let (source, fstype) = ("s".into(), "nfs4".into());
        let mount = Observation::Mount { mount: MOUNT, dev: 5, source, fstype, read_ahead_bytes: 0 };
        core.apply(&mount, Nanos(0));
        let (tgid, file) = (7, FileKey { dev: 5, ino: 1 });
        let sight = Observation::Sight { file, mount: MOUNT, path: b"f"[..].into(), size: 4_096, mtime: 0 };
        core.apply(&sight, Nanos(1));
        for workload in ["bash", "python"] {
            let (workload, label) = (workload.into(), workload.into());
            core.apply(&Observation::Process { tgid, workload, label }, Nanos(2));
            let (reader, pages, via) = (Reader { tgid, tid: tgid }, 0..1, Via::Read);
            core.apply(&Observation::Access { file, reader, pages, via, count: 1, size: 4_096 }, Nanos(3));
        }
        core.apply(&Observation::Tick, Nanos::from_millis(5_000));
        let running: Vec<_> = core.runs.keys().map(|(workload, _)| *workload).collect();
        assert_eq!(running, [core.workload_ids["python"]]);
    }
}
