//! What can go wrong with certificates; no variant carries a key or a token.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum CertError {
    #[error(
        "{what} could not be made: {reason}; this is a fault of the program or its cryptography, please report it"
    )]
    Make { what: &'static str, reason: String },
    #[error(
        "{what} cannot be read: {reason}; if it was changed by hand put it back, or delete it and restart the \
         operator, which then makes a new one (agents enrol again by themselves)"
    )]
    Damaged { what: String, reason: String },
    #[error("{}: cannot be read ({source}); mount the certificate's Secret there, or leave the flag out", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error(
        "the Secret {secret} cannot be {step}: {reason}; the operator needs get, create and update on it"
    )]
    Vault { secret: String, step: &'static str, reason: String },
    #[error(
        "the Secret {secret} changed under the operator more often than it could follow; another operator \
         is writing it: look who has that right"
    )]
    Contended { secret: String },
}
