//! Where one folder lies as seen from another: `../func` from each subject's `anat`, `labels/3/7` from `images/3/7`.
//!
//! Above and below the names that differ there may be any, the same on both sides: they are the sample's, and others
//! the next time.

use crate::catalog::{Catalog, DirId};

/// Folders between a file and what it has in common with another.
const LEVELS: usize = 16;

type Name = Box<[u8]>;

/// The deepest first, as everywhere here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relative {
    /// Folders at the end that both paths have in common.
    below: usize,
    from: Vec<Name>,
    to: Vec<Name>,
}

/// A folder that may be there: one that is known, and names from there on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    above: DirId,
    names: Vec<Name>,
}

/// A folder and those it lies in.
fn upwards(catalog: &Catalog, dir: DirId) -> impl Iterator<Item = DirId> {
    std::iter::successors(Some(dir), |dir| catalog.dir(*dir)?.parent)
}

/// Names of a folder and of those it lies in.
fn names(catalog: &Catalog, dir: DirId) -> impl Iterator<Item = &[u8]> {
    upwards(catalog, dir).filter_map(|dir| Some(&*catalog.dir(dir)?.name))
}

impl Relative {
    /// How one gets from one folder to another of the same mount; `None` where they are far apart.
    pub fn between(catalog: &Catalog, from: DirId, to: DirId) -> Option<Self> {
        if from == to {
            return Some(Self::default());
        }
        let same = names(catalog, from).zip(names(catalog, to));
        let below = same.take(LEVELS).take_while(|(one, other)| one == other).count();
        let cut = |dir| upwards(catalog, dir).nth(below);
        let (mut one, mut other) = (cut(from)?, cut(to)?);
        let depth = |dir| upwards(catalog, dir).take(2 * LEVELS).count();
        let (mut of_one, mut of_other) = (depth(one), depth(other));
        let (mut from, mut to) = (Vec::new(), Vec::new());
        // The deeper of both, one level at a time, until they meet.
        while one != other {
            if below + from.len().max(to.len()) >= LEVELS {
                return None;
            }
            let (first, second) = (of_one >= of_other, of_other >= of_one);
            if first {
                let dir = catalog.dir(one)?;
                from.push(dir.name.clone());
                (one, of_one) = (dir.parent?, of_one.saturating_sub(1));
            }
            if second {
                let dir = catalog.dir(other)?;
                to.push(dir.name.clone());
                (other, of_other) = (dir.parent?, of_other.saturating_sub(1));
            }
        }
        Some(Self { below, from, to })
    }

    pub fn is_here(&self) -> bool {
        *self == Self::default()
    }

    /// Whether both lead on from the same folders.
    pub fn has_origin_of(&self, other: &Self) -> bool {
        (self.below, &self.from) == (other.below, &other.from)
    }

    /// Whether a folder's path ends as that of one that this leads to.
    pub fn leads_to(&self, catalog: &Catalog, dir: DirId) -> bool {
        self.is_here() || self.stands(catalog, dir, &self.to)
    }

    fn stands(&self, catalog: &Catalog, dir: DirId, between: &[Name]) -> bool {
        let mut found = names(catalog, dir).skip(self.below);
        between.iter().all(|name| found.next() == Some(&**name))
    }

    /// What lies there from a folder.
    pub fn follow(&self, catalog: &Catalog, dir: DirId) -> Option<Place> {
        if !self.stands(catalog, dir, &self.from) {
            return None;
        }
        let above = upwards(catalog, dir).nth(self.below + self.from.len())?;
        let same = names(catalog, dir).take(self.below).map(Name::from);
        Some(Place { above, names: same.chain(self.to.iter().cloned()).collect() })
    }
}

impl Place {
    pub fn known(&self, catalog: &Catalog) -> Option<DirId> {
        self.names.iter().rev().try_fold(self.above, |dir, name| catalog.known_dir(dir, name))
    }

    pub fn expected(&self, catalog: &mut Catalog) -> Option<DirId> {
        self.names.iter().rev().try_fold(self.above, |dir, name| catalog.expected_dir(dir, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MountId;

    /// Where what leads from one folder to another leads from a third.
    fn seen(from: &str, to: &str, dir: &str) -> Option<String> {
        let mut catalog = Catalog::default();
        let [from, to, dir] = [from, to, dir].map(|path| catalog.dir_at(MountId(0), path.as_bytes()));
        let relative = Relative::between(&catalog, from, to)?;
        assert_eq!(relative.follow(&catalog, from)?.known(&catalog), Some(to));
        assert!(relative.leads_to(&catalog, to));
        let place = relative.follow(&catalog, dir)?;
        let found = place.expected(&mut catalog)?;
        assert_eq!(place.known(&catalog), Some(found));
        Some(String::from_utf8(catalog.dir_path(found).into()).unwrap())
    }

    #[test]
    fn folders_are_found_from_others_as_before() {
        let found = |from, to, dir| seen(from, to, dir).unwrap_or_default();
        assert_eq!(found("a/s1/anat", "a/s1/func", "a/s2/anat"), "a/s2/func");
        assert_eq!(found("images/1/2", "labels/1/2", "images/3/4"), "labels/3/4");
        assert_eq!(found("d1/left/data", "d1/points/data", "d2/left/data"), "d2/points/data");
        assert_eq!(found("a/s1", "a/s1/raw/x", "a/s2"), "a/s2/raw/x");
        assert_eq!(found("a/s1/raw/x", "a/s1", "b/s2/raw/x"), "b/s2");
        assert_eq!(found("a/s1/b", "a/s1/b", "c/d"), "c/d");
        assert_eq!(found("s1/p/q", "s1/r", "s2/p/q"), "s2/r");
        assert_eq!(seen("a/s1/anat", "a/s1/func", "a/s2/dwi"), None);
        assert_eq!(seen("images/1", "labels/1", "other/1"), None);
    }

    #[test]
    fn what_lies_far_apart_is_not_looked_for() {
        let deep = vec!["x"; LEVELS + 1].join("/");
        assert_eq!(seen(&format!("a/{deep}/c"), &format!("b/{deep}/d"), "a"), None);
        assert_eq!(seen("a", &format!("a/{deep}/{deep}"), "b"), None);
        assert_eq!(seen(&format!("a/{deep}"), "b", &format!("a/{deep}")), None);
    }
}
