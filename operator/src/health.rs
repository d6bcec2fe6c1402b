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
