//! All the changing: one action, applied without waiting.

use std::sync::Arc;

use agent_core::{FileKey, Nanos, Observation, Order};

use super::select::{Action, Waiting};
use super::{Engine, Turn, now};
use crate::api::answer::answer;
use crate::api::query::Query;
use crate::attribute::{Identity, Place, Process};
use crate::metrics::histograms::Latency;
use crate::mounts::{MOST_MOUNTS, MountTable};
use crate::probe::{Probe, ReadEvent};

/// Records taken from the ring at once, so that answers and questions get their turn in a flood.
const BATCH: usize = 4096;

/// Smaller files are read whole in a moment, and show by that what was there.
const WORTH_COUNTING: u64 = 1 << 20;

/// Processes remembered as told; the core forgets those that exit, and so does this.
const TOLD: usize = 1 << 16;

/// Processes looked at again at a tick: a file and a link of /proc each.
const LOOKS: usize = 16;

/// How often memory is looked at while there is work.
const SAMPLE: Nanos = Nanos::from_millis(1_000);

impl Engine {
    /// Returns whether the loop goes on.
    pub(super) fn step(&mut self, action: Action, waiting: &Waiting) -> bool {
        match action {
            Action::Records => self.records(),
            Action::Answers => {
                // What the kernel saw of a fetch comes before the word that it is done.
                self.records();
                self.answers();
            }
            Action::Mounts => self.look_at_mounts(waiting),
            Action::Counted(at, observation) => {
                // What has come since is in the ring: it goes first, and the count adds to it.
                self.records();
                self.apply(&observation, at);
            }
            Action::Query(Query::Outside(query)) => self.outside(query),
            Action::Query(query) => {
                self.edges.drops_per_cpu = self.probe.as_ref().map(Probe::lost_per_cpu).unwrap_or_default();
                let own = self.keeper.check().into_iter().chain(self.watches.checks());
                self.edges.checks = own.chain(self.standing.checks()).collect();
                self.edges.places = self.watches.list();
                if let Some(wanted) = answer(query, &self.core, &self.edges) {
                    let known = self.known();
                    let begun = self.recorders.begin(wanted.sink, &known, now());
                    // An asker that has left has no use for the answer.
                    let _ = wanted.reply.send(begun);
                }
            }
            Action::Tick => {
                self.tick();
                // All that has come since the last one: each would have the table read and taken over.
                if self.watches.take() || self.watches.due() {
                    self.look_at_mounts(waiting);
                }
            }
            Action::Stop => return false,
        }
        self.publish();
        true
    }

    fn records(&mut self) {
        let Some(probe) = &mut self.probe else { return };
        let mut events = std::mem::take(&mut self.events);
        let at = now();
        if probe.drain(at, BATCH, |event| events.push(event)) > 0 {
            self.busy = at;
        }
        for event in events.drain(..) {
            self.record(event, at);
        }
        self.events = events;
    }

    fn record(&mut self, event: ReadEvent, taken: Nanos) {
        let (at, observation) = match event {
            ReadEvent::Sight { at, file, path, size, mtime, reader, truncated } => {
                // What is left of a path may be another file's: better no name than that one.
                if truncated {
                    return;
                }
                let Some(mount) = self.watches.id(file.dev) else { return };
                if size >= WORTH_COUNTING {
                    self.seeds.ask(reader.tgid, file);
                }
                (at, Observation::Sight { file, mount, path, size, mtime })
            }
            ReadEvent::Access { at, file, reader, pages, via, count, size, sampled, touched: _ } => {
                self.introduce(reader.tgid, file.dev, at);
                // A span within which something was read is no range that was read.
                let pages = if sampled { pages.start..pages.start } else { pages };
                (at, Observation::Access { file, reader, pages, via, count, size })
            }
            ReadEvent::Added { at, file, pages, by } => (at, Observation::Added { file, pages, by }),
            ReadEvent::Removed { at, file, pages, by } => (at, Observation::Removed { file, pages, by }),
            ReadEvent::Miss { at, file, latency, bytes, reader: _ } => {
                self.took(file, Latency::Miss, latency);
                (at, Observation::Miss { file, latency, bytes })
            }
            ReadEvent::Hit { file, latency, .. } => {
                self.took(file, Latency::Hit, latency);
                return;
            }
            ReadEvent::Exit { at, tgid } => {
                self.told.remove(&tgid);
                self.attributor.forget(tgid);
                (at, Observation::Exit { tgid })
            }
            ReadEvent::Lost { records } => {
                // Pages may have come and gone unseen: what is being read is counted anew.
                for (tgid, file) in self.core.being_read() {
                    self.seeds.ask(tgid, file);
                }
                (taken, Observation::Lost { records })
            }
        };
        self.apply(&observation, at);
    }

    fn took(&mut self, file: FileKey, kind: Latency, latency: Nanos) {
        if let Some(source) = self.watches.id(file.dev).and_then(|mount| self.watches.source(mount)) {
            self.edges.histograms.record(&source, kind, latency);
        }
    }

    fn answers(&mut self) {
        let mut answers = std::mem::take(&mut self.answers);
        self.prefetch.drain(&mut answers);
        for (at, observation) in answers.drain(..) {
            match self.outside.take(&observation) {
                None => self.apply(&observation, at),
                Some(Some(resident)) => self.apply(&resident, at),
                Some(None) => {}
            }
        }
        self.answers = answers;
    }

    fn tick(&mut self) {
        let at = now();
        self.records();
        let mut grown = std::mem::take(&mut self.events);
        if let Some(probe) = &mut self.probe {
            probe.flush(at, |event| grown.push(event));
        }
        for event in grown.drain(..) {
            self.record(event, at);
        }
        self.events = grown;
        if at.since(self.sampled) >= SAMPLE {
            self.sample(at);
        }
        self.look_again(at);
        self.apply(&Observation::Tick, at);
        self.recorders.sweep();
        let changed = self.core.changed_profiles();
        if !changed.is_empty() {
            self.asked.forget_ended(&self.core);
        }
        self.outside.learned(&changed);
        self.keeper.save(changed);
    }

    pub(super) fn sample(&mut self, at: Nanos) {
        self.sampled = at;
        match self.pressure.read() {
            Ok(memory) => {
                self.edges.memory_total = memory.total;
                self.edges.memory_pressure = memory.psi;
                let observation =
                    Observation::Memory { available: memory.available, total: memory.total, psi: memory.psi };
                self.apply(&observation, at);
            }
            // The last sample stands; the next one may succeed.
            Err(error) => tracing::debug!("{error}"),
        }
    }

    pub(super) fn look_at_mounts(&mut self, waiting: &Waiting) {
        match waiting.mount_watch().read() {
            Ok(table) => self.remount(&table),
            Err(error) => {
                tracing::warn!("the mount table cannot be read, watching what was there: {error}")
            }
        }
    }

    pub(super) fn remount(&mut self, table: &MountTable) {
        let before = self.watches.left_out;
        let change = self.watches.update(table);
        if self.watches.left_out > before {
            tracing::warn!(
                "{} remote file systems are not watched: more than an agent can; name those that matter with --watch",
                self.watches.left_out
            );
        }
        for source in change.crowded {
            tracing::warn!(
                "{source}: more than {MOST_MOUNTS} folders of it are mounted here; of those beyond, reads are seen, but Datasets \
                 that lie there are not known to be on this node (`headrace doctor` counts them)"
            );
        }
        let at = now();
        for (mount, dev) in change.unwatch {
            self.prefetch.forget(mount);
            if let Some(Err(error)) = self.probe.as_mut().map(|probe| probe.forget(dev)) {
                tracing::warn!("device {}:{} is still watched: {error}", dev >> 20, dev & 0xf_ffff);
            }
        }
        for observation in &change.observations {
            self.apply(observation, at);
        }
        for dev in change.watch {
            // Blind, there is nothing to tell: it has been said at the start.
            let Some(probe) = &mut self.probe else { break };
            match probe.watch(dev) {
                Ok(()) => tracing::info!("watching device {}:{}", dev >> 20, dev & 0xf_ffff),
                Err(error) => {
                    tracing::warn!("device {}:{} is not watched: {error}", dev >> 20, dev & 0xf_ffff)
                }
            }
        }
    }

    /// Looks at some of the processes that the core knows, each in turn: one that has called exec is another workload, and of
    /// one that has ended the word may have been lost.
    fn look_again(&mut self, at: Nanos) {
        // Those that have ended take no look, so that a flood of short processes leaves no queue of them.
        if self.turns.len() >= 2 * TOLD {
            self.turns = self.told.keys().copied().map(Turn::of).collect();
        }
        let (mut left, mut looks) = (self.turns.len(), LOOKS);
        while left > 0 && looks > 0 {
            left -= 1;
            let Some(turn) = self.turns.pop_front() else { return };
            let tgid = turn.tgid;
            let Some(told) = self.told.get(&tgid) else { continue };
            looks -= 1;
            match self.attributor.look_again(tgid) {
                // It cannot be asked just now.
                None => self.turns.push_back(turn),
                // Its last records may be in the ring yet, the word of its end behind them.
                Some(Identity::Gone) if !turn.gone => self.turns.push_back(Turn { gone: true, ..turn }),
                Some(Identity::Gone) => {
                    self.told.remove(&tgid);
                    self.attributor.forget(tgid);
                    self.apply(&Observation::Exit { tgid }, at);
                }
                Some(Identity::Known(process)) => {
                    self.turns.push_back(Turn::of(tgid));
                    let workload: Box<str> = process.workload().into();
                    if workload != *told {
                        self.runs_in(&workload, &process);
                        self.told.insert(tgid, workload.clone());
                        let label = process.label().into();
                        self.apply(&Observation::Process { tgid, workload, label }, at);
                    }
                }
            }
        }
    }

    /// Tells the core who a process is, and what its workload taught before, ahead of its first access.
    fn introduce(&mut self, tgid: u32, dev: u32, at: Nanos) {
        let workload = match self.told.get(&tgid) {
            Some(workload) => workload.clone(),
            None => {
                if self.told.len() >= TOLD {
                    self.told.clear();
                    self.turns.clear();
                }
                let Identity::Known(process) = self.attributor.identify(tgid) else {
                    // Ended already: its reads count as those of an unknown process.
                    return;
                };
                let workload: Box<str> = process.workload().into();
                self.runs_in(&workload, &process);
                let label = process.label().into();
                self.told.insert(tgid, workload.clone());
                self.turns.push_back(Turn::of(tgid));
                self.apply(&Observation::Process { tgid, workload: workload.clone(), label }, at);
                workload
            }
        };
        let Some(mount) = self.watches.id(dev) else { return };
        if !self.asked.asks(&workload, mount, &self.core) {
            return;
        }
        let Some(source) = self.watches.source(mount) else { return };
        match self.keeper.load(&workload, &source) {
            Some(bytes) => self.apply(&Observation::Profile { workload, source, bytes: bytes.into() }, at),
            None => self.outside.wanted(&workload, &source),
        }
    }

    fn runs_in(&mut self, workload: &str, process: &Process) {
        if let Place::Pod { uid, .. } = &process.place {
            self.outside.runs_in(workload, uid);
        }
    }

    /// What a recording must begin with.
    fn known(&self) -> Vec<Observation> {
        self.core.introduction()
    }

    pub(super) fn apply(&mut self, observation: &Observation, at: Nanos) {
        self.metrics.observed(observation);
        self.recorders.push(observation, at);
        self.core.apply(observation, at);
        for order in self.core.orders() {
            match order {
                Order::List { .. } | Order::Fetch { .. } | Order::Cancel { .. } | Order::Depth { .. } => {
                    self.prefetch.submit(order);
                }
                Order::Resight { mount } => {
                    let dev = self.watches.dev(mount);
                    let again = self
                        .probe
                        .as_mut()
                        .zip(dev)
                        .map(|(probe, dev)| probe.forget(dev).and_then(|()| probe.watch(dev)));
                    if let Some(Err(error)) = again {
                        tracing::warn!("names of a file system are not told again: {error}");
                    }
                }
                Order::Detail { file, wanted } => {
                    if let Some(Err(error)) = self.probe.as_mut().map(|probe| probe.detail(file, wanted)) {
                        tracing::debug!("{error}");
                    }
                }
            }
        }
    }

    /// Passes on what is worth showing; costs nothing while nobody looks.
    fn publish(&mut self) {
        self.core.listen(self.side.happenings.receiver_count() > 0);
        for happening in self.core.happenings() {
            // The last receiver may have left in between.
            let _ = self.side.happenings.send(Arc::new(happening));
        }
    }
}
