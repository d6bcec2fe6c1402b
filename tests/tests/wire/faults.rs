//! Agents that lie, flood, fall silent and stop half-way: nobody else notices.

use agent::report::connect::ConnectError;
use agent::report::speaker::Speaker;
use operator::certs::vault::MemoryVault;
use operator::ingest::Tally;
use operator_api::report::v1 as wire;
use std::time::Duration;
use tests::agents::fleet::tls_of;
use tonic::Code;
use wire::down::Kind as Told;
use wire::up::Kind as Said;

use super::fixture::*;

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
            residency: vec![wire::Residency {
                partial_bytes: Some(u64::MAX),
                ..raw(one, vec![]).residency[0].clone()
            }],
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
    good.ledger.change(&key("a/one"), |held| held.whole.insert(50, 51));
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
    // Where more small frames lie unread than the h2 library allows it breaks the connection, before anybody has counted
    // what is in them.
    let broken = status.code() == Code::Unknown;
    assert!(broken || status.code() == Code::ResourceExhausted, "{status}");
    let floods = operator.count(Tally::Floods);
    assert!(broken || floods == 1, "{floods}");
    drop(link);
    let sent = flood.await.unwrap();
    // What it may say at once, and what lies unread in a window of 128 KiB.
    assert!(sent > 0 && sent < 20_000, "{sent}");
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
    let (workload, source) = ("w".into(), "s".into());
    let learned = wire::ProfileLearned { workload, source, profile, ..wire::ProfileLearned::default() };
    say(&link, Said::Learned(learned)).await;
    let status = end(&mut link).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("Split it"), "{status}");
    assert_eq!(operator.count(Tally::Floods) - floods, if again.is_ok() { 1 } else { 2 });
    operator.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_the_list_of_datasets_is_told_of_all_and_not_ended_for_silence() {
    let operator = Operator::start(&MemoryVault::default(), "127.0.0.1:0", 1).await;
    operator.hub.directory_is_whole(false);
    let mut waits = Speaker::new("waits", 1);
    let (mut link, _) = operator.attach("waits", &mut waits).await.unwrap();
    say(&link, sources()).await;
    // As long as `end` waits for one that is silent.
    let early = tokio::time::timeout(Duration::from_secs(5), link.down.message()).await;
    assert!(early.is_err(), "{early:?}");
    operator.hub.directory_is_whole(true);
    let Told::Bindings(told) = hear(&mut link).await else { panic!("no bindings") };
    assert!(!told.bindings.is_empty());
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
