//! Listening, and an orderly end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use operator_api::report::v1::enrolment_server::EnrolmentServer;
use operator_api::report::v1::reports_server::ReportsServer;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

use crate::certs::{Authenticator, Enrolments, Serving};

use super::accept;
use super::hub::Hub;
use super::service::Service;

/// Agents that come together after a restart wait in the kernel's queue meanwhile (net.core.somaxconn bounds it).
const BACKLOG: u32 = 8_192;

/// Streams on one connection: an agent has one, and may enrol beside it.
const STREAMS: u32 = 4;

/// Bytes an agent may have sent that were not yet read. A snapshot's part fits; a flood does not pile up.
const WINDOW: u32 = 128 << 10;

const HEADERS: u32 = 8 << 10;

/// A dead node is noticed after the sum of both.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_PATIENCE: Duration = Duration::from_secs(20);

/// Streams are told to end, and get this long.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error(
        "listening for agents at {addr} failed: {source}; is the port taken, is the address this machine's?"
    )]
    Bind { addr: SocketAddr, source: io::Error },
    #[error("serving agents ended: {0}; restart the operator")]
    Serve(#[from] tonic::transport::Error),
}

/// Bound, and not yet serving: agents that come wait.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    addr: SocketAddr,
}

pub fn bind(addr: SocketAddr) -> Result<Listening, IngestError> {
    let failed = |source| IngestError::Bind { addr, source };
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(failed)?;
    // Connections of the process before may still be closing.
    socket.set_reuseaddr(true).map_err(failed)?;
    socket.bind(addr).map_err(failed)?;
    let listener = socket.listen(BACKLOG).map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    Ok(Listening { listener, addr })
}

impl Listening {
    /// With the port the kernel chose where 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `stop` turns true.
    pub async fn serve<A: Authenticator>(
        self,
        hub: Arc<Hub>,
        serving: Serving,
        enrolments: Option<Enrolments<A>>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), IngestError> {
        let Self { listener, addr } = self;
        tracing::info!("agents are served at {addr}");
        let (sender, incoming) = mpsc::channel(64);
        tokio::spawn(accept::run(listener, serving, hub.clone(), sender, stop.clone()));
        let bytes = hub.limits.message_bytes as usize;
        let reports =
            ReportsServer::new(Service { hub, stop: stop.clone() }).max_decoding_message_size(bytes);
        let enrolments =
            enrolments.map(|service| EnrolmentServer::new(service).max_decoding_message_size(bytes));
        let stopped = {
            let mut stop = stop.clone();
            async move {
                let _ = stop.wait_for(|stop| *stop).await;
            }
        };
        let serving = Server::builder()
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .http2_max_header_list_size(HEADERS)
            .http2_keepalive_interval(Some(PING_EVERY))
            .http2_keepalive_timeout(Some(PING_PATIENCE))
            .add_service(reports)
            .add_optional_service(enrolments)
            .serve_with_incoming_shutdown(ReceiverStream::new(incoming), stopped);
        let grace = async {
            let _ = stop.wait_for(|stop| *stop).await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            served = serving => Ok(served?),
            () = grace => Ok(()),
        }
    }
}
