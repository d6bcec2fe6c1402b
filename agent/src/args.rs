//! The command line and the environment, known to no other file.
//!
//! `Args` mirrors what a person types; `parse` checks it and gives a `Command` whose configs the rest of
//! the program takes apart whole. A refusal is a sentence that says what to type instead.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::config::{
    AgentConfig, ApiConfig, AskConfig, Command, DEFAULT_AUTHORITY, DEFAULT_SOCKET, DEFAULT_STATE,
    DEFAULT_TOKEN, OperatorConfig, Output, PlanChoice, Question,
};

/// Headrace sees what is read from slow mounts, learns what comes next, and has it in memory in time.
#[derive(Debug, Parser)]
#[command(name = "headrace", version, disable_help_subcommand = true)]
struct Args {
    /// The agent's socket.
    #[arg(long, global = true, value_name = "PATH", default_value = DEFAULT_SOCKET, env = "HEADRACE_SOCKET")]
    socket: PathBuf,
    /// How answers are printed.
    #[arg(long, short, global = true, value_enum, default_value_t = OutputArg::Text)]
    output: OutputArg,
    #[command(subcommand)]
    command: Sub,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OutputArg {
    /// Tables for people.
    Text,
    /// One JSON document; one per line where answers go on.
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PlanArg {
    Auto,
    Fentry,
    BtfTracepoint,
    RawTracepoint,
    Kprobe,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, and it is taken apart at once")]
enum Sub {
    /// Run the agent: watch reads, learn, prefetch, answer.
    Agent(AgentArgs),
    /// A live screen of the node: workloads, files, ledger.
    Top {
        /// Print one screen as plain text and leave.
        #[arg(long)]
        once: bool,
        /// Seconds between samples.
        #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = interval)]
        interval: f64,
    },
    /// The node at a glance: plan, mounts, totals.
    Node,
    /// Who reads, what pattern, with what benefit.
    Workloads {
        /// Rows at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Files read, most read bytes first.
    Files {
        /// Only files below this folder, or whose path starts so.
        prefix: Option<PathBuf>,
        /// Rows at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// One file: what was recognised, what is expected next, and why.
    Explain { path: PathBuf },
    /// What happens, as it happens.
    Events {
        /// Only events of paths below this folder, or that start so.
        prefix: Option<PathBuf>,
        /// Leave after so many.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
    },
    /// The fate of every prediction: hit, late, wasted.
    Ledger,
    /// Which bytes are in memory, and who brought them.
    Residency {
        /// Only files below this folder, or whose path starts so.
        prefix: Option<PathBuf>,
    },
    /// How long misses take, per mount and together.
    #[command(visible_alias = "histograms")]
    Latency,
    /// What works on this node, what does not, what to do. Works without an agent too.
    Doctor,
    /// Store what the agent observes in a file, until Ctrl-C.
    Record {
        file: PathBuf,
        /// Stop after so many seconds.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=86_400))]
        seconds: Option<u32>,
        /// Overwrite FILE if it exists.
        #[arg(long)]
        force: bool,
    },
    /// Run the agent's decisions over a recording and print the ledger. Needs no agent, no root.
    Replay { file: PathBuf },
    /// This command's version, and the agent's if one answers.
    Version,
}

#[derive(Debug, clap::Args)]
struct AgentArgs {
    /// Watch the mount of this path; may be repeated. Without it: every network and FUSE mount.
    #[arg(long, value_name = "PATH")]
    watch: Vec<PathBuf>,
    /// See mounts as this process does; in a container that shares the host's processes (hostPID): 1, the host.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    mounts_of: Option<u32>,
    /// Where what is learned is kept.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE)]
    state: PathBuf,
    /// Also answer at this loopback address, to every local user.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = loopback)]
    listen: Option<SocketAddr>,
    /// Serve Prometheus at this address; off without it. Names of files never appear there.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    metrics: Option<SocketAddr>,
    /// Learn and show, but fetch nothing.
    #[arg(long)]
    observe_only: bool,
    /// Limit: share of the available memory that fetched, unread bytes may take, in per cent.
    #[arg(long, value_name = "PERCENT", default_value_t = 25, value_parser = clap::value_parser!(u8).range(1..=90))]
    memory_percent: u8,
    /// Which way of probing to use; for tests.
    #[arg(long, value_enum, default_value_t = PlanArg::Auto, hide = true)]
    plan: PlanArg,
    /// Report to the operator at this URL, such as https://headrace-operator.headrace:9443, and do what it asks.
    #[arg(long, value_name = "URL", env = "HEADRACE_OPERATOR")]
    operator: Option<String>,
    /// Certificates that the operator's must come from.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_AUTHORITY)]
    operator_ca: PathBuf,
    /// The pod's token for the audience headrace.io/operator, with which a certificate is asked for.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_TOKEN)]
    operator_token: PathBuf,
    /// A certificate that names this node, in place of the token.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// This node's name in Kubernetes; without it: the host's name.
    #[arg(long, value_name = "NAME", env = "HEADRACE_NODE")]
    node: Option<String>,
    /// How much is logged: error, warn, info, debug, trace, or a filter such as agent=debug.
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "HEADRACE_LOG")]
    log: String,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "it must be an address and a port, such as 127.0.0.1:9464 or [::1]:9464 (names are not looked up)"
            .to_owned()
    })
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let addr = address(text)?;
    if addr.ip().is_loopback() {
        return Ok(addr);
    }
    Err(format!(
        "{} is not a loopback address: what is read on a node is nobody else's business and this port asks \
         for no password; use 127.0.0.1:{} and a tunnel",
        addr.ip(),
        addr.port()
    ))
}

fn interval(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("it must be a number of seconds from 0.1 to 3600".to_owned()),
    }
}

/// Reads the command line; prints help, version or the refusal and ends the process where clap says so.
pub fn parse() -> Command {
    command(Args::parse())
}

fn command(args: Args) -> Command {
    let Args { socket, output, command } = args;
    let question = match command {
        Sub::Agent(args) => return Command::Agent(agent(args, socket)),
        Sub::Top { once, interval } => Question::Top { once, interval_ms: (interval * 1e3) as u64 },
        Sub::Node => Question::Node,
        Sub::Workloads { limit } => Question::Workloads { limit },
        Sub::Files { prefix, limit } => Question::Files { prefix, limit },
        Sub::Explain { path } => Question::Explain { path },
        Sub::Events { prefix, count } => Question::Events { prefix, count },
        Sub::Ledger => Question::Ledger,
        Sub::Residency { prefix } => Question::Residency { prefix },
        Sub::Latency => Question::Latency,
        Sub::Doctor => Question::Doctor,
        Sub::Record { file, seconds, force } => Question::Record { file, seconds, force },
        Sub::Replay { file } => Question::Replay { file },
        Sub::Version => Question::Version,
    };
    let output = match output {
        OutputArg::Text => Output::Text,
        OutputArg::Json => Output::Json,
    };
    Command::Ask(AskConfig { socket, output, question })
}

fn agent(args: AgentArgs, socket: PathBuf) -> AgentConfig {
    let AgentArgs {
        watch,
        mounts_of,
        state,
        listen,
        metrics,
        observe_only,
        memory_percent,
        plan,
        operator,
        operator_ca,
        operator_token,
        certificate,
        key,
        node,
        log,
    } = args;
    let operator = operator.map(|url| OperatorConfig {
        url,
        node: node.unwrap_or_else(host_name),
        authority: operator_ca,
        token: operator_token,
        certificate: certificate.zip(key),
    });
    let plan = match plan {
        PlanArg::Auto => PlanChoice::Auto,
        PlanArg::Fentry => PlanChoice::Fentry,
        PlanArg::BtfTracepoint => PlanChoice::BtfTracepoint,
        PlanArg::RawTracepoint => PlanChoice::RawTracepoint,
        PlanArg::Kprobe => PlanChoice::Kprobe,
    };
    AgentConfig {
        watch,
        mounts_of,
        state,
        api: ApiConfig { socket, listen },
        metrics,
        observe_only,
        memory_percent,
        plan,
        log,
        operator,
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod deployed;

#[cfg(test)]
mod tests {
    use super::*;

    fn try_parse(line: &str) -> Result<Command, String> {
        Args::try_parse_from(line.split(' ')).map(command).map_err(|error| error.to_string())
    }

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn an_agent_has_its_defaults() {
        let Command::Agent(config) = try_parse("headrace agent --watch /a --watch /b").unwrap() else {
            panic!("not the agent");
        };
        assert_eq!(config.watch, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(config.api.socket, PathBuf::from(DEFAULT_SOCKET));
        assert_eq!(config.state, PathBuf::from(DEFAULT_STATE));
        assert_eq!((config.metrics, config.api.listen, config.plan), (None, None, PlanChoice::Auto));
    }

    #[test]
    fn an_operator_is_named_by_its_url() {
        let Command::Agent(config) = try_parse("headrace agent").unwrap() else { panic!("not the agent") };
        assert_eq!(config.operator, None);
        let line = "headrace agent --operator https://o:1 --node n1 --certificate /c --key /k";
        let Command::Agent(config) = try_parse(line).unwrap() else { panic!("not the agent") };
        let operator = config.operator.unwrap();
        assert_eq!((&*operator.url, &*operator.node), ("https://o:1", "n1"));
        assert_eq!(operator.certificate, Some(("/c".into(), "/k".into())));
        assert_eq!(operator.token, PathBuf::from(DEFAULT_TOKEN));
        assert!(try_parse("headrace agent --operator https://o:1 --key /k").is_err());
    }

    #[test]
    fn only_loopback_is_listened_at() {
        assert!(try_parse("headrace agent --listen 127.0.0.1:7000").is_ok());
        assert!(try_parse("headrace agent --listen [::1]:7000").is_ok());
        let refusal = try_parse("headrace agent --listen 0.0.0.0:7000").unwrap_err();
        assert!(refusal.contains("not a loopback address"), "{refusal}");
        assert!(try_parse("headrace agent --listen localhost:7000").is_err());
        assert!(try_parse("headrace agent --memory-percent 0").is_err());
        assert!(try_parse("headrace top --interval 0").is_err());
    }

    #[test]
    fn globals_may_stand_behind_the_command() {
        let Command::Ask(ask) = try_parse("headrace files --output json --socket /s train/").unwrap() else {
            panic!("not a question");
        };
        assert_eq!((ask.output, ask.socket), (Output::Json, PathBuf::from("/s")));
        assert!(matches!(ask.question, Question::Files { prefix: Some(_), limit: 100 }));
    }
}
