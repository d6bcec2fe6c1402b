//! Walks through directories, in steps of one or of n, in bursts that lie equally far from each other.
//!
//! Visits give distances in each order; the order whose distance stays the same is the one that is
//! walked. Eight workers that share a directory each step by eight; where each takes a batch, it walks through that
//! and leaps to its next one. At a directory's end the walk goes on in the next.

use crate::catalog::{Catalog, DirId, FileId};
use crate::gait::{Gait, NEAR, Pace};
use crate::route::{DirOrder, Manner, Next, length};

/// Equal distances between bursts of equal length before the next one is foreseen.
const LEAP_PROOF: u32 = 2;

/// Steps that a walk may leave out and has not ended.
const SKIP: u32 = 4;

/// Directories listed ahead of a walk at least: a listing takes as long as a fetch, and small directories pass fast.
const DIRS_AHEAD: usize = 4;

/// Listings asked for at once.
const LISTINGS: usize = 16;

/// Directories looked at for the files of one look ahead: most trees have few without files.
const HOPS: usize = 64;

/// Visits remembered, so that a listing that arrives late can still be compared with them.
const RECENT: usize = 10;

/// Files visited in equal steps.
#[derive(Clone, Copy, Debug)]
struct Burst {
    start: FileId,
    files: u32,
}

/// From the start of one burst to that of the next.
#[derive(Clone, Copy, Debug, Default)]
struct Leap {
    steps: i64,
    /// Files of the bursts.
    files: u32,
    proof: u32,
}

#[derive(Clone, Debug, Default)]
pub struct Walker {
    /// The last visits, newest last.
    recent: Vec<FileId>,
    gaits: [Gait; 4],
    /// The burst under way, and the one before it.
    burst: Option<Burst>,
    former: Option<Burst>,
    leap: Leap,
    manner: Manner,
    /// How many steps ahead have been asked for already.
    issued: u32,
}

/// The next file of a walk, or what must be listed to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahead {
    File(FileId),
    Unlisted(DirId),
    End,
}

impl Walker {
    pub fn last(&self) -> Option<FileId> {
        self.recent.last().copied()
    }

    /// Whether this file is the next of a walk that is believed.
    pub fn foresees(&self, catalog: &Catalog, file: FileId) -> bool {
        let (Some((order, pace)), Some(last)) = (self.leading(), self.last()) else { return false };
        order.way(catalog, last, file).is_some_and(|way| way.steps == self.step_after(pace, 0))
    }

    /// Whether this file lies where the walk is: in its directory, or a few steps on in the next.
    pub fn is_near(&self, catalog: &Catalog, file: FileId) -> bool {
        let Some(last) = self.last() else { return true };
        let dir = |id| catalog.file(id).map(|file| file.dir);
        let near =
            |order: DirOrder| order.way(catalog, last, file).is_some_and(|way| way.steps.abs() <= NEAR);
        dir(last) == dir(file) || DirOrder::ALL.into_iter().any(near)
    }

    /// Takes in a visit; returns how many files a walk had that it ends.
    pub fn visit(&mut self, catalog: &Catalog, file: FileId) -> Option<u32> {
        let led = self.leading();
        let last = self.last();
        if self.recent.len() == RECENT {
            self.recent.remove(0);
        }
        self.recent.push(file);
        let last = last?;
        let next = led.map(|(order, pace)| (order, self.step_after(pace, 0), pace.step(0)));
        let (mut way_led, mut goes_on, mut leapt) = (None, false, false);
        for (order, gait) in DirOrder::ALL.into_iter().zip(&mut self.gaits) {
            let way = order.way(catalog, last, file);
            let Some((_, next, step)) = next.filter(|(led, ..)| *led == order) else {
                gait.advance(way.map(|way| way.steps));
                continue;
            };
            way_led = way;
            leapt = next != step && way.is_some_and(|way| way.steps == next);
            goes_on = leapt || way.is_some_and(|way| way.steps == step);
            if leapt {
                gait.hold();
            } else {
                gait.advance(way.map(|way| way.steps));
            }
        }
        if goes_on {
            self.issued = self.issued.saturating_sub(1);
            if let Some(way) = way_led {
                self.manner.learn(way.turn);
            }
            self.go_on(file, leapt);
            return None;
        }
        let issued = std::mem::take(&mut self.issued);
        let ended = self.burst.take();
        self.former = ended.or(self.former);
        if self.leaps() {
            self.leap.proof = 0;
        }
        self.begin(catalog);
        let (order, pace) = led?;
        let step = pace.step(0);
        // Who comes to a directory's end was not done with what he walked, and who lands a little further on, or on
        // what was asked for ahead, has only left out a few.
        let (dir, at) = order.place(catalog, last)?;
        let in_midst =
            length(catalog, dir).is_some_and(|files| (0..files).contains(&at.saturating_add(step)));
        let landed = way_led.is_some_and(|way| {
            let onwards = way.steps.saturating_mul(step.signum());
            (1..=step.abs().saturating_mul(i64::from(issued.max(SKIP)))).contains(&onwards)
        });
        ended.filter(|_| in_midst && !landed).map(|burst| burst.files)
    }

    /// The walk has gone on, by a step or by a leap.
    fn go_on(&mut self, file: FileId, leapt: bool) {
        let Some(burst) = &mut self.burst else { return };
        if leapt {
            self.former = Some(*burst);
            *burst = Burst { start: file, files: 1 };
            self.leap.proof = self.leap.proof.saturating_add(1);
            return;
        }
        burst.files = burst.files.saturating_add(1);
        if burst.files > self.leap.files {
            self.leap.proof = 0;
        }
    }

    /// If a walk is believed from now on, its burst began some visits ago.
    fn begin(&mut self, catalog: &Catalog) {
        let Some((order, pace)) = self.leading() else { return };
        let back = (pace.proof as usize).min(self.recent.len().saturating_sub(1));
        let Some(start) = self.recent.get(self.recent.len() - 1 - back).copied() else { return };
        self.burst = Some(Burst { start, files: u32::try_from(back).unwrap_or(u32::MAX).saturating_add(1) });
        let Some(former) = self.former else { return };
        let Some(steps) = order.way(catalog, former.start, start).map(|way| way.steps) else { return };
        let same = self.leap.steps == steps && self.leap.files == former.files;
        let proof = if same { self.leap.proof.saturating_add(1) } else { 1 };
        self.leap = Leap { steps, files: former.files, proof };
    }

    /// Whether bursts are foreseen, the next one too.
    pub fn leaps(&self) -> bool {
        self.leap.proof >= LEAP_PROOF && self.leap.files > 0
    }

    /// Files of the burst under way.
    pub fn files(&self) -> u32 {
        self.burst.map_or(0, |burst| burst.files)
    }

    /// The distance from the file so many steps ahead (0: the last one visited) to the one after it.
    fn step_after(&self, pace: Pace, ahead: u32) -> i64 {
        let read = self.files().saturating_add(ahead);
        match pace.constant() {
            Some(step) if self.leaps() && read.is_multiple_of(self.leap.files) => {
                self.leap.steps.saturating_sub(step.saturating_mul(i64::from(self.leap.files) - 1))
            }
            _ => pace.step(ahead),
        }
    }

    /// A listing has come: compare the remembered visits with it.
    pub fn relist(&mut self, catalog: &Catalog) {
        if self.leading().is_some() {
            return;
        }
        for (order, gait) in DirOrder::ALL.into_iter().zip(&mut self.gaits) {
            *gait = Gait::default();
            for pair in self.recent.windows(2) {
                if let &[from, to] = pair {
                    gait.advance(order.way(catalog, from, to).map(|way| way.steps));
                }
            }
        }
        self.issued = 0;
        self.begin(catalog);
    }

    /// The order that holds best, and in which steps.
    pub fn leading(&self) -> Option<(DirOrder, Pace)> {
        let mut best: Option<(DirOrder, Pace)> = None;
        for (order, gait) in DirOrder::ALL.into_iter().zip(&self.gaits) {
            if let Some(pace) = gait.pace()
                && best.is_none_or(|(_, best)| pace.proof > best.proof)
            {
                best = Some((order, pace));
            }
        }
        best
    }

    /// How often it has held.
    pub fn proof(&self) -> u32 {
        self.leading().map_or(0, |(_, pace)| pace.proof)
    }

    /// As if nothing had been asked for yet: to show what lies ahead.
    pub fn rewound(self) -> Self {
        Self { issued: 0, ..self }
    }

    pub fn issue(&mut self, steps: u32) {
        self.issued = self.issued.max(steps);
    }

    /// The directories to list so that they are known before a window of so many files comes to them. A level more is
    /// climbed than the walk has been seen to: where it goes then is known when it does.
    pub fn next_dirs(&self, catalog: &Catalog, window: u32) -> Vec<DirId> {
        let mut found = Vec::new();
        let (Some((order, pace)), Some(last)) = (self.leading(), self.last()) else { return found };
        let Some(mut at) = catalog.file(last).map(|file| file.dir) else { return found };
        let manner = Manner { climbs: self.manner.climbs.saturating_add(1), ..self.manner };
        // Of those that are not listed it is not known how many files they have: as many as this one.
        let usual = length(catalog, at).unwrap_or(0).max(1);
        let (step, read) = pace.round();
        let wanted = i64::from(window).saturating_mul(2 * step.abs()) / i64::try_from(read).unwrap_or(1);
        let (mut with_files, mut files) = (0, 0);
        for _ in 0..HOPS {
            match order.next(catalog, at, step > 0, manner) {
                None => break,
                Some(Next::Behind(dir)) => {
                    found.push(dir);
                    break;
                }
                Some(Next::Dir(dir)) => {
                    let known = length(catalog, dir);
                    if known.is_none() {
                        found.push(dir);
                    }
                    with_files += usize::from(known != Some(0));
                    files += known.unwrap_or(usual);
                    at = dir;
                }
            }
            if (with_files >= DIRS_AHEAD && files >= wanted) || found.len() == LISTINGS {
                break;
            }
        }
        found
    }

    /// The files of the next steps, from the first that was not asked for to step `to`.
    pub fn ahead(&self, catalog: &Catalog, to: u32) -> Vec<(u32, Ahead)> {
        let (Some((order, pace)), Some(last)) = (self.leading(), self.last()) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        let Some((mut dir, mut at)) = order.place(catalog, last) else {
            return found;
        };
        let mut hops = 0;
        for count in 1..=to {
            at = at.saturating_add(self.step_after(pace, count - 1));
            loop {
                let Some(files) = length(catalog, dir) else {
                    found.push((count, Ahead::Unlisted(dir)));
                    return found;
                };
                if (0..files).contains(&at) {
                    break;
                }
                hops += 1;
                let next = order.next(catalog, dir, at >= files, self.manner).filter(|_| hops <= HOPS);
                match next {
                    None => {
                        found.push((count, Ahead::End));
                        return found;
                    }
                    Some(Next::Behind(unlisted)) => {
                        found.push((count, Ahead::Unlisted(unlisted)));
                        return found;
                    }
                    Some(Next::Dir(next)) if at >= files => {
                        at -= files;
                        dir = next;
                    }
                    Some(Next::Dir(next)) => {
                        let Some(files) = length(catalog, next) else {
                            found.push((count, Ahead::Unlisted(next)));
                            return found;
                        };
                        at += files;
                        dir = next;
                    }
                }
            }
            if count > self.issued
                && let Some(file) = order.nth(catalog, dir, at)
            {
                found.push((count, Ahead::File(file)));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::{Entry, EntryKind};
    use crate::units::MountId;

    /// A tree whose listings give the files of a directory, then its directories; inode numbers tell nothing.
    struct Tree {
        catalog: Catalog,
        files: Vec<FileId>,
    }

    impl Tree {
        fn of(paths: &[String]) -> Self {
            let mut catalog = Catalog::default();
            let mount = MountId(0);
            let mut dirs: Vec<String> = vec![String::new()];
            for path in paths {
                let parents = path.match_indices('/').map(|(at, _)| path[..at].to_owned());
                dirs.extend(parents);
            }
            dirs.sort();
            dirs.dedup();
            let name_in = |dir: &str, path: &str| {
                let inside =
                    if dir.is_empty() { Some(path) } else { path.strip_prefix(dir)?.strip_prefix('/') };
                inside.filter(|name| !name.is_empty() && !name.contains('/')).map(str::to_owned)
            };
            for dir in &dirs {
                let entry = |kind| move |name: String| Entry { name: name.into_bytes().into(), kind, ino: 1 };
                let files = paths.iter().filter_map(|path| name_in(dir, path)).map(entry(EntryKind::File));
                let inner =
                    dirs.iter().filter_map(|path| name_in(dir, path)).map(entry(EntryKind::Directory));
                let entries: Vec<Entry> = files.chain(inner).collect();
                let id = catalog.dir_at(mount, dir.as_bytes());
                catalog.listed(id, Some(&entries));
            }
            let files = paths.iter().map(|path| catalog.file_at(mount, path.as_bytes())).collect();
            Self { catalog, files }
        }

        /// How many of these visits, by position in `paths`, a walker foresaw.
        fn foreseen(&self, visits: impl IntoIterator<Item = usize>) -> (usize, Walker) {
            let (mut walker, mut foreseen) = (Walker::default(), 0);
            for file in visits.into_iter().map(|at| self.files[at]) {
                let next = walker.clone().rewound().ahead(&self.catalog, 1);
                let told = next.first() == Some(&(1, Ahead::File(file)));
                assert!(!told || walker.foresees(&self.catalog, file), "what is asked for goes on the walk");
                foreseen += usize::from(told);
                walker.visit(&self.catalog, file);
            }
            (foreseen, walker)
        }
    }

    fn leading(walker: &Walker) -> Option<(DirOrder, Option<i64>)> {
        walker.leading().map(|(order, pace)| (order, pace.constant()))
    }

    #[test]
    fn bursts_equally_far_from_each_other_are_foreseen_with_their_leaps() {
        let tree = Tree::of(&(0..2_000).map(|at| format!("{at:05}")).collect::<Vec<_>>());
        // The first three bursts of 12 teach, two visits of each of them; bursts of 3 are distances in turns.
        let clips = (0..50).flat_map(|burst| (0..12).map(move |at| burst * 40 + at));
        let (foreseen, walker) = tree.foreseen(clips);
        assert!(foreseen >= 50 * 12 - 3 * 3, "{foreseen} of 600");
        assert!(walker.leaps() && walker.files() == 12);
        assert_eq!(
            walker.ahead(&tree.catalog, 1),
            [(1, Ahead::End)],
            "the next burst lies beyond the directory"
        );
        let slabs = (0..100).flat_map(|burst| (0..3).map(move |at| burst * 20 + at));
        let (foreseen, _) = tree.foreseen(slabs);
        assert!(foreseen >= 100 * 3 - 3 * 3, "{foreseen} of 300");
        // Every 65th file, and every 65th from behind.
        let (foreseen, _) = tree.foreseen((0..2_000).step_by(65));
        assert!(foreseen >= 31 - 5, "{foreseen} of 31");
        let (foreseen, _) = tree.foreseen((0..2_000).rev().step_by(65));
        assert!(foreseen >= 31 - 5, "{foreseen} of 31");
    }

    #[test]
    fn a_walk_that_goes_on_beyond_its_usual_end_is_followed() {
        let tree = Tree::of(&(0..2_000).map(|at| format!("{at:05}")).collect::<Vec<_>>());
        let bursts = (0..10).flat_map(|burst| (0..4).map(move |at| burst * 20 + at));
        let (before, _) = tree.foreseen(bursts.clone());
        let (after, walker) = tree.foreseen(bursts.chain(184..300));
        assert!(after >= before + 116 - 3, "{before}, {after}");
        assert!(!walker.leaps());
    }

    #[test]
    fn who_counts_without_leading_zeros_walks_too() {
        let tree = Tree::of(&(0..300).map(|at| format!("{at}.jpg")).collect::<Vec<_>>());
        let (foreseen, walker) = tree.foreseen(0..300);
        assert!(foreseen >= 297, "{foreseen}");
        let (foreseen, every_third) = tree.foreseen((0..300).step_by(3));
        assert!(foreseen >= 96, "{foreseen}");
        assert_eq!(
            leading(&every_third),
            Some((DirOrder::Listing, Some(3))),
            "the listing has this order here"
        );
        assert_eq!(leading(&walker).map(|(_, step)| step), Some(Some(1)));
        let mut names: Vec<String> = (0..300).map(|at| format!("{at}.jpg")).collect();
        names.sort();
        let tree = Tree::of(&names);
        let counted = (0..300).filter_map(|at| names.iter().position(|name| *name == format!("{at}.jpg")));
        let (foreseen, walker) = tree.foreseen(counted);
        assert!(foreseen >= 296, "{foreseen}");
        assert_eq!(leading(&walker), Some((DirOrder::Number, Some(1))));
    }

    #[test]
    fn a_walk_climbs_and_descends_once_it_has_been_seen_to() {
        // One file in each day, a few days in each month.
        let days: Vec<String> =
            (0..40).flat_map(|month| (0..3).map(move |day| format!("{month:02}/{day}/f"))).collect();
        let tree = Tree::of(&days);
        let (foreseen, walker) = tree.foreseen(0..120);
        assert!(foreseen >= 120 - 4, "{foreseen}");
        assert_eq!(walker.rewound().ahead(&tree.catalog, 1), [(1, Ahead::End)]);
        let (foreseen, _) = tree.foreseen((0..120).rev());
        assert!(foreseen >= 120 - 4, "{foreseen}");
        let (foreseen, _) = tree.foreseen((0..120).step_by(4));
        assert!(foreseen >= 30 - 4, "{foreseen}: steps over whole months");
        // A data set beside is none of the walk's: nobody has been seen to go there.
        let tree = Tree::of(&["a/0/x", "a/0/y", "a/0/z", "b/0/x", "b/0/y"].map(str::to_owned));
        let (_, walker) = tree.foreseen(0..3);
        assert_eq!(walker.ahead(&tree.catalog, 9), [(1, Ahead::End)]);
        // Directories with files of their own and directories below, as `find` goes through them.
        let mixed: Vec<String> = (0..20)
            .flat_map(|at| {
                [format!("{at:02}/a"), format!("{at:02}/b"), format!("{at:02}/in/c"), format!("{at:02}/in/d")]
            })
            .collect();
        let tree = Tree::of(&mixed);
        let (foreseen, _) = tree.foreseen(0..80);
        assert!(foreseen >= 80 - 5, "{foreseen}");
        let (foreseen, _) = tree.foreseen((0..80).rev());
        assert!(foreseen >= 80 - 6, "{foreseen}");
        let beside = (0..80).filter(|at| at % 4 < 2);
        let (foreseen, walker) = tree.foreseen(beside);
        assert!(foreseen >= 40 - 4, "{foreseen}: what lies below is not read");
        assert!(!walker.manner.descends);
    }

    #[test]
    fn lengths_are_those_of_walks_that_ended_in_the_midst_and_went_elsewhere() {
        let paths: Vec<String> =
            (0..4).flat_map(|dir| (0..20).map(move |at| format!("{dir}/{at:02}"))).collect();
        let tree = Tree::of(&paths);
        let ends = |visits: &[usize]| {
            let mut walker = Walker::default();
            visits.iter().filter_map(|at| walker.visit(&tree.catalog, tree.files[*at])).collect::<Vec<_>>()
        };
        assert_eq!(ends(&[0, 1, 2, 15]), [3]);
        assert_eq!(ends(&[0, 1, 2, 3, 4, 60]), [5], "into a directory that is no neighbour");
        assert_eq!(ends(&[0, 1, 2, 3, 5, 6, 7, 8]), [], "one left out");
        assert_eq!(ends(&[17, 18, 19, 60]), [], "all of its directory");
        assert_eq!(ends(&[0, 15, 3, 9, 4, 12]), [], "none that was believed");
    }

    #[test]
    fn the_same_file_again_and_again_is_no_walk() {
        let tree = Tree::of(&["a", "b"].map(str::to_owned));
        let (foreseen, walker) = tree.foreseen([0, 0, 0, 0, 0]);
        assert_eq!((foreseen, leading(&walker)), (0, None));
    }
}
