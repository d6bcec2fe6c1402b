//! How a conversation with the operator ended, or why there was none, and what that says of the certificate. Pure.

use std::time::{Duration, Instant};

use super::connect::ConnectError;
use super::credential::CredentialError;
use super::speaker::SpeakError;

/// A certificate with which the operator could not be reached for so long is not tried on: whether it is refused or nobody is
/// there looks alike. Not sooner, or every restart of the operator would have all nodes ask for new ones at once.
const IN_VAIN: Duration = Duration::from_mins(10);

#[derive(Debug, thiserror::Error)]
pub enum Ended {
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// Before the operator said a word.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// In the middle of a conversation.
    #[error(transparent)]
    Broken(ConnectError),
    #[error(transparent)]
    Speak(#[from] SpeakError),
    #[error("the operator ended the stream")]
    Closed,
    #[error("the certificate is worn, and the next stream gets a fresh one")]
    Worn,
    #[error("the agent is stopping")]
    Stopping,
}

impl Ended {
    /// Whether the certificate is not to be tried on. `heard`: when somebody last spoke, or there was none to try.
    pub fn is_in_vain(&self, heard: &mut Instant, now: Instant) -> bool {
        let in_vain = match self {
            Self::Connect(ConnectError::Refused { code: tonic::Code::Unauthenticated, .. })
            | Self::Broken(ConnectError::Refused { code: tonic::Code::Unauthenticated, .. }) => true,
            // An operator whose authority is another one now ends the connection, as one that is away does.
            Self::Connect(error) if error.is_silence() => {
                if now.saturating_duration_since(*heard) <= IN_VAIN {
                    return false;
                }
                true
            }
            // A conversation's end is no silence, however it looks: the certificate was good until then.
            Self::Connect(_)
            | Self::Broken(_)
            | Self::Credential(_)
            | Self::Speak(_)
            | Self::Closed
            | Self::Worn
            | Self::Stopping => false,
        };
        *heard = now;
        in_vain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: tonic::Code) -> ConnectError {
        ConnectError::Refused { address: "x:1".into(), code, message: String::new() }
    }

    #[test]
    fn an_operator_that_stops_after_a_long_talk_costs_no_certificate() {
        let began = Instant::now();
        let after = |minutes| began + Duration::from_mins(minutes);
        let mut heard = began;
        // An hour's talk, which its end breaks off as an operator does that is away.
        let broken = Ended::Broken(refused(tonic::Code::Unavailable));
        assert!(!broken.is_in_vain(&mut heard, after(60)));
        let away = || Ended::Connect(refused(tonic::Code::Unavailable));
        assert!(!away().is_in_vain(&mut heard, after(61)), "it is being started again");
        assert!(!away().is_in_vain(&mut heard, after(70)));
        assert!(away().is_in_vain(&mut heard, after(71)), "ten minutes of silence");
        assert!(!away().is_in_vain(&mut heard, after(72)), "the next one is tried as long");
        assert!(Ended::Connect(refused(tonic::Code::Unauthenticated)).is_in_vain(&mut heard, after(72)));
    }
}
