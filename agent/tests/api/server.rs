//! The server against clients that are slow, large, old, new or many.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use agent_core::MountId;
use agent_core::view::Happening;
use operator_api::observability::v1 as wire;
use operator_api::observability::v1::event::What;
use operator_api::observability::v1::observability_client::ObservabilityClient;
use prost::Message;
use tonic::Code;

use crate::fixture::{Fixture, exists};

#[test]
fn the_socket_is_for_owner_and_group_and_goes_at_the_end() {
    let mut fixture = Fixture::new();
    let meta = std::fs::metadata(&fixture.socket).unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o660);
    fixture.stop();
    assert!(!exists(&fixture.socket));
}

#[test]
fn a_huge_request_is_refused_and_counted() {
    let fixture = Fixture::new();
    fixture.block_on(async {
        let mut client = fixture.client().await;
        let request = wire::FilesRequest { prefix: vec![b'a'; 1 << 20], ..Default::default() };
        let refusal = client.files(request).await.unwrap_err();
        assert_eq!(refusal.code(), Code::OutOfRange, "{refusal}");
        let request = wire::FilesRequest { prefix: vec![b'a'; 5000], ..Default::default() };
        let refusal = client.files(request).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument);
        assert!(refusal.message().contains("4096"));
        // The connection is still good.
        client.node(wire::NodeRequest {}).await.unwrap();
    });
    assert_eq!(fixture.metrics.api_refusals(), 2);
}

/// As many as there are places, and a person behind them.
#[test]
fn who_connects_and_says_nothing_is_sent_away() {
    let fixture = Fixture::new();
    let silent: Vec<_> =
        (0..64).map(|_| std::os::unix::net::UnixStream::connect(&fixture.socket).unwrap()).collect();
    let output = fixture.ask(&["node"]);
    assert!(output.status.success(), "{}", crate::fixture::stderr(&output));
    drop(silent);
}

#[test]
fn who_fills_the_tcp_listener_keeps_nobody_from_the_socket() {
    let fixture = Fixture::new();
    fixture.block_on(async {
        let mut others = Vec::new();
        for _ in 0..64 {
            let to = tonic::transport::Endpoint::new(format!("http://{}", fixture.tcp)).unwrap();
            let mut other = ObservabilityClient::new(to.connect().await.unwrap());
            other.node(wire::NodeRequest {}).await.unwrap();
            others.push(other);
        }
        fixture.client().await.node(wire::NodeRequest {}).await.unwrap();
    });
}

#[test]
fn a_slow_client_loses_events_and_is_told_how_many() {
    let fixture = Fixture::new();
    let sent = 200_000_u64;
    fixture.block_on(async {
        let mut client = fixture.client().await;
        let mut stream = client.events(wire::EventsRequest::default()).await.unwrap().into_inner();
        while fixture.happenings.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
        for records in 0..sent {
            // Never waits, whatever the client does.
            fixture.happenings.send(Arc::new(Happening::Lost { records })).unwrap();
        }
        let (mut seen, mut skipped) = (0, 0);
        while seen + skipped < sent {
            match stream.message().await.unwrap().unwrap().what.unwrap() {
                What::KernelLost(_) => seen += 1,
                What::Lagged(lagged) => skipped += lagged.events,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen + skipped, sent);
        assert!(skipped > 0);
        assert_eq!(fixture.metrics.events_skipped_total(), skipped);
    });
}

#[test]
fn events_can_be_asked_for_by_prefix_and_end_with_the_agent() {
    let mut fixture = Fixture::new();
    let pattern = |mount: u32, path: &[u8]| {
        let (mount, pattern) = (MountId(mount), "sequential".into());
        Arc::new(Happening::Pattern { mount, path: path.into(), tgid: 1, pattern })
    };
    let mut stream = fixture.block_on(async {
        let mut client = fixture.client().await;
        let request = wire::EventsRequest { prefix: b"train/".into(), mount: Some(2) };
        let mut stream = client.events(request).await.unwrap().into_inner();
        while fixture.happenings.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
        fixture.happenings.send(pattern(2, b"valid/1")).unwrap();
        fixture.happenings.send(pattern(1, b"train/0")).unwrap();
        fixture.happenings.send(pattern(2, b"train/1")).unwrap();
        let Some(What::Pattern(found)) = stream.message().await.unwrap().unwrap().what else {
            panic!("another event");
        };
        assert_eq!(found.path, b"train/1");
        stream
    });
    // The stop ends the stream, and the server although the stream was open.
    fixture.stop();
    let end = fixture.block_on(stream.message());
    assert!(matches!(end, Ok(None) | Err(_)));
}

#[test]
fn streams_are_bounded() {
    let fixture = Fixture::new();
    fixture.block_on(async {
        let mut client = fixture.client().await;
        let mut open = Vec::new();
        let refusal = loop {
            assert!(open.len() < 100);
            match client.events(wire::EventsRequest::default()).await {
                Ok(stream) => open.push(stream),
                Err(refusal) => break refusal,
            }
        };
        assert_eq!(refusal.code(), Code::ResourceExhausted);
        assert!(refusal.message().contains("close one"));
        drop(open);
        // Places come back once the server has seen the clients leave.
        loop {
            if client.events(wire::EventsRequest::default()).await.is_ok() {
                break;
            }
            tokio::task::yield_now().await;
        }
    });
}

/// A message of a newer client: a field this version does not know.
#[derive(Clone, PartialEq, Message)]
struct Newer {
    #[prost(bytes = "vec", tag = "1")]
    prefix: Vec<u8>,
    #[prost(string, tag = "4000")]
    unknown: String,
}

#[test]
fn unknown_fields_are_ignored() {
    let newer = Newer { prefix: b"train/".into(), unknown: "of a later version".into() };
    let read = wire::FilesRequest::decode(newer.encode_to_vec().as_slice()).unwrap();
    assert_eq!(read.prefix, b"train/");
    let fixture = Fixture::new();
    fixture.block_on(async {
        let mut raw = tonic::client::Grpc::new(fixture.channel().await);
        raw.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<Newer, wire::FilesReply>::default();
        let path = "/headrace.observability.v1.Observability/Files".parse().unwrap();
        let reply = raw.unary(tonic::Request::new(newer), path, codec).await.unwrap();
        assert_eq!(reply.into_inner().files.len(), 2);
    });
}

#[test]
fn health_and_reflection_answer() {
    let fixture = Fixture::new();
    fixture.block_on(async {
        let channel = fixture.channel().await;
        let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
        let request = tonic_health::pb::HealthCheckRequest {
            service: "headrace.observability.v1.Observability".into(),
        };
        let status = health.check(request).await.unwrap().into_inner().status;
        assert_eq!(status, i32::from(tonic_health::pb::health_check_response::ServingStatus::Serving));

        use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
        let request = tonic_reflection::pb::v1::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut reflection = ServerReflectionClient::new(channel);
        let mut replies =
            reflection.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
        let reply = replies.message().await.unwrap().unwrap();
        let Some(MessageResponse::ListServicesResponse(list)) = reply.message_response else {
            panic!("another answer");
        };
        let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
        assert!(names.iter().any(|name| name == "headrace.observability.v1.Observability"), "{names:?}");
    });
}
