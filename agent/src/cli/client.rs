//! The way to the agent: a gRPC channel over its unix socket.
//!
//! What goes wrong on the way is told apart here, because each has another remedy: no agent, no right to
//! ask, an agent that does not answer.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use operator_api::observability::v1::observability_client::ObservabilityClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};

pub type Client = ObservabilityClient<Channel>;

/// Until an answer begins; the agent's own patience with its engine is shorter.
const PATIENCE: Duration = Duration::from_secs(20);

/// As the agent's own bound on answers.
const LARGEST_ANSWER: usize = 32 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(
        "no agent answers at {}: start one with `sudo headrace agent`, or name its socket with --socket", path.display()
    )]
    Absent { path: PathBuf },
    #[error(
        "you may not ask the agent at {}: use sudo, or join its group (sudo usermod -aG headrace $USER, then log in again)",
        path.display()
    )]
    Forbidden { path: PathBuf },
    #[error("connecting to {} failed: {source}; is --socket the agent's socket?", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("whatever listens at {} does not speak the agent's language ({reason}); is --socket right?", path.display())]
    Stranger { path: PathBuf, reason: String },
    #[error(
        "the agent takes connections and has not answered within {} s: others may hold all of its places (see who is connected: \
         ss -xp | grep headrace), or its machine is overloaded; ask again, and if it stays so see its log and restart it",
        PATIENCE.as_secs()
    )]
    Silent,
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Refused(String),
    #[error("the agent ended while it was asked: see its log, or start it again with `sudo headrace agent`")]
    Ended,
    #[error("this agent is older than this command and cannot answer it: upgrade the agent")]
    Older,
}

/// Connects. The socket is tried first by hand, because the channel would hide why it failed.
pub async fn connect(path: &Path) -> Result<Client, ClientError> {
    connect_within(path, PATIENCE).await
}

async fn connect_within(path: &Path, patience: Duration) -> Result<Client, ClientError> {
    let first = UnixStream::connect(path).await.map_err(|source| refusal(path, source))?;
    let path_again = path.to_path_buf();
    let mut first = Some(first);
    let connector = tower::service_fn(move |_: Uri| {
        let (ready, path) = (first.take(), path_again.clone());
        async move {
            let stream = match ready {
                Some(stream) => stream,
                None => UnixStream::connect(path).await?,
            };
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    // The address is only the name in the request's header; the connector decides where it goes.
    let channel = Endpoint::from_static("http://agent.headrace")
        .connect_timeout(Duration::from_secs(5))
        .timeout(patience)
        .connect_with_connector(connector)
        .await
        .map_err(|error| ClientError::Stranger { path: path.to_path_buf(), reason: error.to_string() })?;
    Ok(ObservabilityClient::new(channel).max_decoding_message_size(LARGEST_ANSWER))
}

fn refusal(path: &Path, source: io::Error) -> ClientError {
    let path = path.to_path_buf();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::Absent { path },
        io::ErrorKind::PermissionDenied => ClientError::Forbidden { path },
        _ => ClientError::Connect { path, source },
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            Code::NotFound => Self::NotFound(message),
            Code::Unimplemented => Self::Older,
            // What tonic says when `PATIENCE` is over.
            Code::Cancelled if message == "Timeout expired" => Self::Silent,
            // Status the transport made itself carry its error as source; the agent's have a sentence.
            Code::Unknown | Code::Cancelled | Code::Unavailable if is_transport(&status) => Self::Ended,
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::InvalidArgument
            | Code::DeadlineExceeded
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
            | Code::Unauthenticated => Self::Refused(message),
        }
    }
}

fn is_transport(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

#[cfg(test)]
mod tests {
    use operator_api::observability::v1::NodeRequest;

    use super::*;

    /// It is in the backlog of an agent that lets nobody in.
    #[tokio::test]
    async fn who_is_not_let_in_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let _full = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let mut client = connect_within(&path, Duration::from_millis(50)).await.unwrap();
        let error = ClientError::from(client.node(NodeRequest {}).await.unwrap_err());
        assert!(matches!(error, ClientError::Silent), "{error:?}");
    }
}
