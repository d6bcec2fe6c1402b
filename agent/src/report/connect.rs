//! From an address to a stream: TCP, TLS 1.3 with both sides' certificates, gRPC.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use operator_api::causes::chain;
use operator_api::report::v1::enrolment_client::EnrolmentClient;
use operator_api::report::v1::reports_client::ReportsClient;
use operator_api::report::v1::{Down, EnrolReply, EnrolRequest, Up};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{CipherSuite, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// For TCP and TLS together, and for the operator's first word.
const PATIENCE: Duration = Duration::from_secs(10);

/// A dead operator is noticed after the sum of both.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_PATIENCE: Duration = Duration::from_secs(10);

/// Bytes that the operator may have sent and that were not yet read.
const WINDOW: u32 = 256 << 10;

/// An operator's largest message: 4,096 bindings with long paths.
const LARGEST: usize = 4 << 20;

/// Messages on their way into the stream; the stream's own window holds the rest back.
const OUTGOING: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(
        "--operator {0:?} cannot be understood; give a URL such as https://headrace-operator.headrace:9443"
    )]
    Address(String),
    #[error("the certificates cannot be used: {0}; delete them, and the agent enrols again")]
    Certificates(String),
    #[error("{address} cannot be reached ({reason}); the agent goes on alone and tries again by itself")]
    Unreachable { address: String, reason: String },
    #[error("the operator at {address} turned the agent away: {message}")]
    Refused { address: String, code: tonic::Code, message: String },
}

impl ConnectError {
    /// Whether nobody answered, or ended the connection: what a refused certificate looks like as well.
    pub fn is_silence(&self) -> bool {
        use tonic::Code::{Cancelled, Internal, Unavailable, Unknown};
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { code, .. } => matches!(code, Cancelled | Internal | Unavailable | Unknown),
            Self::Address(_) | Self::Certificates(_) => false,
        }
    }
}

/// Where the operator is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
    name: ServerName<'static>,
}

impl Address {
    /// From a URL such as `https://name:port`; the port is 9443 where none is given.
    pub fn parse(url: &str) -> Result<Self, ConnectError> {
        let wrong = || ConnectError::Address(url.chars().take(200).collect());
        let rest = url.strip_prefix("https://").ok_or_else(wrong)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| wrong())?),
            _ => (rest, 9443),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(host.to_owned()).map_err(|_: InvalidDnsNameError| wrong())?;
        Ok(Self { host: host.into(), port, name })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// aws-lc-rs, here as everywhere.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    let make = || {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        // First the suite whose hash processors have instructions for: a handshake hashes more than it encrypts.
        provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
        Arc::new(provider)
    };
    PROVIDER.get_or_init(make).clone()
}

/// What connections are made with: whom they trust, and who it is. What one brings to come back with the next finds here.
pub fn tls(
    trusted: &[CertificateDer<'static>],
    own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<Arc<ClientConfig>, ConnectError> {
    let failed = |error: rustls::Error| ConnectError::Certificates(error.to_string());
    let mut roots = RootCertStore::empty();
    for root in trusted {
        roots.add(root.clone()).map_err(failed)?;
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(failed)?
        .with_root_certificates(roots);
    let is_somebody = own.is_some();
    let mut config = match own {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(failed)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    // The operator gives one ticket for each connection; who has no certificate has nothing to come back with.
    config.resumption = if is_somebody { Resumption::in_memory_sessions(1) } else { Resumption::disabled() };
    Ok(Arc::new(config))
}

/// A connection to the operator.
pub async fn channel(address: &Address, tls: Arc<ClientConfig>) -> Result<Channel, ConnectError> {
    let failed = |reason: String| ConnectError::Unreachable { address: address.to_string(), reason };
    // TLS is made here, below what tonic sees.
    let endpoint = Endpoint::from_static("http://operator.headrace.io")
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_PATIENCE)
        .keep_alive_while_idle(true)
        .buffer_size(8usize);
    let target = address.clone();
    let connector = tower::service_fn(move |_| {
        let (target, tls) = (target.clone(), tls.clone());
        async move {
            let tcp = TcpStream::connect((&*target.host, target.port)).await?;
            tcp.set_nodelay(true)?;
            let io = TlsConnector::from(tls).connect(target.name, tcp).await?;
            Ok::<_, std::io::Error>(TokioIo::new(io))
        }
    });
    match timeout(PATIENCE, endpoint.connect_with_connector(connector)).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(failed(chain(&error))),
        Err(_) => Err(failed(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

/// Both directions of the stream.
#[derive(Debug)]
pub struct Link {
    pub up: mpsc::Sender<Up>,
    pub down: Streaming<Down>,
}

/// Opens the stream with `hello`, and waits for the first word.
pub async fn attach(address: &Address, channel: Channel, hello: Up) -> Result<(Link, Down), ConnectError> {
    let refused = |status: &Status| refusal(address, status);
    let (up, outgoing) = mpsc::channel(OUTGOING);
    // The channel is empty, and its receiver here.
    let _ = up.try_send(hello);
    let mut client = ReportsClient::new(channel).max_decoding_message_size(LARGEST);
    let opened = timeout(PATIENCE, async {
        let mut down = client.attach(ReceiverStream::new(outgoing)).await?.into_inner();
        let first = down.message().await?;
        Ok::<_, Status>((down, first))
    });
    match opened.await {
        Ok(Ok((down, Some(first)))) => Ok((Link { up, down }, first)),
        Ok(Ok((_, None))) => Err(refused(&Status::unavailable("it ended the stream without a word"))),
        Ok(Err(status)) => Err(refused(&status)),
        Err(_) => Err(refused(&Status::deadline_exceeded("it did not answer in time"))),
    }
}

/// Asks for a certificate.
pub async fn enrol(
    address: &Address,
    channel: Channel,
    request: EnrolRequest,
) -> Result<EnrolReply, ConnectError> {
    let mut client = EnrolmentClient::new(channel).max_decoding_message_size(LARGEST);
    match timeout(PATIENCE * 2, client.enrol(request)).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => Err(refusal(address, &status)),
        Err(_) => Err(refusal(address, &Status::deadline_exceeded("it did not answer in time"))),
    }
}

pub fn refusal(address: &Address, status: &Status) -> ConnectError {
    // What somebody else wrote, for a log.
    let message = status.message().chars().take(600).map(|c| if c.is_control() { ' ' } else { c }).collect();
    ConnectError::Refused { address: address.to_string(), code: status.code(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let shown = |url: &str| Address::parse(url).map(|address| address.to_string()).ok();
        assert_eq!(shown("https://operator.headrace:1234").as_deref(), Some("operator.headrace:1234"));
        assert_eq!(shown("https://operator.headrace/").as_deref(), Some("operator.headrace:9443"));
        assert_eq!(shown("https://127.0.0.1:7").as_deref(), Some("127.0.0.1:7"));
        assert_eq!(shown("https://[::1]:7").as_deref(), Some("::1:7"));
        for wrong in ["http://x:1", "x:1", "https://x:port", "https://x:99999", "https://", "https://a b:1"] {
            assert_eq!(shown(wrong), None, "{wrong}");
        }
    }
}
