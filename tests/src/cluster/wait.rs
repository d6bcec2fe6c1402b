//! Waiting for a state of the cluster: asked for again and again, never without end.

use std::time::{Duration, Instant};

use thiserror::Error;

/// Short beside what a controller needs, long enough not to be the load that is measured.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Error)]
pub enum WaitError {
    #[error("{what}: not so after {} s; last seen: {seen}", .limit.as_secs())]
    Late { what: String, limit: Duration, seen: String },
    #[error("{what}: the apiserver refused: {error}")]
    Refused { what: String, error: Box<kube::Error> },
}

/// What one look has shown.
#[derive(Debug)]
pub enum Seen<T> {
    Done(T),
    /// What it is like instead, for the error.
    NotYet(String),
}

/// Looks until it is `Done`, for `limit` at the most. `what` names the wished-for state in errors.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<Seen<T>, kube::Error>,
) -> Result<T, WaitError> {
    let started = Instant::now();
    loop {
        let seen = look()
            .await
            .map_err(|error| WaitError::Refused { what: what.to_owned(), error: Box::new(error) })?;
        match seen {
            Seen::Done(value) => return Ok(value),
            Seen::NotYet(seen) if started.elapsed() > limit => {
                return Err(WaitError::Late { what: what.to_owned(), limit, seen });
            }
            Seen::NotYet(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
