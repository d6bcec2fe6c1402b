//! Which pages of a file are in the page cache, who brought them, and which of the agent's wait unread.

use crate::ranges::RangeSet;
use crate::units::{PAGE, Pages, bytes_in, pages_of};
use crate::view::Predictor;

/// Pages the agent brought in and nobody has read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    start: u32,
    end: u32,
    /// Bytes by which its last page is not full, as it is where the file ended there when it came: what is settled must be what
    /// was fetched, whatever becomes of the file.
    short: u16,
    pub owner: Owner,
}

/// In whose name bytes were fetched: a row of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    pub workload: u32,
    pub predictor: Predictor,
}

impl Claim {
    /// Of pages that are in it.
    fn bytes(&self, start: u32, end: u32) -> u64 {
        let short = if end == self.end { u64::from(self.short) } else { 0 };
        u64::from(end - start) * PAGE - short
    }
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

/// Bytes whose claims end, by whose they were.
pub type Settled = Vec<(Owner, u64)>;

/// How what an access reached was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// In pages.
    pub missed: u64,
    pub claimed: Settled,
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
    pub fn added_by_thread(&mut self, range: &Pages) -> Settled {
        let lost = self.come_again(range);
        self.forget(range);
        self.fresh.insert(range);
        lost
    }

    /// Gives the bytes of them that were read before their coming was told: one thread's additions are told
    /// together, and its reader may be quicker. Nobody waits for those any more. And whose claims end here: earlier ones
    /// (`come_again`), and of what no claim can be kept. `size` is the file's.
    pub fn added_by_agent(&mut self, range: &Pages, owner: Option<Owner>, size: u64) -> (u64, Settled) {
        let mut lost = self.come_again(range);
        let unread = self.reader.gaps(range);
        let waiting: u64 = unread.iter().map(|range| bytes_in(range, size)).sum();
        let read = bytes_in(range, size).saturating_sub(waiting);
        self.forget(range);
        self.agent.insert(range);
        let Some(owner) = owner else { return (read, lost) };
        let to = |page: u64| u32::try_from(page).unwrap_or(u32::MAX);
        for range in unread {
            let (start, end) = (to(range.start), to(range.end));
            // Claims reach 16 TiB far.
            if start >= end || u64::from(end) < range.end {
                lost.push((owner, bytes_in(&range, size)));
                continue;
            }
            let full = (range.end - range.start) * PAGE;
            // Pages beyond the end that is known count as full: the file has grown.
            let short = if range.end > pages_of(size) { 0 } else { full - bytes_in(&range, size) };
            let short = u16::try_from(short).unwrap_or(0);
            match self.claims.last_mut() {
                Some(last) if last.owner == owner && last.end == start && last.short == 0 => {
                    (last.end, last.short) = (end, short);
                }
                _ => self.claims.push(Claim { start, end, short, owner }),
            }
        }
        (read, lost)
    }

    /// Pages come that were in doubt, and are claimed: they had left unread, and the record of it was lost.
    /// A claim that stood on would be settled twice, by the pages that come now.
    fn come_again(&mut self, range: &Pages) -> Settled {
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
    pub fn removed(&mut self, range: &Pages) -> Settled {
        self.forget(range);
        self.take_claims(range)
    }

    /// Gives up every claim (the run has ended).
    pub fn abandon(&mut self, workload: u32) -> Settled {
        let mut lost = Vec::new();
        self.claims.retain(|claim| {
            let mine = claim.owner.workload == workload;
            if mine {
                lost.push((claim.owner, claim.bytes(claim.start, claim.end)));
            }
            !mine
        });
        lost
    }

    /// Gives up every claim, whose ever it is.
    pub fn unclaim(&mut self) -> Settled {
        self.take_claims(&(0..u64::MAX))
    }

    fn take_claims(&mut self, range: &Pages) -> Settled {
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
            taken.push((claim.owner, claim.bytes(from, till)));
            if claim.start < from {
                kept.push(Claim { end: from, short: 0, ..claim });
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

    /// A file that ends beyond all of these pages.
    const LARGE: u64 = 1 << 30;

    #[test]
    fn pages_fetched_again_in_doubt_are_claimed_once() {
        let mut residency = Residency::default();
        residency.added_by_agent(&(0..8), Some(OWNER), LARGE);
        residency.doubt();
        let (read, lost) = residency.added_by_agent(&(2..6), Some(OWNER), LARGE);
        assert_eq!((read, lost), (0, vec![(OWNER, 4 * PAGE)]));
        assert_eq!(residency.claimed_pages(), 8);
        let claimed: u64 = residency.read(&(0..8)).claimed.iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(claimed, 8 * PAGE);
    }

    #[test]
    fn what_is_settled_is_what_came_however_it_is_cut() {
        let size = 7 * PAGE + 100;
        for cut in 0..=8 {
            for grown in [false, true] {
                let mut residency = Residency::default();
                residency.added_by_agent(&(2..5), Some(OWNER), size);
                residency.added_by_agent(&(5..8), Some(OWNER), size);
                if grown {
                    // The file has become longer since.
                    residency.added_by_agent(&(8..10), Some(OWNER), 12 * PAGE);
                }
                let mut settled = residency.read(&(0..cut)).claimed;
                settled.extend(residency.removed(&(cut..9)));
                settled.extend(residency.abandon(OWNER.workload));
                let bytes: u64 = settled.iter().map(|(_, bytes)| bytes).sum();
                let more = if grown { 2 * PAGE } else { 0 };
                assert_eq!(bytes, size - 2 * PAGE + more, "cut at {cut}, grown {grown}");
            }
        }
        // Read before its coming was told.
        let mut residency = Residency::default();
        residency.read(&(7..8));
        let (read, _) = residency.added_by_agent(&(0..8), Some(OWNER), size);
        assert_eq!((read, residency.abandon(OWNER.workload)), (100, vec![(OWNER, 7 * PAGE)]));
        // Further than claims reach.
        let far = 1 << 32;
        for (pages, bytes) in [(far - 2..far + 1, 2 * PAGE + 100), (far..far + 1, 100)] {
            let (_, lost) = residency.added_by_agent(&pages, Some(OWNER), far * PAGE + 100);
            assert_eq!(lost, [(OWNER, bytes)], "settled at once");
        }
        assert_eq!(residency.removed(&(0..far + 9)), []);
        // Of a file whose length is behind, or not known.
        for size in [0, PAGE] {
            let mut residency = Residency::default();
            residency.added_by_agent(&(2..4), Some(OWNER), size);
            assert_eq!(residency.abandon(OWNER.workload), [(OWNER, 2 * PAGE)]);
        }
    }

    #[test]
    fn a_mapping_redeems_what_it_found_and_adds_nothing() {
        let mut residency = Residency::default();
        residency.added_by_agent(&(2..6), Some(OWNER), LARGE);
        residency.added_by_thread(&(8..9));
        assert_eq!(residency.mapped(&(0..16)), Found { missed: 1, claimed: vec![(OWNER, 4 * PAGE)] });
        assert_eq!(residency.known(&(0..16)), [2..6, 8..9]);
        assert_eq!(residency.known(&(3..6)), [3..6]);
        // In doubt: a claim is redeemed by what was read, not by what may have been mapped.
        residency.added_by_agent(&(10..12), Some(OWNER), LARGE);
        residency.doubt();
        assert_eq!(residency.mapped(&(0..16)), Found::default());
        assert_eq!(residency.read(&(10..12)).claimed, [(OWNER, 2 * PAGE)]);
    }
}
