//! Walks through directories, in steps of one or of n, in bursts that lie equally far from each other.
//!
//! Visits give distances in each order; the order whose distance stays the same is the one that is
//! walked. Eight workers that share a directory each step by eight; where each takes a batch, it walks through that
//! and leaps to its next one. At a directory's end the walk goes on in the next.

use crate::catalog::{Catalog, DirId, FileId};
use crate::gait::{Gait, NEAR, Pace};
use crate::route::{CLIMBS, Manner, Next, Track};

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
    gaits: [Gait; Track::ALL.len()],
    /// The order that holds best, and in which steps: found at each visit, asked for at each read.
    led: Option<(Track, Pace)>,
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
        let (Some((track, pace)), Some(last)) = (self.leading(), self.last()) else { return false };
        track.route(last).way(catalog, last, file).is_some_and(|way| way.steps == self.step_after(pace, 0))
    }

    /// Whether this file lies where the walk is: in its directory, or a few steps on in the next.
    pub fn is_near(&self, catalog: &Catalog, file: FileId) -> bool {
        let Some(last) = self.last() else { return true };
        let dir = |id| catalog.file(id).map(|file| file.dir);
        let way = |track: Track| track.route(last).way(catalog, last, file);
        let near = |track: Track| way(track).is_some_and(|way| way.steps.abs() <= NEAR);
        dir(last) == dir(file) || Track::ALL.into_iter().any(near)
    }

    /// Whether this file's directory, which is not listed yet, may be the one that the walk comes to next.
    pub fn may_reach(&self, catalog: &Catalog, file: FileId) -> bool {
        let (Some((track, pace)), Some(last)) = (self.leading(), self.last()) else { return false };
        let dir = |id| catalog.file(id).map(|file| file.dir);
        let (Some(from), Some(mut to)) = (dir(last), dir(file)) else { return false };
        let manner = Manner { climbs: CLIMBS, ..self.manner };
        let next = track.route(last).next(catalog, from, pace.round().0 > 0, manner);
        for _ in 0..=CLIMBS {
            match next {
                Some(Next::Dir(next)) if next != to => {}
                Some(_) => return true,
                None => return false,
            }
            let Some(parent) = catalog.dir(to).and_then(|dir| dir.parent) else { return false };
            to = parent;
        }
        false
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
        let next = led.map(|(track, pace)| (track, self.step_after(pace, 0), pace.step(0)));
        let (mut way_led, mut goes_on, mut leapt) = (None, false, false);
        for (track, gait) in Track::ALL.into_iter().zip(&mut self.gaits) {
            let way = track.route(last).way(catalog, last, file);
            let Some((_, next, step)) = next.filter(|(led, ..)| *led == track) else {
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
        self.led = self.best();
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
        let (track, pace) = led?;
        let (route, step) = (track.route(last), pace.step(0));
        // Who comes to a directory's end was not done with what he walked, and who lands a little further on, or on
        // what was asked for ahead, has only left out a few.
        let (dir, at) = route.place(catalog, last)?;
        let in_midst =
            route.length(catalog, dir).is_some_and(|files| (0..files).contains(&at.saturating_add(step)));
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
        let Some((track, pace)) = self.leading() else { return };
        let back = (pace.proof as usize).min(self.recent.len().saturating_sub(1));
        let Some(start) = self.recent.get(self.recent.len() - 1 - back).copied() else { return };
        self.burst = Some(Burst { start, files: u32::try_from(back).unwrap_or(u32::MAX).saturating_add(1) });
        let Some(former) = self.former else { return };
        let Some(steps) = track.route(start).way(catalog, former.start, start).map(|way| way.steps) else {
            return;
        };
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
        for (track, gait) in Track::ALL.into_iter().zip(&mut self.gaits) {
            *gait = Gait::default();
            for pair in self.recent.windows(2) {
                if let &[from, to] = pair {
                    gait.advance(track.route(from).way(catalog, from, to).map(|way| way.steps));
                }
            }
        }
        self.issued = 0;
        self.led = self.best();
        self.begin(catalog);
    }

    /// The order that holds best, and in which steps.
    pub fn leading(&self) -> Option<(Track, Pace)> {
        self.led
    }

    fn best(&self) -> Option<(Track, Pace)> {
        let mut best: Option<(Track, Pace)> = None;
        for (track, gait) in Track::ALL.into_iter().zip(&self.gaits) {
            if let Some(pace) = gait.pace()
                && best.is_none_or(|(_, best)| pace.proof > best.proof)
            {
                best = Some((track, pace));
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
        let (Some((track, pace)), Some(last)) = (self.leading(), self.last()) else { return found };
        let route = track.route(last);
        let Some(mut at) = catalog.file(last).map(|file| file.dir) else { return found };
        let manner = Manner { climbs: self.manner.climbs.saturating_add(1), ..self.manner };
        // Of those that are not listed it is not known how many files they have: as many as this one.
        let usual = route.length(catalog, at).unwrap_or(0).max(1);
        let (step, read) = pace.round();
        let wanted = i64::from(window).saturating_mul(2 * step.abs()) / i64::try_from(read).unwrap_or(1);
        let (mut with_files, mut files) = (0, 0);
        for _ in 0..HOPS {
            match route.next(catalog, at, step > 0, manner) {
                None => break,
                Some(Next::Behind(dir)) => {
                    found.push(dir);
                    break;
                }
                Some(Next::Dir(dir)) => {
                    let known = route.length(catalog, dir);
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
        let (Some((track, pace)), Some(last)) = (self.leading(), self.last()) else {
            return Vec::new();
        };
        let route = track.route(last);
        let mut found = Vec::new();
        let Some((mut dir, mut at)) = route.place(catalog, last) else {
            return found;
        };
        let mut hops = 0;
        for count in 1..=to {
            at = at.saturating_add(self.step_after(pace, count - 1));
            loop {
                let Some(files) = route.length(catalog, dir) else {
                    found.push((count, Ahead::Unlisted(dir)));
                    return found;
                };
                if (0..files).contains(&at) {
                    break;
                }
                hops += 1;
                let next = route.next(catalog, dir, at >= files, self.manner).filter(|_| hops <= HOPS);
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
                        let Some(files) = route.length(catalog, next) else {
                            found.push((count, Ahead::Unlisted(next)));
                            return found;
                        };
                        at += files;
                        dir = next;
                    }
                }
            }
            if count > self.issued
                && let Some(file) = route.nth(catalog, dir, at)
            {
                found.push((count, Ahead::File(file)));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests;
