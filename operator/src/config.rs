//! What the operator is to do, checked.

use std::net::SocketAddr;

/// The operator's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Namespace of the Lease and the operator's Secrets.
    pub namespace: String,
    /// Name of this replica among the others.
    pub identity: String,
    /// Where /healthz, /readyz and /metrics are served.
    pub health: SocketAddr,
    /// Image of movers and backups.
    pub worker_image: Option<String>,
    pub log: String,
}
