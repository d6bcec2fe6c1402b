//! The command line and the environment, known to no other file.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

use crate::config::{AgentsConfig, Config};

/// Places caches and steers pods by measured bytes.
#[derive(Debug, Parser)]
#[command(name = "headrace-operator", version)]
struct Args {
    /// Namespace of the operator's Lease and Secrets.
    #[arg(long, value_name = "NAME", default_value = "headrace-system", env = "HEADRACE_NAMESPACE", value_parser = word)]
    namespace: String,
    /// Name of this replica, unique among them; its pod's name.
    #[arg(long, value_name = "NAME", env = "HEADRACE_IDENTITY", value_parser = word)]
    identity: Option<String>,
    /// Serve /healthz, /readyz and /metrics at this address.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:9465", env = "HEADRACE_HEALTH", value_parser = address)]
    health: SocketAddr,
    /// Image that DataMigrate and DataBackup run, where they name none.
    #[arg(long, value_name = "IMAGE", env = "HEADRACE_WORKER_IMAGE", value_parser = word)]
    worker_image: Option<String>,
    /// Listen for agents at this address, such as 0.0.0.0:9443; without it nobody reports and nobody is asked.
    #[arg(long, value_name = "ADDRESS:PORT", env = "HEADRACE_AGENTS", value_parser = address)]
    agents: Option<SocketAddr>,
    /// A name or address by which agents reach the operator; may be repeated. Without it: those of a Service
    /// headrace-operator in the operator's namespace.
    #[arg(long, value_name = "NAME", value_parser = word)]
    agents_name: Vec<String>,
    /// Folder with tls.crt, tls.key and ca.crt (cert-manager's), in place of the operator's own authority.
    #[arg(long, value_name = "DIR")]
    agents_certificates: Option<PathBuf>,
    /// The agents' ServiceAccount, in the operator's namespace.
    #[arg(long, value_name = "NAME", default_value = "headrace-agent", value_parser = word)]
    agents_account: String,
    /// How much is logged: error, warn, info, debug, trace, or a filter such as operator=debug.
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "HEADRACE_LOG")]
    log: String,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "it must be an address and a port, such as 0.0.0.0:9465 or [::]:9465 (names are not looked up)"
            .to_owned()
    })
}

fn word(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 512 || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("it must be one word, without spaces".to_owned());
    }
    Ok(text.to_owned())
}

/// Reads the command line; prints help, version or the refusal and ends the process where clap says so.
pub fn parse() -> Config {
    config(Args::parse())
}

fn config(args: Args) -> Config {
    let Args {
        namespace,
        identity,
        health,
        worker_image,
        agents,
        agents_name,
        agents_certificates,
        agents_account,
        log,
    } = args;
    let service = || {
        let name = "headrace-operator";
        vec![format!("{name}.{namespace}.svc"), format!("{name}.{namespace}"), name.to_owned()]
    };
    let agents = agents.map(|listen| AgentsConfig {
        listen,
        certificates: agents_certificates,
        names: if agents_name.is_empty() { service() } else { agents_name },
        account: agents_account,
    });
    // Two replicas with one name would both lead.
    let identity = identity.unwrap_or_else(|| {
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "headrace-operator".into());
        let id: u64 = instance();
        format!("{host}_{id:016x}")
    });
    Config { namespace, identity, health, worker_image, log, agents }
}

/// The process, and when it started: no two of a cluster have both.
fn instance() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn refusals_say_what_to_type() {
        let parse = |line: &str| Args::try_parse_from(line.split(' ')).map(config).map_err(|e| e.to_string());
        assert!(
            parse("headrace-operator --health localhost:1").unwrap_err().contains("names are not looked up")
        );
        let one = parse("headrace-operator").unwrap();
        let two = parse("headrace-operator").unwrap();
        assert_ne!(one.identity, two.identity);
        assert_eq!(one.namespace, "headrace-system");
    }
}
