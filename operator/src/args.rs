//! The command line and the environment, known to no other file.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Parser;

use crate::config::{AgentsConfig, CertificatesConfig, Config, LogFormat};

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
    /// Serve the webhooks and the scheduler extender at this address, such as 0.0.0.0:9444; without it pods are
    /// scheduled as they would be anyway.
    #[arg(long, value_name = "ADDRESS:PORT", env = "HEADRACE_SCHEDULING", value_parser = address)]
    scheduling: Option<SocketAddr>,
    /// IP address at which the other replicas reach this one, its pod's: those that do not lead ask the one that does.
    #[arg(long, value_name = "ADDRESS", env = "HEADRACE_ADDRESS", value_parser = ip)]
    address: Option<IpAddr>,
    /// A further name or address by which the operator is reached, beside those of a Service headrace-operator in
    /// its namespace; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = word)]
    name: Vec<String>,
    /// Folder with tls.crt, tls.key and ca.crt (cert-manager's), in place of the operator's own authority.
    #[arg(long, value_name = "DIR")]
    certificates: Option<PathBuf>,
    /// The agents' ServiceAccount, in the operator's namespace.
    #[arg(long, value_name = "NAME", default_value = "headrace-agent", value_parser = word)]
    agents_account: String,
    /// How much is logged: error, warn, info, debug, trace, or a filter such as operator=debug.
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "HEADRACE_LOG")]
    log: String,
    /// How a line of the log is written: text, or json for collectors.
    #[arg(long, value_name = "FORMAT", default_value = "text", env = "HEADRACE_LOG_FORMAT", value_parser = log_format)]
    log_format: LogFormat,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "it must be an address and a port, such as 0.0.0.0:9465 or [::]:9465 (names are not looked up)"
            .to_owned()
    })
}

fn ip(text: &str) -> Result<IpAddr, String> {
    let parsed = text.parse::<IpAddr>().ok().filter(|ip| !ip.is_unspecified());
    parsed.ok_or_else(|| {
        "it must be the IP address of this pod, such as 10.0.0.7: status.podIP has it".to_owned()
    })
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("it must be text or json".to_owned()),
    }
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
        scheduling,
        address,
        name,
        certificates,
        agents_account,
        log,
        log_format,
    } = args;
    let service = "headrace-operator";
    let mut names =
        vec![format!("{service}.{namespace}.svc"), format!("{service}.{namespace}"), service.into()];
    names.extend(name);
    let certificates = CertificatesConfig { folder: certificates, names };
    let agents = agents.map(|listen| AgentsConfig { listen, account: agents_account });
    // Two replicas with one name would both lead.
    let identity = identity.unwrap_or_else(|| {
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "headrace-operator".into());
        let id: u64 = instance();
        format!("{host}_{id:016x}")
    });
    Config {
        namespace,
        identity,
        health,
        worker_image,
        log,
        log_format,
        agents,
        scheduling,
        address,
        certificates,
    }
}

/// The process, and when it started: no two of a cluster have both.
fn instance() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}

#[cfg(test)]
mod deployed;

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
        assert_eq!((one.agents, one.scheduling), (None, None), "nothing listens unasked");
        assert_eq!(one.log_format, LogFormat::Text);
        let json = parse("headrace-operator --log-format json").unwrap();
        assert_eq!(json.log_format, LogFormat::Json);
        assert!(parse("headrace-operator --log-format xml").unwrap_err().contains("text or json"));
        let named = parse("headrace-operator --name 10.0.0.1 --scheduling [::]:9444").unwrap();
        assert_eq!(named.reached_at(), None, "any address is none");
        let reached = parse("headrace-operator --address 10.0.0.7 --scheduling [::]:9444").unwrap();
        assert_eq!(reached.reached_at(), Some("10.0.0.7:9444".parse().unwrap()));
        let reached = parse("headrace-operator --scheduling 10.0.0.8:9444").unwrap();
        assert_eq!(reached.reached_at(), Some("10.0.0.8:9444".parse().unwrap()));
        assert!(parse("headrace-operator --address 0.0.0.0").unwrap_err().contains("status.podIP"));
        // What deploy/webhook and deploy/scheduler ask for.
        assert_eq!(named.certificates.names.first().unwrap(), "headrace-operator.headrace-system.svc");
        assert_eq!(named.certificates.names.last().unwrap(), "10.0.0.1");
    }
}
