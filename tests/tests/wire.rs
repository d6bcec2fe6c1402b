//! The wire end to end on loopback, with real TLS: the agent's own code against the operator's, and agents that lie,
//! flood and stop half-way.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use agent::report::connect::{self, Address, ConnectError, Link};
use agent::report::ledger::{Key, Tier};
use agent::report::speaker::{Demand, Speaker, Version};
use operator::certs::vault::{MemoryVault, obtain};
use operator::certs::{self, Authority, Bearer, Enrolments, Serving, Source, enrol};
use operator::ingest::{self, Extent, Folder, Hub, Limits, Standing, State, Tally, Wish, Work};
use operator::inventory::{self, Inventory};
use operator_api::report::v1 as wire;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tests::agents::fleet::tls_of;
use tokio::sync::watch;
use tonic::Code;
use wire::down::Kind as Told;
use wire::up::Kind as Said;

/// Tokens are `node:NAME`.
struct Words;

impl certs::Authenticator for Words {
    async fn authenticate(&self, token: &str) -> Result<Bearer, enrol::Refusal> {
        match token.strip_prefix("node:") {
            Some(node) => Ok(Bearer { node: node.into() }),
            None => Err(enrol::Refusal::Invalid("it is no word of the test".into())),
        }
    }
}

struct Operator {
    hub: Arc<Hub>,
    address: Address,
    authority: Authority,
    stop: watch::Sender<bool>,
    served: tokio::task::JoinHandle<()>,
}

fn limits() -> Limits {
    let (silence, greeting) = (Duration::from_secs(2), Duration::from_millis(500));
    Limits { interval: Duration::from_millis(500), silence, greeting, ..Limits::default() }
}

impl Operator {
    async fn start(vault: &MemoryVault, at: &str, life: u64) -> Self {
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

    async fn end(self) {
        let _ = self.stop.send(true);
        self.served.await.unwrap();
    }

    fn count(&self, tally: Tally) -> u64 {
        self.hub.counts().get(tally)
    }

    fn resident(&self, node: &str, dataset: &str) -> u64 {
        let inventory = self.hub.inventory().read().unwrap_or_else(PoisonError::into_inner);
        let (Some(node), Some(id)) = (inventory.node_id(node), inventory.dataset_id(dataset)) else {
            return 0;
        };
        inventory.dataset(id).map_or(0, |dataset| dataset.resident(node, inventory::Tier::Ram))
    }

    async fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..500 {
            if done(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what} did not happen");
    }

    /// A stream that has been welcomed.
    async fn attach(&self, node: &str, speaker: &mut Speaker) -> Result<(Link, wire::Down), ConnectError> {
        let channel = connect::channel(&self.address, tls_of(&self.authority, node).unwrap()).await?;
        let (link, first) = connect::attach(&self.address, channel, speaker.hello(vec![])).await?;
        speaker.welcome(&first).unwrap();
        Ok((link, first))
    }
}

fn key(dataset: &str) -> Key {
    Key { dataset: dataset.into(), version: 7, tier: Tier::PageCache }
}

fn sources() -> Said {
    let source =
        |(number, text): (u32, &str)| wire::Source { number, source: text.into(), fstype: "nfs4".into() };
    Said::Sources(wire::Sources { sources: [(1, "nas:/one"), (2, "nas:/two")].map(source).to_vec() })
}

async fn say(link: &Link, kind: Said) {
    link.up.send(wire::Up { kind: Some(kind) }).await.unwrap();
}

async fn hear(link: &mut Link) -> Told {
    let next = tokio::time::timeout(Duration::from_secs(5), link.down.message()).await;
    next.expect("nothing came").unwrap().expect("the stream has ended").kind.unwrap()
}

/// How the stream ends.
async fn end(link: &mut Link) -> tonic::Status {
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
async fn bind(link: &mut Link, speaker: &mut Speaker) -> Vec<wire::Binding> {
    say(link, sources()).await;
    let Told::Bindings(told) = hear(link).await else { panic!("no bindings") };
    speaker.bind(told.bindings.iter().map(|binding| (binding.name.as_str().into(), binding.dataset)));
    told.bindings
}

async fn acked(link: &mut Link, speaker: &mut Speaker) -> u64 {
    loop {
        if let Told::Ack(ack) = hear(link).await {
            speaker.acked(ack.sequence);
            return ack.sequence;
        }
    }
}

fn fill(speaker: &mut Speaker) {
    let version = Version { version: 7, bytes: 100 << 22, files: 10, seen_ms: 1 };
    speaker.facts.versions.insert("a/one".into(), version);
    speaker.facts.demand.insert("a/one".into(), Demand { readers: 1, rate: 5, hit: 6, miss: 7 });
    speaker.ledger.change(&key("a/one"), |set| set.insert(0, 10));
}

fn raw(dataset: u32, added: Vec<u32>) -> wire::Report {
    let tier = wire::Tier::PageCache.into();
    let residency =
        wire::Residency { dataset, version_high: 0, version_low: 7, tier, removed: vec![], added };
    wire::Report { sequence: 1, snapshot: true, residency: vec![residency], ..wire::Report::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_agent_one_report_one_instruction() {
    let vault = MemoryVault::default();
    let operator = Operator::start(&vault, "127.0.0.1:0", 1).await;
    let mut speaker = Speaker::new("n1", 11);
    fill(&mut speaker);
    let (mut link, _) = operator.attach("n1", &mut speaker).await.unwrap();
    let bindings = bind(&mut link, &mut speaker).await;
    let names: Vec<&str> = bindings.iter().map(|binding| binding.name.as_str()).collect();
    assert_eq!(names, ["a/one", "a/two"]);
    say(&link, Said::Report(speaker.report().unwrap())).await;
    assert_eq!(acked(&mut link, &mut speaker).await, 1);
    assert_eq!(operator.resident("n1", "a/one"), 10 << 22);
    // A delta.
    speaker.ledger.change(&key("a/one"), |set| set.remove(2, 5));
    let report = speaker.report().unwrap();
    assert!(!report.snapshot && report.versions.is_empty() && report.residency.len() == 1);
    say(&link, Said::Report(report)).await;
    acked(&mut link, &mut speaker).await;
    assert_eq!(operator.resident("n1", "a/one"), 7 << 22);
    assert!(speaker.report().is_none(), "nothing changed");

    let extent = Extent { dataset: "a/one".into(), path: b"train"[..].into(), chunks: None };
    let work = Work::Fetch(extent, inventory::Tier::Ram);
    let wish =
        Wish { id: "w1".into(), node: "n1".into(), work, reason: "test".into(), useful_ms: 0, priority: 0 };
    let mut ends = operator.hub.ends();
    operator.hub.instruct(wish.clone()).unwrap();
    let Told::Instruction(told) = hear(&mut link).await else { panic!("no instruction") };
    assert_eq!(told.id, "w1");
    let state = wire::progress::State::Done.into();
    say(&link, Said::Progress(wire::Progress { id: "w1".into(), state, bytes: 5, ..Default::default() }))
        .await;
    let Told::Ack(ack) = hear(&mut link).await else { panic!("no acknowledgement") };
    assert_eq!(ack.instructions, ["w1"]);
    assert_eq!(ends.recv().await.unwrap(), ("n1".into(), "w1".into()));
    let Some(Standing::Ended(progress)) = operator.hub.standing("n1", "w1") else { panic!("not ended") };
    assert_eq!((progress.state, progress.bytes), (State::Done, 5));
    // The same wish is known.
    operator.hub.instruct(wish).unwrap();
    assert_eq!(operator.count(Tally::Instructions), 1);
    operator.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_restarts() {
    let vault = MemoryVault::default();
    let first = Operator::start(&vault, "127.0.0.1:0", 1).await;
    let mut speaker = Speaker::new("n1", 11);
    fill(&mut speaker);
    let (mut link, _) = first.attach("n1", &mut speaker).await.unwrap();
    bind(&mut link, &mut speaker).await;
    say(&link, Said::Report(speaker.report().unwrap())).await;
    acked(&mut link, &mut speaker).await;
    let digest = first.hub.inventory().read().unwrap().digest();
    let at = first.address.to_string();
    first.end().await;

    let second = Operator::start(&vault, &at, 2).await;
    let channel = connect::channel(&second.address, tls_of(&second.authority, "n1").unwrap()).await.unwrap();
    let state = wire::progress::State::Running.into();
    let in_hand = vec![wire::Progress { id: "w1".into(), state, ..Default::default() }];
    // Made again before the agent comes.
    let extent = Extent { dataset: "a/one".into(), path: Box::default(), chunks: None };
    let work = Work::Fetch(extent, inventory::Tier::Ram);
    let wish =
        Wish { id: "w1".into(), node: "n1".into(), work, reason: "test".into(), useful_ms: 0, priority: 0 };
    second.hub.instruct(wish).unwrap();
    let (mut link, welcome) =
        connect::attach(&second.address, channel, speaker.hello(in_hand)).await.unwrap();
    speaker.welcome(&welcome).unwrap();
    let Some(Told::Welcome(welcome)) = welcome.kind else { panic!("no welcome") };
    assert!(!welcome.resumed && welcome.life == 2);
    bind(&mut link, &mut speaker).await;
    let report = speaker.report().unwrap();
    assert!(report.snapshot && report.sequence == 2);
    say(&link, Said::Report(report)).await;
    acked(&mut link, &mut speaker).await;
    assert_eq!(second.hub.inventory().read().unwrap().digest(), digest);
    assert_eq!(second.count(Tally::Instructions), 0, "it was in hand");
    assert_eq!(second.count(Tally::InstructionsKnown), 1);
    second.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_breaks_off_and_goes_on_where_it_was() {
    let operator = Operator::start(&MemoryVault::default(), "127.0.0.1:0", 1).await;
    let mut speaker = Speaker::new("n1", 11);
    fill(&mut speaker);
    let (mut link, _) = operator.attach("n1", &mut speaker).await.unwrap();
    bind(&mut link, &mut speaker).await;
    say(&link, Said::Report(speaker.report().unwrap())).await;
    acked(&mut link, &mut speaker).await;
    drop(link);
    operator
        .until("the node's silence", |o| {
            let inventory = o.hub.inventory().read().unwrap();
            inventory.node_id("n1").and_then(|id| inventory.node(id)).is_some_and(|n| n.silent().is_some())
        })
        .await;
    assert_eq!(operator.resident("n1", "a/one"), 10 << 22, "what it held is old news, not none");
    let (mut link, welcome) = operator.attach("n1", &mut speaker).await.unwrap();
    assert!(matches!(welcome.kind, Some(Told::Welcome(welcome)) if welcome.resumed));
    bind(&mut link, &mut speaker).await;
    speaker.ledger.change(&key("a/one"), |set| set.insert(20, 21));
    let report = speaker.report().unwrap();
    assert!(!report.snapshot, "it goes on");
    // This one gets lost with the stream: the next stream begins anew.
    drop(link);
    let (mut link, welcome) = operator.attach("n1", &mut speaker).await.unwrap();
    assert!(matches!(welcome.kind, Some(Told::Welcome(welcome)) if !welcome.resumed));
    bind(&mut link, &mut speaker).await;
    say(&link, Said::Report(speaker.report().unwrap())).await;
    acked(&mut link, &mut speaker).await;
    assert_eq!(operator.resident("n1", "a/one"), 11 << 22);
    // The agent starts anew: another session.
    let mut other = Speaker::new("n1", 12);
    let (mut link, _) = operator.attach("n1", &mut other).await.unwrap();
    bind(&mut link, &mut other).await;
    say(&link, Said::Report(other.report().unwrap())).await;
    acked(&mut link, &mut other).await;
    assert_eq!(operator.resident("n1", "a/one"), 0, "a snapshot says all there is");
    operator.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_speaks_for_its_own_node() {
    let operator = Operator::start(&MemoryVault::default(), "127.0.0.1:0", 1).await;
    let tls = tls_of(&operator.authority, "n1").unwrap();
    let channel = connect::channel(&operator.address, tls).await.unwrap();
    let mut impostor = Speaker::new("n2", 1);
    let refused = connect::attach(&operator.address, channel, impostor.hello(vec![])).await.unwrap_err();
    assert!(matches!(&refused, ConnectError::Refused { code: Code::PermissionDenied, .. }), "{refused}");
    assert!(refused.to_string().contains("that of node n1"), "{refused}");
    assert_eq!(operator.count(Tally::Impostors), 1);

    // No certificate at all.
    let trusted = [operator.authority.certificate().clone()];
    let channel = connect::channel(&operator.address, connect::tls(&trusted, None).unwrap()).await.unwrap();
    let refused = connect::attach(&operator.address, channel, impostor.hello(vec![])).await.unwrap_err();
    assert!(matches!(&refused, ConnectError::Refused { code: Code::Unauthenticated, .. }), "{refused}");

    // One of another authority.
    let stranger = Authority::create(SystemTime::now()).unwrap();
    let mut config = (*tls_of(&stranger, "n1").unwrap()).clone();
    config = {
        let key = rcgen::KeyPair::generate().unwrap();
        let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
        let certificate = stranger.sign_node(request.der(), "n1", SystemTime::now()).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let _ = config;
        (*connect::tls(&trusted, Some((vec![certificate], key))).unwrap()).clone()
    };
    let refused = match connect::channel(&operator.address, Arc::new(config)).await {
        Err(refused) => refused,
        Ok(channel) => connect::attach(&operator.address, channel, impostor.hello(vec![])).await.unwrap_err(),
    };
    // Which of the two words comes is a race of the socket's end with TLS's alert.
    assert!(matches!(refused, ConnectError::Unreachable { .. } | ConnectError::Refused { .. }), "{refused}");
    operator.until("a failed handshake", |o| o.count(Tally::HandshakesFailed) >= 1).await;

    // An operator that the agent does not trust.
    let channel = connect::channel(&operator.address, tls_of(&stranger, "n1").unwrap()).await;
    assert!(matches!(channel, Err(ConnectError::Unreachable { .. })));
    assert_eq!(operator.count(Tally::Sessions), 0);
    operator.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_agreed_upon() {
    let operator = Operator::start(&MemoryVault::default(), "127.0.0.1:0", 1).await;
    let attach = async |least_version, greatest_version| {
        let tls = tls_of(&operator.authority, "n1").unwrap();
        let channel = connect::channel(&operator.address, tls).await.unwrap();
        let hello =
            wire::Hello { least_version, greatest_version, node: "n1".into(), ..wire::Hello::default() };
        connect::attach(&operator.address, channel, wire::Up { kind: Some(Said::Hello(hello)) }).await
    };
    // A newer agent that still speaks ours.
    let (_link, welcome) = attach(1, 9).await.unwrap();
    assert!(matches!(welcome.kind, Some(Told::Welcome(welcome)) if welcome.version == 1));
    for (least, greatest) in [(2, 9), (0, 0), (9, 1)] {
        let refused = attach(least, greatest).await.unwrap_err();
        assert!(
            matches!(&refused, ConnectError::Refused { code: Code::FailedPrecondition, .. }),
            "{refused}"
        );
        assert!(refused.to_string().contains("upgrade the older"), "{refused}");
    }
    assert_eq!(operator.count(Tally::Versions), 3);
    operator.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_end_the_stream_or_are_left_out_and_harm_nobody() {
    let operator = Operator::start(&MemoryVault::default(), "127.0.0.1:0", 1).await;
    let mut good = Speaker::new("good", 1);
    fill(&mut good);
    let (mut good_link, _) = operator.attach("good", &mut good).await.unwrap();
    let bindings = bind(&mut good_link, &mut good).await;
    let one = bindings[0].dataset;
    say(&good_link, Said::Report(good.report().unwrap())).await;
    acked(&mut good_link, &mut good).await;

    let huge = wire::Demand { dataset: one, rate: u64::MAX, ..wire::Demand::default() };
    let nonsense = [
        raw(one, vec![1]),
        raw(one, vec![1, 0]),
        raw(one, vec![u32::MAX, 2]),
        raw(one, (0..10_000).flat_map(|n| [n * 2, 1]).collect()),
        wire::Report { demand: vec![huge], ..raw(one, vec![]) },
        wire::Report {
            residency: vec![wire::Residency { tier: 77, ..raw(one, vec![]).residency[0].clone() }],
            ..raw(one, vec![])
        },
        wire::Report {
            residency: vec![wire::Residency { version_low: 0, ..raw(one, vec![]).residency[0].clone() }],
            ..raw(one, vec![])
        },
        wire::Report {
            pressure: Some(wire::Pressure { memory_permille: 1_001, io_permille: 0 }),
            ..raw(one, vec![])
        },
    ];
    let count = nonsense.len() as u64;
    for report in nonsense {
        let mut liar = Speaker::new("liar", 2);
        let (mut link, _) = operator.attach("liar", &mut liar).await.unwrap();
        bind(&mut link, &mut liar).await;
        say(&link, Said::Report(report)).await;
        let status = end(&mut link).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert_eq!(operator.resident("liar", "a/one"), 0);
    }
    assert_eq!(operator.count(Tally::Nonsense), count);

    // Datasets that are not bound to it: left out, whether they exist or not.
    let mut liar = Speaker::new("liar", 3);
    let (mut link, _) = operator.attach("liar", &mut liar).await.unwrap();
    bind(&mut link, &mut liar).await;
    let other = operator.hub.directory().number("b/other").unwrap();
    let mut report = raw(999, vec![0, 4]);
    report.residency.extend(raw(other, vec![0, 4]).residency);
    report.residency.extend(raw(one, vec![0, 4]).residency);
    say(&link, Said::Report(report)).await;
    acked(&mut link, &mut liar).await;
    assert_eq!(operator.count(Tally::UnknownDatasets), 2);
    assert_eq!((operator.resident("liar", "b/other"), operator.resident("liar", "a/one")), (0, 4 << 22));

    // Nonsense in other places.
    for kind in [Some(Said::Hello(wire::Hello::default())), None] {
        let mut liar = Speaker::new("liar", 4);
        let (mut link, _) = operator.attach("liar", &mut liar).await.unwrap();
        link.up.send(wire::Up { kind }).await.unwrap();
        assert_eq!(end(&mut link).await.code(), Code::InvalidArgument);
    }
    // A report that does not follow: asked for the whole.
    let mut liar = Speaker::new("gap", 5);
    let (mut link, _) = operator.attach("gap", &mut liar).await.unwrap();
    bind(&mut link, &mut liar).await;
    say(&link, Said::Report(wire::Report { sequence: 9, snapshot: false, ..raw(one, vec![0, 1]) })).await;
    assert!(matches!(hear(&mut link).await, Told::Resync(_)));

    // The honest agent's stream never noticed.
    good.ledger.change(&key("a/one"), |set| set.insert(50, 51));
    say(&good_link, Said::Report(good.report().unwrap())).await;
    acked(&mut good_link, &mut good).await;
    assert_eq!(operator.resident("good", "a/one"), 11 << 22);
    operator.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_are_ended_and_coming_again_buys_nothing() {
    let operator = Operator::start(&MemoryVault::default(), "127.0.0.1:0", 1).await;
    let mut flooder = Speaker::new("flood", 1);
    let (mut link, _) = operator.attach("flood", &mut flooder).await.unwrap();
    bind(&mut link, &mut flooder).await;
    let up = link.up.clone();
    let flood = tokio::spawn(async move {
        for sequence in 1..100_000 {
            let report = wire::Report { sequence, snapshot: true, ..wire::Report::default() };
            if up.send(wire::Up { kind: Some(Said::Report(report)) }).await.is_err() {
                return sequence;
            }
        }
        0
    });
    let status = end(&mut link).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    drop(link);
    let sent = flood.await.unwrap();
    assert!(sent > 0 && sent < 2_000, "{sent}");
    let again = operator.attach("flood", &mut flooder).await;
    let refused = |code| matches!(&again, Err(ConnectError::Refused { code: found, .. }) if *found == code);
    assert!(refused(Code::ResourceExhausted) || again.is_ok(), "the allowance fills by 4 messages a second");
    // Others come and go meanwhile.
    let mut good = Speaker::new("good", 1);
    operator.attach("good", &mut good).await.unwrap();

    // One message above the bound.
    let mut large = Speaker::new("large", 1);
    let (mut link, _) = operator.attach("large", &mut large).await.unwrap();
    let profile = vec![7; 1 << 20];
    let learned = wire::ProfileLearned { workload: "w".into(), source: "s".into(), profile };
    say(&link, Said::Learned(learned)).await;
    let status = end(&mut link).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("Split it"), "{status}");
    assert_eq!(operator.count(Tally::Floods), if again.is_ok() { 2 } else { 3 });
    operator.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_or_half_is_let_go() {
    use tokio::io::AsyncWriteExt;
    let operator = Operator::start(&MemoryVault::default(), "127.0.0.1:0", 1).await;
    // Welcomed, and then silent.
    let mut silent = Speaker::new("silent", 1);
    let (mut link, _) = operator.attach("silent", &mut silent).await.unwrap();
    let status = end(&mut link).await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");

    // Stops half-way in a message: a frame that announces more than comes, then nothing; then the end of TCP.
    let tls = tls_of(&operator.authority, "half").unwrap();
    let tcp = tokio::net::TcpStream::connect(operator.address.to_string()).await.unwrap();
    let name = "127.0.0.1".try_into().unwrap();
    let mut io = tokio_rustls::TlsConnector::from(tls).connect(name, tcp).await.unwrap();
    let (mut client, connection) = h2::client::handshake(&mut io).await.unwrap();
    let half = async move {
        let request = axum::http::Request::post("http://x/headrace.report.v1.Reports/Attach")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (_, mut body) = client.send_request(request, false).unwrap();
        // gRPC: not compressed, 1,000 bytes; three of them.
        body.send_data(vec![0, 0, 0, 3, 232, 1, 2, 3].into(), false).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(body);
    };
    tokio::select! { () = half => {}, _ = connection => panic!("the connection ended first") }
    io.shutdown().await.unwrap();
    drop(io);
    operator.until("a broken stream", |o| o.count(Tally::Broken) + o.count(Tally::Silent) >= 2).await;

    // Connects and never shakes hands; the door stays open for others.
    let _idle = tokio::net::TcpStream::connect(operator.address.to_string()).await.unwrap();
    let mut good = Speaker::new("good", 1);
    operator.attach("good", &mut good).await.unwrap();
    operator.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_stream_of_a_node_takes_over() {
    let operator = Operator::start(&MemoryVault::default(), "127.0.0.1:0", 1).await;
    let mut speaker = Speaker::new("n1", 1);
    let (mut old, _) = operator.attach("n1", &mut speaker).await.unwrap();
    let (mut new, _) = operator.attach("n1", &mut speaker).await.unwrap();
    let status = end(&mut old).await;
    assert_eq!(status.code(), Code::Aborted, "{status}");
    bind(&mut new, &mut speaker).await;
    say(&new, Said::Report(speaker.report().unwrap())).await;
    acked(&mut new, &mut speaker).await;
    let inventory = operator.hub.inventory().read().unwrap();
    let node = inventory.node(inventory.node_id("n1").unwrap()).unwrap();
    assert!(node.silent().is_none(), "the old stream's end is not the node's");
    drop(inventory);
    operator.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_enrol_with_a_token() {
    let operator = Operator::start(&MemoryVault::default(), "127.0.0.1:0", 1).await;
    let trusted = [operator.authority.certificate().clone()];
    let enrol = async |token: &str, request: Vec<u8>| {
        let channel =
            connect::channel(&operator.address, connect::tls(&trusted, None).unwrap()).await.unwrap();
        let request = wire::EnrolRequest { request, token: token.into() };
        connect::enrol(&operator.address, channel, request).await
    };
    let key = rcgen::KeyPair::generate().unwrap();
    // What the request says of itself is not taken over.
    let params = rcgen::CertificateParams::new(["evil.example".to_owned()]).unwrap();
    let request = params.serialize_request(&key).unwrap().der().to_vec();
    let reply = enrol("node:n1", request.clone()).await.unwrap();
    assert_eq!(reply.authorities, [trusted[0].to_vec()]);
    let chain: Vec<CertificateDer<'static>> = reply.chain.into_iter().map(Into::into).collect();
    let peer = certs::identity::peer_of(&chain[0]).unwrap();
    assert_eq!(&*peer.node, "n1");
    assert!(!chain[0].windows(12).any(|bytes| bytes == b"evil.example"));
    let own = (chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into());
    let channel =
        connect::channel(&operator.address, connect::tls(&trusted, Some(own)).unwrap()).await.unwrap();
    let mut speaker = Speaker::new("n1", 1);
    connect::attach(&operator.address, channel, speaker.hello(vec![])).await.unwrap();

    for (token, request, code) in [
        ("wrong", request.clone(), Code::Unauthenticated),
        ("node:Bad_Name", request.clone(), Code::Unauthenticated),
        ("", request.clone(), Code::InvalidArgument),
        ("node:n1", vec![1, 2, 3], Code::InvalidArgument),
        ("node:n1", vec![0; 100_000], Code::InvalidArgument),
    ] {
        let refused = enrol(token, request).await.unwrap_err();
        assert!(matches!(&refused, ConnectError::Refused { code: found, .. } if *found == code), "{refused}");
        assert!(!refused.to_string().contains(token) || token.is_empty(), "tokens are not repeated");
    }
    operator.end().await;
}
