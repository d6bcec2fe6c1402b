//! The task that talks to the operator: connects, tells, hears, and comes again.
//!
//! It asks the engine as a person would, with bounded patience, and is asked nothing by it. What it knows is kept
//! over breaks; while there is no operator nothing is sent, nothing queued, and the engine goes on as it did.

use std::time::{Duration, Instant};

use agent_core::Nanos;
use operator_api::report::v1 as wire;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use wire::down::Kind as Told;
use wire::up::Kind as Said;

use super::backoff::Backoff;
use super::connect::{self, Address, Link as Stream};
use super::credential::{Credentials, Means};
use super::ended::Ended;
use super::errands::{Do, Errands};
use super::folder::Mounted;
use super::picture::Picture;
use super::speaker::Speaker;
use super::survey::{Surveyed, Surveyor, clock_ms};
use crate::api::query::{Errand, ErrandEnd, Learned, Link, OutsideQuery, Query};
use crate::doctor::operator::Standing;
use crate::mounts::Namespace;

/// Files asked of the engine at once: a few milliseconds of its time.
const FILES: usize = 4_096;

/// Questions about files in one round; the rest comes in the next.
const ROUNDS: usize = 8;

/// Words about instructions.
const PULSE: Duration = Duration::from_secs(1);

/// Reports with nothing in them, so that silence means something: intervals between two.
const QUIET: u32 = 3;

/// A stream that takes nothing for so long has ended.
const STUCK: Duration = Duration::from_secs(20);

/// A profile that fits the wire.
const LARGEST_PROFILE: usize = 96 << 10;

/// Characters of an instruction that are put into the log.
const SAID: usize = 256;

/// At which pressure of memory nothing is brought in for the operator: where the core stops too (hundredths of a per
/// cent).
const SCARCE: u32 = 1_000;

/// Where the operator is, who this is.
#[derive(Clone, Debug)]
pub struct ReporterConfig {
    pub address: Address,
    pub node: String,
    pub authority: std::path::PathBuf,
    pub means: Means,
    /// Share of the available memory, in per cent, that may be filled for the operator.
    pub memory_percent: u8,
    /// Nothing is fetched, whoever asks.
    pub observe_only: bool,
    /// Where the agent looks for mounts.
    pub namespace: Namespace,
    /// Where it is noted how this goes.
    pub standing: Standing,
}

struct Reporter {
    config: ReporterConfig,
    link: Link,
    credentials: Credentials,
    speaker: Speaker,
    picture: Picture,
    errands: Errands,
    surveyor: Surveyor,
    surveyed: mpsc::Receiver<Surveyed>,
    ends: mpsc::Receiver<ErrandEnd>,
    ends_to: mpsc::Sender<ErrandEnd>,
    began: Instant,
    quiet: u32,
    /// The engine is to tell everything resident again.
    again: bool,
    /// The watched file systems have changed since the operator was told of them.
    sources_due: bool,
}

/// Runs until `stop`.
pub async fn run(config: ReporterConfig, link: Link, session: u64, mut stop: watch::Receiver<bool>) {
    let (surveyor, surveyed) = match Surveyor::start(config.namespace) {
        Ok(started) => started,
        Err(error) => {
            let why = format!(
                "the thread that surveys Datasets cannot start ({error}): nothing is reported; raise ulimit -u, and restart \
                 the agent"
            );
            tracing::error!("{why}");
            config.standing.ended(&why);
            return;
        }
    };
    // More ends than orders under way never wait.
    let (ends_to, ends) = mpsc::channel(256);
    let credentials = Credentials::new(config.authority.clone(), config.means.clone());
    let speaker = Speaker::new(&config.node, session);
    let mut reporter = Reporter {
        config,
        link,
        credentials,
        speaker,
        picture: Picture::default(),
        errands: Errands::default(),
        surveyor,
        surveyed,
        ends,
        ends_to,
        began: Instant::now(),
        quiet: 0,
        again: false,
        sources_due: false,
    };
    let mut backoff = Backoff::default();
    let mut said = String::new();
    let mut random = session;
    let mut heard = Instant::now();
    loop {
        let ended = reporter.converse(&mut backoff, &mut said, &mut stop).await;
        match &ended {
            Ended::Stopping => return,
            Ended::Worn => tracing::debug!("{ended}"),
            _ => {}
        }
        if ended.is_in_vain(&mut heard, Instant::now()) {
            reporter.credentials.discard();
        }
        // Each trouble is said once, not every three seconds.
        let text = ended.to_string();
        // Until the next conversation has begun there is none, however orderly this one ended.
        reporter.config.standing.ended(&text);
        if text != said && !matches!(ended, Ended::Worn) {
            tracing::warn!("{text}");
            said = text;
        }
        // xorshift64: good enough to keep nodes apart.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        tokio::select! {
            () = sleep(backoff.next(random)) => {}
            () = told(&mut stop) => return,
        }
    }
}

impl Reporter {
    fn now(&self) -> Nanos {
        Nanos(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// One stream, from the first word to its end.
    async fn converse(
        &mut self,
        backoff: &mut Backoff,
        said: &mut String,
        stop: &mut watch::Receiver<bool>,
    ) -> Ended {
        let opened = tokio::select! {
            opened = self.open() => opened,
            () = told(stop) => return Ended::Stopping,
        };
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(ended) => return ended,
        };
        tracing::info!("reporting to the operator at {}", self.config.address);
        self.config.standing.talks();
        let began = Instant::now();
        let ended = match self.talk(&mut stream, stop).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        };
        if backoff.talked(began.elapsed()) {
            said.clear();
        }
        ended
    }

    async fn open(&mut self) -> Result<Stream, Ended> {
        let address = self.config.address.clone();
        let tls = self.credentials.tls(&address).await?;
        let channel = connect::channel(&address, tls).await?;
        let hello = self.speaker.hello(self.errands.in_hand());
        let (stream, first) = connect::attach(&address, channel, hello).await?;
        self.speaker.welcome(&first)?;
        self.look().await;
        self.sources_due = false;
        self.say_sources(&stream).await?;
        self.errands.unheard();
        Ok(stream)
    }

    async fn talk(
        &mut self,
        stream: &mut Stream,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<std::convert::Infallible, Ended> {
        let mut tick = interval(self.speaker.interval());
        let mut pulse = interval(PULSE);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = told(stop) => return Err(Ended::Stopping),
                message = stream.down.message() => match message {
                    Ok(Some(message)) => self.hear(message, stream).await?,
                    Ok(None) => return Err(Ended::Closed),
                    Err(status) => return Err(Ended::Broken(connect::refusal(&self.config.address, &status))),
                },
                Some(end) = self.ends.recv() => {
                    let now = self.now();
                    self.errands.ended(end.id, end.outcome, now);
                    self.work().await;
                }
                Some(surveyed) = self.surveyed.recv() => {
                    let now = self.now();
                    self.again |= self.picture.surveyed(surveyed, &mut self.speaker, now);
                    self.look().await;
                    self.tell(stream).await?;
                    self.work().await;
                }
                _ = tick.tick() => {
                    if self.credentials.worn().is_some_and(|worn| worn <= Instant::now()) {
                        return Err(Ended::Worn);
                    }
                    self.look().await;
                    self.tell(stream).await?;
                }
                _ = pulse.tick() => {
                    self.work().await;
                    let now = self.now();
                    let progress = self.errands.words(now);
                    if !progress.is_empty() {
                        self.say(stream, Said::Progress(wire::Progresses { progress })).await?;
                    }
                }
            }
        }
    }

    async fn say(&self, stream: &Stream, kind: Said) -> Result<(), Ended> {
        match timeout(STUCK, stream.up.send(wire::Up { kind: Some(kind) })).await {
            // Why it ended is told by its other half.
            Ok(Ok(()) | Err(_)) => Ok(()),
            Err(_) => Err(Ended::Closed),
        }
    }

    async fn say_sources(&self, stream: &Stream) -> Result<(), Ended> {
        let (sources, left_out) = self.picture.sources(self.speaker.message_bytes());
        self.config.standing.left_out(left_out);
        if left_out > 0 {
            tracing::warn!(
                "{left_out} mounted folders do not fit into what the operator takes in one message, and it is not told of them: \
                 of Datasets that lie there nothing is reported, and nothing is brought in; mount fewer folders of one file \
                 system on this node, or ones with shorter paths"
            );
        }
        self.say(stream, Said::Sources(sources)).await
    }

    /// Asks the engine. One that does not answer is asked again at the next turn.
    async fn look(&mut self) {
        let now = self.now();
        let Ok(node) = self.link.ask(|reply| Query::Node { reply }).await else { return };
        let places = |mount| node.places.iter().find(|place| place.mount == mount);
        let mounted = node.view.mounts.iter().filter_map(|view| {
            let place = places(view.mount)?;
            Some(Mounted {
                mount: view.mount,
                source: view.source.clone(),
                fstype: view.fstype.clone(),
                dev: place.dev,
                seen: place.seen.clone(),
            })
        });
        // Whoever looks: it stays due until it was told.
        self.sources_due |= self.picture.mounted(mounted.collect());
        self.picture.survival = node.view.mounts.iter().map(|view| (view.mount, view.survival)).collect();
        for (mount, why) in self.picture.all_closed() {
            self.errands.close(mount, why);
        }
        let room = node.view.memory_available / 100 * u64::from(self.config.memory_percent);
        self.picture.room = if self.config.observe_only { 0 } else { room };
        // In steps: what breathes is not worth a message.
        let ram_bytes = room >> 28 << 28;
        self.speaker.facts.capacity = Some(wire::Capacity { ram_bytes, cache_bytes: 0 });
        let permille = |hundredths: u32| (hundredths / 10).min(1_000) / 10 * 10;
        let io = io_pressure().unwrap_or(0);
        self.speaker.facts.pressure = Some(wire::Pressure {
            memory_permille: permille(node.memory_pressure),
            io_permille: permille(io),
        });
        self.errands.memory(node.memory_pressure >= SCARCE);
        for _ in 0..ROUNDS {
            let again = std::mem::take(&mut self.again);
            let asked =
                self.link.ask(|reply| Query::Outside(OutsideQuery::Stirred { limit: FILES, again, reply }));
            let Ok(stirring) = asked.await else {
                self.again = again;
                break;
            };
            let more = stirring.stir.more;
            self.picture.stir(stirring.stir, &mut self.speaker, now);
            self.picture.readings(&stirring.readings, &mut self.speaker);
            if !more {
                break;
            }
        }
        for job in self.picture.surveys(now) {
            let dataset = job.dataset.clone();
            if !self.surveyor.ask(job) {
                self.picture.not_surveyed(&dataset);
            }
        }
    }

    async fn tell(&mut self, stream: &Stream) -> Result<(), Ended> {
        if std::mem::take(&mut self.sources_due) {
            self.say_sources(stream).await?;
        }
        let mut told = false;
        while let Some(mut report) = self.speaker.report() {
            let more = report.more;
            if !report.versions.is_empty() {
                report.clock_ms = clock_ms();
            }
            told = true;
            self.say(stream, Said::Report(report)).await?;
            if !more {
                break;
            }
        }
        self.quiet = if told { 0 } else { self.quiet + 1 };
        if self.quiet >= QUIET
            && let Some(report) = self.speaker.sign_of_life()
        {
            self.quiet = 0;
            self.say(stream, Said::Report(report)).await?;
        }
        let Ok(exchange) = self.link.ask(|reply| Query::Outside(OutsideQuery::Profiles { reply })).await
        else {
            return Ok(());
        };
        for (workload, source) in exchange.wanted {
            let (workload, source) = (workload.into(), source.into());
            self.say(stream, Said::Wanted(wire::ProfileWanted { workload, source })).await?;
        }
        for Learned { workload, source, profile, pods } in exchange.learned {
            if profile.len() <= LARGEST_PROFILE {
                // One of the core's own is understood; should it not be, it says nothing of where.
                let visited = agent_core::visited(&profile).unwrap_or_default();
                let first = self.picture.firsts(&source, &visited);
                let (workload, source) = (workload.into(), source.into());
                let pods = pods.into_iter().map(Into::into).collect();
                let learned = wire::ProfileLearned { workload, source, profile, first, pods };
                self.say(stream, Said::Learned(learned)).await?;
            }
        }
        Ok(())
    }

    async fn hear(&mut self, message: wire::Down, stream: &Stream) -> Result<(), Ended> {
        match message.kind {
            Some(Told::Bindings(bindings)) => {
                self.picture.bind(bindings, &mut self.speaker);
                self.again = true;
                self.look().await;
                self.tell(stream).await?;
            }
            Some(Told::Ack(ack)) => {
                self.speaker.acked(ack.sequence);
                for id in &ack.instructions {
                    self.errands.acked(id);
                }
            }
            Some(Told::Instruction(instruction)) => {
                if let Some(wire::instruction::Work::Drop(wire::Drop { extent: Some(extent), .. })) =
                    &instruction.work
                {
                    self.errands.unpin(extent.dataset, &extent.path);
                }
                let now = self.now();
                // For whoever asks on the node why bytes come. It may be anything that somebody has written.
                let (id, why): (String, String) = (
                    instruction.id.chars().take(SAID).collect(),
                    instruction.reason.chars().take(SAID).collect(),
                );
                match self.errands.take(instruction, now) {
                    Some(known) => {
                        self.say(stream, Said::Progress(wire::Progresses { progress: vec![known] })).await?;
                    }
                    None => tracing::info!("the operator asks for something ({id:?}): {why:?}"),
                }
                self.work().await;
            }
            Some(Told::Withdrawal(withdrawal)) => self.errands.withdraw(&withdrawal.id),
            Some(Told::Profile(wire::ProfileKnown { workload, source, profile })) => {
                // Larger ones no agent has sent.
                if !profile.is_empty() && profile.len() <= LARGEST_PROFILE {
                    let (workload, source) = (workload.into(), source.into());
                    // An engine that is busy learns by itself.
                    let _ = self
                        .link
                        .tell(Query::Outside(OutsideQuery::Teach { workload, source, profile }))
                        .await;
                }
            }
            Some(Told::Resync(resync)) => {
                tracing::debug!("the operator asks for everything: {}", resync.reason);
                self.speaker.begin_again();
                self.tell(stream).await?;
            }
            // A second Welcome means nothing; a kind from a newer operator is for newer agents.
            Some(Told::Welcome(_)) | None => {}
        }
        Ok(())
    }

    /// Hands the next orders to the engine.
    async fn work(&mut self) {
        let now = self.now();
        let picture = &self.picture;
        let orders =
            self.errands.orders(now, |work, taken| picture.plan(work, taken), |piece| picture.holds(piece));
        let unwanted = self.errands.unwanted();
        if orders.is_empty() && unwanted.is_empty() {
            return;
        }
        let ids = orders.iter().map(|order| match order {
            Do::Fetch(id, _) | Do::LetGo(id, _) => *id,
        });
        let ids = ids.collect::<Vec<_>>();
        let errands = orders
            .into_iter()
            .map(|order| match order {
                Do::Fetch(id, piece) => {
                    Errand { id, mount: piece.mount, path: piece.path, pages: piece.pages, let_go: false }
                }
                Do::LetGo(id, piece) => {
                    Errand { id, mount: piece.mount, path: piece.path, pages: piece.pages, let_go: true }
                }
            })
            .collect();
        let query = Query::Outside(OutsideQuery::Errands { errands, unwanted, ends: self.ends_to.clone() });
        if self.link.tell(query).await.is_err() {
            for id in ids {
                self.errands.ended(id, agent_core::Outcome::Dropped, now);
            }
        }
    }
}

/// Returns when the agent is to stop.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// PSI io, `some avg10`, in hundredths of a per cent.
fn io_pressure() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/pressure/io").ok()?;
    let value = text.lines().find(|line| line.starts_with("some"))?.split("avg10=").nth(1)?;
    let (whole, part) = value.split_whitespace().next()?.split_once('.')?;
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(part.get(..2)?.parse().ok()?)
}
