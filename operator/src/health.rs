//! /healthz, /readyz and /metrics.
//!
//! Healthy: the runtime still turns its tasks over. Ready: every kind has been listed, so that what webhook and
//! extender answer rests on something; whether this replica leads has nothing to do with it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::metrics::Metrics;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The pulse beats this often, and has stopped when it has not for so long.
const BEAT: Duration = Duration::from_secs(1);
const STOPPED: u64 = 30;

/// What is told of this replica.
#[derive(Clone, Debug)]
pub struct Health {
    ready: Arc<AtomicBool>,
    beat: Arc<AtomicU64>,
    start: Instant,
}

impl Default for Health {
    fn default() -> Self {
        Self { ready: Arc::default(), beat: Arc::default(), start: Instant::now() }
    }
}

impl Health {
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
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
            Answer::no("the runtime has been stuck for longer than 30 s\n")
        } else {
            Answer::yes()
        }
    }

    fn prepared(&self) -> Answer {
        if self.ready.load(Ordering::Acquire) {
            Answer::yes()
        } else {
            Answer::no(
                "the cluster has not been listed yet: the apiserver does not answer, or refuses a kind; see the log\n",
            )
        }
    }
}

struct Answer(StatusCode, &'static str);

impl Answer {
    fn yes() -> Self {
        Self(StatusCode::OK, "ok\n")
    }
    fn no(why: &'static str) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, why)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    #[error("nothing can listen at {addr}: {source}; choose another address with --health")]
    Bind { addr: SocketAddr, source: std::io::Error },
    #[error("serving at {addr} ended: {source}; restart the operator")]
    Serve { addr: SocketAddr, source: std::io::Error },
}

/// Listens at once, so that a bad address is known at start.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener, HealthError> {
    TcpListener::bind(addr).await.map_err(|source| HealthError::Bind { addr, source })
}

/// Serves until `stop` turns true.
pub async fn serve(
    listener: TcpListener,
    addr: SocketAddr,
    health: Health,
    metrics: Metrics,
    mut stop: watch::Receiver<bool>,
) -> Result<(), HealthError> {
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
    tokio::select! {
        ended = axum::serve(listener, app) => ended.map_err(|source| HealthError::Serve { addr, source }),
        _ = stop.wait_for(|stop| *stop) => Ok(()),
    }
}
