//! Walks through directories: in listing order, by name or by creation, in steps of one or of n.
//!
//! Visits give distances in each order; the order whose distance stays the same is the one that is
//! walked. Eight workers that share a directory each step by eight. At a directory's end the walk goes on
//! in its next sibling.

use crate::catalog::{Catalog, DirId, FileId, Listing};

/// The orders in which a directory can be walked, the likeliest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirOrder {
    Listing,
    Name,
    /// Creation, guessed from inode numbers.
    Inode,
}

impl DirOrder {
    const ALL: [Self; 3] = [Self::Listing, Self::Name, Self::Inode];

    pub const fn words(self) -> &'static str {
        match self {
            Self::Listing => "in listing order",
            Self::Name => "by name",
            Self::Inode => "in creation order",
        }
    }
}

/// Steps longer than this are no share of a walk but chance.
const MAX_STEP: i64 = 64;

/// Equal distances in a row before a walk is believed: of 100 names in random order, two in a row agree
/// once in some thousand.
pub const WALK_PROOF: u32 = 2;

/// Directories listed ahead of a walk: a listing takes as long as a fetch, and small directories pass fast.
const DIRS_AHEAD: usize = 4;

/// Visits remembered, so that a listing that arrives late can still be compared with them.
const RECENT: usize = 6;

#[derive(Clone, Copy, Debug, Default)]
struct Gait {
    step: i64,
    proof: u32,
}

#[derive(Clone, Debug, Default)]
pub struct Walker {
    /// The last visits, newest last.
    recent: Vec<FileId>,
    gaits: [Gait; 3],
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

    /// Whether this file is the next step of a walk that is believed.
    pub fn foresees(&self, catalog: &Catalog, file: FileId) -> bool {
        let (Some((order, step)), Some(last)) = (self.leading(), self.last()) else { return false };
        distance(catalog, order, last, file) == Some(step)
    }

    /// Whether this file lies where the walk is: in its directory, or a few steps on in the next.
    pub fn is_near(&self, catalog: &Catalog, file: FileId) -> bool {
        let Some(last) = self.last() else { return true };
        let dir = |id| catalog.file(id).map(|file| file.dir);
        let steps = |order| distance(catalog, order, last, file).is_some_and(|step| step.abs() <= MAX_STEP);
        dir(last) == dir(file) || DirOrder::ALL.into_iter().any(steps)
    }

    pub fn visit(&mut self, catalog: &Catalog, file: FileId) {
        if let Some(last) = self.last() {
            let led = self.leading();
            for (order, gait) in DirOrder::ALL.into_iter().zip(&mut self.gaits) {
                advance(gait, distance(catalog, order, last, file));
            }
            self.issued = if self.leading() == led { self.issued.saturating_sub(1) } else { 0 };
        }
        if self.recent.len() == RECENT {
            self.recent.remove(0);
        }
        self.recent.push(file);
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
                    advance(gait, distance(catalog, order, from, to));
                }
            }
        }
        self.issued = 0;
    }

    /// The order that holds best, with its step and how often it has held.
    pub fn leading(&self) -> Option<(DirOrder, i64)> {
        self.best().map(|(order, gait)| (order, gait.step))
    }

    pub fn proof(&self) -> u32 {
        self.best().map_or(0, |(_, gait)| gait.proof)
    }

    fn best(&self) -> Option<(DirOrder, Gait)> {
        let mut best: Option<(DirOrder, Gait)> = None;
        for (order, gait) in DirOrder::ALL.into_iter().zip(self.gaits) {
            if gait.proof >= WALK_PROOF && best.is_none_or(|(_, best)| gait.proof > best.proof) {
                best = Some((order, gait));
            }
        }
        best
    }

    /// As if nothing had been asked for yet: to show what lies ahead.
    pub fn rewound(self) -> Self {
        Self { issued: 0, ..self }
    }

    pub fn issue(&mut self, steps: u32) {
        self.issued = self.issued.max(steps);
    }

    /// The directories that come next, so that they are listed before the walk is there.
    pub fn next_dirs(&self, catalog: &Catalog) -> Vec<DirId> {
        let (Some((order, step)), Some(last)) = (self.leading(), self.last()) else { return Vec::new() };
        let mut next = catalog.file(last).map(|file| file.dir);
        let mut found = Vec::new();
        for _ in 0..DIRS_AHEAD {
            next = next.and_then(|dir| sibling(catalog, order, dir, step > 0));
            found.extend(next);
        }
        found
    }

    /// The files of the next steps, from the first that was not asked for to step `to`.
    pub fn ahead(&self, catalog: &Catalog, to: u32) -> Vec<(u32, Ahead)> {
        let (Some((order, step)), Some(last)) = (self.leading(), self.last()) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        let Some((mut dir, mut at)) = place(catalog, order, last) else {
            return found;
        };
        for count in 1..=to {
            at += step;
            loop {
                let len = length(catalog, dir);
                if at >= 0 && at < len {
                    break;
                }
                let Some(next) = sibling(catalog, order, dir, step > 0) else {
                    found.push((count, Ahead::End));
                    return found;
                };
                if !matches!(catalog.dir(next).map(|dir| &dir.listing), Some(Listing::Known { .. })) {
                    found.push((count, Ahead::Unlisted(next)));
                    return found;
                }
                at = if at < 0 { at + length(catalog, next) } else { at - len };
                dir = next;
            }
            if count > self.issued
                && let Some(file) = nth(catalog, order, dir, at)
            {
                found.push((count, Ahead::File(file)));
            }
        }
        found
    }
}

fn advance(gait: &mut Gait, distance: Option<i64>) {
    match distance {
        Some(step) if step == gait.step => gait.proof = gait.proof.saturating_add(1),
        Some(step) if step != 0 && step.abs() <= MAX_STEP => *gait = Gait { step, proof: 1 },
        _ => *gait = Gait::default(),
    }
}

fn length(catalog: &Catalog, dir: DirId) -> i64 {
    match catalog.dir(dir).map(|dir| &dir.listing) {
        Some(Listing::Known { files, .. }) => i64::try_from(files.len()).unwrap_or(i64::MAX),
        _ => 0,
    }
}

fn nth(catalog: &Catalog, order: DirOrder, dir: DirId, at: i64) -> Option<FileId> {
    let Listing::Known { files, by_name, by_ino, .. } = &catalog.dir(dir)?.listing else {
        return None;
    };
    let at = usize::try_from(at).ok()?;
    let slot = match order {
        DirOrder::Listing => at,
        DirOrder::Name => *by_name.get(at)? as usize,
        DirOrder::Inode => *by_ino.get(at)? as usize,
    };
    files.get(slot).copied()
}

/// Directory and position of a file in an order.
fn place(catalog: &Catalog, order: DirOrder, id: FileId) -> Option<(DirId, i64)> {
    let file = catalog.file(id)?;
    let Listing::Known { files, name_rank, ino_rank, .. } = &catalog.dir(file.dir)?.listing else {
        return None;
    };
    let slot = file.slot as usize;
    if files.get(slot) != Some(&id) {
        return None;
    }
    let at = match order {
        DirOrder::Listing => file.slot,
        DirOrder::Name => *name_rank.get(slot)?,
        DirOrder::Inode => *ino_rank.get(slot)?,
    };
    Some((file.dir, i64::from(at)))
}

/// The directory after (or before) this one in its parent.
fn sibling(catalog: &Catalog, order: DirOrder, dir: DirId, forward: bool) -> Option<DirId> {
    let own = catalog.dir(dir)?;
    let Listing::Known { dirs, dirs_by_name, dir_name_rank, .. } = &catalog.dir(own.parent?)?.listing else {
        return None;
    };
    let slot = own.slot as usize;
    if dirs.get(slot) != Some(&dir) {
        return None;
    }
    let step = |at: usize| if forward { at.checked_add(1) } else { at.checked_sub(1) };
    let slot = match order {
        DirOrder::Listing | DirOrder::Inode => step(slot)?,
        DirOrder::Name => *dirs_by_name.get(step(*dir_name_rank.get(slot)? as usize)?)? as usize,
    };
    dirs.get(slot).copied()
}

/// Steps from one file to another in an order; `None` when it has none (not listed, not neighbours).
fn distance(catalog: &Catalog, order: DirOrder, from: FileId, to: FileId) -> Option<i64> {
    let (from_dir, from_at) = place(catalog, order, from)?;
    let (to_dir, to_at) = place(catalog, order, to)?;
    if from_dir == to_dir {
        return Some(to_at - from_at);
    }
    if sibling(catalog, order, from_dir, true) == Some(to_dir) {
        return Some(to_at + length(catalog, from_dir) - from_at);
    }
    if sibling(catalog, order, from_dir, false) == Some(to_dir) {
        return Some(to_at - length(catalog, to_dir) - from_at);
    }
    None
}
