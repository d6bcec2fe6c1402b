//! The Secret that keeps the authority.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Error};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroize;

use super::error::CertError;
use super::secret::{Credential, PrivateKey};
use super::vault::{Found, Kept, Vault};

const CERTIFICATE: &str = "authority.der";
const KEY: &str = "authority.key.der";
/// `former-0.der`, `former-1.der`, …
const FORMER: &str = "former-";

#[derive(Clone)]
pub struct KubeVault {
    api: Api<Secret>,
    namespace: String,
    name: String,
}

impl std::fmt::Debug for KubeVault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KubeVault({})", self.name())
    }
}

impl KubeVault {
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, namespace: namespace.into(), name: name.into() }
    }

    fn failed(&self, step: &'static str, error: &Error) -> CertError {
        // kube's errors carry the server's words and never a body of ours.
        CertError::Vault { secret: self.name(), step, reason: error.to_string() }
    }
}

impl Vault for KubeVault {
    fn name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    async fn load(&self) -> Result<Option<Found>, CertError> {
        let secret = self.api.get_opt(&self.name).await.map_err(|error| self.failed("read", &error))?;
        let Some(secret) = secret else { return Ok(None) };
        let version = secret.metadata.resource_version;
        let mut data = secret.data.unwrap_or_default();
        let missing = |part: &str| CertError::Damaged {
            what: format!("the Secret {}", self.name()),
            reason: format!("{part} is missing in it"),
        };
        let certificate = data.remove(CERTIFICATE).ok_or_else(|| missing(CERTIFICATE))?;
        let key = data.remove(KEY).ok_or_else(|| missing(KEY))?;
        let former = data.into_iter().filter(|(name, _)| name.starts_with(FORMER));
        let former = former.map(|(_, bytes)| CertificateDer::from(bytes.0)).collect();
        let authority =
            Credential { chain: vec![CertificateDer::from(certificate.0)], key: PrivateKey::new(key.0) };
        Ok(Some(Found { kept: Kept { authority, former }, version }))
    }

    async fn store(&self, kept: &Kept, over: Option<&Found>) -> Result<bool, CertError> {
        let certificate = kept.authority.chain.first().map(|c| c.to_vec()).unwrap_or_default();
        let key = kept.authority.key.expose().to_vec();
        let mut data = BTreeMap::from([
            (CERTIFICATE.to_owned(), ByteString(certificate)),
            (KEY.to_owned(), ByteString(key)),
        ]);
        let former = kept.former.iter().enumerate();
        data.extend(former.map(|(n, der)| (format!("{FORMER}{n}.der"), ByteString(der.to_vec()))));
        let mut secret = Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: over.and_then(|found| found.version.clone()),
                ..ObjectMeta::default()
            },
            type_: Some("headrace.io/authority".into()),
            data: Some(data),
            ..Secret::default()
        };
        let params = PostParams { field_manager: Some("headrace-operator".into()), ..PostParams::default() };
        let stored = match over {
            Some(_) => self.api.replace(&self.name, &params, &secret).await,
            None => self.api.create(&params, &secret).await,
        };
        for bytes in secret.data.iter_mut().flat_map(BTreeMap::values_mut) {
            bytes.0.zeroize();
        }
        match stored {
            Ok(_) => Ok(true),
            Err(Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(self.failed(if over.is_some() { "replaced" } else { "created" }, &error)),
        }
    }
}
