//! Who may speak, and how it is proved.

use agent::report::connect::{self, ConnectError};
use agent::report::speaker::Speaker;
use operator::certs::vault::MemoryVault;
use operator::certs::{self, Authority};
use operator::ingest::Tally;
use operator_api::report::v1 as wire;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::time::SystemTime;
use tests::agents::fleet::tls_of;
use tonic::Code;

use super::fixture::*;

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
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    let certificate = stranger.sign_node(request.der(), "n1", SystemTime::now()).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let tls = connect::tls(&trusted, Some((vec![certificate], key))).unwrap();
    let refused = match connect::channel(&operator.address, tls).await {
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
