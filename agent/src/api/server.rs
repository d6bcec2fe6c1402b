//! Listening, admission, and an orderly end.
//!
//! The number of connections is bounded, for each listener by itself: further ones wait in the kernel's backlog, and who says
//! nothing keeps its place for a moment only. When the agent stops,
//! streams are ended, calls under way get a moment, and the socket is removed.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use operator_api::observability::v1::observability_server::ObservabilityServer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tower::util::MapResponseLayer;

use super::query::Link;
use super::service::Observer;
use super::socket::{self, SocketError, SocketGuard};
use crate::config::ApiConfig;
use crate::metrics::{CODES, Metrics};
use crate::mounts::Namespace;

/// Connections at once at a listener; a person's command and a dashboard take one each.
const CONNECTIONS: usize = 64;

/// Until a client that has connected must have said that it speaks HTTP/2, whose first word are so many bytes.
const FIRST_WORD: Duration = Duration::from_secs(10);
const FIRST_WORD_BYTES: usize = 24;

/// Calls at once on one connection.
const CALLS: u32 = 32;

/// The longest sensible request is a path.
const LARGEST_REQUEST: usize = 64 << 10;

/// 10,000 files with long names are some 5 MB.
const LARGEST_ANSWER: usize = 32 << 20;

/// Calls under way when the agent stops get this long: longer than the engine's patience.
const GRACE: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("listening at {addr} failed: {source}; choose another address with --listen")]
    Tcp { addr: SocketAddr, source: io::Error },
    #[error("taking over the socket {} failed: {source}; start the agent again", path.display())]
    Register { path: PathBuf, source: io::Error },
    #[error("reflection could not be set up: {0}; this is a fault of the program, please report it")]
    Reflection(#[from] tonic_reflection::server::Error),
    #[error("serving the API ended: {0}; restart the agent")]
    Serve(#[from] tonic::transport::Error),
}

/// Everything the API listens at, bound before anything else starts so that a refusal comes at once.
#[derive(Debug)]
pub struct Listeners {
    unix: UnixListener,
    tcp: Option<TcpListener>,
    guard: SocketGuard,
}

impl Listeners {
    pub async fn bind(config: &ApiConfig) -> Result<Self, ApiError> {
        let ApiConfig { socket, listen } = config;
        let tcp = match listen {
            Some(addr) => {
                Some(TcpListener::bind(addr).await.map_err(|source| ApiError::Tcp { addr: *addr, source })?)
            }
            None => None,
        };
        let (unix, guard) = socket::bind(socket)?;
        let register = |source| ApiError::Register { path: socket.clone(), source };
        unix.set_nonblocking(true).map_err(register)?;
        let unix = UnixListener::from_std(unix).map_err(register)?;
        Ok(Self { unix, tcp, guard })
    }

    /// The TCP address, with the port the kernel chose where 0 was asked for.
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.tcp.as_ref()?.local_addr().ok()
    }

    /// Serves until `stop` turns true; then ends streams, waits a moment for calls, removes the socket.
    pub async fn serve(
        self,
        link: Link,
        metrics: Metrics,
        namespace: Namespace,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), ApiError> {
        let Self { unix, tcp, guard } = self;
        let observer = Observer::new(link, metrics.clone(), namespace, stop.clone());
        let unix = serve_one(observer.clone(), metrics.clone(), incoming(unix), stop.clone())?;
        let tcp = match tcp {
            Some(tcp) => Some(serve_one(observer, metrics, incoming(tcp), stop.clone())?),
            None => None,
        };
        let both = async {
            match tcp {
                Some(tcp) => tokio::try_join!(unix, tcp).map(|_| ()),
                None => unix.await,
            }
        };
        let grace = async {
            let _ = stop.wait_for(|stop| *stop).await;
            tokio::time::sleep(GRACE).await;
        };
        let ended = tokio::select! {
            ended = both => ended,
            () = grace => Ok(()),
        };
        drop(guard);
        Ok(ended?)
    }
}

/// One listener's server: the service, health, reflection, and its limits.
fn serve_one<IO>(
    observer: Observer,
    metrics: Metrics,
    incoming: ReceiverStream<io::Result<Admitted<IO>>>,
    mut stop: watch::Receiver<bool>,
) -> Result<impl Future<Output = Result<(), tonic::transport::Error>>, ApiError>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let service = ObservabilityServer::new(observer)
        .max_decoding_message_size(LARGEST_REQUEST)
        .max_encoding_message_size(LARGEST_ANSWER);
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(operator_api::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let router = Server::builder()
        .max_concurrent_streams(CALLS)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .layer(MapResponseLayer::new(move |response| count_refusal(response, &metrics)))
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(service);
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    Ok(async move {
        health.set_serving::<ObservabilityServer<Observer>>().await;
        router.serve_with_incoming_shutdown(incoming, stopped).await
    })
}

/// Counts answers that are errors, by the gRPC code their header carries.
fn count_refusal(response: axum::http::Response<Body>, metrics: &Metrics) -> axum::http::Response<Body> {
    let code = response.headers().get("grpc-status").and_then(|value| value.to_str().ok()?.parse().ok());
    let code = code.filter(|code: &usize| *code != 0).and_then(|code| CODES.get(code));
    if let Some(code) = code {
        metrics.api_refused(code);
    }
    response
}

/// What a listener gives.
trait Accept: Send + Sync + 'static {
    type Io: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static;
    fn accept(&self) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

impl Accept for UnixListener {
    type Io = tokio::net::UnixStream;
    async fn accept(&self) -> io::Result<Self::Io> {
        Ok(UnixListener::accept(self).await?.0)
    }
}

impl Accept for TcpListener {
    type Io = tokio::net::TcpStream;
    async fn accept(&self) -> io::Result<Self::Io> {
        Ok(TcpListener::accept(self).await?.0)
    }
}

/// Connections as they come, no more than there are places; the task ends with the stream's reader.
fn incoming<L: Accept>(listener: L) -> ReceiverStream<io::Result<Admitted<L::Io>>> {
    let (to_server, stream) = mpsc::channel(1);
    // The listener's own: at a TCP address everybody on the node may fill them, and root still gets in by the socket.
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    tokio::spawn(async move {
        loop {
            let admitted = tokio::select! {
                admitted = admit(&listener, &places) => admitted,
                () = to_server.closed() => return,
            };
            if to_server.send(Ok(admitted)).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(stream)
}

async fn admit<L: Accept>(listener: &L, places: &Arc<Semaphore>) -> Admitted<L::Io> {
    loop {
        // The semaphore is never closed; were it, nobody would be admitted any more.
        let Ok(place) = places.clone().acquire_owned().await else {
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok(io) => {
                return Admitted {
                    io,
                    heard: 0,
                    patience: Box::pin(tokio::time::sleep(FIRST_WORD)),
                    _place: place,
                };
            }
            Err(error) => {
                tracing::warn!("a client could not be let in: {error}; it may try again");
                // Out of descriptors, most likely: trying at once again would spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A connection that holds its place until it is closed, or has not said its first word in time.
#[derive(Debug)]
struct Admitted<IO> {
    io: IO,
    /// Bytes of the first word.
    heard: usize,
    patience: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl<IO: Connected> Connected for Admitted<IO> {
    type ConnectInfo = IO::ConnectInfo;
    fn connect_info(&self) -> Self::ConnectInfo {
        self.io.connect_info()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Admitted<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if self.heard < FIRST_WORD_BYTES {
            self.heard += buf.filled().len().saturating_sub(before);
            if self.heard < FIRST_WORD_BYTES && self.patience.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Admitted<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
