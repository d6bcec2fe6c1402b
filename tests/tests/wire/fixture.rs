//! An operator's end of the wire in this process, and the steps of a conversation.

use agent::report::connect::{self, Address, ConnectError, Link};
use agent::report::ledger::{Key, Tier};
use agent::report::speaker::{Demand, Speaker, Version};
use operator::certs::vault::{MemoryVault, obtain};
use operator::certs::{self, Authority, Bearer, Enrolments, Serving, Source, enrol};
use operator::ingest::{self, Folder, Hub, Limits, Tally};
use operator::inventory::{self, Inventory};
use operator_api::report::v1 as wire;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};
use tests::agents::fleet::tls_of;
use tokio::sync::watch;
use wire::down::Kind as Told;
use wire::up::Kind as Said;

/// Tokens are `node:NAME`.
pub struct Words;

impl certs::Authenticator for Words {
    async fn authenticate(&self, token: &str) -> Result<Bearer, enrol::Refusal> {
        match token.strip_prefix("node:") {
            Some(node) => Ok(Bearer { node: node.into() }),
            None => Err(enrol::Refusal::Invalid("it is no word of the test".into())),
        }
    }
}

pub struct Operator {
    pub hub: Arc<Hub>,
    pub address: Address,
    pub authority: Authority,
    pub stop: watch::Sender<bool>,
    pub served: tokio::task::JoinHandle<()>,
}

pub fn limits() -> Limits {
    let (silence, greeting) = (Duration::from_secs(2), Duration::from_millis(500));
    Limits { interval: Duration::from_millis(500), silence, greeting, ..Limits::default() }
}

impl Operator {
    pub async fn start(vault: &MemoryVault, at: &str, life: u64) -> Self {
        let source = Source::Own { vault: vault.clone(), names: vec!["127.0.0.1".into()] };
        let (serving, signer): (Serving, _) = certs::open(&source).await.unwrap();
        let authority = obtain(vault, SystemTime::now()).await.unwrap().authority;
        let hub = Hub::new(limits(), life, Arc::new(RwLock::new(Inventory::default())));
        let folder = |name: &str, source: &str| Folder {
            dataset: name.into(),
            source: source.into(),
            prefix: "".into(),
        };
        hub.directory().set([
            folder("a/one", "nas:/one"),
            folder("a/two", "nas:/two"),
            folder("b/other", "other:/x"),
        ]);
        let listening = ingest::bind(at.parse().unwrap()).unwrap();
        let address = Address::parse(&format!("https://{}", listening.addr())).unwrap();
        let (stop, stopped) = watch::channel(false);
        let enrolments = Enrolments::new(Words, signer);
        let serving = listening.serve(hub.clone(), serving, Some(enrolments), stopped);
        let served = tokio::spawn(async move { serving.await.unwrap() });
        Self { hub, address, authority, stop, served }
    }

    pub async fn end(self) {
        let _ = self.stop.send(true);
        self.served.await.unwrap();
    }

    pub fn count(&self, tally: Tally) -> u64 {
        self.hub.counts().get(tally)
    }

    pub fn resident(&self, node: &str, dataset: &str) -> u64 {
        let inventory = self.hub.inventory().read().unwrap_or_else(PoisonError::into_inner);
        let (Some(node), Some(id)) = (inventory.node_id(node), inventory.dataset_id(dataset)) else {
            return 0;
        };
        inventory.dataset(id).map_or(0, |dataset| dataset.resident(node, inventory::Tier::Ram))
    }

    pub async fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..500 {
            if done(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what} did not happen");
    }

    /// A stream that has been welcomed.
    pub async fn attach(
        &self,
        node: &str,
        speaker: &mut Speaker,
    ) -> Result<(Link, wire::Down), ConnectError> {
        let channel = connect::channel(&self.address, tls_of(&self.authority, node).unwrap()).await?;
        let (link, first) = connect::attach(&self.address, channel, speaker.hello(vec![])).await?;
        speaker.welcome(&first).unwrap();
        Ok((link, first))
    }
}

pub fn key(dataset: &str) -> Key {
    Key { dataset: dataset.into(), version: 7, tier: Tier::PageCache }
}

pub fn sources() -> Said {
    let source = |(number, text): (u32, &str)| wire::Source {
        number,
        source: text.into(),
        fstype: "nfs4".into(),
        folders: Vec::new(),
    };
    Said::Sources(wire::Sources { sources: [(1, "nas:/one"), (2, "nas:/two")].map(source).to_vec() })
}

pub async fn say(link: &Link, kind: Said) {
    link.up.send(wire::Up { kind: Some(kind) }).await.unwrap();
}

pub async fn hear(link: &mut Link) -> Told {
    let next = tokio::time::timeout(Duration::from_secs(5), link.down.message()).await;
    next.expect("nothing came").unwrap().expect("the stream has ended").kind.unwrap()
}

/// How the stream ends.
pub async fn end(link: &mut Link) -> tonic::Status {
    loop {
        match tokio::time::timeout(Duration::from_secs(5), link.down.message())
            .await
            .expect("the stream goes on")
        {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended without a word"),
            Err(status) => return status,
        }
    }
}

/// Sources told, bindings heard.
pub async fn bind(link: &mut Link, speaker: &mut Speaker) -> Vec<wire::Binding> {
    say(link, sources()).await;
    let Told::Bindings(told) = hear(link).await else { panic!("no bindings") };
    speaker.bind(told.bindings.iter().map(|binding| (binding.name.as_str().into(), binding.dataset)));
    told.bindings
}

pub async fn acked(link: &mut Link, speaker: &mut Speaker) -> u64 {
    loop {
        if let Told::Ack(ack) = hear(link).await {
            speaker.acked(ack.sequence);
            return ack.sequence;
        }
    }
}

pub fn fill(speaker: &mut Speaker) {
    let version = Version { version: 7, bytes: 100 << 22, files: 10, seen_ms: 1 };
    speaker.facts.versions.insert("a/one".into(), version);
    speaker.facts.demand.insert("a/one".into(), Demand { readers: 1, rate: 5, hit: 6, miss: 7 });
    speaker.ledger.change(&key("a/one"), |held| held.whole.insert(0, 10));
}

pub fn raw(dataset: u32, added: Vec<u32>) -> wire::Report {
    let tier = wire::Tier::PageCache.into();
    let residency = wire::Residency { dataset, version_low: 7, tier, added, ..wire::Residency::default() };
    wire::Report { sequence: 1, snapshot: true, residency: vec![residency], ..wire::Report::default() }
}
