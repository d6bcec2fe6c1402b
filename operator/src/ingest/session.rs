//! What each message of one stream means: who it is, what it may say, what is answered. No I/O.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use operator_api::report::v1 as wire;
use prost::Message;
use rustc_hash::{FxHashMap, FxHashSet};
use tonic::Status;
use wire::down::Kind as Told;
use wire::up::Kind as Said;

use crate::inventory::{Fact, Fate, Name};

use super::check::{facts, firsts, ranges};
use super::counts::Tally;
use super::desk::Due;
use super::directory::{Bound, MOST_BINDINGS};
use super::hub::{Hub, Seat, lock};
use super::patterns::Pattern;
use super::work::{MOST_IN_HAND, Progress};

/// The versions of the protocol that this operator speaks.
pub const VERSIONS: std::ops::RangeInclusive<u32> = 1..=1;

/// As many as an agent may watch.
const MOST_SOURCES: usize = 256;

/// Folders of one source that are mounted on a node.
const MOST_FOLDERS: usize = 128;
const LONGEST_FOLDER: usize = 4_096;

/// Instructions sent in one go.
const BATCH: usize = 64;

/// Pods that a profile names.
const MOST_PODS: usize = 16;

/// An open stream.
#[derive(Debug)]
pub struct Session {
    hub: Arc<Hub>,
    node: Arc<str>,
    seat: Arc<Seat>,
    number: u64,
    session: u64,
    sequence: u64,
    /// As they came, but for what nothing here reads; thousands of sessions would keep two allocations for each.
    /// None until they have.
    sources: Option<Box<[u8]>>,
    /// Datasets by the numbers that the agent may use.
    names: FxHashMap<u32, Name>,
    /// Those of which the agent has only some folders: few.
    partly: Vec<Name>,
    /// A hash of the bindings it was told last, under a key of this session: thousands of sessions would keep the
    /// words themselves for nothing.
    told: Option<u64>,
    random: RandomState,
    /// The directory's revision that this is of.
    bound_at: u64,
    pub out: VecDeque<wire::Down>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.hub.leave(&self.node, &self.seat, self.number);
    }
}

fn down(kind: Told) -> wire::Down {
    wire::Down { kind: Some(kind) }
}

impl Session {
    /// Opens a session for the node that the certificate names, or says why not.
    pub fn open(hub: &Arc<Hub>, node: &Arc<str>, hello: wire::Hello) -> Result<Self, Status> {
        let wire::Hello {
            least_version,
            greatest_version,
            agent,
            node: said,
            session,
            last_sequence,
            in_hand,
        } = hello;
        if *said != **node {
            hub.counts.add(Tally::Impostors, 1);
            let said: String = said.chars().take(253).filter(|c| !c.is_control()).collect();
            tracing::warn!("the agent of node {node} says that it is on {said}: refused");
            return Err(Status::permission_denied(format!(
                "the certificate is that of node {node}, and Hello names {said}: an agent reports for its own node only; \
                 let it enrol on the node where it runs"
            )));
        }
        let version = greatest_version.min(*VERSIONS.end());
        if version < least_version.max(*VERSIONS.start()) {
            hub.counts.add(Tally::Versions, 1);
            return Err(Status::failed_precondition(format!(
                "the agent speaks versions {least_version} to {greatest_version} of the wire, this operator {} to {}: \
                 upgrade the older of the two",
                VERSIONS.start(),
                VERSIONS.end()
            )));
        }
        if in_hand.len() > MOST_IN_HAND {
            hub.counts.add(Tally::Nonsense, 1);
            let text =
                format!("Hello names {} instructions, at most {MOST_IN_HAND} are allowed", in_hand.len());
            return Err(Status::invalid_argument(text));
        }
        // It may have ceased to lead since the connection came.
        if !hub.admits() {
            return Err(not_leading());
        }
        let (seat, number) = hub.sit(node);
        let resumed = {
            let mut state = lock(&seat.state);
            if !state.allowance.take(0, Instant::now()) {
                drop(state);
                hub.leave(node, &seat, number);
                return Err(flood(hub));
            }
            state.applied == Some((session, last_sequence)) && last_sequence > 0
        };
        let held: Vec<_> = in_hand.into_iter().filter_map(Progress::read).collect();
        let count = hub.desk().attach(node, held);
        hub.counts.add(Tally::InstructionsKnown, count as u64);
        hub.counts.add(Tally::Sessions, 1);
        hub.counts.add(Tally::Resumed, u64::from(resumed));
        tracing::debug!(
            "agent {agent} of node {node} has come, {}",
            if resumed { "where it was" } else { "anew" }
        );
        let welcome = wire::Welcome {
            version,
            operator: env!("CARGO_PKG_VERSION").into(),
            life: hub.life,
            resumed,
            limits: Some(hub.limits.told()),
        };
        Ok(Self {
            hub: hub.clone(),
            node: node.clone(),
            seat,
            number,
            session,
            sequence: last_sequence,
            sources: None,
            names: FxHashMap::default(),
            partly: Vec::new(),
            told: None,
            random: RandomState::new(),
            bound_at: 0,
            out: VecDeque::from([down(Told::Welcome(welcome))]),
        })
    }

    pub fn seat(&self) -> Arc<Seat> {
        self.seat.clone()
    }

    /// Something may have to be sent; also whether this stream still speaks for its node.
    pub fn wake(&mut self) -> Result<(), Status> {
        self.speaks()?;
        if self.told.is_none() {
            self.rebind();
        }
        self.send_due();
        Ok(())
    }

    /// Whether what this stream says counts: it is the node's, and this replica is the one that listens.
    fn speaks(&self) -> Result<(), Status> {
        if !self.hub.admits() {
            return Err(not_leading());
        }
        match lock(&self.seat.state).stream {
            number if number == self.number => Ok(()),
            0 => {
                self.hub.counts.add(Tally::Lost, 1);
                Err(Status::aborted(format!(
                    "node {} was deleted from the cluster, and the stream of its agent is ended; if it is there again \
                     the agent comes again by itself",
                    self.node
                )))
            }
            _ => {
                self.hub.counts.add(Tally::Replaced, 1);
                Err(Status::aborted(format!(
                    "the agent of node {} has come on another stream, and this one is ended",
                    self.node
                )))
            }
        }
    }

    /// Folds one message in; what is to be answered is in `out` afterwards.
    pub fn take(&mut self, message: wire::Up) -> Result<(), Status> {
        let now = Instant::now();
        let kind = message
            .kind
            .ok_or_else(|| self.nonsense("a message is empty, or of a kind this operator does not know"))?;
        let weight = match &kind {
            Said::Report(report) => u32::try_from(ranges(report)).unwrap_or(u32::MAX),
            _ => 0,
        };
        self.speaks()?;
        if !lock(&self.seat.state).allowance.take(weight, now) {
            return Err(flood(&self.hub));
        }
        match kind {
            Said::Hello(_) => return Err(self.nonsense("Hello came a second time")),
            Said::Sources(sources) => self.bind(sources.sources)?,
            Said::Report(report) => self.report(report)?,
            Said::Progress(told) => self.progress(told.progress)?,
            Said::Learned(told) => self.learned(told)?,
            Said::Wanted(wire::ProfileWanted { workload, source }) => {
                let profile = self
                    .hub
                    .profiles(|profiles| profiles.get(&workload, &source).unwrap_or_default().to_vec());
                self.out.push_back(down(Told::Profile(wire::ProfileKnown { workload, source, profile })));
            }
        }
        Ok(())
    }

    fn nonsense(&self, what: &str) -> Status {
        self.hub.counts.add(Tally::Nonsense, 1);
        tracing::warn!("the agent of node {}: {what}; its stream is ended", self.node);
        Status::invalid_argument(format!(
            "{what}; the stream is ended. Is the agent of the operator's release?"
        ))
    }

    fn bind(&mut self, sources: Vec<wire::Source>) -> Result<(), Status> {
        if sources.len() > MOST_SOURCES {
            return Err(
                self.nonsense(&format!("{} sources, at most {MOST_SOURCES} are allowed", sources.len()))
            );
        }
        let too_many = |source: &wire::Source| {
            source.folders.len() > MOST_FOLDERS
                || source.folders.iter().any(|folder| folder.len() > LONGEST_FOLDER)
        };
        if sources.iter().any(too_many) {
            return Err(self.nonsense(&format!(
                "folders of a source that are more than {MOST_FOLDERS}, or longer than {LONGEST_FOLDER} bytes"
            )));
        }
        lock(&self.seat.state).declare(sources.iter().map(|source| source.source.as_str()));
        let bare = |source: wire::Source| wire::Source { fstype: String::new(), ..source };
        let sources = wire::Sources { sources: sources.into_iter().map(bare).collect() };
        self.sources = Some(sources.encode_to_vec().into());
        self.rebind();
        self.send_due();
        Ok(())
    }

    /// Bindings are told when they are not what they were.
    fn rebind(&mut self) {
        let Some(sources) = self.sources.as_deref().filter(|_| self.hub.binds()) else { return };
        // It was written here.
        let wire::Sources { sources } = wire::Sources::decode(sources).unwrap_or_default();
        let (bound, revision) = self.hub.directory.bind(&sources);
        let Bound { bindings, names, left_out } = bound;
        self.bound_at = revision;
        if left_out > 0 {
            tracing::warn!(
                "the file systems that the agent of node {} names have {left_out} more folders of Datasets than the \
                 {MOST_BINDINGS} that an agent is told of: of those it reports nothing, and nothing is brought in there; \
                 look at what is mounted on the node",
                self.node
            );
        }
        let hash = Some(self.random.hash_one(&bindings));
        if self.told == hash {
            return;
        }
        self.told = hash;
        // One folder may be there on two file systems.
        let mut folders: FxHashMap<u32, (FxHashSet<&[u8]>, u32)> = FxHashMap::default();
        for binding in &bindings {
            let of =
                folders.entry(binding.dataset).or_insert_with(|| (FxHashSet::default(), binding.folders));
            of.0.insert(&binding.prefix);
        }
        let partly = folders.iter().filter(|(_, (here, all))| here.len() < *all as usize);
        self.partly = partly.filter_map(|(number, _)| names.get(number).cloned()).collect();
        self.out.push_back(down(Told::Bindings(wire::Bindings { bindings })));
        let mut mounted: Vec<Name> = names.values().cloned().collect();
        mounted.sort_unstable();
        self.names = names;
        let fact = Fact::Mounted { node: self.node.clone(), datasets: mounted.clone() };
        // What another stream of this node has told since is not to be forgotten for this one: nobody sits down while the
        // seat is held. Who holds the inventory asks for no seat.
        {
            let state = lock(&self.seat.state);
            if state.stream == self.number {
                let now = self.hub.now();
                let mut inventory = self.hub.inventory.write().unwrap_or_else(PoisonError::into_inner);
                inventory.apply(fact, now);
            }
        }
        self.hub.mounts(&self.node, &self.seat, self.number, mounted);
    }

    fn report(&mut self, told: wire::Report) -> Result<(), Status> {
        let (sequence, snapshot) = (told.sequence, told.snapshot);
        let now = self.hub.now();
        let facts = facts(told, self.session, &self.names, &self.hub.limits, now)
            .map_err(|error| self.nonsense(&error.to_string()))?;
        let counts = &self.hub.counts;
        counts.add(Tally::UnknownDatasets, facts.unknown.into());
        counts.add(Tally::VersionsRefused, facts.too_large.len() as u64);
        for dataset in facts.too_large {
            tracing::warn!(
                "the agent of node {} finds more than an exbibyte in the Dataset {dataset}: that version is left out, and nothing is placed by it; look for files of a size that cannot be",
                self.node
            );
        }
        let fact = Fact::Report { node: self.node.clone(), report: facts.report };
        let applied = {
            let mut inventory = self.hub.inventory.write().unwrap_or_else(PoisonError::into_inner);
            inventory.apply(fact, now)
        };
        counts.add(Tally::RangesRefused, applied.refused.into());
        match applied.fate {
            Fate::Taken | Fate::Known | Fate::Undeclared => {
                counts.add(Tally::Reports, 1);
                counts.add(Tally::Ranges, facts.ranges.into());
                counts.add(Tally::Snapshots, u64::from(snapshot));
                if applied.fate == Fate::Taken {
                    self.sequence = sequence;
                    lock(&self.seat.state).applied = Some((self.session, sequence));
                }
                self.out.push_back(down(Told::Ack(wire::Ack { sequence, instructions: Vec::new() })));
            }
            Fate::AskWhole => {
                counts.add(Tally::Resyncs, 1);
                let reason = format!("report {sequence} does not follow what is known of node {}", self.node);
                self.out.push_back(down(Told::Resync(wire::Resync { reason })));
            }
        }
        if !facts.patterns.is_empty() {
            self.hub.profiles(|profiles| {
                for (dataset, pattern) in facts.patterns {
                    let wire::Pattern { dataset: _, workload, pattern, covered_permille } = pattern;
                    let pattern =
                        Pattern { words: pattern.into(), covered_permille: covered_permille.min(1_000) };
                    profiles.pattern(&self.node, dataset, &workload, pattern);
                }
            });
        }
        if self.hub.directory.revision() != self.bound_at {
            self.rebind();
            self.send_due();
        }
        Ok(())
    }

    /// Others are given what this agent says, so it must be of something that it can have seen.
    fn learned(&mut self, told: wire::ProfileLearned) -> Result<(), Status> {
        let wire::ProfileLearned { workload, source, profile, first, pods } = told;
        if pods.len() > MOST_PODS {
            return Err(self.nonsense(&format!("a profile names {} pods, more than {MOST_PODS}", pods.len())));
        }
        let (first, unknown) =
            firsts(first, &self.names).map_err(|nonsense| self.nonsense(&nonsense.to_string()))?;
        self.hub.counts.add(Tally::UnknownDatasets, u64::from(unknown));
        let declared = lock(&self.seat.state).has_declared(&source);
        // All of them: a run often ends after its pod, and that after its mount.
        let datasets = self.hub.directory.found_on(&source);
        if declared && self.hub.may_teach(&self.node, &datasets) {
            let read: Vec<Name> = first.iter().map(|(dataset, _)| dataset.clone()).collect();
            let whose = self.hub.whose(&self.node, &pods, &datasets, &read);
            self.hub.profiles(|profiles| {
                let taken = profiles.put(Some(&self.node), &workload, &source, profile, first);
                if let Some(whose) = whose.filter(|_| taken) {
                    profiles.ran_for(&workload, &source, whose);
                }
            });
        } else {
            self.hub.counts.add(Tally::ProfilesRefused, 1);
            tracing::debug!(node = %self.node, declared, "a profile of what the node does not read was left out");
        }
        Ok(())
    }

    fn progress(&mut self, told: Vec<wire::Progress>) -> Result<(), Status> {
        if told.len() > MOST_IN_HAND {
            return Err(self.nonsense(&format!(
                "word of {} instructions at once, at most {MOST_IN_HAND} are allowed",
                told.len()
            )));
        }
        let mut ended = Vec::new();
        for told in told {
            let said = told.id.clone();
            let Some((id, progress)) = Progress::read(told) else { continue };
            if self.hub.desk().progress(&self.node, id.clone(), progress) {
                self.hub.ended(&self.node, id);
                ended.push(said);
            }
        }
        if !ended.is_empty() {
            let ack = wire::Ack { sequence: self.sequence, instructions: ended };
            self.out.push_back(down(Told::Ack(ack)));
        }
        Ok(())
    }

    fn send_due(&mut self) {
        // Instructions name Datasets by the numbers of bindings.
        if self.told.is_none() {
            return;
        }
        let mounted = |dataset: &Name| {
            !self.partly.contains(dataset) && self.names.values().any(|name| name == dataset)
        };
        let due = self.hub.desk().due(&self.node, BATCH, mounted);
        let full = due.len() >= BATCH;
        for due in due {
            let kind = match due {
                Due::Withdraw(id) => Told::Withdrawal(wire::Withdrawal { id: id.into() }),
                Due::Instruct(wish) => match wish.instruction(&self.hub.directory) {
                    Some(instruction) => {
                        self.hub.counts.add(Tally::Instructions, 1);
                        Told::Instruction(instruction)
                    }
                    // The Dataset went while the wish waited.
                    None => {
                        let progress = Progress {
                            state: super::work::State::Refused,
                            detail: format!("the Dataset {} is gone", wish.work.extent().dataset).into(),
                            ..Progress::default()
                        };
                        self.hub.desk().progress(&self.node, wish.id.clone(), progress);
                        self.hub.ended(&self.node, wish.id.clone());
                        continue;
                    }
                },
            };
            self.out.push_back(down(kind));
        }
        if full {
            self.seat.wake.notify_one();
        }
    }
}

pub fn not_leading() -> Status {
    Status::unavailable(
        "this replica of the operator does not lead; the agent finds the one that does by coming again",
    )
}

fn flood(hub: &Hub) -> Status {
    hub.counts.add(Tally::Floods, 1);
    Status::resource_exhausted(
        "the agent sends more than Welcome allows, and its stream is ended; it may come again, and should report at \
         the interval that it was told",
    )
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
