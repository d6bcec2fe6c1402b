//! One simulated node that does what it is told, at once: what it is to fetch is there afterwards, what it is to
//! drop is gone, and its reports say so.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use agent::report::backoff::Backoff;
use agent::report::connect::{self, Address, ConnectError, Link};
use agent::report::speaker::{Facts, Speaker};
use operator_api::report::v1 as wire;
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use wire::down::Kind as Told;
use wire::progress::State;
use wire::up::Kind as Said;

use super::deed::{self, Numbers, chunks_in, key};

/// How often it looks whether there is something to tell.
const PERIOD: Duration = Duration::from_millis(250);

/// After so long without a word it gives a sign of life; the operator waits 60 s.
const SILENCE: Duration = Duration::from_secs(10);

/// What the node is like.
#[derive(Debug)]
pub struct Spec {
    pub name: String,
    pub address: Address,
    pub tls: Arc<ClientConfig>,
    /// Mounted file systems, as mountinfo names them.
    pub sources: Vec<String>,
    /// Room, versions, demand.
    pub facts: Facts,
    /// Datasets of which it has every chunk in its memory from the start.
    pub whole: Vec<Arc<str>>,
    /// It takes instructions in and gets nowhere with them, as behind a store that hangs.
    pub stuck: bool,
}

/// Its life, ended when dropped.
#[derive(Debug)]
pub struct Obedient {
    heard: Arc<Mutex<Vec<Told>>>,
    words: mpsc::UnboundedSender<Word>,
    task: JoinHandle<()>,
}

/// What a test has a node do of itself.
#[derive(Debug)]
enum Word {
    Say(Said),
    /// This is so from now on: room, versions, demand.
    Facts(Box<Facts>),
    /// These chunks of a Dataset come into its memory, as when somebody there reads them.
    Bring(Arc<str>, Range<u32>),
}

struct Node {
    spec: Spec,
    speaker: Speaker,
    numbers: Numbers,
    heard: Arc<Mutex<Vec<Told>>>,
    /// Ends that were not acknowledged.
    ended: BTreeMap<String, wire::Progress>,
    said: Instant,
    words: mpsc::UnboundedReceiver<Word>,
}

impl Obedient {
    pub fn start(mut spec: Spec) -> Self {
        let heard = Arc::<Mutex<Vec<Told>>>::default();
        let mut speaker = Speaker::new(&spec.name, u64::from(std::process::id()) + 1);
        speaker.facts = std::mem::take(&mut spec.facts);
        for dataset in &spec.whole {
            let chunks = speaker.facts.versions.get(dataset).map_or(0, |version| chunks_in(version.bytes));
            if let Some(key) = key(&speaker.facts, dataset) {
                speaker.ledger.change(&key, |held| held.whole.insert(0, chunks));
            }
        }
        let (words, to_say) = mpsc::unbounded_channel();
        let node = Node {
            spec,
            speaker,
            numbers: Numbers::new(),
            heard: heard.clone(),
            ended: BTreeMap::new(),
            said: Instant::now(),
            words: to_say,
        };
        Self { heard, words, task: tokio::spawn(node.run()) }
    }

    /// Has it say something once, when it is connected.
    pub fn say(&self, kind: Said) {
        // Its task ends with this.
        let _ = self.words.send(Word::Say(kind));
    }

    /// Has other facts from now on than it had; they are told with the next report.
    pub fn change(&self, facts: Facts) {
        let _ = self.words.send(Word::Facts(Box::new(facts)));
    }

    /// Has chunks of a Dataset in its memory from now on.
    pub fn bring(&self, dataset: &str, chunks: Range<u32>) {
        let _ = self.words.send(Word::Bring(dataset.into(), chunks));
    }

    /// Everything that it was told since the last call, acknowledgements aside.
    pub fn heard(&self) -> Vec<Told> {
        std::mem::take(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Obedient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Node {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            match self.converse().await {
                Ok(()) => _ = backoff.talked(began.elapsed()),
                // Until the operator leads and listens; what is wrong for good fails the test by its silence.
                Err(error) => eprintln!("simulated agent {}: {error}", self.spec.name),
            }
            tokio::time::sleep(backoff.next(0)).await;
        }
    }

    async fn converse(&mut self) -> Result<(), ConnectError> {
        let channel = connect::channel(&self.spec.address, self.spec.tls.clone()).await?;
        let in_hand = self.ended.values().cloned().collect();
        let hello = self.speaker.hello(in_hand);
        let (mut link, first) = connect::attach(&self.spec.address, channel, hello).await?;
        self.speaker.welcome(&first).map_err(|error| ConnectError::Certificates(error.to_string()))?;
        let source = |(number, source): (u32, &String)| wire::Source {
            number,
            source: source.clone(),
            fstype: "nfs4".into(),
            folders: Vec::new(),
        };
        let sources = (1..).zip(&self.spec.sources).map(source).collect();
        self.say(&link, Said::Sources(wire::Sources { sources })).await;
        let mut tick = tokio::time::interval(PERIOD);
        loop {
            let message = tokio::select! {
                message = link.down.message() => message,
                Some(word) = self.words.recv() => {
                    match word {
                        Word::Say(kind) => self.say(&link, kind).await,
                        Word::Facts(facts) => self.speaker.facts = *facts,
                        Word::Bring(dataset, chunks) => {
                            if let Some(key) = key(&self.speaker.facts, &dataset) {
                                self.speaker.ledger.change(&key, |held| held.whole.insert(chunks.start, chunks.end));
                            }
                        }
                    }
                    continue;
                }
                _ = tick.tick() => {
                    self.tell(&link).await;
                    continue;
                }
            };
            match message {
                Ok(Some(message)) => self.hear(message.kind, &link).await,
                Ok(None) => return Ok(()),
                Err(status) => return Err(connect::refusal(&self.spec.address, &status)),
            }
        }
    }

    async fn say(&mut self, link: &Link, kind: Said) {
        self.said = Instant::now();
        // A stream that takes nothing has ended, which its other half says.
        let said = link.up.send(wire::Up { kind: Some(kind) });
        let _ = tokio::time::timeout(Duration::from_secs(10), said).await;
    }

    async fn tell(&mut self, link: &Link) {
        while let Some(report) = self.speaker.report() {
            self.say(link, Said::Report(report)).await;
        }
        if self.said.elapsed() > SILENCE
            && let Some(report) = self.speaker.sign_of_life()
        {
            self.say(link, Said::Report(report)).await;
        }
    }

    async fn hear(&mut self, kind: Option<Told>, link: &Link) {
        let Some(kind) = kind else { return };
        match &kind {
            Told::Bindings(told) => {
                self.numbers = deed::numbers(&told.bindings);
                self.speaker.bind(self.numbers.iter().map(|(number, name)| (name.clone(), *number)));
            }
            Told::Ack(ack) => {
                self.speaker.acked(ack.sequence);
                ack.instructions.iter().for_each(|id| drop(self.ended.remove(id)));
                return;
            }
            Told::Instruction(instruction) => {
                let progress = if self.spec.stuck {
                    let state = State::Running.into();
                    wire::Progress { id: instruction.id.clone(), state, ..wire::Progress::default() }
                } else {
                    let mut work = instruction.work.clone();
                    let number = work.as_mut().and_then(deed::extent).map(|extent| extent.dataset);
                    let dataset = number.and_then(|number| self.numbers.get(&number));
                    let progress = deed::done(&instruction.id, work.as_ref(), dataset, &mut self.speaker);
                    self.ended.insert(progress.id.clone(), progress.clone());
                    progress
                };
                self.say(link, Said::Progress(wire::Progresses { progress: vec![progress] })).await;
            }
            Told::Resync(_) => self.speaker.begin_again(),
            Told::Welcome(_) | Told::Withdrawal(_) | Told::Profile(_) => {}
        }
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).push(kind);
    }
}
