//! A private key that prints as nothing and is wiped when it goes; a certificate with its key.

use std::fmt;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

/// PKCS#8, DER.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(Zeroizing<Vec<u8>>);

impl PrivateKey {
    pub fn new(pkcs8: Vec<u8>) -> Self {
        Self(Zeroizing::new(pkcs8))
    }

    /// For whoever stores it or signs with it, and for nobody else.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// rustls wipes nothing: its copy lives as long as the process serves with it.
    pub(super) fn for_rustls(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.to_vec()).into()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(not shown)")
    }
}

/// A certificate, what stands between it and its authority, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKey,
}
