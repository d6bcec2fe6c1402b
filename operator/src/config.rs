//! What the operator is to do, checked.

use std::net::SocketAddr;
use std::path::PathBuf;

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
    /// None: agents are not listened to.
    pub agents: Option<AgentsConfig>,
}

/// Where agents are listened to, and how both sides show who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentsConfig {
    pub listen: SocketAddr,
    /// A folder with tls.crt, tls.key and ca.crt, in place of the operator's own authority.
    pub certificates: Option<PathBuf>,
    /// Names and addresses by which agents reach the operator.
    pub names: Vec<String>,
    /// The agents' ServiceAccount, in the operator's namespace.
    pub account: String,
}
