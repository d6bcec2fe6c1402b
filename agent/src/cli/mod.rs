//! The person's commands. Each asks the agent over gRPC, or needs none, and prints text or JSON.
//!
//! Exit status: 0 done, 1 failed (or `doctor` found a failure), 2 the command line is wrong, 3 no agent
//! could be asked, 4 the agent does not know the file. A reader of ours that leaves early (`| head`) is no
//! fault and gets no message.

pub mod text;

pub mod json;

pub mod client;

pub mod paths;

mod answers;

mod lists;

mod health;

mod events;

mod record;

mod replay;

mod top;

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::Value;

use crate::config::{AskConfig, Output, Question};
use client::ClientError;

const NO_AGENT: u8 = 3;
const NOT_FOUND: u8 = 4;

#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Path(#[from] paths::PathError),
    #[error(transparent)]
    Record(#[from] record::RecordError),
    #[error(transparent)]
    Replay(#[from] replay::ReplayError),
    #[error(transparent)]
    Top(#[from] top::TopError),
    #[error(transparent)]
    Histogram(#[from] crate::metrics::histograms::HistogramError),
    #[error("printing failed: {0}; is the disk full, or the terminal gone?")]
    Print(io::Error),
    #[error("waiting for the agent cannot begin: {0}; look at ulimit -n and ulimit -u")]
    Runtime(io::Error),
}

impl From<tonic::Status> for CliError {
    fn from(status: tonic::Status) -> Self {
        Self::Client(status.into())
    }
}

impl CliError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Client(
                ClientError::Absent { .. }
                | ClientError::Forbidden { .. }
                | ClientError::Connect { .. }
                | ClientError::Stranger { .. }
                | ClientError::Silent
                | ClientError::Ended,
            ) => ExitCode::from(NO_AGENT),
            Self::Client(ClientError::NotFound(_)) => ExitCode::from(NOT_FOUND),
            Self::Client(ClientError::Refused(_) | ClientError::Older)
            | Self::Path(_)
            | Self::Record(_)
            | Self::Replay(_)
            | Self::Top(_)
            | Self::Histogram(_)
            | Self::Print(_)
            | Self::Runtime(_) => ExitCode::FAILURE,
        }
    }
}

/// Answers the question; failures are told on stderr.
pub fn run(config: AskConfig) -> ExitCode {
    let ended = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::Runtime)
        .and_then(|runtime| runtime.block_on(ask(config)));
    match ended {
        Ok(code) => code,
        Err(CliError::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // What the agent says may hold names; nothing of it may steer the terminal.
            tell(&format!("headrace: {}", text::sentence(&error.to_string())));
            error.exit_code()
        }
    }
}

async fn ask(config: AskConfig) -> Result<ExitCode, CliError> {
    let AskConfig { socket, output, question } = config;
    match question {
        Question::Doctor => return health::doctor(&socket, output).await,
        Question::Version => return health::version(&socket, output).await,
        Question::Replay { file } => return replay::replay(&file, output),
        Question::Top { once, interval_ms } => {
            let client = client::connect(&socket).await?;
            top::top(client, output, once, interval_ms).await?;
        }
        Question::Record { file, seconds, force } => {
            record::record(&socket, output, &file, seconds, force).await?;
        }
        Question::Node => answers::node(client::connect(&socket).await?, output).await?,
        Question::Explain { path } => {
            answers::explain(client::connect(&socket).await?, output, &path).await?
        }
        Question::Latency => answers::latency(client::connect(&socket).await?, output).await?,
        Question::Workloads { limit } => {
            lists::workloads(client::connect(&socket).await?, output, limit).await?;
        }
        Question::Files { prefix, limit } => {
            lists::files(client::connect(&socket).await?, output, prefix.as_deref(), limit).await?;
        }
        Question::Ledger => lists::ledger(client::connect(&socket).await?, output).await?,
        Question::Residency { prefix } => {
            lists::residency(client::connect(&socket).await?, output, prefix.as_deref()).await?;
        }
        Question::Events { prefix, count } => {
            events::events(client::connect(&socket).await?, output, prefix.as_deref(), count).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes to stdout at once.
fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CliError::Print)
}

/// Says something beside the answer; a stderr that is gone or full changes nothing else.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints the answer in the form that was asked for.
fn show(output: Output, json: impl FnOnce() -> Value, text: impl FnOnce() -> String) -> Result<(), CliError> {
    match output {
        Output::Json => print(&json::pretty(&json())),
        Output::Text => print(&text()),
    }
}
