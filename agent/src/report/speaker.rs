//! This node's side of the conversation: numbers reports, keeps to the operator's limits, and knows after each
//! break whether a snapshot is due. No I/O; simulated agents speak through it too.

use std::collections::BTreeMap;
use std::sync::Arc;

use operator_api::report::v1 as wire;
use prost::Message;
use wire::up::Kind as Said;

use super::ledger::Ledger;

/// The versions of the protocol that this agent speaks.
const LEAST: u32 = 1;
const GREATEST: u32 = 1;

/// Bytes of instructions in Hello, which comes before Welcome tells of bounds: of one that is too large for the operator
/// each stream would end at its first word, for good. It takes 128 KiB; 1,024 with the identities that there are fit.
const IN_HELLO: usize = 112 << 10;

/// What a part of a message takes around it: a field's number, and a length.
const FRAME: usize = 4;

/// At most of a range, which is two numbers, and of a part of residency without its ranges.
const RANGE: usize = 10;
const RESIDENCY: usize = 64;

/// Of a message's other parts, which there are one of each.
const ONCE: usize = 256;

/// Facts that are replaced as a whole, each told when it is not what it was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    pub capacity: Option<wire::Capacity>,
    pub pressure: Option<wire::Pressure>,
    /// By Dataset.
    pub demand: BTreeMap<Arc<str>, Demand>,
    pub versions: BTreeMap<Arc<str>, Version>,
    pub patterns: Patterns,
}

/// By Dataset and workload: pattern and share covered.
pub type Patterns = BTreeMap<(Arc<str>, Box<str>), (Box<str>, u32)>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    pub readers: u32,
    pub rate: u64,
    pub hit: u64,
    pub miss: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    pub version: u128,
    pub bytes: u64,
    pub files: u64,
    pub seen_ms: u64,
}

/// Why a conversation cannot begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpeakError {
    #[error("the operator answered {0} where a Welcome was due; is something else listening at --operator?")]
    NoWelcome(&'static str),
    #[error(
        "the operator chose version {0} of the wire, which this agent does not speak; upgrade the older of the two"
    )]
    Version(u32),
}

#[derive(Debug)]
pub struct Speaker {
    node: Box<str>,
    session: u64,
    /// The last report sent, and the last acknowledged.
    sequence: u64,
    acked: u64,
    limits: wire::Limits,
    snapshot: bool,
    pub ledger: Ledger,
    pub facts: Facts,
    told: Facts,
    numbers: BTreeMap<Arc<str>, u32>,
    bound: bool,
}

impl Speaker {
    /// `session` is drawn at random at each start.
    pub fn new(node: &str, session: u64) -> Self {
        Self {
            node: node.into(),
            session,
            sequence: 0,
            acked: 0,
            limits: wire::Limits::default(),
            snapshot: true,
            ledger: Ledger::default(),
            facts: Facts::default(),
            told: Facts::default(),
            numbers: BTreeMap::new(),
            bound: false,
        }
    }

    /// What is in hand comes in the order in which it matters. Where it does not all fit, sentences are left out before
    /// instructions, and who is not named is asked for again and answered with what is known.
    pub fn hello(&mut self, in_hand: Vec<wire::Progress>) -> wire::Up {
        self.bound = false;
        let in_hand = fitting(in_hand);
        let hello = wire::Hello {
            least_version: LEAST,
            greatest_version: GREATEST,
            agent: env!("CARGO_PKG_VERSION").into(),
            node: self.node.to_string(),
            session: self.session,
            // Parts of a snapshot that was not finished are no place to go on from.
            last_sequence: if self.snapshot { 0 } else { self.sequence },
            in_hand,
        };
        wire::Up { kind: Some(Said::Hello(hello)) }
    }

    /// The operator's first word.
    pub fn welcome(&mut self, first: &wire::Down) -> Result<(), SpeakError> {
        let Some(wire::down::Kind::Welcome(welcome)) = &first.kind else {
            return Err(SpeakError::NoWelcome(if first.kind.is_some() {
                "something else"
            } else {
                "nothing"
            }));
        };
        if !(LEAST..=GREATEST).contains(&welcome.version) {
            return Err(SpeakError::Version(welcome.version));
        }
        let given = welcome.limits.unwrap_or_default();
        // An operator of bad manners must not make this agent spin, stop or swell.
        self.limits = wire::Limits {
            message_bytes: given.message_bytes.clamp(16 << 10, 4 << 20),
            ranges: given.ranges.clamp(64, 1 << 16),
            entries: given.entries.clamp(16, 1 << 14),
            window: given.window.clamp(1, 64),
            interval_ms: given.interval_ms.clamp(500, 600_000),
            runs: given.runs,
        };
        if welcome.resumed {
            self.acked = self.sequence;
        } else {
            self.begin_again();
        }
        Ok(())
    }

    /// The next report begins a snapshot.
    pub fn begin_again(&mut self) {
        self.snapshot = true;
        self.acked = self.sequence;
        self.told = Facts::default();
        self.ledger.forget_told();
    }

    pub fn acked(&mut self, sequence: u64) {
        self.acked = self.acked.max(sequence.min(self.sequence));
    }

    pub fn bind(&mut self, numbers: impl IntoIterator<Item = (Arc<str>, u32)>) {
        let former = std::mem::replace(&mut self.numbers, numbers.into_iter().collect());
        self.bound = true;
        let Self { numbers, told, ledger, .. } = self;
        // One that was deleted and made again has the same name and another number: of that one nothing was told.
        let same =
            |dataset: &str| numbers.get(dataset).is_some_and(|number| former.get(dataset) == Some(number));
        ledger.forget_unbound(same);
        told.demand.retain(|dataset, _| same(dataset));
        told.versions.retain(|dataset, _| same(dataset));
        told.patterns.retain(|(dataset, _), _| same(dataset));
    }

    pub fn interval(&self) -> std::time::Duration {
        std::time::Duration::from_millis(self.limits.interval_ms.into())
    }

    /// What the operator takes in one message, without what is around it.
    pub fn message_bytes(&self) -> usize {
        (self.limits.message_bytes as usize).saturating_sub(ONCE)
    }

    pub fn in_flight(&self) -> u64 {
        self.sequence - self.acked
    }

    /// The next report, where there is something to tell and credit to tell it; `more` says that parts follow.
    pub fn report(&mut self) -> Option<wire::Report> {
        if !self.bound || self.in_flight() >= u64::from(self.limits.window) {
            return None;
        }
        let bytes = self.message_bytes();
        let Self { ledger, facts, told, numbers, limits, .. } = self;
        let number = |dataset: &str| numbers.get(dataset).copied();
        let mut report = wire::Report::default();
        let mut room = Room { entries: limits.entries as usize, bytes, full: false };
        if facts.capacity != told.capacity {
            told.capacity = facts.capacity;
            report.capacity = facts.capacity;
        }
        if facts.pressure != told.pressure {
            told.pressure = facts.pressure;
            report.pressure = facts.pressure;
        }
        for (dataset, fact) in &facts.versions {
            let Some(number) = number(dataset).filter(|_| told.versions.get(dataset) != Some(fact)) else {
                continue;
            };
            let Version { version, bytes, files, seen_ms } = *fact;
            let (version_high, version_low) = ((version >> 64) as u64, version as u64);
            let part = wire::Version { dataset: number, version_high, version_low, bytes, files, seen_ms };
            if room.takes(&part) {
                told.versions.insert(dataset.clone(), *fact);
                report.versions.push(part);
            }
        }
        for (dataset, fact) in &facts.demand {
            let Some(number) = number(dataset).filter(|_| told.demand.get(dataset) != Some(fact)) else {
                continue;
            };
            let Demand { readers, rate, hit, miss } = *fact;
            let part = wire::Demand { dataset: number, readers, rate, hit_bytes: hit, miss_bytes: miss };
            if room.takes(&part) {
                told.demand.insert(dataset.clone(), *fact);
                report.demand.push(part);
            }
        }
        // What is not said any more is over: the operator goes by the last word.
        told.demand.retain(|dataset, _| {
            let over = number(dataset).filter(|_| !facts.demand.contains_key(dataset));
            let Some(dataset) = over else { return true };
            let part = wire::Demand { dataset, ..wire::Demand::default() };
            let fits = room.takes(&part);
            report.demand.extend(fits.then_some(part));
            !fits
        });
        let ranges = (limits.ranges as usize).min(room.bytes / 2 / RANGE);
        let entries = room.entries.min((room.bytes - ranges * RANGE) / RESIDENCY);
        report.residency = ledger.take(entries, ranges, number);
        room.full |= ledger.has_changes(number);
        report.residency.iter().for_each(|part| _ = room.takes(part));
        // Last: they are for people, and the longest.
        for (key, fact) in &facts.patterns {
            let Some(dataset) = number(&key.0).filter(|_| told.patterns.get(key) != Some(fact)) else {
                continue;
            };
            let (workload, pattern, covered_permille) = (key.1.to_string(), fact.0.to_string(), fact.1);
            let part = wire::Pattern { dataset, workload, pattern, covered_permille };
            if room.takes(&part) {
                told.patterns.insert(key.clone(), fact.clone());
                report.patterns.push(part);
            }
        }
        told.patterns.retain(|key, _| facts.patterns.contains_key(key));
        report.more = room.full;
        let empty = report.residency.is_empty()
            && report.versions.is_empty()
            && report.demand.is_empty()
            && report.patterns.is_empty()
            && report.capacity.is_none()
            && report.pressure.is_none();
        if empty && !self.snapshot {
            return None;
        }
        self.sequence += 1;
        report.sequence = self.sequence;
        report.snapshot = std::mem::take(&mut self.snapshot);
        Some(report)
    }

    /// A report with nothing in it, which shows that the agent lives.
    pub fn sign_of_life(&mut self) -> Option<wire::Report> {
        if !self.bound || self.snapshot || self.in_flight() >= u64::from(self.limits.window) {
            return None;
        }
        self.sequence += 1;
        Some(wire::Report { sequence: self.sequence, ..wire::Report::default() })
    }
}

/// What a report may still take.
struct Room {
    entries: usize,
    bytes: usize,
    /// Something did not fit: it comes with the next one.
    full: bool,
}

impl Room {
    fn takes(&mut self, part: &impl Message) -> bool {
        let rest = self.bytes.checked_sub(part.encoded_len() + FRAME).filter(|_| self.entries > 0);
        self.full |= rest.is_none();
        let Some(rest) = rest else { return false };
        (self.entries, self.bytes) = (self.entries - 1, rest);
        true
    }
}

fn fitting(mut in_hand: Vec<wire::Progress>) -> Vec<wire::Progress> {
    let mut room = IN_HELLO;
    let mut fits = |bytes: usize| room.checked_sub(bytes + FRAME).inspect(|rest| room = *rest).is_some();
    let details: Vec<String> = in_hand.iter_mut().map(|one| std::mem::take(&mut one.detail)).collect();
    let named = in_hand.iter().take_while(|one| fits(one.encoded_len())).count();
    in_hand.truncate(named);
    for (one, detail) in in_hand.iter_mut().zip(details) {
        if !detail.is_empty() && fits(detail.len()) {
            one.detail = detail;
        }
    }
    in_hand
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::ledger::{Key, Tier};

    fn in_hand(count: usize, id: impl Fn(usize) -> String, detail: &str) -> Vec<wire::Progress> {
        let state = wire::progress::State::Refused.into();
        let one = |n| wire::Progress { id: id(n), state, detail: detail.into(), ..wire::Progress::default() };
        (0..count).map(one).collect()
    }

    #[test]
    fn hello_fits_whatever_was_refused() {
        let told = |in_hand: Vec<wire::Progress>| match Speaker::new("n", 1).hello(in_hand).kind {
            Some(Said::Hello(hello)) => hello,
            other => panic!("{other:?}"),
        };
        let load = |n| format!("load/0b0f6a4f-6d4a-4b55-9d3b-0f4c3e3f5a11/1/{n:0>16}");
        let hello = told(in_hand(1_024, load, &"not here ".repeat(40)));
        assert!(hello.encoded_len() < 120 << 10, "{}", hello.encoded_len());
        assert_eq!(hello.in_hand.len(), 1_024, "all are named");
        assert_eq!(hello.in_hand[9].detail.len(), 360, "and the first with their sentence");
        assert_eq!(hello.in_hand[1_023].detail, "");
        let long = |n| format!("{n:0>128}");
        let hello = told(in_hand(1_024, long, ""));
        assert!(hello.encoded_len() < 120 << 10 && hello.in_hand.len() > 800, "{}", hello.encoded_len());
        assert_eq!(hello.in_hand[800].id, long(800), "the last are left out");
    }

    #[test]
    fn a_dataset_that_is_made_again_is_told_of_anew() {
        let mut speaker = Speaker::new("n", 1);
        let welcome = wire::Welcome { version: 1, ..wire::Welcome::default() };
        speaker.welcome(&wire::Down { kind: Some(wire::down::Kind::Welcome(welcome)) }).unwrap();
        let [made_again, stays] = ["a/again", "a/stays"].map(Arc::<str>::from);
        for name in [&made_again, &stays] {
            speaker.facts.versions.insert(name.clone(), Version { version: 7, ..Version::default() });
            speaker.facts.demand.insert(name.clone(), Demand { readers: 1, ..Demand::default() });
            let key = Key { dataset: name.clone(), version: 7, tier: Tier::PageCache };
            speaker.ledger.change(&key, |held| held.whole.insert(0, 4));
        }
        let mut told = |numbers: [u32; 2]| {
            speaker.bind([made_again.clone(), stays.clone()].into_iter().zip(numbers));
            let report = speaker.report()?;
            speaker.acked(report.sequence);
            let versions: Vec<u32> = report.versions.iter().map(|part| part.dataset).collect();
            let (demand, residency) = (&report.demand, &report.residency);
            assert!(demand.iter().map(|part| part.dataset).eq(versions.iter().copied()), "{demand:?}");
            assert!(residency.iter().map(|part| part.dataset).eq(versions.iter().copied()), "{residency:?}");
            Some(versions)
        };
        assert_eq!(told([1, 2]), Some(vec![1, 2]));
        assert_eq!(told([1, 2]), None, "nothing is new");
        assert_eq!(told([3, 2]), Some(vec![3]));
        speaker.facts.demand.remove(&stays);
        let over = speaker.report().unwrap();
        assert_eq!(
            over.demand,
            [wire::Demand { dataset: 2, ..wire::Demand::default() }],
            "nobody reads any more"
        );
        assert!(speaker.report().is_none(), "said once");
    }

    #[test]
    fn reports_keep_to_the_operators_bound_whatever_there_is_to_say() {
        let bytes = 16 << 10;
        let mut speaker = Speaker::new("n", 1);
        let limits =
            wire::Limits { message_bytes: bytes, entries: 1_024, ranges: 4_096, ..Default::default() };
        let welcome = wire::Welcome { version: 1, limits: Some(limits), ..wire::Welcome::default() };
        speaker.welcome(&wire::Down { kind: Some(wire::down::Kind::Welcome(welcome)) }).unwrap();
        let names: Vec<Arc<str>> = (0..300).map(|n| format!("a/{n}").into()).collect();
        speaker.bind(names.iter().cloned().zip(u32::MAX - 300..));
        speaker.facts.capacity = Some(wire::Capacity { ram_bytes: u64::MAX, cache_bytes: u64::MAX });
        for name in &names {
            let most = u64::MAX;
            let version = Version { version: u128::MAX, bytes: most, files: most, seen_ms: most };
            speaker.facts.versions.insert(name.clone(), version);
            let demand = Demand { readers: u32::MAX, rate: most, hit: most, miss: most };
            speaker.facts.demand.insert(name.clone(), demand);
            let words = (Box::from("w".repeat(128)), 1_000);
            speaker.facts.patterns.insert((name.clone(), "p".repeat(512).into()), words);
            let key = Key { dataset: name.clone(), version: u128::MAX, tier: Tier::PageCache };
            speaker.ledger.change(&key, |held| {
                held.partial = u64::MAX >> 4;
                (0..40).for_each(|n| held.whole.insert(u32::MAX - 2 * n - 2, u32::MAX - 2 * n - 1));
            });
        }
        let (mut seen, mut ranges, mut more) = ([0; 4], 0, true);
        while let Some(report) = speaker.report() {
            let up =
                wire::Up { kind: Some(Said::Report(wire::Report { clock_ms: u64::MAX, ..report.clone() })) };
            assert!(up.encoded_len() <= bytes as usize, "{}", up.encoded_len());
            let partial = report.residency.iter().filter(|part| part.partial_bytes.is_some()).count();
            let told = [report.versions.len(), report.demand.len(), partial, report.patterns.len()];
            seen.iter_mut().zip(told).for_each(|(all, told)| *all += told);
            ranges += report.residency.iter().map(|part| part.added.len() / 2).sum::<usize>();
            more = report.more;
            speaker.acked(report.sequence);
        }
        assert_eq!((seen, ranges, more), ([300; 4], 300 * 40, false), "all of it, once");
    }
}
