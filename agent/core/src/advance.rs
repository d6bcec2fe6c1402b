//! Large files that are not open yet, brought in piece by piece: what streams leave of the link, so that whoever reads
//! a file now does not wait for all of the next one.

use crate::core::{Advance, Core, FetchFlight};
use crate::order::{Door, Extent};
use crate::stream::ORDER_BYTES;
use crate::units::{MountId, Nanos, PAGE, pages_of};

/// Such files at once: more than fill any link.
const ADVANCES: usize = 64;

impl Core {
    /// Begins to bring in a file, unless the link is full.
    pub(crate) fn begin(&mut self, advance: Advance, via: u32) -> bool {
        if self.advances.len() >= ADVANCES || !self.has_place(&advance) {
            return false;
        }
        let mut advance = advance;
        self.next_piece(&mut advance, via);
        if !advance.left.is_empty() {
            self.advances.push(advance);
        }
        true
    }

    /// The first piece of a file has come, and with it its size.
    pub(crate) fn go_on(&mut self, rest: Advance, size: u64) {
        let left = rest.left.start..rest.left.end.min(pages_of(size));
        let comes = self.advances.iter().any(|advance| advance.file == rest.file);
        if !left.is_empty() && !comes && self.advances.len() < ADVANCES {
            self.advances.push(Advance { left, ..rest });
        }
    }

    /// Brings in more of the files on their way, those first that are wanted first.
    pub(crate) fn advance(&mut self, mount: MountId, now: Nanos) {
        if self.advances.is_empty() {
            return;
        }
        let mut all = std::mem::take(&mut self.advances);
        all.retain(|advance| self.runs.contains_key(&(advance.owner.workload, advance.mount)));
        all.sort_by_key(|advance| advance.deadline);
        for advance in all.iter_mut().filter(|advance| advance.mount == mount) {
            while !advance.left.is_empty() && self.free_places(mount, now) > 0 && self.has_place(advance) {
                let Some(run) = self.runs.get(&(advance.owner.workload, mount)) else { break };
                let (via, surety) = (run.via(), self.surety(run, advance.owner));
                if !self.lends(mount, surety, now) {
                    break;
                }
                let bytes = self.next_piece(advance, via);
                if let Some(store) = self.stores.get_mut(&mount) {
                    store.link.lend(bytes, surety);
                }
            }
        }
        all.retain(|advance| !advance.left.is_empty());
        self.advances = all;
    }

    /// Whether a piece finds room in memory and on the link.
    fn has_place(&self, advance: &Advance) -> bool {
        let piece = ORDER_BYTES.min((advance.left.end - advance.left.start) * PAGE);
        self.room() >= piece
            && self.stores.get(&advance.mount).is_some_and(|store| store.spare_bytes() >= piece)
    }

    /// Asks for the next piece, as far as it is not there; returns the bytes expected.
    fn next_piece(&mut self, advance: &mut Advance, via: u32) -> u64 {
        let piece = advance.left.start..advance.left.end.min(advance.left.start + ORDER_BYTES / PAGE);
        advance.left.start = piece.end;
        let Some(file) = self.catalog.file(advance.file) else { return 0 };
        let gaps = file.residency.as_ref().map_or_else(|| vec![piece.clone()], |known| known.gaps(&piece));
        let expected = gaps.iter().map(|gap| (gap.end - gap.start) * PAGE).sum();
        if expected == 0 {
            return 0;
        }
        let flight = FetchFlight {
            mount: advance.mount,
            file: advance.file,
            owner: advance.owner,
            door: Door::Open,
            expected,
            span: piece,
            requests: 0,
            added: 0,
            trial: false,
            drawn: std::mem::take(&mut advance.drawn),
            rest: None,
        };
        self.fetch(flight, Extent::Ranges(gaps), via, advance.deadline, advance.reason);
        expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::FileId;
    use crate::core::Limits;
    use crate::residency::Owner;
    use crate::view::Predictor;

    #[test]
    fn no_more_is_wanted_than_the_file_has() {
        let mut core = Core::new(Limits::default());
        let owner = Owner { workload: 0, predictor: Predictor::Directory };
        let rest = |file: u32| Advance {
            mount: MountId(1),
            file: FileId(file),
            owner,
            left: 256..10_000,
            deadline: Nanos(0),
            reason: "",
            drawn: false,
        };
        core.go_on(rest(1), 3 * ORDER_BYTES + 5_000);
        core.go_on(rest(2), ORDER_BYTES);
        core.go_on(rest(3), 0);
        let left: Vec<_> = core.advances.iter().map(|advance| (advance.file, advance.left.clone())).collect();
        assert_eq!(left, [(FileId(1), 256..770)]);
        (0..1_000).for_each(|file| core.go_on(rest(file), u64::MAX));
        assert_eq!(core.advances.len(), ADVANCES);
        // Nobody's any more.
        core.advance(MountId(1), Nanos(0));
        assert!(core.advances.is_empty());
    }
}
