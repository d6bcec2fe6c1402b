//! /healthz, /readyz and /metrics.
//!
//! Healthy: the runtime still turns its tasks over. Ready: every kind has been listed, so that what webhook and
//! extender answer rests on something, and there is a certificate to answer with; until then /readyz says what is
//! missing, and why. Whether this replica leads has nothing to do with it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::entrance::Entrance;
use crate::metrics::Metrics;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The pulse beats this often, and has stopped when it has not for so long.
const BEAT: Duration = Duration::from_secs(1);
const STOPPED: u64 = 30;

/// Connections at a time; who comes beyond is let go of. The port has no TLS, and every pod may reach it.
const CONNECTIONS: usize = 256;

/// Of these, from one address: a kubelet's two probes and a scraper's connection are done within milliseconds.
const FROM_ONE: usize = 8;

/// For a request's head, and between requests: a kubelet asks over a new connection each time.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection is closed after so long in any case: one whose peer reads no answers would never end.
const LIFETIME: Duration = Duration::from_secs(60);

/// After a failed accept, which is out of descriptors as a rule: trying at once would spin.
const RELIEF: Duration = Duration::from_millis(100);

/// What is told of this replica.
#[derive(Clone, Debug)]
pub struct Health {
    /// Why it is not ready; none when it is.
    unready: Arc<RwLock<Option<String>>>,
    beat: Arc<AtomicU64>,
    start: Instant,
}

impl Default for Health {
    fn default() -> Self {
        let unready = Arc::new(RwLock::new(Some("the operator has only just started".to_owned())));
        Self { unready, beat: Arc::default(), start: Instant::now() }
    }
}

impl Health {
    /// Says why this replica is not ready, in a sentence; none when it is.
    pub fn set_unready(&self, why: Option<String>) {
        *self.unready.write().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Beats until dropped. A task of the same runtime as everything else: when it starves, so do they.
    pub async fn pulse(self) {
        loop {
            self.beat.store(self.start.elapsed().as_secs(), Ordering::Release);
            tokio::time::sleep(BEAT).await;
        }
    }

    fn alive(&self) -> Answer {
        let silent = self.start.elapsed().as_secs().saturating_sub(self.beat.load(Ordering::Acquire));
        if silent > STOPPED {
            Answer::no("the runtime has been stuck for longer than 30 s")
        } else {
            Answer::yes()
        }
    }

    fn prepared(&self) -> Answer {
        match &*self.unready.read().unwrap_or_else(PoisonError::into_inner) {
            None => Answer::yes(),
            Some(why) => Answer::no(why),
        }
    }
}

struct Answer(StatusCode, Cow<'static, str>);

impl Answer {
    fn yes() -> Self {
        Self(StatusCode::OK, "ok\n".into())
    }
    fn no(why: &str) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n").into())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    #[error("nothing can listen at {addr}: {source}; choose another address with --health")]
    Bind { addr: SocketAddr, source: std::io::Error },
}

/// Listens at once, so that a bad address is known at start.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener, HealthError> {
    TcpListener::bind(addr).await.map_err(|source| HealthError::Bind { addr, source })
}

/// Serves until `stop` turns true.
pub async fn serve(listener: TcpListener, health: Health, metrics: Metrics, mut stop: watch::Receiver<bool>) {
    let (alive, ready) = (health.clone(), health);
    let scrape = move || {
        let text = metrics.text();
        async move { ([(CONTENT_TYPE, OPENMETRICS)], text) }
    };
    let app = Router::new()
        .route(
            "/healthz",
            get(move || {
                let Answer(code, text) = alive.alive();
                async move { (code, text) }
            }),
        )
        .route(
            "/readyz",
            get(move || {
                let Answer(code, text) = ready.prepared();
                async move { (code, text) }
            }),
        )
        .route("/metrics", get(scrape));
    let entrance = Entrance::new("health", CONNECTIONS, FROM_ONE);
    let mut open = JoinSet::new();
    loop {
        let arrived = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            arrived = listener.accept() => arrived,
        };
        match arrived {
            Ok((stream, from)) => {
                let Some(place) = entrance.enter(from.ip()) else { continue };
                let app = app.clone();
                open.spawn(async move {
                    let _place = place;
                    converse(stream, app).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the health port could not be taken; trying again");
                tokio::time::sleep(RELIEF).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, app: Router) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    match tokio::time::timeout(LIFETIME, connection).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the health port ended early"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpSocket;
    use tokio::time::timeout;

    use super::*;
    use crate::ingest::{Hub, Limits};

    #[tokio::test]
    async fn one_that_takes_all_it_can_keeps_no_probe_away() {
        let listener = bind(([0, 0, 0, 0], 0).into()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let metrics = Metrics::new(Hub::new(Limits::default(), 1, Arc::default()));
        let (stop, stopped) = watch::channel(false);
        let served = tokio::spawn(serve(listener, Health::default(), metrics, stopped));
        let connect = |last: u8| {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 0, last], 0).into()).unwrap();
            socket.connect(([127, 0, 0, 1], port).into())
        };
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS + 1 {
            silent.push(connect(2).await.unwrap());
        }
        let mut probe = connect(1).await.unwrap();
        probe.write_all(b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        // A kubelet waits for a second.
        timeout(PATIENCE / 2, probe.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let mut rest = Vec::new();
        let beyond = silent.last_mut().unwrap();
        let _ = timeout(PATIENCE / 2, beyond.read_to_end(&mut rest)).await.unwrap();
        // And who says nothing is not kept for long.
        let first = silent.first_mut().unwrap();
        timeout(PATIENCE * 2, first.read_to_end(&mut rest)).await.unwrap().unwrap();
        stop.send_replace(true);
        served.await.unwrap();
    }
}
