//! Which pages of a file are in the page cache, who brought them, and which of the agent's wait unread.

use crate::ranges::RangeSet;
use crate::units::Pages;
use crate::view::Predictor;

/// Pages the agent brought in and nobody has read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    start: u32,
    end: u32,
    pub owner: Owner,
}

/// In whose name bytes were fetched: a row of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    pub workload: u32,
    pub predictor: Predictor,
}

#[derive(Clone, Debug, Default)]
pub struct Residency {
    pub reader: RangeSet,
    pub readahead: RangeSet,
    pub agent: RangeSet,
    /// Added by a thread and not read since: the next access that covers them missed; the rest of them
    /// was the kernel's read-ahead.
    pub fresh: RangeSet,
    claims: Vec<Claim>,
}

/// Pages of one access by how they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub missed: u64,
    pub claimed: Vec<(Owner, u64)>,
}

impl Residency {
    pub fn pages(&self) -> u64 {
        self.reader.pages() + self.readahead.pages() + self.agent.pages() + self.fresh.pages()
    }

    pub fn is_empty(&self) -> bool {
        self.pages() == 0 && self.claims.is_empty()
    }

    pub fn claimed_pages(&self) -> u64 {
        self.claims.iter().map(|claim| u64::from(claim.end - claim.start)).sum()
    }

    /// The parts of `range` that are in no set.
    pub fn gaps(&self, range: &Pages) -> Vec<Pages> {
        let mut gaps = vec![range.clone()];
        for set in [&self.reader, &self.readahead, &self.agent, &self.fresh] {
            gaps = gaps.iter().flat_map(|gap| set.gaps(gap)).collect();
        }
        gaps
    }

    /// The parts of `range` that are in a set.
    pub fn known(&self, range: &Pages) -> Vec<Pages> {
        let mut known = Vec::new();
        let mut at = range.start;
        let end = range.end..range.end;
        for gap in self.gaps(range).into_iter().chain(std::iter::once(end)) {
            if at < gap.start {
                known.push(at..gap.start);
            }
            at = gap.end;
        }
        known
    }

    fn forget(&mut self, range: &Pages) {
        for set in [&mut self.reader, &mut self.readahead, &mut self.agent, &mut self.fresh] {
            set.remove(range);
        }
    }

    /// Whose claims end here: see `come_again`.
    pub fn added_by_thread(&mut self, range: &Pages) -> Vec<(Owner, u64)> {
        let lost = self.come_again(range);
        self.forget(range);
        self.fresh.insert(range);
        lost
    }

    /// Gives the pages of them that were read before their coming was told: one thread's additions are told
    /// together, and its reader may be quicker. Nobody waits for those any more. And whose earlier claims end
    /// here: see `come_again`.
    pub fn added_by_agent(&mut self, range: &Pages, owner: Option<Owner>) -> (u64, Vec<(Owner, u64)>) {
        let lost = self.come_again(range);
        let (read, unread) = (self.reader.overlap(range), self.reader.gaps(range));
        self.forget(range);
        self.agent.insert(range);
        let Some(owner) = owner else { return (read, lost) };
        let to = |page: u64| u32::try_from(page).unwrap_or(u32::MAX);
        for range in unread {
            let (start, end) = (to(range.start), to(range.end));
            match self.claims.last_mut() {
                Some(last) if last.owner == owner && last.end == start => last.end = end,
                _ => self.claims.push(Claim { start, end, owner }),
            }
        }
        (read, lost)
    }

    /// Pages come that were in doubt, and are claimed: they had left unread, and the record of it was lost.
    /// A claim that stood on would be settled twice, by the pages that come now.
    fn come_again(&mut self, range: &Pages) -> Vec<(Owner, u64)> {
        if self.claims.is_empty() {
            return Vec::new();
        }
        self.gaps(range).iter().flat_map(|gap| self.take_claims(gap)).collect()
    }

    /// Pages that a count of the page cache found, beside those that are known; nobody knows whose they are.
    pub fn counted(&mut self, resident: &[Pages]) {
        for range in resident {
            for gap in self.gaps(range) {
                self.readahead.insert(&gap);
            }
        }
    }

    /// Nothing is certain any more: records were lost. Claims stand until their pages are read, come again or
    /// leave: most are still there, and none of them was wasted because a record was.
    pub fn doubt(&mut self) {
        let Self { reader, readahead, agent, fresh, claims: _ } = self;
        for set in [reader, readahead, agent, fresh] {
            *set = RangeSet::default();
        }
    }

    /// An access reached `range`: what it missed, and whose claims it redeemed.
    pub fn read(&mut self, range: &Pages) -> Found {
        let missed = self.meet_fresh(range);
        // Read, so it is there: it came before it was watched, or its record was lost.
        for gap in self.gaps(range) {
            self.reader.insert(&gap);
        }
        Found { missed, claimed: self.take_claims(range) }
    }

    /// The kernel mapped what it found of `range` around a fault, and tells the range: of pages that were not
    /// seen to come nothing follows. Where all of them came before they were watched, one of them was touched
    /// and is there, but not which; so none is called resident, and asking for them costs a look at the cache.
    /// Those that are known are mapped now and never fault again: claims on them are redeemed here or never.
    pub fn mapped(&mut self, range: &Pages) -> Found {
        let missed = self.meet_fresh(range);
        let mut claimed = Vec::new();
        if !self.claims.is_empty() {
            for known in self.known(range) {
                claimed.extend(self.take_claims(&known));
            }
        }
        Found { missed, claimed }
    }

    /// Whoever brought the fresh pages has met them now: gives those of them in `range`.
    fn meet_fresh(&mut self, range: &Pages) -> u64 {
        let missed = self.fresh.overlap(range);
        if !self.fresh.is_empty() {
            let fresh = std::mem::take(&mut self.fresh);
            for span in fresh.iter() {
                self.readahead.insert(&span);
            }
            for span in fresh.iter() {
                let (start, end) = (span.start.max(range.start), span.end.min(range.end));
                if start < end {
                    self.readahead.remove(&(start..end));
                    self.reader.insert(&(start..end));
                }
            }
        }
        missed
    }

    /// Pages left the cache: whose claims went with them, unread.
    pub fn removed(&mut self, range: &Pages) -> Vec<(Owner, u64)> {
        self.forget(range);
        self.take_claims(range)
    }

    /// Gives up every claim (the run has ended).
    pub fn abandon(&mut self, workload: u32) -> Vec<(Owner, u64)> {
        let mut lost = Vec::new();
        self.claims.retain(|claim| {
            let mine = claim.owner.workload == workload;
            if mine {
                lost.push((claim.owner, u64::from(claim.end - claim.start)));
            }
            !mine
        });
        lost
    }

    fn take_claims(&mut self, range: &Pages) -> Vec<(Owner, u64)> {
        if self.claims.is_empty() {
            return Vec::new();
        }
        let to = |page: u64| u32::try_from(page).unwrap_or(u32::MAX);
        let (start, end) = (to(range.start), to(range.end));
        let mut taken = Vec::new();
        // Without capacity: nearly every file ends here with no claim left, and should hold nothing for it.
        let mut kept = Vec::new();
        for claim in self.claims.drain(..) {
            let (from, till) = (claim.start.max(start), claim.end.min(end));
            if from >= till {
                kept.push(claim);
                continue;
            }
            taken.push((claim.owner, u64::from(till - from)));
            if claim.start < from {
                kept.push(Claim { end: from, ..claim });
            }
            if till < claim.end {
                kept.push(Claim { start: till, ..claim });
            }
        }
        self.claims = kept;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner { workload: 1, predictor: Predictor::Directory };

    #[test]
    fn pages_fetched_again_in_doubt_are_claimed_once() {
        let mut residency = Residency::default();
        residency.added_by_agent(&(0..8), Some(OWNER));
        residency.doubt();
        let (read, lost) = residency.added_by_agent(&(2..6), Some(OWNER));
        assert_eq!((read, lost), (0, vec![(OWNER, 4)]));
        assert_eq!(residency.claimed_pages(), 8);
        let claimed: u64 = residency.read(&(0..8)).claimed.iter().map(|(_, pages)| pages).sum();
        assert_eq!(claimed, 8);
    }

    #[test]
    fn a_mapping_redeems_what_it_found_and_adds_nothing() {
        let mut residency = Residency::default();
        residency.added_by_agent(&(2..6), Some(OWNER));
        residency.added_by_thread(&(8..9));
        assert_eq!(residency.mapped(&(0..16)), Found { missed: 1, claimed: vec![(OWNER, 4)] });
        assert_eq!(residency.known(&(0..16)), [2..6, 8..9]);
        assert_eq!(residency.known(&(3..6)), [3..6]);
        // In doubt: a claim is redeemed by what was read, not by what may have been mapped.
        residency.added_by_agent(&(10..12), Some(OWNER));
        residency.doubt();
        assert_eq!(residency.mapped(&(0..16)), Found::default());
        assert_eq!(residency.read(&(10..12)).claimed, [(OWNER, 2)]);
    }
}
