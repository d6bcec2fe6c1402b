//! Who may speak: the operator's own authority, the certificates it signs, and how agents come by theirs.
//!
//! One authority lives in a Secret. It signs the operator's server certificate and, for an agent that proves
//! by its pod's token on which node it runs, a certificate that names that node and nothing else. Where
//! cert-manager provides certificates they are read from mounted files instead, again whenever these change.
//! Private keys stand in no log, error or `Debug` output, and are wiped when they are let go of.

mod error;

mod secret;

pub mod identity;

mod authority;

pub mod vault;

mod kube_vault;

mod tickets;

mod serving;

mod renewal;

pub mod enrol;

mod review;

pub use authority::{Authority, LIFE_NODE};
pub use enrol::{Authenticator, Bearer, Enrolments};
pub use error::CertError;
pub use identity::Peer;
pub use kube_vault::KubeVault;
pub use renewal::{Signer, Source, open, renew};
pub use review::{AUDIENCE, TokenReviews};
pub use secret::{Credential, PrivateKey};
pub use serving::{Serving, provider};

#[cfg(test)]
mod tests;
