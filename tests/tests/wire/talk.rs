//! Conversations as they should be, over restarts of either side.

use agent::report::connect::{self, ConnectError};
use agent::report::speaker::Speaker;
use operator::certs::vault::MemoryVault;
use operator::ingest::{Extent, Standing, State, Tally, Wish, Work};
use operator::inventory;
use operator_api::report::v1 as wire;
use tests::agents::fleet::tls_of;
use tonic::Code;
use wire::down::Kind as Told;
use wire::up::Kind as Said;

use super::fixture::*;

fn fetch(path: &[u8]) -> Wish {
    let extent = Extent { dataset: "a/one".into(), path: path.into(), chunks: None };
    Wish {
        id: "w1".into(),
        node: "n1".into(),
        work: Work::Fetch(extent, inventory::Tier::Ram),
        reason: "test".into(),
        useful_ms: 0,
        priority: 0,
        awaits_mount: false,
    }
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
    speaker.ledger.change(&key("a/one"), |held| held.whole.remove(2, 5));
    let report = speaker.report().unwrap();
    assert!(!report.snapshot && report.versions.is_empty() && report.residency.len() == 1);
    say(&link, Said::Report(report)).await;
    acked(&mut link, &mut speaker).await;
    assert_eq!(operator.resident("n1", "a/one"), 7 << 22);
    assert!(speaker.report().is_none(), "nothing changed");

    let wish = fetch(b"train");
    let mut ends = operator.hub.ends();
    operator.hub.instruct(wish.clone()).unwrap();
    let Told::Instruction(told) = hear(&mut link).await else { panic!("no instruction") };
    assert_eq!(told.id, "w1");
    let state = wire::progress::State::Done.into();
    let progress = vec![wire::Progress { id: "w1".into(), state, bytes: 5, ..Default::default() }];
    say(&link, Said::Progress(wire::Progresses { progress })).await;
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
    let wish = fetch(b"");
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
    speaker.ledger.change(&key("a/one"), |held| {
        held.whole.insert(20, 21);
        held.partial = 5;
    });
    let report = speaker.report().unwrap();
    assert!(!report.snapshot, "it goes on");
    // This one gets lost with the stream: the next stream begins anew.
    drop(link);
    let (mut link, welcome) = operator.attach("n1", &mut speaker).await.unwrap();
    assert!(matches!(welcome.kind, Some(Told::Welcome(welcome)) if !welcome.resumed));
    bind(&mut link, &mut speaker).await;
    say(&link, Said::Report(speaker.report().unwrap())).await;
    acked(&mut link, &mut speaker).await;
    assert_eq!(operator.resident("n1", "a/one"), (11 << 22) + 5);
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
    {
        let inventory = operator.hub.inventory().read().unwrap();
        let node = inventory.node(inventory.node_id("n1").unwrap()).unwrap();
        assert!(node.silent().is_none(), "the old stream's end is not the node's");
        drop(inventory);
    }
    operator.end().await;
}
