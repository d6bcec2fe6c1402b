//! Distances from one file to the next, and what comes next of them: the same each time, or several in turns.
//!
//! An image and its label from a folder in which masks lie between them: one on, two on, one on, two on.

use crate::route::MAX_STEP;

/// Distances that may take turns.
const TURNS: usize = 8;

/// Steps up to this are those of a walk, or of workers that share one; longer ones need a proof more.
pub const NEAR: i64 = 64;

/// Equal distances in a row before a walk is believed: of 100 names in random order, two in a row agree
/// once in some thousand.
pub const WALK_PROOF: u32 = 2;

#[derive(Clone, Copy, Debug, Default)]
pub struct Gait {
    /// The last distances; the newest of `count` is at `count - 1`, modulo.
    last: [i64; TURNS],
    count: usize,
    /// For each number of distances in turns, how often in a row one was the same as so many before.
    held: [u32; TURNS],
}

/// Distances that are believed to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    turns: [i64; TURNS],
    period: usize,
    pub proof: u32,
}

impl Gait {
    /// Takes in a distance; `None` where there is none.
    pub fn advance(&mut self, distance: Option<i64>) {
        let Some(step) = distance.filter(|step| *step != 0 && step.abs() <= MAX_STEP) else {
            *self = Self::default();
            return;
        };
        for (before, held) in (1..).zip(&mut self.held) {
            let same = self.count.checked_sub(before).and_then(|at| self.last.get(at % TURNS)) == Some(&step);
            *held = if same { held.saturating_add(1) } else { 0 };
        }
        if let Some(place) = self.last.get_mut(self.count % TURNS) {
            *place = step;
        }
        self.count += 1;
        if self.count >= 4 * TURNS {
            self.count -= TURNS;
        }
    }

    /// What was foreseen has come, though it was no distance of these.
    pub fn hold(&mut self) {
        if let Some(held) = self.held.first_mut() {
            *held = held.saturating_add(1);
        }
    }

    /// The distances that have held longest, if they have held long enough.
    pub fn pace(&self) -> Option<Pace> {
        let last = self.last.get(self.count.checked_sub(1)? % TURNS)?;
        let mut best: Option<Pace> = None;
        for (period, held) in (1..).zip(self.held) {
            // Of one distance the first counts too; of several each must have come again, and one of them twice.
            let (proof, wanted) = match period {
                1 if last.abs() <= NEAR => (held.saturating_add(1), WALK_PROOF),
                1 => (held.saturating_add(1), WALK_PROOF + 1),
                _ => (held, u32::try_from(period).unwrap_or(u32::MAX).saturating_add(1)),
            };
            if proof >= wanted && best.is_none_or(|best| proof > best.proof) {
                let mut turns = [0; TURNS];
                for (ahead, turn) in turns.iter_mut().enumerate().take(period) {
                    let at = self.count.saturating_sub(period) + ahead;
                    *turn = self.last.get(at % TURNS).copied().unwrap_or_default();
                }
                best = Some(Pace { turns, period, proof });
            }
        }
        best
    }
}

impl Pace {
    /// The distance so many steps ahead, from 0.
    pub fn step(&self, ahead: u32) -> i64 {
        self.turns.get(ahead as usize % self.period).copied().unwrap_or_default()
    }

    /// The distance, where it is the same each time.
    pub fn constant(&self) -> Option<i64> {
        (self.period == 1).then(|| self.step(0))
    }

    /// Files from one round to the next, and how many of them are read.
    pub fn round(&self) -> (i64, usize) {
        (self.turns.iter().sum(), self.period)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(distances: &[i64]) -> Option<Pace> {
        let mut gait = Gait::default();
        distances.iter().for_each(|distance| gait.advance(Some(*distance)));
        gait.pace()
    }

    #[test]
    fn one_distance_is_believed_at_its_second_time_a_long_one_at_its_third() {
        assert_eq!(after(&[5, 1]), None);
        assert_eq!(after(&[5, 1, 1]).and_then(|pace| pace.constant()), Some(1));
        assert_eq!(after(&[300, 300]), None);
        assert_eq!(after(&[300, 300, 300]).map(|pace| (pace.step(7), pace.proof)), Some((300, 3)));
        assert_eq!(after(&[MAX_STEP + 1; 9]), None);
        assert_eq!(after(&[0; 9]), None);
        assert_eq!(after(&[-1; 100]).map(|pace| (pace.round(), pace.proof)), Some(((-1, 1), 100)));
    }

    #[test]
    fn distances_that_take_turns_are_told_from_their_parts() {
        let pairs: Vec<i64> = [2, 7].into_iter().cycle().take(5).collect();
        assert_eq!(after(&pairs[..4]), None);
        let pace = after(&pairs).unwrap();
        assert_eq!([pace.step(0), pace.step(1), pace.step(2)], [7, 2, 7]);
        assert_eq!((pace.constant(), pace.round()), (None, (9, 2)));
        let slabs: Vec<i64> = [1, 1, 18].into_iter().cycle().take(40).collect();
        for count in 8..40 {
            let pace = after(&slabs[..count]).unwrap();
            let next: Vec<i64> = (0..6).map(|ahead| pace.step(ahead)).collect();
            assert_eq!(next, slabs.iter().cycle().skip(count % 3).take(6).copied().collect::<Vec<_>>());
        }
        let (longest, longer): (Vec<i64>, Vec<i64>) = ((1..=8).collect(), (1..=9).collect());
        let (longest, longer) = (longest.repeat(4), longer.repeat(4));
        assert_eq!(after(&longest).map(|pace| pace.round()), Some((36, 8)));
        assert_eq!(after(&longer), None, "more turns than are remembered");
    }

    #[test]
    fn what_has_no_distance_begins_anew() {
        let mut gait = Gait::default();
        [Some(1), Some(1), None].into_iter().for_each(|distance| gait.advance(distance));
        assert_eq!(gait.pace(), None);
        gait.advance(Some(1));
        assert_eq!(gait.pace(), None);
        gait.advance(Some(1));
        gait.hold();
        assert_eq!(gait.pace().map(|pace| pace.proof), Some(3));
    }
}
