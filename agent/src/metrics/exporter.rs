//! /metrics over HTTP, for Prometheus.
//!
//! Each scrape first lets the owner copy the core's totals (`Refresh`), within that owner's own patience,
//! and shows what there is: an engine that does not answer still gives its counters to be seen.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::Metrics;
use super::bounded::Bounded;

/// Brings the counters up to date before a scrape; bounded in time by whoever makes it.
pub type Refresh = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, thiserror::Error)]
pub enum ExporterError {
    #[error("/metrics could not be served at {addr}: {source}; choose another address with --metrics")]
    Bind { addr: SocketAddr, source: std::io::Error },
    #[error("serving /metrics at {addr} ended: {source}; restart the agent")]
    Serve { addr: SocketAddr, source: std::io::Error },
}

/// Listens at once, so that a bad address is known at start, and serves until `stop` turns true.
pub async fn serve(
    addr: SocketAddr,
    metrics: Metrics,
    refresh: Refresh,
    mut stop: watch::Receiver<bool>,
) -> Result<(SocketAddr, tokio::task::JoinHandle<Result<(), ExporterError>>), ExporterError> {
    let listener = TcpListener::bind(addr).await.map_err(|source| ExporterError::Bind { addr, source })?;
    let addr = listener.local_addr().map_err(|source| ExporterError::Bind { addr, source })?;
    let scrape = move || {
        let (metrics, refresh) = (metrics.clone(), refresh.clone());
        async move {
            refresh().await;
            ([(CONTENT_TYPE, OPENMETRICS)], metrics.text())
        }
    };
    let app = Router::new()
        .route("/metrics", get(scrape))
        .route("/", get(async || "Headrace's agent. Metrics are at /metrics.\n"));
    let serving = tokio::spawn(async move {
        tokio::select! {
            ended = axum::serve(Bounded::new(listener), app) => ended.map_err(|source| ExporterError::Serve { addr, source }),
            _ = stop.wait_for(|stop| *stop) => Ok(()),
        }
    });
    Ok((addr, serving))
}
