//! The TLS configuration that the operator serves with, replaced as a whole when certificates change.
//!
//! TLS 1.3 only. A client without a certificate is let in by TLS, because that is how agents enrol; what it
//! may then ask for is decided by who it is. Beside it stands the authority that a client has to trust, for
//! whoever tells clients of it.

use std::sync::{Arc, PoisonError, RwLock};

use pem::{EncodeConfig, LineEnding, Pem, encode_config};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;

use super::error::CertError;
use super::secret::{Credential, PrivateKey};
use super::tickets::Tickets;

/// aws-lc-rs, here as everywhere.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())).clone()
}

/// Current certificates; clones share them.
#[derive(Clone, Debug)]
pub struct Serving {
    config: Arc<RwLock<Arc<ServerConfig>>>,
    authority: watch::Sender<Vec<u8>>,
}

impl Serving {
    /// `tickets` is a secret that all replicas have, for what an agent comes back with.
    pub fn new(
        own: &Credential,
        trusted: &[CertificateDer<'static>],
        tickets: &PrivateKey,
    ) -> Result<Self, CertError> {
        let config = Arc::new(RwLock::new(config(own, trusted, tickets)?));
        Ok(Self { config, authority: watch::Sender::new(pem(trusted)) })
    }

    /// For the next handshake.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a client has to trust, in PEM: the authority in use and those before it.
    pub fn authority(&self) -> watch::Receiver<Vec<u8>> {
        self.authority.subscribe()
    }

    /// Connections that stand keep what they were made with.
    pub fn replace(
        &self,
        own: &Credential,
        trusted: &[CertificateDer<'static>],
        tickets: &PrivateKey,
    ) -> Result<(), CertError> {
        let fresh = config(own, trusted, tickets)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        let pem = pem(trusted);
        self.authority.send_if_modified(|known| {
            let differs = *known != pem;
            *known = pem;
            differs
        });
        Ok(())
    }
}

fn pem(trusted: &[CertificateDer<'static>]) -> Vec<u8> {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    let encode =
        |der: &CertificateDer<'static>| encode_config(&Pem::new("CERTIFICATE", der.to_vec()), config);
    trusted.iter().map(encode).collect::<String>().into_bytes()
}

fn config(
    own: &Credential,
    trusted: &[CertificateDer<'static>],
    tickets: &PrivateKey,
) -> Result<Arc<ServerConfig>, CertError> {
    let failed = |reason: String| CertError::Make { what: "the server's TLS configuration", reason };
    let mut roots = RootCertStore::empty();
    for root in trusted {
        roots.add(root.clone()).map_err(|error| failed(error.to_string()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| failed(error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(own.chain.clone(), own.key.for_rustls())
        .map_err(|error| failed(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // An agent comes back once per connection.
    config.send_tls13_tickets = 1;
    config.ticketer = Arc::new(Tickets::new(tickets, trusted));
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(Arc::new(config))
}
