//! The thin edge: HTTPS for the API server and schedulers, bounded in connections, bytes and time.
//!
//! Answers come from memory on the thread that read the question, or from the replica that leads. Every answer carries
//! its length: Go's client closes a connection whose chunked end it did not read, and the next question would pay for
//! a handshake.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use operator_api::validate::Known;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::extender::{self, Extender, ExtenderError};
use super::leader::{Leader, PASSED_ON};
use super::reach::View;
use super::room::Room;
use super::taking::Taking;
use super::{mutate, refuse, review};
use crate::entrance::Entrance;

pub const MUTATE: &str = "/webhook/mutate";
pub const VALIDATE: &str = "/webhook/validate";
pub const FILTER: &str = "/extender/filter";
pub const PRIORITIZE: &str = "/extender/prioritize";

/// Connections at a time; who comes beyond is let go of. An API server keeps some 25 idle.
pub(super) const CONNECTIONS: usize = 256;

/// Of these, from one address. Behind one there may be every API server and scheduler; half leaves them four times as
/// many as they use, and the other half to those who come from elsewhere.
const FROM_ONE: usize = CONNECTIONS / 2;

/// Bytes of webhooks' bodies at a time, in units of 64 KiB: 64 MiB. An answer keeps its question's room until it is sent.
const REVIEW_UNITS: u32 = 1024;

/// Of these taken apart at once. What one becomes is bounded by [`operator_api::validate::bulk`] to 150 MiB, so all
/// together take 300, however many cores there are. A usual one is answered in some 0.1 ms.
const REVIEW_TURNS: usize = 2;

/// The same for schedulers' questions, two of the largest: 128 MiB. While one is answered its answer is made, as large
/// as itself, and of its pod a short part is read: 100 MiB. A scheduler asks one thing at a time.
const EXTENDER_UNITS: u32 = 2048;
const EXTENDER_TURNS: usize = 1;

/// For a handshake, for a request's head, for its body, for room to hold it. The API server waits 10 s.
const PATIENCE: Duration = Duration::from_secs(3);

/// A connection on which nothing was asked for so long is closed.
const IDLE: Duration = Duration::from_secs(90);

/// For an answer to be taken, and with it the room that it has. The API server waits 10 s, a scheduler less.
pub(super) const UNTAKEN: Duration = Duration::from_secs(10);

/// A connection is closed after so long in any case.
const LIFETIME: Duration = Duration::from_secs(600);

/// What is under way when a connection or the program ends may take this long.
const FAREWELL: Duration = Duration::from_secs(5);

/// After a failed accept, which is out of descriptors as a rule: trying at once would spin.
const RELIEF: Duration = Duration::from_millis(100);

/// The certificate and key to serve with, asked anew for each connection.
pub type Tls = Arc<dyn Fn() -> Arc<ServerConfig> + Send + Sync>;

/// What the validating webhook knows of other objects.
pub type Objects = dyn Known + Send + Sync;

#[derive(Clone)]
pub struct Schedule {
    view: Arc<dyn View>,
    known: Arc<Objects>,
    extender: Arc<Extender>,
    leader: Option<Arc<Leader>>,
    reviews: Room,
    questions: Room,
}

impl std::fmt::Debug for Schedule {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Schedule").finish_non_exhaustive()
    }
}

impl Schedule {
    pub fn new(view: Arc<dyn View>, known: Arc<Objects>) -> Self {
        let extender = Arc::new(Extender::new(view.clone()));
        let reviews = Room::new(REVIEW_UNITS, REVIEW_TURNS);
        let questions = Room::new(EXTENDER_UNITS, EXTENDER_TURNS);
        Self { view, known, extender, leader: None, reviews, questions }
    }

    /// Has whoever leads answer what depends on what agents report.
    pub fn behind(mut self, leader: Arc<Leader>) -> Self {
        self.leader = Some(leader);
        self
    }

    pub fn router(self) -> Router {
        Router::new()
            .route(MUTATE, post(mutate))
            .route(VALIDATE, post(validate))
            .route(FILTER, post(filter))
            .route(PRIORITIZE, post(prioritize))
            .with_state(self)
    }

    /// Serves until `stop` is true, then lets go of idle connections and finishes what is under way.
    pub async fn serve(self, listener: TcpListener, tls: Tls, mut stop: watch::Receiver<bool>) {
        let router = self.router();
        let entrance = Entrance::new("webhook", CONNECTIONS, FROM_ONE);
        let mut open = JoinSet::new();
        loop {
            let arrived = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                Some(_) = open.join_next(), if !open.is_empty() => continue,
                arrived = listener.accept() => arrived,
            };
            match arrived {
                Ok((stream, from)) => {
                    let Some(place) = entrance.enter(from.ip()) else { continue };
                    let (router, stop) = (router.clone(), stop.clone());
                    let acceptor = acceptor(&tls());
                    open.spawn(async move {
                        let _place = place;
                        converse(stream, &acceptor, router, stop).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection to the webhook port could not be taken; trying again");
                    tokio::time::sleep(RELIEF).await;
                }
            }
        }
        let finish = async { while open.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(FAREWELL, finish).await;
    }
}

/// HTTP/1.1 alone: a scheduler asks one thing at a time, and on HTTP/2 its one connection would add frames.
fn acceptor(config: &ServerConfig) -> TlsAcceptor {
    let mut config = config.clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn converse(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    // A question is one write and an answer another: waiting to fill a packet would only cost time.
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake on the webhook port failed");
            return;
        }
        Err(_) => return,
    };
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(Taking::new(stream, UNTAKEN)), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Ok(ended),
        () = async {
            let _ = tokio::time::timeout(LIFETIME, stop.wait_for(|stop| *stop)).await;
        } => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(FAREWELL, connection).await
        }
    };
    if let Ok(Err(error)) = ended {
        tracing::debug!(%error, "a connection to the webhook port ended early");
    }
}

async fn mutate(State(own): State<Schedule>, request: Request) -> Response {
    own.answered(&own.reviews, request, review::LARGEST, Some(MUTATE), |body| {
        Ok(review::answer(body, |review| mutate::judge(&*own.view, review)))
    })
    .await
}

/// The room on nodes is what their agents say.
async fn validate(State(own): State<Schedule>, request: Request) -> Response {
    own.answered(&own.reviews, request, review::LARGEST, Some(VALIDATE), |body| {
        Ok(review::answer(body, |review| refuse::judge(&*own.known, review)))
    })
    .await
}

/// What cannot mount is seen by every replica in the node itself.
async fn filter(State(own): State<Schedule>, request: Request) -> Response {
    own.answered(&own.questions, request, extender::args::LARGEST, None, |body| own.extender.filter(body))
        .await
}

async fn prioritize(State(own): State<Schedule>, request: Request) -> Response {
    own.answered(&own.questions, request, extender::args::LARGEST, Some(PRIORITIZE), |body| {
        own.extender.prioritize(body)
    })
    .await
}

impl Schedule {
    /// Reads the body, within bounds, and has it answered: by whoever leads, where there is a path for that and it
    /// answers, otherwise here.
    async fn answered(
        &self,
        room: &Room,
        request: Request,
        largest: usize,
        onward: Option<&'static str>,
        answer: impl FnOnce(&[u8]) -> Result<Vec<u8>, ExtenderError>,
    ) -> Response {
        let Some(length) = length(request.headers()) else {
            return plain(StatusCode::LENGTH_REQUIRED, "the request must carry Content-Length");
        };
        if length > largest {
            let words = format!("the request has {length} bytes, at most {largest} are read");
            return plain(StatusCode::PAYLOAD_TOO_LARGE, words);
        }
        let onward = onward.filter(|_| !request.headers().contains_key(PASSED_ON));
        let body = tokio::time::timeout(PATIENCE, async {
            let held = room.hold(length).await;
            (held, to_bytes(request.into_body(), length).await)
        });
        let (held, body) = match body.await {
            Ok((held, Ok(body))) => (held, body),
            Ok((_, Err(error))) => {
                return plain(StatusCode::BAD_REQUEST, format!("the body ended early: {error}"));
            }
            Err(_) => {
                let words = "no room to read the request, or it came too slowly; ask again";
                return plain(StatusCode::SERVICE_UNAVAILABLE, words);
            }
        };
        if let Some(answered) = self.led(onward, &body).await {
            return room.json(answered, held);
        }
        let Ok(turn) = tokio::time::timeout(PATIENCE, room.turn()).await else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "too much is being answered; ask again");
        };
        let answered = answer(&body);
        drop(turn);
        match answered {
            Ok(answered) => room.json(answered, held),
            Err(error) => plain(StatusCode::BAD_REQUEST, error.to_string()),
        }
    }

    async fn led(&self, path: Option<&'static str>, body: &Bytes) -> Option<Bytes> {
        self.leader.as_ref()?.ask(path?, body).await
    }
}

fn length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn plain(status: StatusCode, words: impl Into<String>) -> Response {
    (status, words.into()).into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::{Body, Bytes};
    use axum::extract::Request;
    use axum::http::{StatusCode, header};

    use super::super::room::UNIT;
    use tower::ServiceExt;

    use super::super::tests::known::Known;
    use super::{EXTENDER_UNITS, PATIENCE, REVIEW_TURNS, REVIEW_UNITS, Schedule, VALIDATE};

    #[tokio::test]
    async fn an_answer_keeps_its_room_until_it_is_let_go_of() {
        let known = Arc::new(Known::usual(1));
        let schedule = Schedule::new(known.clone(), known);
        let free = |schedule: &Schedule| schedule.reviews.free();
        let ask = |question: usize, answer: usize| {
            let request = Request::builder().header(header::CONTENT_LENGTH, question);
            let request = request.body(Body::from(vec![b' '; question])).unwrap();
            schedule.answered(&schedule.reviews, request, usize::MAX, None, move |_| Ok(vec![b' '; answer]))
        };
        let all = REVIEW_UNITS as usize;
        let small = ask(2 * UNIT, 1).await;
        assert_eq!(free(&schedule), all - 2);
        let large = ask(2 * UNIT, 5 * UNIT).await;
        assert_eq!(free(&schedule), all - 7, "an answer larger than its question takes room of its own");
        assert_eq!(ask(2 * UNIT, UNIT * all).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        // As hyper does: the body has ended, and its bytes wait to be sent.
        let bytes: Bytes = axum::body::to_bytes(small.into_body(), usize::MAX).await.unwrap();
        assert_eq!(free(&schedule), all - 7);
        let rest = schedule.reviews.hold((all - 7) * UNIT).await.unwrap();
        assert_eq!(ask(UNIT, UNIT).await.status(), StatusCode::OK, "what is small waits for no room");
        drop((bytes, large, rest));
        assert_eq!(free(&schedule), all);
    }

    #[tokio::test]
    async fn no_more_bodies_are_taken_apart_at_once_than_memory_is_reckoned_for() {
        let known = Arc::new(Known::usual(1));
        let schedule = Schedule::new(known.clone(), known);
        let ask = || {
            let request = Request::builder().header(header::CONTENT_LENGTH, 1).body(Body::from(" ")).unwrap();
            schedule.answered(&schedule.reviews, request, usize::MAX, None, |_| Ok(Vec::new()))
        };
        let mut turns = Vec::new();
        for _ in 0..REVIEW_TURNS {
            turns.push(schedule.reviews.turn().await.unwrap());
        }
        let asked = std::time::Instant::now();
        assert_eq!(ask().await.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(asked.elapsed() >= PATIENCE, "{:?}", asked.elapsed());
        turns.pop();
        assert_eq!(ask().await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn webhooks_wait_for_no_schedulers_questions() {
        let known = Arc::new(Known::usual(1));
        let schedule = Schedule::new(known.clone(), known);
        let largest = EXTENDER_UNITS as usize * UNIT;
        let _held =
            (schedule.questions.hold(largest).await.unwrap(), schedule.questions.turn().await.unwrap());
        let request = Request::post(VALIDATE).header(header::CONTENT_LENGTH, 2 * UNIT);
        let request = request.body(Body::from(vec![b' '; 2 * UNIT])).unwrap();
        let answered = schedule.router().oneshot(request).await.unwrap();
        assert_eq!(answered.status(), StatusCode::OK);
    }
}
