//! One simulated node's life: connect, tell everything, tell what changes, come again when the stream ends.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use agent::report::backoff::Backoff;
use agent::report::connect::{self, Address, ConnectError, Link};
use agent::report::speaker::Speaker;
use operator::inventory::Report;
use operator_api::report::v1 as wire;
use rustls::ClientConfig;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant as Tick, interval_at, sleep, timeout_at};
use wire::down::Kind as Told;
use wire::up::Kind as Said;

use super::deed::{self, Numbers};
use super::held;
use super::memory::Memory;
use super::shared::Shared;
use super::world::Random;

/// How long a simulated instruction takes: longer than a restart.
const WORK: Duration = Duration::from_secs(15);

type Census = watch::Receiver<Option<mpsc::UnboundedSender<(u32, Report)>>>;

pub struct Node {
    pub number: u32,
    pub shared: Arc<Shared>,
    pub address: Address,
    pub tls: Arc<ClientConfig>,
    pub speaker: Speaker,
    pub memory: Memory,
    pub numbers: Numbers,
    pub random: Random,
}

impl Node {
    /// Runs until the fleet is dropped.
    pub async fn run(mut self) {
        let world = self.shared.world;
        world.fill(self.number, &mut self.speaker.ledger, &mut self.speaker.facts);
        let mut census = self.shared.census.subscribe();
        let mut backoff = Backoff::default();
        loop {
            let mut welcomed = false;
            let began = Tick::now();
            let error = self.converse(&mut welcomed, &mut census).await.err();
            if welcomed {
                self.shared.connected.fetch_sub(1, Relaxed);
                backoff.talked(began.elapsed());
            } else {
                self.shared.failures.fetch_add(1, Relaxed);
            }
            if let Some(error) = error {
                let mut last =
                    self.shared.last_error.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                *last = error.to_string();
            }
            sleep(backoff.next(self.random.draw())).await;
        }
    }

    async fn converse(&mut self, welcomed: &mut bool, census: &mut Census) -> Result<(), ConnectError> {
        let channel = connect::channel(&self.address, self.tls.clone()).await?;
        let hello = self.speaker.hello(self.memory.in_hand());
        let (mut link, first) = connect::attach(&self.address, channel, hello).await?;
        self.speaker.welcome(&first).map_err(|error| ConnectError::Certificates(error.to_string()))?;
        *welcomed = true;
        self.shared.connected.fetch_add(1, Relaxed);
        let sources = wire::Sources { sources: self.shared.world.sources_of(self.number) };
        self.say(&link, Said::Sources(sources)).await;
        let period = self.shared.period;
        // Each node has its own moment.
        let first = Tick::now() + period.mul_f64(f64::from(self.random.below(1_000)) / 1e3);
        let mut tick = interval_at(first, period);
        loop {
            let message = tokio::select! {
                message = link.down.message() => message,
                _ = tick.tick() => {
                    self.tick(&link).await;
                    continue;
                }
                Ok(()) = census.changed() => {
                    if let Some(asked) = census.borrow_and_update().as_ref() {
                        // Who asked has gone: then nobody needs to know.
                        let _ = asked.send((self.number, held::report(&self.speaker)));
                    }
                    continue;
                }
            };
            match message {
                Ok(Some(message)) => self.hear(message, &link).await,
                Ok(None) => return Ok(()),
                Err(status) => return Err(connect::refusal(&self.address, &status)),
            }
        }
    }

    async fn say(&self, link: &Link, kind: Said) {
        // A stream that is full for so long has ended, which its other half says.
        let until = Tick::now() + Duration::from_secs(10);
        let _ = timeout_at(until, link.up.send(wire::Up { kind: Some(kind) })).await;
    }

    async fn tick(&mut self, link: &Link) {
        let shared = self.shared.clone();
        if shared.changing.load(Relaxed) {
            let mut progress = Vec::new();
            for (id, task) in self.memory.due(WORK, Instant::now()) {
                let end = deed::done(&id, task.work.as_ref(), task.dataset.as_ref(), &mut self.speaker);
                self.memory.end(end.clone());
                progress.push(end);
            }
            if !progress.is_empty() {
                self.say(link, Said::Progress(wire::Progresses { progress })).await;
            }
            shared.world.change(self.number, &mut self.speaker.ledger, &mut self.random);
        }
        self.tell(link).await;
        // Asked for only where it is sent: it takes the next number, and a number that never comes is a report lost.
        if !shared.changing.load(Relaxed)
            && let Some(report) = self.speaker.sign_of_life()
        {
            self.say(link, Said::Report(report)).await;
        }
    }

    async fn tell(&mut self, link: &Link) {
        while let Some(report) = self.speaker.report() {
            let ranges: usize = report.residency.iter().map(|r| (r.added.len() + r.removed.len()) / 2).sum();
            self.shared.ranges.fetch_add(ranges as u64, Relaxed);
            self.shared.reports.fetch_add(1, Relaxed);
            let more = report.more;
            self.say(link, Said::Report(report)).await;
            if !more {
                break;
            }
        }
    }

    async fn hear(&mut self, message: wire::Down, link: &Link) {
        match message.kind {
            Some(Told::Bindings(told)) => {
                self.numbers = deed::numbers(&told.bindings);
                self.speaker.bind(self.numbers.iter().map(|(number, name)| (name.clone(), *number)));
                self.tell(link).await;
            }
            Some(Told::Ack(ack)) => {
                self.speaker.acked(ack.sequence);
                self.shared.acks.fetch_add(1, Relaxed);
            }
            Some(Told::Instruction(instruction)) => {
                let doubles = self.memory.doubles;
                self.shared.loads.fetch_add(u64::from(instruction.id.starts_with("load/")), Relaxed);
                let answer = self.memory.take(instruction, &self.numbers, Instant::now());
                self.shared.instructions.fetch_add(1, Relaxed);
                if self.memory.doubles > doubles {
                    self.shared.doubles.fetch_add(self.memory.doubles - doubles, Relaxed);
                    let mut twice =
                        self.shared.twice.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    twice.extend(self.memory.twice.take());
                    twice.truncate(8);
                }
                self.say(link, Said::Progress(wire::Progresses { progress: vec![answer] })).await;
            }
            Some(Told::Resync(_)) => {
                self.shared.resyncs.fetch_add(1, Relaxed);
                self.speaker.begin_again();
                self.tell(link).await;
            }
            Some(Told::Withdrawal(told)) => {
                if let Some(end) = self.memory.withdraw(&told.id) {
                    self.say(link, Said::Progress(wire::Progresses { progress: vec![end] })).await;
                }
            }
            Some(Told::Welcome(_) | Told::Profile(_)) | None => {}
        }
    }
}
