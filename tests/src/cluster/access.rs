//! A way into a cluster: where its apiserver is, whom to trust, who one is. Written out as a kubeconfig,
//! or turned into a client.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use thiserror::Error;

use super::authority::{AuthorityError, Identity, write_private};

#[derive(Debug, Error)]
pub enum AccessError {
    #[error("the kubeconfig is not usable: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    #[error("cannot make a client: {0}")]
    Client(#[source] Box<kube::Error>),
    #[error("cannot write the kubeconfig: {0}")]
    Write(#[from] AuthorityError),
}

/// Who one is to the apiserver.
#[derive(Clone)]
pub enum Credential {
    Certificate(Identity),
    Token(String),
    /// Nobody; a proxy passes on what its own clients say.
    None,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Certificate(_) => "Certificate",
            Self::Token(_) => "Token",
            Self::None => "None",
        })
    }
}

#[derive(Clone, Debug)]
pub struct Access {
    /// Such as https://127.0.0.1:6443
    pub server: String,
    /// The authority's certificate, PEM.
    pub authority: String,
    pub credential: Credential,
}

impl Access {
    /// The same cluster as somebody else.
    pub fn with(&self, credential: Credential) -> Self {
        Self { credential, ..self.clone() }
    }

    /// The same cluster by another door.
    pub fn at(&self, server: String) -> Self {
        Self { server, ..self.clone() }
    }

    /// As kubectl and client-go read it; everything is inside, so it may be copied.
    pub fn kubeconfig(&self) -> String {
        let encoded = |text: &str| BASE64_STANDARD.encode(text);
        let user = match &self.credential {
            Credential::Certificate(identity) => format!(
                "\n    client-certificate-data: {}\n    client-key-data: {}",
                encoded(&identity.certificate),
                encoded(&identity.key)
            ),
            Credential::Token(token) => format!("\n    token: {token}"),
            Credential::None => " {}".to_owned(),
        };
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: headrace\n  cluster:\n    server: {}\n    \
             certificate-authority-data: {}\nusers:\n- name: headrace\n  user:{user}\ncontexts:\n\
             - name: headrace\n  context:\n    cluster: headrace\n    user: headrace\n\
             current-context: headrace\n",
            self.server,
            encoded(&self.authority),
        )
    }

    pub fn write(&self, path: &Path) -> Result<(), AccessError> {
        Ok(write_private(path, &self.kubeconfig())?)
    }

    /// What kube makes of it; timeouts are kube's own.
    pub async fn config(&self) -> Result<Config, AccessError> {
        config(Kubeconfig::from_yaml(&self.kubeconfig())?).await
    }

    /// A client for the runtime that asks; it must not outlive that runtime.
    pub async fn client(&self) -> Result<Client, AccessError> {
        client(self.config().await?)
    }
}

/// The configuration of a kubeconfig's current context.
pub async fn config(kubeconfig: Kubeconfig) -> Result<Config, AccessError> {
    Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}

pub fn client(config: Config) -> Result<Client, AccessError> {
    // kube installs aws-lc-rs by itself, and leaves a provider alone that is already there.
    Client::try_from(config).map_err(|error| AccessError::Client(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(credential: Credential) -> Access {
        Access { server: "https://127.0.0.1:1".into(), authority: "ca".into(), credential }
    }

    #[test]
    fn kube_reads_what_is_written() {
        let identity = Identity { certificate: "c".into(), key: "k".into() };
        for credential in
            [Credential::Certificate(identity), Credential::Token("secret".into()), Credential::None]
        {
            let text = access(credential).kubeconfig();
            let read = Kubeconfig::from_yaml(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert_eq!(read.current_context.as_deref(), Some("headrace"));
            assert_eq!(read.clusters.len(), 1);
        }
    }

    #[test]
    fn a_token_is_not_printed() {
        let text = format!("{:?}", access(Credential::Token("secret".into())));
        assert!(!text.contains("secret"), "{text}");
    }
}
