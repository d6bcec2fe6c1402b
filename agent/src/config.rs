//! What each command was told, after flags and environment have been read and checked.
//!
//! `args` makes these values and is alone in knowing how they are spelled; everything else takes them
//! apart whole, so that a new setting breaks the build where it must be thought of.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Where the API listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/headrace/agent.sock";

/// Where profiles are kept unless told otherwise.
pub const DEFAULT_STATE: &str = "/var/lib/headrace";

#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one, and it is taken apart at once")]
pub enum Command {
    /// `headrace agent`: the daemon.
    Agent(AgentConfig),
    /// Everything a person asks.
    Ask(AskConfig),
}

#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Mounts to watch; empty means every network and FUSE mount found.
    pub watch: Vec<PathBuf>,
    /// The process whose mounts are watched; `None`: the agent itself.
    pub mounts_of: Option<u32>,
    /// Where learned profiles are kept.
    pub state: PathBuf,
    pub api: ApiConfig,
    /// Where Prometheus may ask; `None` is off.
    pub metrics: Option<SocketAddr>,
    /// Learn and show, but fetch nothing.
    pub observe_only: bool,
    /// Share of MemAvailable, in per cent, that unread prefetched bytes may take.
    pub memory_percent: u8,
    /// Which probe plan to try; a person leaves it at `Auto`.
    pub plan: PlanChoice,
    /// `tracing` filter, such as "info" or "agent=debug".
    pub log: String,
    /// Whom to report to; `None`: this node keeps to itself.
    pub operator: Option<OperatorConfig>,
}

/// Where agents' certificates of the operator's authority are mounted unless told otherwise.
pub const DEFAULT_AUTHORITY: &str = "/etc/headrace/operator/ca.crt";

/// Where the pod's token for the operator is mounted unless told otherwise.
pub const DEFAULT_TOKEN: &str = "/var/run/secrets/headrace.io/token";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorConfig {
    /// `https://name:port`.
    pub url: String,
    /// This node's name in Kubernetes.
    pub node: String,
    /// Certificates that the operator's must come from.
    pub authority: PathBuf,
    /// The pod's token, with which a certificate is asked for.
    pub token: PathBuf,
    /// A certificate with its key, in place of the token.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

#[derive(Clone, Debug)]
pub struct ApiConfig {
    pub socket: PathBuf,
    /// An additional TCP address; loopback only, checked where flags are read.
    pub listen: Option<SocketAddr>,
}

/// Which probe plan to attach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlanChoice {
    /// The best the kernel takes.
    #[default]
    Auto,
    Fentry,
    BtfTracepoint,
    RawTracepoint,
    Kprobe,
}

#[derive(Clone, Debug)]
pub struct AskConfig {
    pub socket: PathBuf,
    pub output: Output,
    pub question: Question,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Debug)]
pub enum Question {
    Top {
        /// Print one frame as plain text and leave.
        once: bool,
        /// Milliseconds between samples.
        interval_ms: u64,
    },
    Node,
    Workloads {
        limit: u32,
    },
    Files {
        prefix: Option<PathBuf>,
        limit: u32,
    },
    Explain {
        path: PathBuf,
    },
    Events {
        prefix: Option<PathBuf>,
        /// Leave after so many events; `None` means never.
        count: Option<u64>,
    },
    Ledger,
    Residency {
        prefix: Option<PathBuf>,
    },
    Latency,
    Doctor,
    Record {
        file: PathBuf,
        /// `None` means until SIGINT.
        seconds: Option<u32>,
        force: bool,
    },
    Replay {
        file: PathBuf,
    },
    Version,
}
