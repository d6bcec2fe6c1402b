//! Where the operator's certificates come from, and how they are kept fresh.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;

use super::authority::LIFE_SERVER;
use super::error::CertError;
use super::secret::{Credential, PrivateKey};
use super::serving::Serving;
use super::vault::{Roots, Vault, obtain};

/// How often files are compared, and the Secret is read: kubelet itself takes up to a minute to bring a
/// changed Secret into a pod.
const LOOK: Duration = Duration::from_secs(30);

/// Certificates, keys and chains are some KiB; more is another file.
const LARGEST_FILE: u64 = 1 << 20;

/// cert-manager's three files, in one folder.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITY: &str = "ca.crt";

/// What the server certificate is for and where it comes from.
#[derive(Clone, Debug)]
pub enum Source<V> {
    /// Signed by the authority in the vault, for these DNS names and addresses.
    Own { vault: V, names: Vec<String> },
    /// Mounted files (`tls.crt`, `tls.key`, `ca.crt`); agents enrol with the authority in the vault all the same
    /// where there is one.
    Files { folder: PathBuf },
}

/// The authority that signs agents; None where others sign them.
pub type Signer = Arc<RwLock<Option<Arc<Roots>>>>;

/// What has been loaded: compared to see a change.
#[derive(PartialEq, Eq)]
struct Loaded {
    own: Credential,
    trusted: Vec<CertificateDer<'static>>,
    /// What tickets are sealed with a key of.
    tickets: PrivateKey,
}

/// First certificates; the caller serves with them and spawns `renew`.
pub async fn open<V: Vault>(source: &Source<V>) -> Result<(Serving, Signer), CertError> {
    let (loaded, roots) = load(source).await?;
    let serving = Serving::new(&loaded.own, &loaded.trusted, &loaded.tickets)?;
    Ok((serving, Arc::new(RwLock::new(roots.map(Arc::new)))))
}

/// Keeps them fresh until `stop`. What fails is said, and tried again: the certificates in use stand.
pub async fn renew<V: Vault>(
    source: Source<V>,
    serving: Serving,
    signer: Signer,
    mut stop: watch::Receiver<bool>,
) {
    let mut made = SystemTime::now();
    let mut last: Option<Loaded> = None;
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let due = match &source {
            Source::Own { vault, .. } => {
                let known = signer.read().unwrap_or_else(PoisonError::into_inner).clone();
                let changed = match vault.load().await {
                    Ok(Some(found)) => known.is_some_and(|known| {
                        found.kept.authority.chain.first() != Some(known.authority.certificate())
                    }),
                    Ok(None) => true,
                    Err(error) => {
                        tracing::warn!("{error}");
                        false
                    }
                };
                changed || made.elapsed().is_ok_and(|age| age > LIFE_SERVER * 2 / 3)
            }
            Source::Files { .. } => true,
        };
        if !due {
            continue;
        }
        match load(&source).await {
            Ok((loaded, _)) if last.as_ref() == Some(&loaded) => {}
            Ok((loaded, roots)) => match serving.replace(&loaded.own, &loaded.trusted, &loaded.tickets) {
                Ok(()) => {
                    if last.is_some() || matches!(source, Source::Own { .. }) {
                        tracing::info!("serving with new certificates");
                    }
                    *signer.write().unwrap_or_else(PoisonError::into_inner) = roots.map(Arc::new);
                    made = SystemTime::now();
                    last = Some(loaded);
                }
                Err(error) => tracing::warn!("{error}; the certificates in use stand"),
            },
            Err(error) => tracing::warn!("{error}; the certificates in use stand"),
        }
    }
}

async fn load<V: Vault>(source: &Source<V>) -> Result<(Loaded, Option<Roots>), CertError> {
    match source {
        Source::Own { vault, names } => {
            let now = SystemTime::now();
            let roots = obtain(vault, now).await?;
            let own = roots.authority.sign_server(names, now)?;
            let tickets = roots.authority.credential().key;
            Ok((Loaded { own, trusted: roots.trusted.clone(), tickets }, Some(roots)))
        }
        Source::Files { folder } => Ok((read_folder(folder)?, None)),
    }
}

fn read_folder(folder: &Path) -> Result<Loaded, CertError> {
    let damaged =
        |path: &Path, reason: String| CertError::Damaged { what: path.display().to_string(), reason };
    let certificates = |name: &str| -> Result<Vec<CertificateDer<'static>>, CertError> {
        let path = folder.join(name);
        let pem = read(&path)?;
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let all = all.map_err(|error| damaged(&path, error.to_string()))?;
        if all.is_empty() { Err(damaged(&path, "it holds no certificate".into())) } else { Ok(all) }
    };
    let path = folder.join(KEY);
    // The reason would quote the line it stumbled over, which could be the key's.
    let key = PrivateKeyDer::from_pem_slice(&read(&path)?)
        .map_err(|_| damaged(&path, "it holds no private key in PEM".into()))?;
    let PrivateKeyDer::Pkcs8(key) = &key else {
        return Err(damaged(&path, "its key is not PKCS#8 (set spec.privateKey.encoding: PKCS8)".into()));
    };
    let key = PrivateKey::new(key.secret_pkcs8_der().to_vec());
    let own = Credential { chain: certificates(CERTIFICATE)?, key };
    let tickets = own.key.clone();
    Ok(Loaded { own, trusted: certificates(AUTHORITY)?, tickets })
}

fn read(path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, CertError> {
    use std::io::Read;
    let failed = |source| CertError::File { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    file.take(LARGEST_FILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
