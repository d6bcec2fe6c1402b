//! How it is asked for: how much of a file an order brings, within memory, and what is noted of it.

use crate::catalog::{File, FileId};
use crate::core::{Advance, Core, FetchFlight, Flight};
use crate::order::{Door, Extent, Order};
use crate::residency::Owner;
use crate::run::{LARGE, Run};
use crate::shape::resolve;
use crate::stream::{ORDER_BYTES, PIECE, STREAM_LIMIT};
use crate::units::{MountId, Nanos, PAGE, Pages, pages_of};
use crate::view::{Happening, Predictor, Survival};

/// What is this likely to be read is asked for however full the link is: its bytes have to come over it in any case.
const SURE: f64 = 0.9;

/// A file that is not open yet and is expected to be read.
pub(crate) struct Candidate {
    pub file: FileId,
    pub predictor: Predictor,
    pub deadline: Nanos,
    /// From the run's pool, to which it returns if nothing comes of it.
    pub drawn: bool,
}

/// Whether all of this part of a file is in memory, as far as its size is known.
fn lies_ready(file: &File, extent: &Extent) -> bool {
    let Some(residency) = file.residency.as_ref().filter(|_| file.size > 0) else {
        return false;
    };
    let wanted = match extent {
        Extent::Whole { limit } => vec![0..pages_of(file.size.min(*limit))],
        Extent::Shape(anchors) => resolve(anchors, file.size),
        Extent::Ranges(ranges) => ranges.clone(),
    };
    wanted.iter().all(|range| residency.gaps(range).is_empty())
}

impl Core {
    /// Asks for the part of a file that its kind is read of; returns the bytes expected. `None` where there is
    /// no room for it now: it is to be tried again.
    pub(crate) fn fetch_file(&mut self, run: &Run, candidate: Candidate, now: Nanos) -> Option<u64> {
        let Candidate { file: id, predictor, deadline, drawn } = candidate;
        let comes = self.advances.iter().any(|advance| advance.file == id);
        if comes || self.in_flight.contains_key(&id) || self.active.contains_key(&id) {
            return Some(0);
        }
        let Some(file) = self.catalog.file(id) else {
            return Some(0);
        };
        let Some(class) = run.class(&file.name) else {
            return Some(0);
        };
        let Some(extent) = class.extent() else { return Some(0) };
        let size = file.size;
        let expected = match &extent {
            Extent::Whole { .. } if size == 0 => class.average(),
            Extent::Whole { limit } => size.min(*limit),
            Extent::Ranges(_) => 0,
            Extent::Shape(anchors) if size > 0 => {
                resolve(anchors, size).iter().map(|range| (range.end - range.start) * PAGE).sum()
            }
            Extent::Shape(_) => class.average(),
        };
        if lies_ready(file, &extent) {
            return Some(0);
        }
        let guessed = predictor == Predictor::Epoch && !run.is_known_epoch();
        let (mut extent, mut expected) = self.fit(run, extent, expected, guessed)?;
        if lies_ready(file, &extent) {
            return Some(0);
        }
        let predictor = if matches!(extent, Extent::Shape(_)) { Predictor::Shape } else { predictor };
        let owner = Owner { workload: run.workload, predictor };
        let surety = self.surety(run, owner);
        if !self.lends(run.mount, surety, now) {
            return None;
        }
        let reason = match predictor {
            Predictor::Directory => "next in the walk through its directory",
            Predictor::Repetition => "next in the order of an earlier run or epoch",
            Predictor::Epoch => "not read yet in an epoch that reads every file once",
            _ => "the part that earlier files of its kind were read of",
        };
        let left = 0..pages_of(expected);
        let mut advance = Advance { mount: run.mount, file: id, owner, left, deadline, reason, drawn };
        if size > 0 && expected > ORDER_BYTES && matches!(extent, Extent::Whole { .. }) {
            return self.begin(advance, run.via()).then(|| {
                if let Some(store) = self.stores.get_mut(&run.mount) {
                    store.link.lend(ORDER_BYTES, surety);
                }
                expected
            });
        }
        // How large it is shows with its first piece.
        let mut rest = None;
        if let Extent::Whole { limit } = &mut extent
            && size == 0
            && *limit > ORDER_BYTES
        {
            advance.left = pages_of(ORDER_BYTES)..pages_of(*limit);
            advance.drawn = false;
            rest = (!guessed).then_some(advance);
            *limit = ORDER_BYTES;
            expected = expected.min(ORDER_BYTES);
        }
        let flight = FetchFlight {
            mount: run.mount,
            file: id,
            owner,
            door: Door::Open,
            expected,
            requests: 0,
            span: match &extent {
                Extent::Whole { .. } if size > 0 => 0..pages_of(expected),
                _ => 0..u64::from(u32::MAX),
            },
            added: 0,
            trial: false,
            drawn,
            rest,
        };
        self.fetch(flight, extent, run.via(), deadline, reason);
        if let Some(store) = self.stores.get_mut(&run.mount) {
            store.link.lend(expected, surety);
        }
        Some(expected)
    }

    /// How much of what is asked for in this name is read: of a set that is known, as much as earlier runs read of it;
    /// otherwise as much as has been read by now.
    pub(crate) fn surety(&self, run: &Run, owner: Owner) -> f64 {
        if owner.predictor == Predictor::Epoch && run.is_known_epoch() {
            return run.share.usual();
        }
        let under_way = self.flights.values().map(|flight| match flight {
            Flight::Fetch(flight) if flight.owner == owner => flight.expected,
            Flight::Fetch(_) | Flight::List { .. } => 0,
        });
        self.ledger.surety(owner, under_way.sum())
    }

    /// Whether what is so likely to be read may be asked for now.
    pub(crate) fn lends(&mut self, mount: MountId, surety: f64, now: Nanos) -> bool {
        surety >= SURE || self.stores.get_mut(&mount).is_some_and(|store| store.link.lends(now))
    }

    /// What there is room for of a file that is not open yet. The streams of files that are being read come
    /// first, so that a large file leaves them what they want to be ahead by; where it is too large for that,
    /// so much of its start is asked for as a stream would have ready, which then goes on from there. Where the file is guessed
    /// at, one order's bytes are: they spare the wait for the first.
    fn fit(&self, run: &Run, extent: Extent, expected: u64, guessed: bool) -> Option<(Extent, u64)> {
        let room = self.room();
        if expected <= LARGE {
            // Nothing beyond the expected has to come either, where the size is not known.
            let extent = match extent {
                Extent::Whole { limit } => Extent::Whole { limit: limit.min(room) },
                other => other,
            };
            return (expected <= room).then_some((extent, expected));
        }
        let lead = self.stores.get(&run.mount)?.lead();
        let ahead = run.rate.ahead(lead).clamp(ORDER_BYTES, STREAM_LIMIT);
        let left = room.saturating_sub(ahead);
        match extent {
            Extent::Whole { .. } if guessed => {
                (ORDER_BYTES <= left).then_some((Extent::Whole { limit: ORDER_BYTES }, ORDER_BYTES))
            }
            Extent::Whole { limit } if expected <= left => {
                Some((Extent::Whole { limit: limit.min(left) }, expected))
            }
            Extent::Whole { .. } if ahead <= left => Some((Extent::Whole { limit: ahead }, ahead)),
            other => (expected <= left).then_some((other, expected)),
        }
    }

    /// Asks for ranges of a file that is open, in orders of about a mebibyte.
    #[expect(clippy::too_many_arguments, reason = "what, where, in whose name, by which way, and when")]
    pub(crate) fn fetch_ranges(
        &mut self,
        id: FileId,
        mount: MountId,
        owner: Owner,
        door: Door,
        trial: bool,
        ranges: Vec<Pages>,
        now: Nanos,
    ) {
        let Some(file) = self.catalog.file(id) else { return };
        let gaps: Vec<Pages> = match &file.residency {
            Some(residency) => ranges.iter().flat_map(|range| residency.gaps(range)).collect(),
            None => ranges,
        };
        let via = match door {
            Door::Descriptor { tgid } => tgid,
            Door::Open => self.active.get(&id).map_or(0, |active| active.tgid),
        };
        let mut group: Vec<Pages> = Vec::new();
        let mut bytes = 0;
        let send = |core: &mut Self, group: &mut Vec<Pages>, bytes: &mut u64| {
            if !group.is_empty() {
                let expected = std::mem::take(bytes);
                let span = group.iter().map(|range| range.start).min().unwrap_or(0)
                    ..group.iter().map(|range| range.end).max().unwrap_or(0);
                let requests = group.iter().map(|range| (range.end - range.start).div_ceil(PIECE)).sum();
                let flight = FetchFlight {
                    mount,
                    file: id,
                    owner,
                    door,
                    expected,
                    span,
                    requests,
                    added: 0,
                    trial,
                    drawn: false,
                    rest: None,
                };
                let extent = Extent::Ranges(std::mem::take(group));
                core.fetch(flight, extent, via, now, "the stream that reads it goes on");
            }
        };
        for gap in gaps {
            let len = (gap.end - gap.start) * PAGE;
            if bytes > 0 && bytes + len > ORDER_BYTES {
                send(self, &mut group, &mut bytes);
            }
            bytes += len;
            group.push(gap);
        }
        send(self, &mut group, &mut bytes);
    }

    pub(crate) fn fetch(
        &mut self,
        flight: FetchFlight,
        extent: Extent,
        via: u32,
        deadline: Nanos,
        reason: &str,
    ) {
        let Some(store) = self.stores.get_mut(&flight.mount) else {
            return;
        };
        let Some(key) = self.catalog.file(flight.file).map(|file| file.key) else { return };
        store.outstanding += 1;
        store.flying += flight.expected;
        store.requests += flight.requests;
        if flight.requests > 0 {
            store.streaming += flight.expected;
            store.link.asked(flight.expected);
        }
        if store.survival == Survival::Unknown && flight.door == Door::Open && flight.expected > 0 {
            store.unproven += 1;
        }
        let id = self.order_id();
        let path = self.catalog.path(flight.file);
        let (mount, door) = (flight.mount, flight.door);
        self.ledger.predicted(flight.owner);
        self.expected_bytes += flight.expected;
        if self.is_heard() {
            self.happen(Happening::Fetch {
                file: key,
                mount,
                path: path.clone(),
                predictor: flight.owner.predictor,
                reason: reason.into(),
                bytes: flight.expected,
            });
        }
        let count = self.in_flight.get(&flight.file).map_or(0, |(count, _)| *count);
        self.in_flight.insert(flight.file, (count + 1, flight.owner));
        self.flights.insert(id, Flight::Fetch(flight));
        self.out.push(Order::Fetch { id, mount, path, file: key, door, via, extent, deadline });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Limits;
    use crate::observation::Observation;

    const MIB: u64 = 1 << 20;

    /// What is asked for of a file of so many mebibytes, with so much room, by a run that wants to be 21 MB ahead.
    fn fitted(room: u64, file: u64, guessed: bool) -> Option<u64> {
        let mut core = Core::new(Limits { memory_percent: 100, ..Limits::default() });
        let (mount, source, fstype) = (MountId(1), "s".into(), "nfs4".into());
        let mount_seen = Observation::Mount { mount, dev: 5, source, fstype, read_ahead_bytes: 0 };
        core.apply(&mount_seen, Nanos(0));
        core.available = room * MIB;
        let mut run = Run::new(1, mount);
        run.rate.sample(0, Nanos(0));
        run.rate.sample(3_000_000, Nanos::from_millis(10));
        let whole = Extent::Whole { limit: 2 * file * MIB };
        let (Extent::Whole { limit }, expected) = core.fit(&run, whole, file * MIB, guessed)? else {
            return None;
        };
        assert!(expected <= limit && limit <= core.room());
        Some(expected / MIB)
    }

    #[test]
    fn large_files_leave_the_streams_what_they_want() {
        assert_eq!(fitted(101, 70, false), Some(70));
        assert_eq!(fitted(101, 90, false), Some(20));
        assert_eq!(fitted(101, 5_000, false), Some(20));
        assert_eq!(fitted(30, 25, false), None);
        assert_eq!(fitted(2, 1, false), Some(1));
        assert_eq!(fitted(0, 1, false), None);
        // Of a guess no more is asked for than spares the first wait.
        assert_eq!(fitted(101, 70, true), Some(1));
        assert_eq!(fitted(20, 70, true), None);
    }
}
