//! Bursts within a file that take turns: some columns of each row group, a part of each of a layer's tensors.
//!
//! Each burst has a length, and a distance to the start of the next; what came so many bursts ago comes again. Lengths
//! and distances are bytes of which only the pages are seen, so that each may be off by one.

/// Bursts that may take turns.
const TURNS: usize = 8;

/// Bursts remembered: all turns twice, and one more of the second round than of the first.
const REMEMBERED: usize = 2 * TURNS + 1;

/// A burst that has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    pub pages: u64,
    /// From its start to that of the next.
    pub step: i64,
}

#[derive(Clone, Debug, Default)]
pub struct Turns {
    /// The newest last.
    last: Vec<Turn>,
    /// Bursts from one round to the next, where they take turns.
    period: Option<usize>,
    /// How many have come as foreseen.
    held: u32,
    /// Whether some were a page off.
    loose: bool,
}

fn near(one: &Turn, other: &Turn) -> bool {
    one.pages.abs_diff(other.pages) <= 1 && one.step.abs_diff(other.step) <= 1
}

impl Turns {
    /// Takes in a burst; whether it was as foreseen.
    pub fn push(&mut self, turn: Turn) -> bool {
        if self.last.len() == REMEMBERED {
            self.last.remove(0);
        }
        let foreseen = self.period.and_then(|period| self.last.iter().rev().nth(period - 1));
        if let Some(foreseen) = foreseen.filter(|foreseen| near(foreseen, &turn)) {
            self.loose |= *foreseen != turn;
            self.held = self.held.saturating_add(1);
            self.last.push(turn);
            return true;
        }
        self.last.push(turn);
        self.period = (2..=TURNS).find(|period| self.holds(*period));
        self.held = 0;
        let pairs = self.period.map(|period| self.last.iter().zip(self.last.iter().skip(period)));
        self.loose = pairs.is_some_and(|mut pairs| pairs.any(|(one, other)| one != other));
        false
    }

    /// Whether the last bursts came as so many before: each turn has come again, and one of them twice.
    fn holds(&self, period: usize) -> bool {
        let newest = || self.last.iter().rev();
        let again = newest().zip(newest().skip(period)).take(period + 1);
        let round: i64 = newest().take(period).map(|turn| turn.step).sum();
        round != 0 && self.last.len() > 2 * period && again.into_iter().all(|(one, other)| near(one, other))
    }

    /// Bursts believed ahead of the one under way; `None` where they do not take turns.
    pub fn proof(&self) -> Option<u32> {
        self.period.map(|period| u32::try_from(period).unwrap_or(u32::MAX).saturating_add(self.held))
    }

    /// The burst so many ahead (0: the one under way), and by how many pages each of its ends may be off.
    pub fn ahead(&self, ahead: usize) -> Option<(Turn, u64)> {
        let period = self.period?;
        let turn = self.last.get((self.last.len() - period) + ahead % period)?;
        let off = if self.loose { (ahead / period) as u64 + 1 } else { 0 };
        Some((*turn, off))
    }

    /// From one round to the next, and pages of it that are read.
    pub fn round(&self) -> Option<(i64, u64)> {
        let round = self.last.iter().rev().take(self.period?);
        Some(round.fold((0, 0), |(step, pages), turn| (step + turn.step, pages + turn.pages)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(turns: &[(u64, i64)], count: usize) -> Turns {
        let mut known = Turns::default();
        for (pages, step) in turns.iter().cycle().take(count) {
            known.push(Turn { pages: *pages, step: *step });
        }
        known
    }

    #[test]
    fn each_turn_comes_again_before_it_is_believed() {
        let columns = [(15, 90), (225, 300), (50, 15)];
        assert_eq!(after(&columns, 6).proof(), None);
        for count in 7..60 {
            let known = after(&columns, count);
            assert!(known.proof().is_some() && known.round() == Some((405, 290)));
            for ahead in 0..9 {
                let (pages, step) = columns[(count + ahead) % 3];
                assert_eq!(known.ahead(ahead), Some((Turn { pages, step }, 0)));
            }
        }
    }

    #[test]
    fn what_goes_nowhere_or_has_no_turns_is_not_believed() {
        assert_eq!(after(&[(4, 100), (4, -100)], 60).proof(), None);
        let more: Vec<_> = (1..=9).map(|turn| (turn, 3 * turn as i64)).collect();
        assert_eq!(after(&more, 90).proof(), None);
        assert!(after(&more[1..], 90).proof().is_some());
    }

    #[test]
    fn a_page_more_or_less_is_allowed_for() {
        let known = after(&[(10, 40), (7, 90), (10, 41), (8, 90)], 40);
        let off: Vec<u64> = (0..4).filter_map(|ahead| known.ahead(ahead)).map(|(_, off)| off).collect();
        assert!(known.proof().is_some());
        assert_eq!(off, [1, 1, 2, 2]);
    }
}
