//! The node that a certificate names.
//!
//! A URI among its subject alternative names, `spiffe://headrace.io/node/NAME` (what cert-manager's SPIFFE
//! driver can issue too), or, where there is none, a common name `headrace.io/node/NAME`. Two different nodes
//! in one certificate are none.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

const PREFIX: &str = "headrace.io/node/";
const SCHEME: &str = "spiffe://";

/// Kubernetes' own bound for names.
const LONGEST: usize = 253;

/// Whom a connection speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub node: Arc<str>,
    /// Seconds since 1970 after which the certificate is void.
    pub until: i64,
}

impl Peer {
    /// Whether the certificate's time is over.
    pub fn is_void(&self, now: SystemTime) -> bool {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.until < i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("the certificate cannot be read; let the agent enrol again (delete its certificate's files)")]
    Unreadable,
    #[error(
        "the certificate names no node; an agent's has a URI spiffe://headrace.io/node/NAME among its subject \
         alternative names: let it enrol with the operator, or correct the issuer's template"
    )]
    NoNode,
    #[error("the certificate names several nodes; an agent speaks for one: correct the issuer's template")]
    SeveralNodes,
}

/// The URI that names a node.
pub fn uri(node: &str) -> String {
    format!("{SCHEME}{PREFIX}{node}")
}

/// The common name that names a node, for people who look at certificates.
pub fn common_name(node: &str) -> String {
    format!("{PREFIX}{node}")
}

/// Whether this could be a node of Kubernetes: a DNS subdomain.
pub fn is_node_name(name: &str) -> bool {
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(inner)
    };
    name.len() <= LONGEST && name.split('.').all(label)
}

/// Reads a certificate that the handshake has verified.
pub fn peer_of(certificate: &CertificateDer<'_>) -> Result<Peer, IdentityError> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| IdentityError::Unreadable)?;
    let names = certificate.subject_alternative_name().map_err(|_| IdentityError::Unreadable)?;
    let uris = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(SCHEME)?.strip_prefix(PREFIX),
        _ => None,
    });
    let mut nodes: Vec<&str> = uris.collect();
    if nodes.is_empty() {
        let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        nodes.extend(common.filter_map(|name| name.strip_prefix(PREFIX)));
    }
    let first = nodes.first().copied().filter(|name| is_node_name(name)).ok_or(IdentityError::NoNode)?;
    if nodes.iter().any(|node| *node != first) {
        return Err(IdentityError::SeveralNodes);
    }
    Ok(Peer { node: first.into(), until: certificate.validity().not_after.timestamp() })
}
