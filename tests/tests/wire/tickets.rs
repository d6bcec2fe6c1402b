//! Coming back with a ticket: cheaper, and in nothing more than coming with the certificate.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use agent::report::connect::{self, ConnectError};
use agent::report::speaker::Speaker;
use operator::certs::LIFE_NODE;
use operator::certs::vault::MemoryVault;
use operator::ingest::Tally;
use rustls::ClientConfig;
use tests::agents::fleet::{tls_from, tls_of};
use tonic::Code;

use super::fixture::*;

/// Opens a stream as this node, and waits for the first word, before which the ticket has come.
async fn come(operator: &Operator, tls: &Arc<ClientConfig>, node: &str) -> Result<(), ConnectError> {
    let channel = connect::channel(&operator.address, tls.clone()).await?;
    connect::attach(&operator.address, channel, Speaker::new(node, 1).hello(vec![])).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_comes_back_to_the_next_operator_as_who_it_is() {
    let vault = MemoryVault::default();
    let operator = Operator::start(&vault, "127.0.0.1:0", 1).await;
    let tls = tls_of(&operator.authority, "n1").unwrap();
    come(&operator, &tls, "n1").await.unwrap();
    assert_eq!(operator.count(Tally::ConnectionsResumed), 0);
    operator.end().await;

    // Another process, with another certificate of the same authority.
    let operator = Operator::start(&vault, "127.0.0.1:0", 2).await;
    come(&operator, &tls, "n1").await.unwrap();
    assert_eq!(operator.count(Tally::ConnectionsResumed), 1);
    // The ticket says who it is, and not only that it was somebody.
    let refused = come(&operator, &tls, "n2").await.unwrap_err();
    assert!(matches!(&refused, ConnectError::Refused { code: Code::PermissionDenied, .. }), "{refused}");
    assert_eq!(operator.count(Tally::ConnectionsResumed), 2);
    assert_eq!(operator.count(Tally::Impostors), 1);
    operator.end().await;

    // One whose authority is another opens no ticket, and the agent does not know it either.
    let operator = Operator::start(&MemoryVault::default(), "127.0.0.1:0", 3).await;
    assert!(come(&operator, &tls, "n1").await.is_err());
    assert_eq!(operator.count(Tally::ConnectionsResumed), 0);
    operator.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_of_no_use_after_its_certificates_end() {
    let operator = Operator::start(&MemoryVault::default(), "127.0.0.1:0", 1).await;
    let left = Duration::from_secs(4);
    let tls = tls_from(&operator.authority, "n1", SystemTime::now() + left - LIFE_NODE).unwrap();
    come(&operator, &tls, "n1").await.unwrap();
    tokio::time::sleep(left + Duration::from_secs(2)).await;
    assert!(come(&operator, &tls, "n1").await.is_err());
    operator.until("the refusal", |o| o.count(Tally::HandshakesFailed) >= 1).await;
    assert_eq!((operator.count(Tally::Connections), operator.count(Tally::Sessions)), (1, 1));
    operator.end().await;
}
