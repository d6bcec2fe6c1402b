//! Who this agent is to the operator: a certificate from files, or one it enrols for.
//!
//! The key of an enrolled certificate lives in memory only; a restart enrols again. Files are read at each
//! connection, so that whoever renews them need not tell.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use operator_api::report::v1::EnrolRequest;
use rcgen::{CertificateParams, KeyPair};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::connect::{self, Address, ConnectError};

/// Certificates and tokens are some KiB.
const LARGEST_FILE: u64 = 1 << 20;

/// A certificate is asked for anew after this share of its life.
const WORN: (u32, u32) = (2, 3);

/// Where the proof of who this is comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Means {
    /// The pod's token for the operator.
    Token(PathBuf),
    /// A certificate with its key, both PEM.
    Files { certificate: PathBuf, key: PathBuf },
}

#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("{}: cannot be read ({source}); the agent goes on alone and tries again by itself", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}: holds no {what} in PEM; the agent goes on alone and tries again by itself", path.display())]
    Pem { path: PathBuf, what: &'static str },
    #[error("a key or request could not be made: {0}; this is a fault of the program, please report it")]
    Make(String),
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

struct Held {
    chain: Vec<CertificateDer<'static>>,
    key: Zeroizing<Vec<u8>>,
    authorities: Vec<CertificateDer<'static>>,
    worn: Instant,
}

/// What the last connection was made with. It keeps what the operator gave to come back with, so it is used again as long
/// as the same is trusted, and the agent is the same.
struct Made {
    trusted: Vec<CertificateDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
    tls: Arc<ClientConfig>,
}

pub struct Credentials {
    authority: PathBuf,
    means: Means,
    held: Option<Held>,
    made: Option<Made>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("authority", &self.authority)
            .field("means", &self.means)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    pub fn new(authority: PathBuf, means: Means) -> Self {
        Self { authority, means, held: None, made: None }
    }

    /// When a stream should end so that the next one has a fresh certificate.
    pub fn worn(&self) -> Option<Instant> {
        self.held.as_ref().map(|held| held.worn)
    }

    /// The operator did not take the certificate: the next one is asked for.
    pub fn discard(&mut self) {
        self.held = None;
        self.made = None;
    }

    /// What the next connection is made with; enrols where that is due.
    pub async fn tls(&mut self, address: &Address) -> Result<Arc<ClientConfig>, CredentialError> {
        // The mounted authority is the root of all trust; what enrolling told comes on top of it.
        let mut trusted = certificates(&self.authority)?;
        let (chain, key) = match &self.means {
            Means::Files { certificate, key } => {
                let chain = certificates(certificate)?;
                let pem = read(key)?;
                let missing = |_| CredentialError::Pem { path: key.clone(), what: "private key" };
                (chain, PrivateKeyDer::from_pem_slice(&pem).map_err(missing)?)
            }
            Means::Token(token) => {
                if self.held.as_ref().is_none_or(|held| held.worn <= Instant::now()) {
                    let fresh = enrol(address, &trusted, token).await?;
                    self.held = Some(fresh);
                }
                let Some(held) = &self.held else { return Ok(connect::tls(&trusted, None)?) };
                trusted.extend(held.authorities.iter().cloned());
                (held.chain.clone(), PrivatePkcs8KeyDer::from(held.key.to_vec()).into())
            }
        };
        if let Some(made) = self.made.as_ref().filter(|made| made.trusted == trusted && made.chain == chain) {
            return Ok(made.tls.clone());
        }
        let tls = connect::tls(&trusted, Some((chain.clone(), key)))?;
        self.made = Some(Made { trusted, chain, tls: tls.clone() });
        Ok(tls)
    }
}

async fn enrol(
    address: &Address,
    trusted: &[CertificateDer<'static>],
    token: &Path,
) -> Result<Held, CredentialError> {
    let make = |error: rcgen::Error| CredentialError::Make(error.to_string());
    let key = KeyPair::generate().map_err(make)?;
    let request = CertificateParams::default().serialize_request(&key).map_err(make)?;
    let bytes = read(token)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| CredentialError::Pem { path: token.to_owned(), what: "token" })?;
    let request = EnrolRequest { request: request.der().to_vec(), token: text.trim().to_owned() };
    let began = Instant::now();
    let channel = connect::channel(address, connect::tls(trusted, None)?).await?;
    let reply = connect::enrol(address, channel, request).await?;
    let life = Duration::from_secs(reply.valid_s.clamp(60, 30 * 86_400).into());
    tracing::info!("the operator has given this node's agent a certificate for {} h", life.as_secs() / 3_600);
    Ok(Held {
        chain: reply.chain.into_iter().map(CertificateDer::from).collect(),
        key: Zeroizing::new(key.serialize_der()),
        authorities: reply.authorities.into_iter().map(CertificateDer::from).collect(),
        worn: began + life * WORN.0 / WORN.1,
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    let pem = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    all.ok()
        .filter(|all| !all.is_empty())
        .ok_or_else(|| CredentialError::Pem { path: path.to_owned(), what: "certificate" })
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let failed = |source| CredentialError::File { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(LARGEST_FILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of this name, signed by itself: its PEM and its key's.
    fn pem(name: &str) -> [String; 2] {
        let key = KeyPair::generate().unwrap();
        let made = CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
        [made.pem(), key.serialize_pem()]
    }

    #[tokio::test]
    async fn what_the_operator_gave_to_come_back_with_goes_with_the_trust_and_the_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let put = |name: &str, text: &str| std::fs::write(at(name), text).unwrap();
        let own = |[certificate, key]: [String; 2]| {
            put("tls.crt", &certificate);
            put("tls.key", &key);
        };
        put("ca.crt", &pem("authority")[0]);
        own(pem("node"));
        let means = Means::Files { certificate: at("tls.crt"), key: at("tls.key") };
        let mut credentials = Credentials::new(at("ca.crt"), means);
        let address = Address::parse("https://127.0.0.1:1").unwrap();
        let first = credentials.tls(&address).await.unwrap();
        assert!(Arc::ptr_eq(&first, &credentials.tls(&address).await.unwrap()), "nothing has changed");

        put("ca.crt", &pem("another")[0]);
        let second = credentials.tls(&address).await.unwrap();
        assert!(!Arc::ptr_eq(&first, &second), "another authority is trusted");
        own(pem("node"));
        let third = credentials.tls(&address).await.unwrap();
        assert!(!Arc::ptr_eq(&second, &third), "the certificate was renewed");
        credentials.discard();
        assert!(
            !Arc::ptr_eq(&third, &credentials.tls(&address).await.unwrap()),
            "the operator did not take it"
        );
    }
}
