//! Questions that come to a replica that does not lead.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::Request;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower::ServiceExt;

use super::known::Known;
use super::mutating::asked;
use crate::schedule::https::{FILTER, MUTATE, PRIORITIZE, Schedule};
use crate::schedule::leader::{Counts, Leader, PASSED_ON};

/// Of every replica.
const NAME: &str = "headrace-operator.headrace-system.svc";

#[derive(Debug, Default)]
struct Tally {
    answered: AtomicU64,
    failed: AtomicU64,
}

impl Counts for Tally {
    fn passed_on(&self, answered: bool) {
        let which = if answered { &self.answered } else { &self.failed };
        which.fetch_add(1, Ordering::Relaxed);
    }
}

impl Tally {
    fn get(&self) -> (u64, u64) {
        (self.answered.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

struct Leading {
    at: SocketAddr,
    /// PEM.
    authority: Vec<u8>,
    known: Arc<Known>,
    stop: watch::Sender<bool>,
    ended: tokio::task::JoinHandle<()>,
}

/// A replica that leads, with a certificate for a name.
async fn leading(name: &str) -> Leading {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    let own: CertificateDer<'static> = made.cert.der().clone();
    let config = rustls::ServerConfig::builder_with_provider(crate::certs::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let known = Arc::new(Known::usual(8));
    let schedule = Schedule::new(known.clone(), known.clone());
    let ended = tokio::spawn(schedule.serve(listener, Arc::new(move || config.clone()), stopped));
    Leading { at, authority: made.cert.pem().into_bytes(), known, stop, ended }
}

/// One that does not lead: it knows the claims and the nodes, and no byte.
fn following(at: watch::Receiver<Option<SocketAddr>>, authority: &[u8]) -> (Schedule, Arc<Tally>) {
    let known = Arc::new(Known { held: Default::default(), ..Known::usual(8) });
    let tally = Arc::new(Tally::default());
    let (_, authority) = watch::channel(authority.to_vec());
    let leader = Leader::new(at, authority, ServerName::try_from(NAME).unwrap(), tally.clone());
    (Schedule::new(known.clone(), known).behind(Arc::new(leader)), tally)
}

async fn post(schedule: &Schedule, path: &str, body: Vec<u8>, passed_on: bool) -> Value {
    let mut request = Request::post(path).header("content-length", body.len());
    if passed_on {
        request = request.header(PASSED_ON, "1");
    }
    let request = request.body(Body::from(Bytes::from(body))).unwrap();
    let answer = schedule.clone().router().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    serde_json::from_slice(&body).unwrap()
}

fn pod() -> Value {
    json!({"metadata": {"name": "p", "namespace": "ml"}, "spec": {"volumes": [
        {"name": "d", "persistentVolumeClaim": {"claimName": "train"}}]}})
}

/// Whether the answer prefers nodes.
async fn prefers(schedule: &Schedule, passed_on: bool) -> bool {
    let answer = post(schedule, MUTATE, asked("ml", &pod()), passed_on).await;
    super::mutating::patch_of(&answer).to_string().contains("prefers n0")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leads_answers_what_agents_have_told() {
    let leading = leading(NAME).await;
    let (told, at) = watch::channel(None);
    let (following, tally) = following(at, &leading.authority);
    assert!(!prefers(&following, false).await, "nobody leads yet, and here nothing is known");
    told.send_replace(Some(leading.at));
    for _ in 0..3 {
        assert!(prefers(&following, false).await);
    }
    let args = json!({"Pod": pod(), "NodeNames": ["n0", "n1", "n3"]});
    let scores = post(&following, PRIORITIZE, serde_json::to_vec(&args).unwrap(), false).await;
    assert_eq!(scores[0]["Host"], "n0", "{scores}");
    assert_eq!(tally.get(), (4, 0));

    // What needs no agent is answered here, and so is what was passed on already: two that take each other for the
    // one that leads do not play ball.
    let asked = leading.known.asked.load(Ordering::Relaxed);
    let kept = post(&following, FILTER, serde_json::to_vec(&args).unwrap(), false).await;
    assert_eq!(kept["NodeNames"], json!(["n0", "n1", "n3"]));
    assert!(!prefers(&following, true).await);
    assert_eq!((tally.get(), leading.known.asked.load(Ordering::Relaxed)), ((4, 0), asked));
    leading.stop.send_replace(true);
    leading.ended.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_silent_is_waited_for_once() {
    // It takes connections and says nothing, as a node that hangs does.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let other = leading(NAME).await;
    let (told, at) = watch::channel(Some(silent.local_addr().unwrap()));
    let (following, tally) = following(at, &other.authority);
    let begun = Instant::now();
    assert!(!prefers(&following, false).await);
    let first = begun.elapsed();
    assert!(first < Duration::from_secs(2), "{first:?}");
    let begun = Instant::now();
    for _ in 0..20 {
        assert!(!prefers(&following, false).await);
    }
    assert!(begun.elapsed() < Duration::from_millis(400), "{:?} for those that came after", begun.elapsed());
    assert_eq!(tally.get(), (0, 21));
    // Another one leads: it is asked at once.
    told.send_replace(Some(other.at));
    assert!(prefers(&following, false).await);
    other.stop.send_replace(true);
    other.ended.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_nobody_can_answer_makes_nobody_silent() {
    let leading = leading(NAME).await;
    let (_told, at) = watch::channel(Some(leading.at));
    let (following, tally) = following(at, &leading.authority);
    for _ in 0..3 {
        let request = Request::post(PRIORITIZE).header("content-length", 1).body(Body::from("{")).unwrap();
        assert_eq!(following.clone().router().oneshot(request).await.unwrap().status(), 400);
        assert!(prefers(&following, false).await, "others' questions are passed on as before");
    }
    assert_eq!(tally.get(), (3, 3));
    leading.stop.send_replace(true);
    leading.ended.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_with_another_name_is_not_believed() {
    let foreign = leading("somebody.else.svc").await;
    let (_told, at) = watch::channel(Some(foreign.at));
    let (following, tally) = following(at, &foreign.authority);
    assert!(!prefers(&following, false).await);
    assert_eq!(tally.get(), (0, 1));
    assert_eq!(foreign.known.asked.load(Ordering::Relaxed), 0, "it was told nothing");
    foreign.stop.send_replace(true);
    foreign.ended.await.unwrap();
}
