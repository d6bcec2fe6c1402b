//! How an agent comes by its certificate: a request, and a token that proves on which node it runs.
//!
//! Who checks the token is a trait, so that all of this runs without a cluster. Requests cost a question to
//! the API server, so few run at once, and so many a second at most; the rest are told to come again.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use operator_api::report::v1::enrolment_server::Enrolment;
use operator_api::report::v1::{EnrolReply, EnrolRequest};
use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::authority::{LIFE_NODE, RequestError};
use super::identity::is_node_name;
use super::renewal::Signer;

/// Tokens under review at once.
const AT_ONCE: usize = 16;

/// How long a review may take before the agent is told to come again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Requests a second, and how many may come in one burst: a cluster of 5,000 nodes enrols within a minute.
const PER_SECOND: f64 = 100.0;
const BURST: f64 = 200.0;

/// A projected token has 1 to 2 KiB.
const LONGEST_TOKEN: usize = 16 << 10;

/// What a token proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// The node of the pod that the token was made for.
    pub node: String,
}

/// Why a token proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "the token is not valid here ({0}); the agent's pod needs a projected token for the audience \
         headrace.io/operator (the chart makes one)"
    )]
    Invalid(String),
    #[error(
        "the token belongs to {found}, not to the agents' ServiceAccount {wanted}; only agents get certificates"
    )]
    Stranger { found: String, wanted: String },
    #[error(
        "the token does not say on which node its pod runs; Kubernetes 1.32 and later write that into the tokens \
         of pods: an agent outside of a pod needs a certificate by other means (--certificate, --key)"
    )]
    NoNode,
    #[error("the API server could not check the token ({0}); the agent tries again by itself")]
    Unavailable(String),
}

/// Who checks tokens.
pub trait Authenticator: Send + Sync + 'static {
    fn authenticate(&self, token: &str) -> impl Future<Output = Result<Bearer, Refusal>> + Send;
}

/// How many requests there were, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enrolled {
    pub signed: u64,
    pub refused: u64,
    /// Told to come again.
    pub deferred: u64,
}

/// The gRPC service.
#[derive(Debug)]
pub struct Enrolments<A> {
    authenticator: A,
    signer: Signer,
    places: Semaphore,
    pace: Mutex<Pace>,
    counts: Arc<Mutex<Enrolled>>,
}

impl<A: Authenticator> Enrolments<A> {
    pub fn new(authenticator: A, signer: Signer) -> Self {
        Self {
            authenticator,
            signer,
            places: Semaphore::new(AT_ONCE),
            pace: Mutex::new(Pace { left: BURST, last: Instant::now() }),
            counts: Arc::default(),
        }
    }

    /// Counts that go on being kept.
    pub fn counts(&self) -> Arc<Mutex<Enrolled>> {
        self.counts.clone()
    }

    fn count(&self, which: impl FnOnce(&mut Enrolled)) {
        which(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    async fn decide(&self, request: EnrolRequest) -> Result<EnrolReply, Status> {
        let EnrolRequest { request, token } = request;
        let token = zeroize::Zeroizing::new(token);
        if token.is_empty() || token.len() > LONGEST_TOKEN {
            let text = format!("the token has {} bytes; it must have 1 to {LONGEST_TOKEN}", token.len());
            return Err(Status::invalid_argument(text));
        }
        let signer = self.signer.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(roots) = signer else {
            return Err(Status::failed_precondition(
                "this operator's certificates are provided from outside, and so are the agents': mount one that names \
                 the node, and give it to the agent with --certificate and --key",
            ));
        };
        let busy =
            || Status::unavailable("too many agents enrol at this moment; come again in a few seconds");
        if !self.pace.lock().unwrap_or_else(PoisonError::into_inner).admits(Instant::now()) {
            return Err(busy());
        }
        let _place = match tokio::time::timeout(PATIENCE, self.places.acquire()).await {
            Ok(Ok(place)) => place,
            Ok(Err(_)) | Err(_) => return Err(busy()),
        };
        let review = tokio::time::timeout(PATIENCE, self.authenticator.authenticate(&token)).await;
        let Bearer { node } = match review {
            Ok(Ok(bearer)) => bearer,
            Ok(Err(refusal @ Refusal::Unavailable(_))) => {
                return Err(Status::unavailable(refusal.to_string()));
            }
            Ok(Err(refusal)) => return Err(Status::unauthenticated(refusal.to_string())),
            Err(_) => {
                return Err(Status::unavailable(
                    "the API server did not check the token in time; come again",
                ));
            }
        };
        if !is_node_name(&node) {
            return Err(Status::unauthenticated(Refusal::NoNode.to_string()));
        }
        let signed = roots.authority.sign_node(&request, &node, SystemTime::now());
        let certificate = signed.map_err(|error| match error {
            RequestError::TooLarge | RequestError::Unreadable => Status::invalid_argument(error.to_string()),
            RequestError::Sign => Status::internal(error.to_string()),
        })?;
        tracing::info!("the agent on node {node} has a new certificate");
        let bytes = |certificate: &CertificateDer<'_>| certificate.to_vec();
        let valid_s = u32::try_from(LIFE_NODE.as_secs()).unwrap_or(u32::MAX);
        let authorities = roots.trusted.iter().map(bytes).collect();
        Ok(EnrolReply { chain: vec![bytes(&certificate)], authorities, valid_s })
    }
}

#[tonic::async_trait]
impl<A: Authenticator> Enrolment for Enrolments<A> {
    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolReply>, Status> {
        let decided = self.decide(request.into_inner()).await;
        match &decided {
            Ok(_) => self.count(|counts| counts.signed += 1),
            Err(status) if status.code() == tonic::Code::Unavailable => {
                self.count(|counts| counts.deferred += 1)
            }
            Err(status) => {
                self.count(|counts| counts.refused += 1);
                tracing::warn!("an agent was refused a certificate: {}", status.message());
            }
        }
        decided.map(Response::new)
    }
}

/// A bucket of permits that fills with time.
#[derive(Debug)]
struct Pace {
    left: f64,
    last: Instant,
}

impl Pace {
    fn admits(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.last).as_secs_f64();
        self.left = (self.left + passed * PER_SECOND).min(BURST);
        self.last = now;
        let admits = self.left >= 1.0;
        if admits {
            self.left -= 1.0;
        }
        admits
    }
}
