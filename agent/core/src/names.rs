//! The names that a run's files have, where they are the same few in every folder.
//!
//! A sample in a folder of its own has an image, a depth map, a mask and a description; who reads one of them in each
//! will not read the others in the next.

use rustc_hash::FxHashMap;

/// Names told apart; of a run that reads more of them names say nothing.
const NAMES: usize = 64;

/// Visits for each name before they count as the same few.
const VISITS: usize = 8;

#[derive(Debug, Default)]
pub struct Names {
    visits: usize,
    seen: FxHashMap<Box<[u8]>, usize>,
    many: bool,
}

impl Names {
    /// A file of this name is visited for the first time.
    pub fn visit(&mut self, name: &[u8]) {
        self.visits = self.visits.saturating_add(1);
        if self.many {
            return;
        }
        if let Some(count) = self.seen.get_mut(name) {
            *count = count.saturating_add(1);
        } else if self.seen.len() < NAMES {
            self.seen.insert(name.into(), 1);
        } else {
            self.many = true;
            self.seen = FxHashMap::default();
        }
    }

    /// Whether those that were read have the same few names.
    pub fn are_few(&self) -> bool {
        !self.many && self.visits > 0 && self.visits >= self.seen.len().saturating_mul(VISITS)
    }

    /// Whether a file of this name may be read too, by the names of those that were.
    pub fn allow(&self, name: &[u8]) -> bool {
        !self.are_few() || self.seen.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_few_names_leave_out_the_others() {
        let mut names = Names::default();
        assert!(names.allow(b"x"), "nothing is known");
        (0..7).for_each(|_| names.visit(b"rgb.png"));
        assert!(names.allow(b"mask.png"));
        names.visit(b"rgb.png");
        assert!(names.allow(b"rgb.png") && !names.allow(b"mask.png"));
        names.visit(b"mask.png");
        assert!(names.allow(b"depth.png"), "two names are not yet the same few");
        (0..7).for_each(|_| names.visit(b"mask.png"));
        assert!(names.allow(b"mask.png") && !names.allow(b"depth.png"));
    }

    #[test]
    fn names_of_their_own_say_nothing() {
        let mut names = Names::default();
        for file in 0..10_000 {
            names.visit(format!("{file}.jpg").as_bytes());
            assert!(names.allow(b"next.jpg") && names.seen.len() <= NAMES);
        }
    }
}
