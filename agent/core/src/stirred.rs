//! Files of which something was read, or came to or left the page cache, since somebody last asked: what is
//! told of this node elsewhere. Costs nothing until it is asked for the first time.

use crate::catalog::{DirId, FileId};
use crate::core::Core;
use crate::observation::Observation;
use crate::ranges::RangeSet;
use crate::run::Run;
use crate::thread::Thread;
use crate::units::{FileKey, MountId, Pages};

/// What has stirred.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stir {
    /// Everything told before is void; what is still so comes again, in this answer or the next ones.
    pub void: bool,
    pub files: Vec<StirredFile>,
    /// There are more.
    pub more: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StirredFile {
    pub file: FileKey,
    pub mount: MountId,
    /// From the root of the file system.
    pub path: Box<[u8]>,
    /// Bytes; 0 while unknown.
    pub size: u64,
    /// Since the file is known.
    pub read_bytes: u64,
    pub covered_bytes: u64,
    /// Sorted, disjoint.
    pub resident: Vec<Pages>,
}

/// A workload that reads at a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    pub mount: MountId,
    pub workload: Box<str>,
    /// In words.
    pub pattern: Box<str>,
    /// Folders in which it read last, from the root of the file system; 16 at most.
    pub folders: Vec<Box<[u8]>>,
    /// Bytes of the workload, over all mounts, and those of them that were in memory when they were read.
    pub read_bytes: u64,
    pub covered_bytes: u64,
}

const FOLDERS: usize = 16;

impl Core {
    pub(crate) fn stir(&mut self, observation: &Observation) {
        if !self.stirring {
            return;
        }
        let file = match observation {
            Observation::Sight { file, .. }
            | Observation::Access { file, .. }
            | Observation::Added { file, .. }
            | Observation::Removed { file, .. }
            | Observation::Resident { file, .. }
            | Observation::Fetched { file: Some(file), .. } => *file,
            Observation::Unmount { .. } | Observation::Lost { .. } => return self.stir_all(),
            Observation::Mount { .. }
            | Observation::Process { .. }
            | Observation::Profile { .. }
            | Observation::Exit { .. }
            | Observation::Miss { .. }
            | Observation::Listing { .. }
            | Observation::Fetched { file: None, .. }
            | Observation::Memory { .. }
            | Observation::Tick => return,
        };
        if let Some(id) = self.catalog.by_key(file) {
            self.stirred.insert(id);
        }
    }

    /// Everything is to be told anew.
    pub(crate) fn stir_all(&mut self) {
        if self.stirring {
            self.stir_void = true;
            let resident = self.catalog.files().filter(|(_, file)| file.residency.is_some());
            self.stirred = resident.map(|(id, _)| id).collect();
        }
    }

    /// What was told got lost: everything again, from the next call on.
    pub fn stir_again(&mut self) {
        self.stir_all();
    }

    /// Takes what has stirred since the last call, at most `limit` files.
    pub fn stirred(&mut self, limit: usize) -> Stir {
        if !self.stirring {
            self.stirring = true;
            self.stir_all();
        }
        let mut ids: Vec<FileId> = self.stirred.iter().copied().collect();
        // The set has no order of its own, and a recording must give the same again.
        ids.sort_unstable();
        let more = ids.len() > limit;
        ids.truncate(limit);
        for id in &ids {
            self.stirred.remove(id);
        }
        let files = ids.into_iter().filter_map(|id| {
            let file = self.catalog.file(id)?;
            let resident = file.residency.as_deref().map_or(Vec::new(), |residency| {
                let mut all: RangeSet = residency.reader.clone();
                for set in [&residency.readahead, &residency.agent, &residency.fresh] {
                    for span in set.iter() {
                        all.insert(&span);
                    }
                }
                all.iter().collect()
            });
            Some(StirredFile {
                file: file.key?,
                mount: self.catalog.mount_of(id)?,
                path: self.catalog.path(id),
                size: file.size,
                read_bytes: file.read_bytes,
                covered_bytes: file.covered_bytes,
                resident,
            })
        });
        let files = files.collect();
        Stir { void: std::mem::take(&mut self.stir_void), files, more }
    }

    /// Who reads where, and how, sorted.
    pub fn readings(&self) -> Vec<Reading> {
        let mut readings: Vec<Reading> = self
            .runs
            .values()
            .filter_map(|run| {
                let workload = self.workloads.get(run.workload as usize)?;
                Some(Reading {
                    mount: run.mount,
                    workload: workload.key.clone(),
                    pattern: run.pattern().0.into(),
                    folders: self.folders(run),
                    read_bytes: workload.read_bytes,
                    covered_bytes: workload.covered_bytes,
                })
            })
            .collect();
        readings.sort_by(|a, b| (a.mount, &a.workload).cmp(&(b.mount, &b.workload)));
        readings
    }

    /// Where its threads are, and what it came by last.
    fn folders(&self, run: &Run) -> Vec<Box<[u8]>> {
        let threads = run.threads.values().filter_map(Thread::last);
        let mut dirs: Vec<DirId> = Vec::new();
        for file in threads.chain(run.visits().iter().rev().take(FOLDERS).copied()) {
            let Some(file) = self.catalog.file(file) else { continue };
            if dirs.len() < FOLDERS && !dirs.contains(&file.dir) {
                dirs.push(file.dir);
            }
        }
        dirs.into_iter().map(|dir| self.catalog.dir_path(dir)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Limits;
    use crate::observation::{Actor, Via};
    use crate::units::{Nanos, Reader};

    const FILE: FileKey = FileKey { dev: 1, ino: 7 };

    fn told(core: &mut Core) -> Vec<(Vec<u8>, Vec<Pages>)> {
        core.stirred(100).files.into_iter().map(|file| (file.path.to_vec(), file.resident)).collect()
    }

    #[test]
    fn what_changed_is_told_once() {
        let mut core = Core::new(Limits::default());
        let reader = Reader { tgid: 5, tid: 5 };
        let apply = |core: &mut Core, observation| core.apply(&observation, Nanos(1));
        let mount = MountId(1);
        let (source, fstype) = ("nas:/x".into(), "nfs4".into());
        apply(&mut core, Observation::Mount { mount, dev: 1, source, fstype, read_ahead_bytes: 0 });
        let path = b"a/b"[..].into();
        apply(&mut core, Observation::Sight { file: FILE, mount, path, size: 40_960, mtime: 1 });
        let by = Actor::Thread(reader);
        apply(&mut core, Observation::Added { file: FILE, pages: 0..4, by });
        // Nobody has asked yet: what is resident is told at the first question.
        let first = core.stirred(100);
        assert!(first.void && !first.more && first.files.len() == 1);
        assert!(told(&mut core).is_empty());
        apply(
            &mut core,
            Observation::Access { file: FILE, reader, pages: 0..4, via: Via::Read, count: 1, size: 40_960 },
        );
        apply(&mut core, Observation::Added { file: FILE, pages: 4..6, by });
        assert_eq!(told(&mut core), [(b"a/b".to_vec(), vec![0..6])]);
        apply(&mut core, Observation::Removed { file: FILE, pages: 1..2, by: Actor::Reclaim });
        assert_eq!(told(&mut core), [(b"a/b".to_vec(), vec![0..1, 2..6])]);
        apply(&mut core, Observation::Removed { file: FILE, pages: 0..6, by: Actor::Reclaim });
        assert_eq!(told(&mut core), [(b"a/b".to_vec(), vec![])]);
        let [reading] = &core.readings()[..] else { panic!("one workload reads") };
        assert_eq!(reading.folders, [b"a"[..].into()]);
        apply(&mut core, Observation::Lost { records: 1 });
        assert!(core.stirred(100).void && !core.stirred(100).void);
    }
}
