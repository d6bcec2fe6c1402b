//! Where files stand in the orders of their directories, and which directory comes after another.
//!
//! A walk over a tree goes on in the next sibling of a directory that has come to its end. It may also go down
//! into its directories before (as `find` and `os.walk` do), or climb where there is no sibling left: both only
//! where the walk has been seen to, since what lies there may be another data set.

use crate::catalog::{Catalog, DirId, FileId, Listed};

/// The orders in which a directory can be walked, the likeliest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirOrder {
    Listing,
    Name,
    /// By name, with numbers in it as what they say.
    Number,
    /// Creation, guessed from inode numbers.
    Inode,
}

/// What a walk counts: the files of its directories, or of each the one that is called as the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Track {
    pub order: DirOrder,
    pub same_name: bool,
}

/// A track as it lies from a file on.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    order: DirOrder,
    /// Only files that are called so are on it.
    like: Option<FileId>,
}

/// Steps longer than this are no share of a walk but chance.
pub const MAX_STEP: i64 = 1 << 12;

/// Directories looked at from one file to the next at most: those between them have few files or none.
const HOPS: usize = 16;

/// Files that directories between two others may hold for these to be neighbours: a walk of long steps passes
/// them over.
const BETWEEN: i64 = 64;

/// Levels that a walk may climb from one directory to the next.
pub const CLIMBS: u8 = 4;

/// How a walk has been seen to go from one directory to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// A directory's own directories come before its next sibling. Where it has no files they do anyway.
    pub descends: bool,
    /// Levels climbed at most.
    pub climbs: u8,
}

/// The way from one file to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    pub steps: i64,
    pub turn: Turn,
}

/// What a way from one directory to another took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Whether it went down where it need not; `None` where there was no choice.
    pub descends: Option<bool>,
    pub climbs: u8,
}

impl Manner {
    /// A walk of this manner has taken a turn.
    pub fn learn(&mut self, turn: Turn) {
        self.descends = turn.descends.unwrap_or(self.descends);
        self.climbs = self.climbs.max(turn.climbs);
    }
}

/// What comes after a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Dir(DirId),
    /// Not known before this one is listed.
    Behind(DirId),
}

impl DirOrder {
    pub const fn words(self) -> &'static str {
        match self {
            Self::Listing => "in listing order",
            Self::Name => "by name",
            Self::Number => "by the number in the name",
            Self::Inode => "in creation order",
        }
    }

    /// The file at a position of a directory.
    fn nth(self, catalog: &Catalog, dir: DirId, at: i64) -> Option<FileId> {
        let Listed { files, by_name, by_number, by_ino, .. } = catalog.listing(dir)?;
        let at = usize::try_from(at).ok()?;
        let slot = match self {
            Self::Listing => at,
            Self::Name => by_name.nth(at)?,
            Self::Number => by_number.as_ref().unwrap_or(by_name).nth(at)?,
            Self::Inode => by_ino.nth(at)?,
        };
        files.get(slot).copied()
    }

    /// Directory and position of a file.
    fn place(self, catalog: &Catalog, id: FileId) -> Option<(DirId, i64)> {
        let file = catalog.file(id)?;
        let Listed { files, by_name, by_number, by_ino, .. } = catalog.listing(file.dir)?;
        let slot = file.slot as usize;
        if files.get(slot) != Some(&id) {
            return None;
        }
        let at = match self {
            Self::Listing => file.slot,
            Self::Name => by_name.rank(slot)?,
            Self::Number => by_number.as_ref().unwrap_or(by_name).rank(slot)?,
            Self::Inode => by_ino.rank(slot)?,
        };
        Some((file.dir, i64::from(at)))
    }

    /// The first or the last of a directory's own directories.
    fn child(self, catalog: &Catalog, dir: DirId, first: bool) -> Option<DirId> {
        let Listed { dirs, dirs_by_name, dirs_by_number, .. } = catalog.listing(dir)?;
        let at = if first { 0 } else { dirs.len().checked_sub(1)? };
        let slot = match self {
            Self::Listing | Self::Inode => at,
            Self::Name => dirs_by_name.nth(at)?,
            Self::Number => dirs_by_number.as_ref().unwrap_or(dirs_by_name).nth(at)?,
        };
        dirs.get(slot).copied()
    }

    /// The directory after (or before) this one in its parent, if there is one; `None` where the parent is not listed.
    fn sibling(self, catalog: &Catalog, dir: DirId, forward: bool) -> Option<Option<DirId>> {
        let own = catalog.dir(dir)?;
        let Listed { dirs, dirs_by_name, dirs_by_number, .. } = catalog.listing(own.parent?)?;
        let slot = own.slot as usize;
        if dirs.get(slot) != Some(&dir) {
            return None;
        }
        let step = |at: usize| if forward { at.checked_add(1) } else { at.checked_sub(1) };
        let ranking = match self {
            Self::Listing | Self::Inode => None,
            Self::Name => Some(dirs_by_name),
            Self::Number => Some(dirs_by_number.as_ref().unwrap_or(dirs_by_name)),
        };
        let slot = match ranking {
            None => step(slot),
            Some(ranking) => step(ranking.rank(slot)? as usize).and_then(|at| ranking.nth(at)),
        };
        Some(slot.and_then(|slot| dirs.get(slot).copied()))
    }
}

impl Track {
    pub const ALL: [Self; 7] = [
        Self::of_files(DirOrder::Listing),
        Self::of_files(DirOrder::Name),
        Self::of_files(DirOrder::Number),
        Self::of_files(DirOrder::Inode),
        // Directories have no order by inode number of their own.
        Self::of_names(DirOrder::Listing),
        Self::of_names(DirOrder::Name),
        Self::of_names(DirOrder::Number),
    ];

    pub const fn of_files(order: DirOrder) -> Self {
        Self { order, same_name: false }
    }

    const fn of_names(order: DirOrder) -> Self {
        Self { order, same_name: true }
    }

    pub fn route(self, from: FileId) -> Route {
        Route { order: self.order, like: self.same_name.then_some(from) }
    }
}

impl Route {
    /// Files of a directory that are on it; `None` where it is not listed.
    pub fn length(self, catalog: &Catalog, dir: DirId) -> Option<i64> {
        match self.like {
            None => length(catalog, dir),
            Some(like) => catalog.listing(dir).map(|_| i64::from(called(catalog, dir, like).is_some())),
        }
    }

    /// The same to count by: a directory that is not listed may have a file of the name as its neighbours do, and who
    /// passes some of them over has no reason to list those.
    fn passed(self, catalog: &Catalog, dir: DirId) -> Option<i64> {
        self.length(catalog, dir).or(self.like.map(|_| 1))
    }

    /// The file at a position of a directory.
    pub fn nth(self, catalog: &Catalog, dir: DirId, at: i64) -> Option<FileId> {
        match self.like {
            None => self.order.nth(catalog, dir, at),
            Some(like) => called(catalog, dir, like).filter(|_| at == 0),
        }
    }

    /// Directory and position of a file.
    pub fn place(self, catalog: &Catalog, id: FileId) -> Option<(DirId, i64)> {
        let Some(like) = self.like else { return self.order.place(catalog, id) };
        let (file, like) = (catalog.file(id)?, catalog.file(like)?);
        (file.name == like.name).then_some((file.dir, 0))
    }

    /// The directory that comes after this one (or before it) on a walk of this manner.
    pub fn next(self, catalog: &Catalog, dir: DirId, forward: bool, manner: Manner) -> Option<Next> {
        Some(self.hop(catalog, dir, forward, manner)?.0)
    }

    /// The same, and what it took.
    fn hop(self, catalog: &Catalog, dir: DirId, forward: bool, manner: Manner) -> Option<(Next, Turn)> {
        let is_empty = |dir| self.length(catalog, dir) == Some(0);
        let mut turn = Turn::default();
        if forward && let Some(first) = self.order.child(catalog, dir, true) {
            turn.descends = (!is_empty(dir)).then_some(manner.descends);
            if is_empty(dir) || manner.descends {
                return Some((Next::Dir(first), turn));
            }
        }
        let mut at = dir;
        for climbs in 0..=manner.climbs {
            let parent = catalog.dir(at)?.parent?;
            turn.climbs = climbs;
            match self.order.sibling(catalog, at, forward) {
                None => return Some((Next::Behind(parent), turn)),
                Some(Some(next)) if forward => return Some((Next::Dir(next), turn)),
                Some(Some(next)) => {
                    let next = self.deepest(catalog, next, manner, &mut turn);
                    return Some((Next::Dir(next), turn));
                }
                Some(None) if !forward && !is_empty(parent) && manner.descends => {
                    return Some((Next::Dir(parent), Turn { descends: Some(true), climbs: 0 }));
                }
                Some(None) => at = parent,
            }
        }
        None
    }

    /// Where a walk that goes backwards enters a directory: at the end of what lies below it.
    fn deepest(self, catalog: &Catalog, mut dir: DirId, manner: Manner, turn: &mut Turn) -> DirId {
        for _ in 0..HOPS {
            let Some(last) = self.order.child(catalog, dir, false) else { break };
            if self.length(catalog, dir) != Some(0) {
                turn.descends = Some(manner.descends);
                if !manner.descends {
                    break;
                }
            }
            dir = last;
        }
        dir
    }

    /// The way from one file to another; `None` where it has none (not listed, not neighbours).
    pub fn way(self, catalog: &Catalog, from: FileId, to: FileId) -> Option<Way> {
        let (from_dir, from_at) = self.place(catalog, from)?;
        let (to_dir, to_at) = self.place(catalog, to)?;
        if from_dir == to_dir {
            return Some(Way { steps: to_at - from_at, turn: Turn::default() });
        }
        if let Some((between, turn)) = self.between(catalog, from_dir, to_dir, true) {
            let steps = self.passed(catalog, from_dir)? - from_at + between + to_at;
            return Some(Way { steps, turn });
        }
        let (between, turn) = self.between(catalog, from_dir, to_dir, false)?;
        let steps = from_at + between + self.passed(catalog, to_dir)? - to_at;
        Some(Way { steps: -steps, turn })
    }

    /// Files in the directories between two neighbours.
    fn between(self, catalog: &Catalog, from: DirId, to: DirId, forward: bool) -> Option<(i64, Turn)> {
        let parent = |dir| catalog.dir(dir).and_then(|dir| dir.parent);
        // Straight into a directory of the directory's own, or out of it; backwards it is entered from its last one.
        let descends = if forward {
            parent(to) == Some(from)
        } else {
            let has_files = |dir| self.length(catalog, dir).is_some_and(|files| files > 0);
            parent(from) == Some(to) || parent(from) != parent(to) && parent(to).is_some_and(has_files)
        };
        let manner = Manner { descends, climbs: CLIMBS };
        let (mut at, mut files, mut took) = (from, 0, Turn::default());
        for _ in 0..HOPS {
            let (Next::Dir(next), hop) = self.hop(catalog, at, forward, manner)? else { return None };
            took.descends = hop.descends.or(took.descends);
            took.climbs = took.climbs.max(hop.climbs);
            if next == to {
                return Some((files, took));
            }
            files += self.passed(catalog, next)?;
            if files > BETWEEN {
                return None;
            }
            at = next;
        }
        None
    }
}

/// The file of a directory that is called as another.
fn called(catalog: &Catalog, dir: DirId, like: FileId) -> Option<FileId> {
    catalog.known_file(dir, &catalog.file(like)?.name)
}

/// Files of a directory; `None` where it is not listed.
pub fn length(catalog: &Catalog, dir: DirId) -> Option<i64> {
    catalog.listing(dir).map(|listed| i64::try_from(listed.files.len()).unwrap_or(i64::MAX))
}
