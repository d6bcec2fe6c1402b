//! A file system to read from, a probe that watches it, and what the probe told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use agent::probe::{Case, Plan, PlanReport, Probe, ProbeConfig, ReadEvent, Seen};
use agent_core::observation::Via;
use agent_core::units::{FileKey, Nanos};

use crate::disk::{Disk, dev_of, ino_of};

/// `FileKey` in an order.
pub type FileKey2 = (u32, u64);

pub fn key(file: FileKey) -> FileKey2 {
    (file.dev, file.ino)
}

pub fn key_of(path: &Path) -> FileKey2 {
    (dev_of(path), ino_of(path))
}

/// Pages of a file; shown as ranges.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PageSet(BTreeSet<u64>);

impl PageSet {
    pub fn below(self, end: u64) -> Self {
        self.0.into_iter().filter(|page| *page < end).collect()
    }
}

impl FromIterator<u64> for PageSet {
    fn from_iter<T: IntoIterator<Item = u64>>(pages: T) -> Self {
        Self(pages.into_iter().collect())
    }
}

impl Deref for PageSet {
    type Target = BTreeSet<u64>;

    fn deref(&self) -> &BTreeSet<u64> {
        &self.0
    }
}

impl DerefMut for PageSet {
    fn deref_mut(&mut self) -> &mut BTreeSet<u64> {
        &mut self.0
    }
}

impl fmt::Debug for PageSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<std::ops::Range<u64>> = Vec::new();
        for page in &self.0 {
            match ranges.last_mut() {
                Some(range) if range.end == *page => range.end += 1,
                _ => ranges.push(*page..page + 1),
            }
        }
        f.debug_set().entries(ranges).finish()
    }
}

/// What the probe told since the last time, folded for comparing.
#[derive(Debug, Default)]
pub struct Told {
    pub events: Vec<ReadEvent>,
    pub paths: BTreeMap<FileKey2, Vec<u8>>,
}

impl Told {
    /// Pages of a file that were reached this way.
    pub fn pages(&self, of: &Path, via: Via) -> PageSet {
        let of = key_of(of);
        let mut set = PageSet::default();
        for event in &self.events {
            if let ReadEvent::Access { file, pages, via: how, .. } = event
                && key(*file) == of
                && *how == via
            {
                set.extend(pages.clone());
            }
        }
        set
    }

    /// Pages of a file that came into the page cache and stayed there.
    pub fn resident(&self, of: &Path) -> PageSet {
        let of = key_of(of);
        let mut resident = PageSet::default();
        for event in &self.events {
            match event {
                ReadEvent::Added { file, pages, .. } if key(*file) == of => resident.extend(pages.clone()),
                ReadEvent::Removed { file, pages, .. } if key(*file) == of => {
                    resident.retain(|page| !pages.contains(page));
                }
                _ => {}
            }
        }
        resident
    }

    /// Pages of a file that left it.
    pub fn removed(&self, of: &Path) -> PageSet {
        let of = key_of(of);
        let mut gone = PageSet::default();
        for event in &self.events {
            if let ReadEvent::Removed { file, pages, .. } = event
                && key(*file) == of
            {
                gone.extend(pages.clone());
            }
        }
        gone
    }

    /// How often a file was reached, in whatever way.
    pub fn count(&self, of: &Path) -> u32 {
        self.counted(of, |_| true)
    }

    /// How often it was reached this way.
    pub fn times(&self, of: &Path, via: Via) -> u32 {
        self.counted(of, |how| how == via)
    }

    fn counted(&self, of: &Path, counts: impl Fn(Via) -> bool) -> u32 {
        let of = key_of(of);
        let counts = self.events.iter().map(|event| match event {
            ReadEvent::Access { file, count, via, .. } if key(*file) == of && counts(*via) => *count,
            _ => 0,
        });
        counts.sum()
    }

    /// Whether nothing at all was told of a file.
    pub fn is_silent(&self, of: &Path) -> bool {
        let of = key_of(of);
        self.events.iter().all(|event| event.file().is_none_or(|file| key(file) != of))
    }

    /// Files that were accessed at all.
    pub fn accessed(&self) -> BTreeSet<FileKey2> {
        let files = self.events.iter().filter_map(|event| match event {
            ReadEvent::Access { file, .. } => Some(key(*file)),
            _ => None,
        });
        files.collect()
    }

    pub fn path(&self, of: &Path) -> Option<&[u8]> {
        self.paths.get(&key_of(of)).map(Vec::as_slice)
    }
}

#[derive(Debug)]
pub struct Scene {
    pub disk: Disk,
    pub probe: Probe,
    pub report: PlanReport,
    now: u64,
}

impl Scene {
    /// The test's reads count as those of others.
    pub fn open(plan: Plan) -> Self {
        Self::with(plan, ProbeConfig { own_tgid: Some(1), ..ProbeConfig::default() })
    }

    pub fn with(plan: Plan, config: ProbeConfig) -> Self {
        let disk = Disk::make();
        let config = ProbeConfig { plan: Some(plan), ..config };
        let (mut probe, report) = Probe::start(config).unwrap_or_else(|error| panic!("{error}"));
        probe.watch(disk.dev).unwrap_or_else(|error| panic!("{error}"));
        Self { disk, probe, report, now: 0 }
    }

    /// Whether this plan says that it sees such a case, wholly or in part.
    pub fn sees(&self, case: Case) -> bool {
        match self.report.sees(case) {
            Some(Seen::Yes | Seen::Partly(_)) => true,
            Some(Seen::No(_)) => false,
            None => panic!("the report says nothing about {case:?}"),
        }
    }

    /// Reads of resident pages.
    pub fn sees_hits(&self) -> bool {
        self.sees(Case::Hit)
    }

    /// What was told until now, what runs have grown by in silence included.
    pub fn told(&mut self) -> Told {
        // Further on each time than any pause.
        self.now += 10_000_000_000;
        let mut told = Told::default();
        let events = &mut told.events;
        while self.probe.drain(Nanos(self.now), 4096, |event| events.push(event)) > 0 {}
        self.now += 10_000_000_000;
        self.probe.flush(Nanos(self.now), |event| events.push(event));
        for event in &told.events {
            if let ReadEvent::Sight { file, path, .. } = event {
                told.paths.insert(key(*file), path.to_vec());
            }
        }
        told
    }

    /// Watches another device for as long as `act` takes. Should that panic, the scene goes with it.
    pub fn watching<T>(&mut self, dev: u32, act: impl FnOnce(&mut Self) -> T) -> T {
        self.probe.watch(dev).expect("watching");
        let result = act(self);
        self.probe.forget(dev).expect("forgetting");
        result
    }

    /// Makes the probe forget all names of a device.
    pub fn forget(&mut self, dev: u32) {
        self.probe.forget(dev).expect("forgetting");
        self.probe.watch(dev).expect("watching");
        self.told();
    }
}

/// `path` as the probe names it: below the file system's root.
pub fn below<'a>(path: &'a Path, root: &Path) -> &'a [u8] {
    path.strip_prefix(root).expect("a path below the root").as_os_str().as_bytes()
}
