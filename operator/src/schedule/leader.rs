//! The replica that leads, as another one asks it: agents report to that one alone, so it alone knows where bytes are.
//!
//! One hop and a bounded time, over connections that are kept. Who leads is read in the Lease ([`crate::lease`]), and
//! known by its certificate. Where there is no answer in time, the one that was asked first answers from what it knows
//! of the cluster: a pod without a preference is better than one that waits.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use operator_api::causes::chain;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::watch;

use crate::certs;

/// On a question that was passed on: it is answered where it arrives, whoever leads by then.
pub const PASSED_ON: &str = "headrace-passed-on";

/// For the connection and the answer. A scheduler waits a second for its extender, and the question has to be answered
/// here after this.
const PATIENCE: Duration = Duration::from_millis(500);

/// One that did not answer is asked again after so long: until then every question would wait for nothing. The Lease
/// is looked at as often.
const REST: Duration = Duration::from_secs(2);

/// Connections kept while nobody asks, and how long; the other side closes them after 90 s.
const IDLE: usize = 16;
const KEPT: Duration = Duration::from_secs(60);

/// An answer names every node at the most, with some words: 5,000 of them are half a MiB.
const LARGEST: usize = 8 << 20;

/// Counts what was passed on.
pub trait Counts: Send + Sync + 'static {
    fn passed_on(&self, answered: bool);
}

type Line = Client<HttpsConnector<HttpConnector>, Body>;

/// Asks whoever leads.
pub struct Leader {
    at: watch::Receiver<Option<SocketAddr>>,
    /// PEM.
    authority: watch::Receiver<Vec<u8>>,
    /// In every replica's certificate.
    name: ServerName<'static>,
    /// With the authority that it trusts.
    line: Mutex<Option<(Vec<u8>, Line)>>,
    silent: Mutex<Option<(SocketAddr, Instant)>>,
    counts: Arc<dyn Counts>,
}

impl std::fmt::Debug for Leader {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Leader").field("at", &*self.at.borrow()).finish_non_exhaustive()
    }
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("its authority is not understood: {0}")]
    Authority(String),
    #[error("the question could not be put: {0}")]
    Question(#[from] axum::http::Error),
    #[error("it does not answer: {0}")]
    Silent(#[from] hyper_util::client::legacy::Error),
    #[error("its answer ended early: {0}")]
    Broken(#[from] axum::Error),
    #[error("it answered {0}")]
    Refused(StatusCode),
    #[error("it did not answer within {} ms", PATIENCE.as_millis())]
    Late,
}

impl AskError {
    /// Whether the next question would wait in vain too. Of one that was refused only that question is known: whoever can
    /// make a pod, or reach the port, can ask one that no replica answers.
    fn is_silence(&self) -> bool {
        match self {
            Self::Authority(_) | Self::Silent(_) | Self::Broken(_) | Self::Late => true,
            Self::Refused(status) => status.is_server_error(),
            Self::Question(_) => false,
        }
    }
}

impl Leader {
    /// `at` is where another one that leads is; `authority` (PEM) has signed its certificate, which has `name`.
    pub fn new(
        at: watch::Receiver<Option<SocketAddr>>,
        authority: watch::Receiver<Vec<u8>>,
        name: ServerName<'static>,
        counts: Arc<dyn Counts>,
    ) -> Self {
        Self { at, authority, name, line: Mutex::default(), silent: Mutex::default(), counts }
    }

    /// Its answer; none where this replica leads, nobody does, or it does not answer.
    pub async fn ask(&self, path: &'static str, body: &Bytes) -> Option<Bytes> {
        let at = (*self.at.borrow())?;
        let now = Instant::now();
        let rests = |(whom, until): (SocketAddr, Instant)| whom == at && now < until;
        if self.silent.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(rests) {
            self.counts.passed_on(false);
            return None;
        }
        let answer = tokio::time::timeout(PATIENCE, self.answer(at, path, body.clone())).await;
        match answer.unwrap_or(Err(AskError::Late)) {
            Ok(answer) => {
                self.counts.passed_on(true);
                Some(answer)
            }
            Err(error) => {
                self.counts.passed_on(false);
                if !error.is_silence() {
                    tracing::debug!(
                        "the replica that leads, at {at}, did not take a question ({})",
                        chain(&error)
                    );
                    return None;
                }
                *self.silent.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some((at, Instant::now() + REST));
                tracing::warn!(
                    "the replica that leads, at {at}, was asked in vain ({}): pods get no preference from here until it answers, or another leads",
                    chain(&error)
                );
                None
            }
        }
    }

    async fn answer(&self, at: SocketAddr, path: &str, body: Bytes) -> Result<Bytes, AskError> {
        let line = self.line()?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("https://{at}{path}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_LENGTH, body.len())
            .header(PASSED_ON, "1")
            .body(Body::from(body))?;
        let answer = line.request(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(AskError::Refused(answer.status()));
        }
        Ok(to_bytes(Body::new(answer.into_body()), LARGEST).await?)
    }

    /// Made anew where the authority is another one by now.
    fn line(&self) -> Result<Line, AskError> {
        let authority = self.authority.borrow();
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, line)) = line.as_ref().filter(|(trusted, _)| *trusted == *authority) {
            return Ok(line.clone());
        }
        let fresh = connect(&authority, self.name.clone())?;
        *line = Some((authority.clone(), fresh.clone()));
        Ok(fresh)
    }
}

fn connect(authority: &[u8], name: ServerName<'static>) -> Result<Line, AskError> {
    let failed = |error: String| AskError::Authority(error);
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(authority) {
        roots
            .add(root.map_err(|error| failed(error.to_string()))?)
            .map_err(|error| failed(error.to_string()))?;
    }
    let config = ClientConfig::builder_with_provider(certs::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| failed(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(PATIENCE));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_only()
        .with_server_name_resolver(FixedServerNameResolver::new(name))
        .enable_http1()
        .wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(IDLE)
        .pool_idle_timeout(KEPT)
        .build(connector))
}
