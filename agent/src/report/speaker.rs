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
        self.numbers = numbers.into_iter().collect();
        self.bound = true;
        let Self { numbers, told, ledger, .. } = self;
        ledger.forget_unbound(|dataset| numbers.contains_key(dataset));
        told.demand.retain(|dataset, _| numbers.contains_key(dataset));
        told.patterns.retain(|(dataset, _), _| numbers.contains_key(dataset));
    }

    pub fn interval(&self) -> std::time::Duration {
        std::time::Duration::from_millis(self.limits.interval_ms.into())
    }

    pub fn in_flight(&self) -> u64 {
        self.sequence - self.acked
    }

    /// The next report, where there is something to tell and credit to tell it; `more` says that parts follow.
    pub fn report(&mut self) -> Option<wire::Report> {
        if !self.bound || self.in_flight() >= u64::from(self.limits.window) {
            return None;
        }
        let Self { ledger, facts, told, numbers, limits, .. } = self;
        let number = |dataset: &str| numbers.get(dataset).copied();
        let mut report = wire::Report::default();
        let mut room = limits.entries as usize;
        if facts.capacity != told.capacity {
            told.capacity = facts.capacity;
            report.capacity = facts.capacity;
        }
        if facts.pressure != told.pressure {
            told.pressure = facts.pressure;
            report.pressure = facts.pressure;
        }
        for (dataset, version) in &facts.versions {
            let Some(dataset_number) = number(dataset) else { continue };
            if told.versions.get(dataset) == Some(version) || room == 0 {
                continue;
            }
            room -= 1;
            told.versions.insert(dataset.clone(), *version);
            let Version { version, bytes, files, seen_ms } = *version;
            report.versions.push(wire::Version {
                dataset: dataset_number,
                version_high: (version >> 64) as u64,
                version_low: version as u64,
                bytes,
                files,
                seen_ms,
            });
        }
        for (dataset, demand) in &facts.demand {
            let Some(dataset_number) = number(dataset) else { continue };
            if told.demand.get(dataset) == Some(demand) || room == 0 {
                continue;
            }
            room -= 1;
            told.demand.insert(dataset.clone(), *demand);
            let Demand { readers, rate, hit, miss } = *demand;
            report.demand.push(wire::Demand {
                dataset: dataset_number,
                readers,
                rate,
                hit_bytes: hit,
                miss_bytes: miss,
            });
        }
        for (key, value) in &facts.patterns {
            let Some(dataset) = number(&key.0) else { continue };
            if told.patterns.get(key) == Some(value) || room == 0 {
                continue;
            }
            room -= 1;
            told.patterns.insert(key.clone(), value.clone());
            let (workload, pattern, covered_permille) = (key.1.to_string(), value.0.to_string(), value.1);
            report.patterns.push(wire::Pattern { dataset, workload, pattern, covered_permille });
        }
        told.patterns.retain(|key, _| facts.patterns.contains_key(key));
        report.residency = ledger.take(room, limits.ranges as usize, number);
        report.more = ledger.has_changes(number) || room == 0;
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
}
