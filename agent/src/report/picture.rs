//! What the engine tells, in the operator's terms: which Dataset a file belongs to, which chunks of it are whole,
//! who reads it how much, and what an instruction means here. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use agent_core::view::Survival;
use agent_core::{FileKey, MountId, Nanos, PAGE, Pages, Reading, Stir, StirredFile, Visited, pages_of};
use operator_api::report::v1 as wire;
use rustc_hash::FxHashMap;
use wire::instruction::Work;
use wire::progress::State;

use super::claim::{Claim, Claims};
use super::errands::Plan;
use super::first::{self, Files};
use super::folder::{self, Folder, Mounted};
use super::ledger::{Key, Tier};
use super::manifest::{Coverage, Manifest};
use super::piece::Piece;
use super::speaker::{Demand, Speaker, Version};
use super::survey::{Job, Root, SurveyError, Surveyed, joined};
use crate::mounts::{below, trim};

/// Demand is told over so long.
const WINDOW: Nanos = Nanos::from_millis(60_000);

/// A Dataset is looked at again after so long, or this soon where a file was seen that does not fit, or it could not be
/// looked at.
const OLD: Nanos = Nanos::from_millis(1_800_000);
const SUSPECT: Nanos = Nanos::from_millis(60_000);

/// Patterns told; a node runs fewer workloads.
const PATTERNS: usize = 512;

/// Datasets told of one profile: a workload that reads more of one file system is told by those it reads first.
const FIRSTS: usize = 16;

/// Why nothing is brought in before its reader comes, where the core has found out that it cannot be.
const PAGES_DROPPED: &str = "the kernel drops a file's pages at each open on this file system: what is brought in now \
     would be gone when a pod opens the file, and bringing it in would take the pages of pods that read it; have its \
     server set FOPEN_KEEP_CACHE, or leave it to the agent, which reads ahead of readers here too";
const ROOT_REFUSED: &str = "root may not open files on this file system, so that nothing can be brought in before a \
     pod reads it; mount it with allow_other (FUSE) or no_root_squash (NFS), or leave it to the agent, which reads \
     ahead of readers here too";

#[derive(Debug, Default)]
struct Dataset {
    number: u32,
    folders: Vec<Folder>,
    /// How many the Dataset has.
    all_folders: usize,
    manifest: Option<Manifest>,
    coverage: Coverage,
    /// Why there is no manifest.
    trouble: Option<String>,
    /// The number of the survey under way.
    survey: Option<u64>,
    surveyed: Option<Nanos>,
    suspect: bool,
    /// (when, bytes read, bytes that were there).
    reads: VecDeque<(Nanos, u64, u64)>,
}

impl Dataset {
    /// Whether folders of it are missing here; one may be there on two file systems.
    fn is_partly_here(&self) -> bool {
        let here: BTreeSet<&[u8]> = self.folders.iter().map(|folder| &*folder.prefix).collect();
        here.len() < self.all_folders
    }

    /// The file systems that show the same part of it as this folder does: one NFS volume that some pods have read-only, and
    /// two mounts of one bucket, are two.
    fn alike(&self, folder: &Folder) -> Vec<MountId> {
        let same = self.folders.iter().filter(|other| other.prefix == folder.prefix);
        same.map(|other| other.mount).collect()
    }
}

#[derive(Debug, Default)]
pub struct Picture {
    mounts: Vec<Mounted>,
    datasets: BTreeMap<Arc<str>, Dataset>,
    /// Surveys given out so far.
    surveys: u64,
    /// What was read of each file, as told last: no more files than the core knows.
    counted: FxHashMap<FileKey, (u64, u64)>,
    /// Bytes that may be brought in.
    pub room: u64,
    /// What the core has found out about the watched file systems.
    pub survival: FxHashMap<MountId, Survival>,
}

impl Picture {
    /// Takes the watched file systems over; whether they changed, so that Sources are to be told.
    pub fn mounted(&mut self, mounts: Vec<Mounted>) -> bool {
        let changed = self.mounts != mounts;
        self.mounts = mounts;
        changed
    }

    /// In so many bytes at most, and how many folders do not fit.
    pub fn sources(&self, bytes: usize) -> (wire::Sources, usize) {
        folder::sources(&self.mounts, bytes)
    }

    /// Takes bindings over. What was known of Datasets that stay as they are is kept.
    pub fn bind(&mut self, told: wire::Bindings, speaker: &mut Speaker) {
        let mut former = std::mem::take(&mut self.datasets);
        for wire::Binding { dataset, name, source, path, prefix, folders } in told.bindings {
            let here = self.datasets.entry(name.into()).or_default();
            here.number = dataset;
            here.all_folders = folders as usize;
            here.folders.push(Folder { mount: MountId(source), path: path.into(), prefix: prefix.into() });
        }
        for (name, dataset) in &mut self.datasets {
            if let Some(known) = former.remove(name) {
                if known.folders == dataset.folders {
                    *dataset = Dataset { number: dataset.number, all_folders: dataset.all_folders, ..known };
                } else {
                    former.insert(name.clone(), known);
                }
            }
        }
        for (name, gone) in former {
            Self::void(&name, &gone, speaker);
        }
        speaker.bind(self.datasets.iter().map(|(name, dataset)| (name.clone(), dataset.number)));
    }

    /// Nothing is resident of it as far as is known.
    fn void(name: &Arc<str>, dataset: &Dataset, speaker: &mut Speaker) {
        if let Some(manifest) = &dataset.manifest {
            let key = Key { dataset: name.clone(), version: manifest.version, tier: Tier::PageCache };
            speaker.ledger.clear(&key);
        }
        speaker.facts.versions.remove(name);
        speaker.facts.demand.remove(name);
        speaker.facts.patterns.retain(|(of, _), _| of != name);
    }

    /// Surveys that are due; each is given out once until its result comes.
    pub fn surveys(&mut self, now: Nanos) -> Vec<Job> {
        let mut jobs = Vec::new();
        for (name, dataset) in &mut self.datasets {
            let age = dataset.surveyed.map(|at| now.since(at));
            let due = age.is_none_or(|age| age >= OLD || (dataset.suspect && age >= SUSPECT));
            if dataset.survey.is_some() || !due || dataset.is_partly_here() {
                continue;
            }
            let mut parts: BTreeMap<&[u8], Vec<Root>> = BTreeMap::new();
            for folder in &dataset.folders {
                parts.entry(&folder.prefix).or_default().extend(folder.root(&self.mounts));
            }
            // Only a part of it is mounted here.
            if parts.values().any(Vec::is_empty) {
                continue;
            }
            let parts = parts.into_values().collect();
            self.surveys += 1;
            dataset.survey = Some(self.surveys);
            jobs.push(Job { dataset: name.clone(), number: self.surveys, parts });
        }
        jobs
    }

    /// The surveyor had no room for it: it is asked again.
    pub fn not_surveyed(&mut self, name: &str) {
        if let Some(dataset) = self.datasets.get_mut(name) {
            dataset.survey = None;
        }
    }

    /// Takes a survey over; whether everything resident is to be told again by the engine.
    pub fn surveyed(&mut self, told: Surveyed, speaker: &mut Speaker, now: Nanos) -> bool {
        let Some(dataset) = self.datasets.get_mut(&told.dataset) else { return false };
        // Of one that was bound otherwise, and waited for its store since.
        if dataset.survey != Some(told.number) {
            return false;
        }
        dataset.survey = None;
        dataset.suspect = false;
        dataset.surveyed = Some(now);
        let manifest = match told.manifest {
            Ok(manifest) => manifest,
            // Nothing was looked at: what was known stays, and it is due again soon.
            Err(error @ (SurveyError::Waiting | SurveyError::Thread(_))) => {
                tracing::warn!("Dataset {}: {error}", told.dataset);
                dataset.suspect = true;
                if dataset.manifest.is_none() {
                    dataset.trouble = Some(error.to_string());
                }
                return false;
            }
            Err(error) => {
                // A store that was away for a moment costs a minute; what is too large stays so for longer.
                dataset.suspect = matches!(error, SurveyError::Look { .. });
                let trouble = error.to_string();
                // Said once, not every minute.
                if dataset.trouble.as_ref() != Some(&trouble) {
                    tracing::warn!("Dataset {}: {trouble}", told.dataset);
                }
                Self::void(&told.dataset, dataset, speaker);
                dataset.manifest = None;
                dataset.coverage = Coverage::default();
                dataset.trouble = Some(trouble);
                return false;
            }
        };
        dataset.trouble = None;
        if dataset.manifest.as_ref().is_some_and(|known| known.version == manifest.version) {
            return false;
        }
        if let Some(former) = &dataset.manifest {
            let key = Key { dataset: told.dataset.clone(), version: former.version, tier: Tier::PageCache };
            speaker.ledger.clear(&key);
        }
        let version = Version {
            version: manifest.version,
            bytes: manifest.bytes,
            files: manifest.len() as u64,
            seen_ms: manifest.seen_ms,
        };
        speaker.facts.versions.insert(told.dataset, version);
        dataset.manifest = Some(manifest);
        dataset.coverage = Coverage::default();
        true
    }

    /// Takes over what has stirred.
    pub fn stir(&mut self, stir: Stir, speaker: &mut Speaker, now: Nanos) {
        if stir.void {
            self.counted.clear();
            for (name, dataset) in &mut self.datasets {
                dataset.coverage = Coverage::default();
                if let Some(manifest) = &dataset.manifest {
                    let key = Key { dataset: name.clone(), version: manifest.version, tier: Tier::PageCache };
                    speaker.ledger.clear(&key);
                }
            }
        }
        for file in stir.files {
            self.file(file, speaker, now);
        }
        for (name, dataset) in &mut self.datasets {
            while dataset.reads.front().is_some_and(|(at, _, _)| now.since(*at) > WINDOW) {
                dataset.reads.pop_front();
            }
            let read: u64 = dataset.reads.iter().map(|(_, read, _)| read).sum();
            let hit: u64 = dataset.reads.iter().map(|(_, _, hit)| hit).sum();
            if read == 0 && !speaker.facts.demand.contains_key(name) {
                continue;
            }
            let demand = speaker.facts.demand.entry(name.clone()).or_default();
            let seconds = WINDOW.0 / 1_000_000_000;
            *demand = Demand { rate: read / seconds, hit, miss: read.saturating_sub(hit), ..*demand };
            if read == 0 {
                demand.readers = 0;
            }
        }
    }

    fn file(&mut self, stirred: StirredFile, speaker: &mut Speaker, now: Nanos) {
        let StirredFile { file, mount, path, size, read_bytes, covered_bytes, resident } = stirred;
        let before = self.counted.insert(file, (read_bytes, covered_bytes)).unwrap_or((0, 0));
        let (read, hit) = (read_bytes.saturating_sub(before.0), covered_bytes.saturating_sub(before.1));
        for (name, dataset) in &mut self.datasets {
            let folders = dataset.folders.iter().filter(|folder| folder.mount == mount);
            let found = folders.filter_map(|f| Some((f, joined(&f.prefix, below(&f.path, &path)?)))).next();
            let Some((folder, inner)) = found else { continue };
            if read > 0 {
                // One entry for each look at the engine, however many files.
                match dataset.reads.back_mut() {
                    Some(last) if last.0 == now => *last = (now, last.1 + read, last.2 + hit),
                    _ => dataset.reads.push_back((now, read, hit)),
                }
            }
            let Some(manifest) = &dataset.manifest else { continue };
            let known = manifest.find(&inner).filter(|at| size == 0 || manifest.size(*at) == Some(size));
            let Some(at) = known else {
                dataset.suspect = true;
                continue;
            };
            let mounts = dataset.alike(folder);
            let touched = dataset.coverage.set_on(manifest, at, mount, &mounts, resident.clone());
            let key = Key { dataset: name.clone(), version: manifest.version, tier: Tier::PageCache };
            let coverage = &dataset.coverage;
            speaker.ledger.change(&key, |held| {
                for chunk in touched {
                    if coverage.is_whole(manifest, chunk) {
                        held.whole.insert(chunk, chunk + 1);
                    } else {
                        held.whole.remove(chunk, chunk + 1);
                    }
                }
                held.partial = coverage.partial();
            });
        }
    }

    /// Who reads, and how.
    pub fn readings(&mut self, readings: &[Reading], speaker: &mut Speaker) {
        speaker.facts.patterns.clear();
        for (name, dataset) in &self.datasets {
            // One file system may hold many Datasets.
            let here = |r: &&Reading| {
                let mut folders = dataset.folders.iter().filter(|folder| folder.mount == r.mount);
                folders.any(|folder| r.folders.iter().any(|read| below(&folder.path, read).is_some()))
            };
            let mut readers = 0u32;
            for reading in readings.iter().filter(here) {
                readers += 1;
                let covered = reading.covered_bytes.saturating_mul(1_000) / reading.read_bytes.max(1);
                let permille = u32::try_from(covered).unwrap_or(1_000).min(1_000);
                if speaker.facts.patterns.len() < PATTERNS && reading.workload.len() <= 512 {
                    let key = (name.clone(), reading.workload.clone());
                    // Tens: what flickers is not worth a message.
                    speaker.facts.patterns.insert(key, (reading.pattern.clone(), permille / 10 * 10));
                }
            }
            if let Some(demand) = speaker.facts.demand.get_mut(name)
                && demand.rate > 0
            {
                demand.readers = readers;
            }
        }
    }

    /// Where in Datasets' versions lies what a profile of a workload on a source names.
    pub fn firsts(&self, source: &str, visited: &[Visited]) -> Vec<wire::First> {
        let mounts: Vec<MountId> =
            self.mounts.iter().filter(|m| &*m.source == source).map(|m| m.mount).collect();
        let told = self.datasets.values().filter_map(|dataset| {
            let manifest = dataset.manifest.as_ref()?;
            let mut files = Files::default();
            for folder in dataset.folders.iter().filter(|folder| mounts.contains(&folder.mount)) {
                for visit in visited {
                    let Some(inner) = below(&folder.path, &visit.path) else { continue };
                    let found = manifest.find(&joined(&folder.prefix, inner));
                    match found.filter(|at| visit.size == 0 || manifest.size(*at) == Some(visit.size)) {
                        Some(at) => files.known.push((at, visit)),
                        None => files.foreign += 1,
                    }
                }
            }
            let chunks = first::first(manifest, &files);
            let (version_high, version_low) = ((manifest.version >> 64) as u64, manifest.version as u64);
            let first = wire::First { dataset: dataset.number, version_high, version_low, chunks };
            (!first.chunks.is_empty()).then_some(first)
        });
        told.take(FIRSTS).collect()
    }

    /// What an instruction means here, beside what others have taken of the room.
    pub fn plan(&self, work: &Work, taken: &Claims) -> Plan {
        let (extent, tier) = match work {
            Work::Fetch(wire::Fetch { extent, tier })
            | Work::Pin(wire::Pin { extent, tier })
            | Work::Drop(wire::Drop { extent, tier }) => (extent, *tier),
        };
        let Some(extent) = extent else { return no(State::Refused, "the instruction does not say of what") };
        if tier != i32::from(wire::Tier::PageCache) {
            return no(State::Refused, "this node has the page cache only, and no cache tier");
        }
        let Some(dataset) = self.datasets.values().find(|dataset| dataset.number == extent.dataset) else {
            return no(State::Refused, "the Dataset is not mounted on this node");
        };
        let Some(manifest) = &dataset.manifest else {
            return match &dataset.trouble {
                Some(trouble) => no(State::Failed, trouble),
                None if dataset.is_partly_here() => {
                    no(State::Refused, "only a part of the Dataset is mounted on this node")
                }
                None => Plan::Wait,
            };
        };
        let version = u128::from(extent.version_high) << 64 | u128::from(extent.version_low);
        if version != 0 && version != manifest.version {
            return no(State::Changed, "the Dataset is of another version on this node");
        }
        let mut claim = Claim { of: (dataset.number, manifest.version), ..Claim::default() };
        let parts = if extent.chunks.is_empty() {
            let path = trim(&extent.path);
            let files = manifest.below(path);
            if files.is_empty() && !path.is_empty() {
                return no(State::Failed, "no file of the Dataset is called so, and no folder");
            }
            let whole = |at| (at, std::iter::once(0..pages_of(manifest.size(at).unwrap_or(0))).collect());
            files.into_iter().map(whole).collect::<Vec<(usize, Vec<Pages>)>>()
        } else {
            let (pairs, _) = extent.chunks.as_chunks::<2>();
            let runs: Vec<_> =
                pairs.iter().map(|[start, length]| *start..start.saturating_add(*length)).collect();
            manifest.pages(&runs)
        };
        let empty = |pages: &[Pages]| pages.iter().all(|range| range.start >= range.end);
        for (at, pages) in &parts {
            for range in pages {
                let chunks = manifest.chunks(*at, range.start * PAGE..range.end * PAGE);
                claim.chunks.insert(chunks.start, chunks.end);
            }
        }
        let pieces: Vec<Piece> = parts
            .into_iter()
            .filter(|(_, pages)| !empty(pages))
            .flat_map(|(at, pages)| {
                let path = manifest.path(at).unwrap_or_default();
                let places = || dataset.folders.iter().filter_map(|f| Some((f, below(&f.prefix, path)?)));
                let shown = places().next().map(|(folder, _)| &folder.prefix);
                // On each file system that shows it: pods read through any of them.
                let here = places().filter(|(folder, _)| Some(&folder.prefix) == shown);
                let piece = |(folder, rest): (&Folder, &[u8])| {
                    let path = joined(&folder.path, rest).into();
                    Piece { mount: folder.mount, path, pages: pages.clone() }
                };
                here.map(piece).collect::<Vec<_>>()
            })
            .collect();
        if matches!(work, Work::Drop(_)) {
            return Plan::Pieces(pieces, Claim::default());
        }
        if let Some(why) = pieces.iter().find_map(|piece| self.closed(piece.mount)) {
            return no(State::Refused, why);
        }
        claim.bytes = pieces.iter().map(Piece::bytes).sum();
        let (need, left) = (taken.beyond(&claim), self.room.saturating_sub(taken.bytes()));
        if need > left {
            let (need, room, taken) = (need >> 20, self.room >> 20, taken.bytes() >> 20);
            let why = format!(
                "it needs {need} MiB, and of the {room} MiB that this node has for such {taken} MiB are taken by other \
                 instructions in hand, which it would push out; ask for less, or withdraw another one first"
            );
            return no(State::Refused, &why);
        }
        Plan::Pieces(pieces, claim)
    }

    /// Why nothing can be brought in for readers to come at this mount.
    fn closed(&self, mount: MountId) -> Option<&'static str> {
        match self.survival.get(&mount)? {
            Survival::Unknown | Survival::Kept => None,
            Survival::Dropped => Some(PAGES_DROPPED),
            Survival::Refused => Some(ROOT_REFUSED),
        }
    }

    /// All mounts where that is so.
    pub fn all_closed(&self) -> impl Iterator<Item = (MountId, &'static str)> {
        self.survival.keys().filter_map(|mount| Some((*mount, self.closed(*mount)?)))
    }

    /// Whether a piece is resident as far as the engine has told.
    pub fn holds(&self, piece: &Piece) -> bool {
        self.datasets.values().any(|dataset| {
            let inner = dataset.folders.iter().filter(|folder| folder.mount == piece.mount);
            let mut inner = inner.filter_map(|f| Some(joined(&f.prefix, below(&f.path, &piece.path)?)));
            let found = inner.find_map(|inner| dataset.manifest.as_ref()?.find(&inner));
            found.is_some_and(|at| dataset.coverage.holds(at, piece.mount, &piece.pages))
        })
    }
}

fn no(state: State, why: &str) -> Plan {
    Plan::No(state, why.to_owned())
}

#[cfg(test)]
#[path = "picture_tests.rs"]
mod tests;
