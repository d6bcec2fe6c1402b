//! The authority: its own certificate, and what it signs.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroize;

use super::error::CertError;
use super::identity;
use super::secret::{Credential, PrivateKey};

const DAY: Duration = Duration::from_secs(86_400);

/// Ten years: an authority outlives clusters, and is followed by another a year before its end.
const LIFE_AUTHORITY: Duration = Duration::from_secs(3_650 * 86_400);
const BEFORE_ITS_END: Duration = Duration::from_secs(365 * 86_400);

/// The server's: short, because only the operator itself has to renew it.
pub(super) const LIFE_SERVER: Duration = Duration::from_secs(30 * 86_400);

/// An agent's: a stolen one is of use for a day, and an operator that is away for hours does no harm.
pub const LIFE_NODE: Duration = DAY;

/// Certificates begin this long before they are made: clocks of a cluster differ by minutes.
const SKEW: Duration = Duration::from_secs(3_600);

/// The largest request that makes sense: a P-384 key with a long subject has under 1 KiB.
const LARGEST_REQUEST: usize = 8 << 10;

/// Why a request for a certificate is turned down.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("the request is larger than {LARGEST_REQUEST} bytes; send a PKCS#10 request with a P-256 key")]
    TooLarge,
    #[error(
        "the request is no PKCS#10 request whose signature matches its key; send one in DER, with a P-256 key"
    )]
    Unreadable,
    #[error("the certificate could not be signed; the operator's log says why")]
    Sign,
}

/// A certificate that signs others, with its key.
pub struct Authority {
    certificate: CertificateDer<'static>,
    key: KeyPair,
    until: SystemTime,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("until", &self.until).finish_non_exhaustive()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

fn make(what: &'static str) -> impl Fn(rcgen::Error) -> CertError {
    move |error| CertError::Make { what, reason: error.to_string() }
}

fn valid(params: &mut CertificateParams, now: SystemTime, life: Duration) {
    params.not_before = (now - SKEW).into();
    params.not_after = (now + life).into();
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::OrganizationName, "headrace.io");
    distinguished.push(DnType::CommonName, name);
    distinguished
}

impl Authority {
    /// A new one.
    pub fn create(now: SystemTime) -> Result<Self, CertError> {
        let what = "the authority's certificate";
        let key = KeyPair::generate().map_err(make(what))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named("headrace operator");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid(&mut params, now, LIFE_AUTHORITY);
        let certificate = params.self_signed(&key).map_err(make(what))?.der().clone();
        Ok(Self { certificate, key, until: now + LIFE_AUTHORITY })
    }

    /// One that was kept. What it signs carries the kept certificate's own name and key identifier.
    pub fn open(kept: &Credential) -> Result<Self, CertError> {
        let damaged =
            |reason: String| CertError::Damaged { what: "the authority's certificate or key".into(), reason };
        let certificate = kept.chain.first().cloned().ok_or_else(|| damaged("it is missing".into()))?;
        let pkcs8 = PrivatePkcs8KeyDer::from(kept.key.expose());
        let key = KeyPair::try_from(&pkcs8).map_err(|error| damaged(error.to_string()))?;
        let (_, parsed) =
            X509Certificate::from_der(&certificate).map_err(|error| damaged(error.to_string()))?;
        if !parsed.is_ca() {
            return Err(damaged("it is no authority's".into()));
        }
        let own = parsed.public_key().raw;
        if own != rcgen::PublicKeyData::subject_public_key_info(&key) {
            return Err(damaged("the key is not that of the certificate".into()));
        }
        let until = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        Ok(Self { certificate, key, until: SystemTime::UNIX_EPOCH + Duration::from_secs(until) })
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// For whoever keeps it.
    pub fn credential(&self) -> Credential {
        Credential { chain: vec![self.certificate.clone()], key: PrivateKey::new(self.key.serialize_der()) }
    }

    /// Whether another one should take over.
    pub fn is_old(&self, now: SystemTime) -> bool {
        self.until < now + BEFORE_ITS_END
    }

    fn issuer(&self) -> Result<Issuer<'static, &KeyPair>, rcgen::Error> {
        Issuer::from_ca_cert_der(&self.certificate, &self.key)
    }

    /// The operator's certificate, for the names under which it is asked for.
    pub fn sign_server(&self, names: &[String], now: SystemTime) -> Result<Credential, CertError> {
        let what = "the server's certificate";
        let key = KeyPair::generate().map_err(make(what))?;
        let mut params = CertificateParams::new(names).map_err(make(what))?;
        params.distinguished_name = named("headrace operator server");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, now, LIFE_SERVER);
        let issuer = self.issuer().map_err(make(what))?;
        let certificate = params.signed_by(&key, &issuer).map_err(make(what))?;
        Ok(Credential { chain: vec![certificate.der().clone()], key: PrivateKey::new(key.serialize_der()) })
    }

    /// A node's certificate. Of the request only the key is taken: the name is what the token proved.
    pub fn sign_node(
        &self,
        request: &[u8],
        node: &str,
        now: SystemTime,
    ) -> Result<CertificateDer<'static>, RequestError> {
        if request.len() > LARGEST_REQUEST {
            return Err(RequestError::TooLarge);
        }
        let request = CertificateSigningRequestDer::from(request);
        let asked =
            CertificateSigningRequestParams::from_der(&request).map_err(|_| RequestError::Unreadable)?;
        let uri = identity::uri(node).try_into().map_err(|_| RequestError::Sign)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&identity::common_name(node));
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, now, LIFE_NODE.min(self.until.duration_since(now).unwrap_or_default()));
        let signed = self.issuer().and_then(|issuer| params.signed_by(&asked.public_key, &issuer));
        signed.map(|certificate| certificate.der().clone()).map_err(|error| {
            tracing::warn!("a certificate for the node {node} could not be signed: {error}");
            RequestError::Sign
        })
    }
}
