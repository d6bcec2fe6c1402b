//! Views of the state for the person who asks.

use hdrhistogram::Histogram;

use crate::catalog::FileId;
use crate::core::Core;
use crate::explain::words;
use crate::observation::Observation;
use crate::stream::Pattern;
use crate::units::{FileKey, MountId, Nanos};
use crate::view::{Fate, FileView, LedgerRow, MountView, NodeView, WorkloadView};

/// Names a recording begins with at most: about a megabyte of it.
const INTRODUCED: usize = 1 << 15;

impl Core {
    pub fn node(&self) -> NodeView {
        let mut fate = Fate::default();
        for (_, _, row) in self.ledger.rows() {
            let one = row.fate();
            fate.hit += one.hit;
            fate.late += one.late;
            fate.wasted += one.wasted;
            fate.pending += one.pending;
        }
        let mut mounts: Vec<MountView> = self
            .stores
            .values()
            .map(|store| MountView {
                mount: store.mount,
                dev: store.dev,
                source: store.source.clone(),
                fstype: store.fstype.clone(),
                survival: store.survival,
                depth: store.depth,
                miss_latency: store.median_miss(),
            })
            .collect();
        mounts.sort_by_key(|mount| mount.mount);
        NodeView {
            mounts,
            files: self.catalog.file_count() as u64,
            workloads: (self.workloads.len() - 1 - self.spare.len()) as u64,
            reads: self.totals.reads,
            read_bytes: self.totals.read_bytes,
            covered_bytes: self.totals.covered_bytes,
            fetched_bytes: self.totals.fetched_bytes,
            fate,
            lost_records: self.totals.lost_records,
            in_flight: self.flights.len() as u64,
            queued: self.runs.values().map(|run| run.waiting() as u64).sum(),
            memory_available: self.available,
        }
    }

    /// Latencies of misses at each watched file system, in nanoseconds.
    pub fn miss_histograms(&self) -> Vec<(MountId, Box<str>, &Histogram<u64>)> {
        let mut all: Vec<_> = self
            .stores
            .values()
            .filter_map(|store| Some((store.mount, store.source.clone(), store.misses()?)))
            .collect();
        all.sort_by_key(|(mount, _, _)| *mount);
        all
    }

    pub fn workloads(&self) -> Vec<WorkloadView> {
        let mut views = Vec::new();
        for (id, workload) in (0u32..).zip(&self.workloads) {
            let mut runs: Vec<_> = self.runs.values().filter(|run| run.workload == id).collect();
            let (fetched_bytes, fate) = self.ledger.of_workload(id);
            if runs.is_empty() && workload.read_bytes == 0 {
                continue;
            }
            runs.sort_by_key(|run| (run.last, run.mount));
            let (pattern, reason) = match runs.last() {
                Some(run) => run.pattern(),
                None => ("not running", "its last run has ended".into()),
            };
            let (pattern, reason) = match runs.last().and_then(|run| run.visits().last()) {
                // One file: what matters is the walk within it.
                Some(file) if runs.last().is_some_and(|run| run.distinct() < 2) => {
                    let within = self.active.get(file).map_or(Pattern::New, |active| active.streams.latest());
                    (words(within), reason)
                }
                _ => (pattern.to_owned(), reason),
            };
            views.push(WorkloadView {
                workload: workload.key.clone(),
                label: workload.label.clone(),
                tgids: runs.iter().flat_map(|run| run.tgids.iter().copied()).collect(),
                runs: workload.runs,
                files_read: workload.files_read,
                read_bytes: workload.read_bytes,
                covered_bytes: workload.covered_bytes,
                fetched_bytes,
                fate,
                pattern: pattern.into(),
                reason: reason.into(),
            });
        }
        views
    }

    /// What a recording must begin with so that its replay knows what this core knows: mounts, processes,
    /// and the names of the files seen, the first `INTRODUCED` of them.
    pub fn introduction(&self) -> Vec<Observation> {
        let mut told = Vec::new();
        let mut stores: Vec<_> = self.stores.values().collect();
        stores.sort_by_key(|store| store.mount);
        for store in stores {
            told.push(Observation::Mount {
                mount: store.mount,
                dev: store.dev,
                source: store.source.clone(),
                fstype: store.fstype.clone(),
                read_ahead_bytes: store.read_ahead_bytes,
            });
        }
        let mut processes: Vec<_> = self.processes.iter().collect();
        processes.sort_unstable();
        for (tgid, workload) in processes {
            let Some(workload) = self.workloads.get(*workload as usize) else { continue };
            let (key, label) = (workload.key.clone(), workload.label.clone());
            told.push(Observation::Process { tgid: *tgid, workload: key, label });
        }
        let named = self.catalog.files().filter_map(|(id, file)| Some((id, file.key?, file.size)));
        for (id, file, size) in named.take(INTRODUCED) {
            let Some(mount) = self.catalog.mount_of(id) else { continue };
            told.push(Observation::Sight { file, mount, path: self.catalog.path(id), size, mtime: 0 });
        }
        told
    }

    /// Files of a mount, or of all, whose path starts with `prefix`, most read bytes first, at most `limit`.
    pub fn files(&self, mount: Option<MountId>, prefix: &[u8], limit: usize) -> Vec<FileView> {
        let mut found: Vec<(u64, FileId)> = self
            .catalog
            .files()
            .filter(|(_, file)| file.reads > 0 || file.residency.is_some())
            .filter(|(id, _)| mount.is_none_or(|mount| self.catalog.mount_of(*id) == Some(mount)))
            .filter(|(id, _)| prefix.is_empty() || self.catalog.path(*id).starts_with(prefix))
            .map(|(id, file)| (file.read_bytes, id))
            .collect();
        found.sort_by_key(|(bytes, id)| (std::cmp::Reverse(*bytes), *id));
        found.truncate(limit);
        found.into_iter().filter_map(|(_, id)| self.file_view(id)).collect()
    }

    /// The inode of a path, of any mount where none is given, where it has been seen.
    pub fn key_of(&self, mount: Option<MountId>, path: &[u8]) -> Option<FileKey> {
        self.catalog.file(self.catalog.find(mount, path)?)?.key
    }

    pub(crate) fn file_view(&self, id: FileId) -> Option<FileView> {
        let file = self.catalog.file(id)?;
        let count = |set: fn(&crate::residency::Residency) -> u64| file.residency.as_deref().map_or(0, set);
        let pattern = match self.active.get(&id) {
            Some(active) => words(active.streams.latest()),
            None => String::new(),
        };
        Some(FileView {
            file: file.key?,
            mount: self.catalog.mount_of(id)?,
            path: self.catalog.path(id),
            size: file.size,
            reads: u64::from(file.reads),
            read_bytes: file.read_bytes,
            covered_bytes: file.covered_bytes,
            resident_pages: count(|residency| residency.pages()),
            resident_by_reader: count(|residency| residency.reader.pages()),
            resident_by_readahead: count(|residency| residency.readahead.pages() + residency.fresh.pages()),
            resident_by_agent: count(|residency| residency.agent.pages()),
            pattern: pattern.into(),
        })
    }

    pub fn ledger(&self) -> Vec<LedgerRow> {
        self.ledger
            .rows()
            .map(|(workload, predictor, row)| LedgerRow {
                workload: self.workloads.get(workload as usize).map_or("".into(), |w| w.label.clone()),
                predictor,
                predictions: row.predictions,
                fetched_bytes: row.fetched,
                fate: row.fate(),
            })
            .collect()
    }

    /// Miss latency of the store, for whoever plays it (replay).
    pub fn latency(&self, mount: MountId) -> Nanos {
        self.stores.get(&mount).map_or(Nanos::from_millis(5), |store| store.latency())
    }
}
