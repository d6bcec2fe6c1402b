//! What the operator is to do, checked.

use std::net::{IpAddr, SocketAddr};
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
    pub log_format: LogFormat,
    /// None: agents are not listened to.
    pub agents: Option<AgentsConfig>,
    /// Where webhooks and extender are served; none: pods are scheduled as they would be anyway.
    pub scheduling: Option<SocketAddr>,
    /// Where the other replicas reach this one; none: what `scheduling` listens at, where that is one address.
    pub address: Option<IpAddr>,
    pub certificates: CertificatesConfig,
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: time, level, words, then fields as name=value.
    #[default]
    Text,
    /// For collectors: an object a line.
    Json,
}

impl Config {
    /// Where the other replicas ask this one what it knows as the one that leads.
    pub fn reached_at(&self) -> Option<SocketAddr> {
        let listen = self.scheduling?;
        let ip = self.address.or_else(|| (!listen.ip().is_unspecified()).then(|| listen.ip()))?;
        Some(SocketAddr::new(ip, listen.port()))
    }
}

/// Where agents are listened to, and who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentsConfig {
    pub listen: SocketAddr,
    /// The agents' ServiceAccount, in the operator's namespace.
    pub account: String,
}

/// How the operator shows who it is, to agents, API servers and schedulers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificatesConfig {
    /// A folder with tls.crt, tls.key and ca.crt, in place of the operator's own authority.
    pub folder: Option<PathBuf>,
    /// Names and addresses by which the operator is reached, for its own authority to sign.
    pub names: Vec<String>,
}
