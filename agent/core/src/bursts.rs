//! How long walks last: the lengths of those that have ended tell where the next one will.

/// Lengths of the last finished bursts of a kind: of a kind of file in pages, of a run's walks in files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bursts {
    /// The newest last.
    last: [u32; 8],
    count: usize,
}

/// How far a burst goes on, judged by those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    Unknown,
    /// Bursts of this length were seen, the shortest that is longer than this one.
    Till(u64),
    /// Bursts like this one ended here.
    Ends,
}

impl Bursts {
    pub fn push(&mut self, length: u64) {
        if self.count == self.last.len() {
            self.remove(0);
        }
        if let Some(free) = self.last.get_mut(self.count) {
            *free = u32::try_from(length).unwrap_or(u32::MAX);
            self.count += 1;
        }
    }

    /// A burst that was taken to have ended goes on after all.
    pub fn retract(&mut self, length: u64) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        if let Some(at) = self.known().iter().rposition(|known| *known == length) {
            self.remove(at);
        }
    }

    fn remove(&mut self, at: usize) {
        self.last.copy_within(at + 1..self.count, at);
        self.count -= 1;
    }

    fn known(&self) -> &[u32] {
        self.last.get(..self.count).unwrap_or_default()
    }

    pub fn outlook(&self, done: u64) -> Outlook {
        let lengths = || self.known().iter().map(|length| u64::from(*length));
        if let Some(longer) = lengths().filter(|length| *length > done).min() {
            return Outlook::Till(longer);
        }
        // A burst half as long again as any before it is a walk of another kind.
        if lengths().filter(|length| length * 3 >= done * 2).count() >= 2 {
            return Outlook::Ends;
        }
        Outlook::Unknown
    }

    /// How many of a window's steps a burst will still take.
    pub fn limit(&self, done: u32, window: u32) -> u32 {
        match self.outlook(u64::from(done)) {
            Outlook::Unknown => window,
            Outlook::Till(length) => {
                window.min(u32::try_from(length).unwrap_or(u32::MAX).saturating_sub(done))
            }
            Outlook::Ends => 0,
        }
    }

    /// The length that all recent bursts had.
    pub fn usual(&self) -> Option<u64> {
        let known = self.known();
        let (min, max) = (known.iter().min()?, known.iter().max()?);
        (known.len() >= 3 && u64::from(*max) <= u64::from(*min) * 3 / 2).then_some(u64::from(*max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lengths: &[u64]) -> Bursts {
        let mut bursts = Bursts::default();
        lengths.iter().for_each(|length| bursts.push(*length));
        bursts
    }

    #[test]
    fn the_next_length_that_was_seen_is_where_a_burst_may_end() {
        assert_eq!(of(&[]).outlook(5), Outlook::Unknown);
        assert_eq!(of(&[3, 100, 7]).outlook(3), Outlook::Till(7));
        assert_eq!(of(&[3, 3]).outlook(3), Outlook::Ends);
        assert_eq!(of(&[3]).outlook(3), Outlook::Unknown, "one alone says nothing");
        assert_eq!(of(&[3, 3]).outlook(5), Outlook::Unknown, "half as long again");
        let limited = |done| of(&[10, 10]).limit(done, 8);
        assert_eq!([limited(1), limited(6), limited(10), limited(20)], [8, 4, 0, 8]);
    }

    #[test]
    fn the_last_eight_count_and_what_is_taken_back_does_not() {
        let mut bursts = of(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 5]);
        assert_eq!(bursts.known(), [3, 4, 5, 6, 7, 8, 9, 5]);
        bursts.retract(5);
        bursts.retract(1_000);
        assert_eq!(bursts.known(), [3, 4, 5, 6, 7, 8, 9]);
        bursts.retract(9);
        bursts.push(u64::MAX);
        assert_eq!(bursts.known(), [3, 4, 5, 6, 7, 8, u32::MAX]);
        assert_eq!(of(&[4, 4, 5]).usual(), Some(5));
        assert_eq!(of(&[4, 4, 9]).usual(), None);
    }
}
