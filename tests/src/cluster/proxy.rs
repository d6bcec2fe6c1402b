//! A door to the apiserver that can be spoiled: it answers some requests with an error of its own, and cuts
//! watches. What it does not spoil it passes on as it came, credentials included (so clients need a token:
//! a certificate ends at this door).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use kube::Client;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use super::access::{Access, AccessError, Credential};
use super::control_plane::{ClusterError, ControlPlane};

#[derive(Debug, Error)]
pub enum ProxyError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("the proxy cannot listen: {0}")]
    Listen(#[from] std::io::Error),
    #[error("the proxy's certificate is not usable: {0}")]
    Certificate(#[from] rustls::Error),
    #[error("the proxy's certificate cannot be read: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Answered with this status, such as 409, 410, 429 or 500, and never passed on.
    Status(u16),
    /// The answer breaks off after this time, as with a lost connection.
    Cut(Duration),
    /// A watch ends after this time with the event by which an apiserver says that it has forgotten what came before.
    Expire(Duration),
}

/// Which requests have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All when it is empty.
    pub methods: Vec<Method>,
    /// Somewhere in path and query; all when it is empty.
    pub containing: String,
    /// Every so-manieth of those that match: 1 spoils all, 2 each second one.
    pub every: u32,
    /// So many are spoiled, then no more.
    pub times: Option<u32>,
    pub trouble: Trouble,
}

impl Rule {
    /// All requests whose path and query contain this.
    pub fn new(containing: &str, trouble: Trouble) -> Self {
        Self { methods: Vec::new(), containing: containing.to_owned(), every: 1, times: None, trouble }
    }

    /// All watches break off after this time.
    pub fn cut_watches(after: Duration) -> Self {
        Self::new("watch=true", Trouble::Cut(after))
    }

    pub fn methods(self, methods: &[Method]) -> Self {
        Self { methods: methods.to_vec(), ..self }
    }

    pub fn every(self, every: u32) -> Self {
        Self { every, ..self }
    }

    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    fn matches(&self, method: &Method, path: &str) -> bool {
        (self.methods.is_empty() || self.methods.contains(method)) && path.contains(&self.containing)
    }
}

#[derive(Debug, Default)]
struct Rules {
    /// With the number of requests that matched, and of those spoiled.
    rules: Vec<(Rule, u32, u32)>,
    spoiled: u64,
}

impl Rules {
    /// The first rule that has its turn decides; those after it do not see the request.
    fn decide(&mut self, method: &Method, path: &str) -> Option<Trouble> {
        for (rule, matched, spoiled) in &mut self.rules {
            if !rule.matches(method, path) {
                continue;
            }
            *matched = matched.wrapping_add(1);
            let turn = matched.checked_rem(rule.every) == Some(0);
            if turn && rule.times.is_none_or(|times| *spoiled < times) {
                *spoiled += 1;
                self.spoiled += 1;
                return Some(rule.trouble.clone());
            }
        }
        None
    }
}

/// The door; closed when dropped.
#[derive(Debug)]
pub struct Proxy {
    access: Access,
    rules: Arc<Mutex<Rules>>,
    task: AbortHandle,
}

impl Proxy {
    pub async fn open(plane: &ControlPlane) -> Result<Self, ProxyError> {
        let identity = plane.authority().server("headrace-test-proxy").map_err(ClusterError::from)?;
        let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes())?];
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let access = plane.access().at(format!("https://{}", listener.local_addr()?)).with(Credential::None);
        let upstream = plane.access().with(Credential::None).client().await?;
        let rules = Arc::new(Mutex::new(Rules::default()));
        let serving = serve(listener, TlsAcceptor::from(Arc::new(tls)), upstream, Arc::clone(&rules));
        let task = tokio::spawn(serving).abort_handle();
        Ok(Self { access, rules, task })
    }

    /// This door, for whoever has the credential.
    pub fn access(&self, credential: Credential) -> Access {
        self.access.with(credential)
    }

    /// From now on these rules and no others.
    pub fn spoil(&self, rules: impl IntoIterator<Item = Rule>) {
        let mut state = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        state.rules = rules.into_iter().map(|rule| (rule, 0, 0)).collect();
    }

    /// How many requests each of the present rules has spoiled, in their order.
    pub fn shares(&self) -> Vec<u32> {
        let state = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        state.rules.iter().map(|(_, _, spoiled)| *spoiled).collect()
    }

    /// How many requests have been spoiled: a test in which none was has shown nothing.
    pub fn spoiled(&self) -> u64 {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).spoiled
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, upstream: Client, rules: Arc<Mutex<Rules>>) {
    // Connections end with the door.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (tls, upstream, rules) = (tls.clone(), upstream.clone(), Arc::clone(&rules));
        connections.spawn(async move {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let service =
                hyper::service::service_fn(|request| answer(request, upstream.clone(), Arc::clone(&rules)));
            // How a connection ends is its client's business.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Answer = Response<UnsyncBoxBody<Bytes, Failure>>;

async fn answer(
    request: Request<Incoming>,
    upstream: Client,
    rules: Arc<Mutex<Rules>>,
) -> Result<Answer, Failure> {
    /// What an apiserver takes at the most.
    const LARGEST: usize = 3 << 20;
    let path = request.uri().path_and_query().map(|whole| whole.as_str().to_owned()).unwrap_or_default();
    let trouble = {
        let mut rules = rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.decide(request.method(), &path)
    };
    if let Some(Trouble::Status(code)) = trouble {
        return refusal(code);
    }
    let (mut parts, body) = request.into_parts();
    parts.headers.remove(http::header::HOST);
    parts.uri = path.parse()?;
    let body = Limited::new(body, LARGEST).collect().await?.to_bytes();
    let (parts, body) = upstream.send(Request::from_parts(parts, body.into())).await?.into_parts();
    let last = match trouble {
        Some(Trouble::Cut(after)) => Some((after, Err(Failure::from("cut by the test")))),
        Some(Trouble::Expire(after)) => {
            let event = json!({"type": "ERROR", "object": status(410)});
            Some((after, Ok(Frame::data(Bytes::from(format!("{event}\n"))))))
        }
        Some(Trouble::Status(_)) | None => None,
    };
    let frames = body.into_data_stream().map_ok(Frame::data).map_err(Failure::from);
    let body = match last {
        Some((after, last)) => {
            let begun = frames.take_until(tokio::time::sleep(after));
            StreamBody::new(begun.chain(futures::stream::iter([last]))).boxed_unsync()
        }
        None => StreamBody::new(frames).boxed_unsync(),
    };
    Ok(Response::from_parts(parts, body))
}

/// What an apiserver would say with this code.
fn status(code: u16) -> serde_json::Value {
    let reason = match code {
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        _ => "",
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "refused by the test", "reason": reason, "code": code,
    })
}

fn refusal(code: u16) -> Result<Answer, Failure> {
    let status = status(code);
    let mut answer = Response::builder()
        .status(StatusCode::from_u16(code)?)
        .header(http::header::CONTENT_TYPE, "application/json");
    if code == 429 {
        answer = answer.header(http::header::RETRY_AFTER, "1");
    }
    Ok(answer
        .body(Full::new(Bytes::from(status.to_string())).map_err(|never| match never {}).boxed_unsync())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(rules: impl IntoIterator<Item = Rule>) -> Rules {
        Rules { rules: rules.into_iter().map(|rule| (rule, 0, 0)).collect(), spoiled: 0 }
    }

    #[test]
    fn every_second_patch_is_spoiled_three_times() {
        let rule = Rule::new("/datasets/", Trouble::Status(409)).methods(&[Method::PATCH]).every(2).times(3);
        let mut rules = rules([rule]);
        assert_eq!(rules.decide(&Method::GET, "/datasets/a"), None);
        assert_eq!(rules.decide(&Method::PATCH, "/pods/a"), None);
        let seen: Vec<bool> =
            (0..10).map(|_| rules.decide(&Method::PATCH, "/datasets/a").is_some()).collect();
        assert_eq!(seen, [false, true, false, true, false, true, false, false, false, false]);
        assert_eq!(rules.spoiled, 3);
    }

    #[test]
    fn the_first_rule_with_its_turn_decides() {
        let cut = Trouble::Cut(Duration::from_secs(1));
        let mut rules =
            rules([Rule::cut_watches(Duration::from_secs(1)), Rule::new("", Trouble::Status(500))]);
        assert_eq!(rules.decide(&Method::GET, "/api/v1/pods?watch=true"), Some(cut));
        assert_eq!(rules.decide(&Method::GET, "/api/v1/pods"), Some(Trouble::Status(500)));
    }

    #[test]
    fn a_refusal_is_one_of_kubernetes() {
        let answer = refusal(429).unwrap();
        assert_eq!(answer.status(), 429);
        assert!(answer.headers().contains_key(http::header::RETRY_AFTER));
    }
}
