//! The cluster that the tests of one program share: started by the first that asks, ended with the program.
//!
//! KUBECONFIG names another one to use instead. Tests keep to namespaces and nodes of their own; whoever
//! needs to stop etcd or to change the scheduler starts a `ControlPlane` for that alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, io};

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::config::Kubeconfig;
use kube::{Api, Client};
use thiserror::Error;
use tokio::sync::OnceCell;

use super::access::{self, AccessError};
use super::control_plane::{ClusterError, ControlPlane, PATIENCE};
use super::options::Options;
use super::wait::{Seen, WaitError, until};
use crate::hygiene;

/// Says that a cluster which is not on this machine may be used for tests.
const REMOTE: &str = "HEADRACE_TEST_REMOTE";

#[derive(Debug, Error)]
pub enum SharedError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Wait(#[from] WaitError),
    #[error("cannot clean up after signals and earlier runs: {0}")]
    Hygiene(#[from] io::Error),
    #[error(
        "KUBECONFIG names the cluster at {0}, which is not on this machine. The tests add nodes and namespaces \
         and install CRDs for a while: unset KUBECONFIG to have a private cluster, or set {REMOTE}=yes to let them"
    )]
    Remote(String),
}

/// A cluster for tests.
#[derive(Debug)]
pub enum Cluster {
    /// Ours alone.
    Private(Box<ControlPlane>),
    /// The one that KUBECONFIG names.
    Given(Box<Kubeconfig>),
}

impl Cluster {
    /// The cluster of this test program. What could not be had once is not tried for every test again.
    pub async fn shared() -> Result<Arc<Self>, Arc<SharedError>> {
        static SHARED: OnceCell<Result<Arc<Cluster>, Arc<SharedError>>> = OnceCell::const_new();
        SHARED.get_or_init(|| async { Self::provide().await.map(Arc::new).map_err(Arc::new) }).await.clone()
    }

    /// Whether KUBECONFIG names one to use.
    pub fn named() -> bool {
        env::var_os("KUBECONFIG").is_some_and(|named| !named.is_empty())
    }

    async fn provide() -> Result<Self, SharedError> {
        if Self::named() {
            let kubeconfig = Kubeconfig::from_env().map_err(AccessError::from)?.unwrap_or_default();
            let url = access::config(kubeconfig.clone()).await?.cluster_url;
            let allowed = env::var_os(REMOTE).is_some_and(|set| set == "yes");
            if !allowed && !url.host().is_some_and(on_loopback) {
                return Err(SharedError::Remote(url.to_string()));
            }
            return Ok(Self::Given(Box::new(kubeconfig)));
        }
        // In this order: what is started is then ended, whatever way the program goes.
        hygiene::on_signals()?;
        hygiene::at_exit();
        hygiene::remove_stale()?;
        Ok(Self::Private(Box::new(ControlPlane::start(&Options::default()).await?)))
    }

    /// A client for the runtime of the test that asks.
    pub async fn client(&self) -> Result<Client, SharedError> {
        Ok(match self {
            Self::Private(plane) => plane.access().client().await?,
            Self::Given(kubeconfig) => access::client(access::config(Kubeconfig::clone(kubeconfig)).await?)?,
        })
    }

    /// A namespace that no other test uses, ready for pods.
    pub async fn namespace(&self) -> Result<TestNamespace, SharedError> {
        let client = self.client().await?;
        TestNamespace::make(client).await
    }
}

fn on_loopback(host: &str) -> bool {
    let bare = host.trim_matches(['[', ']']);
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A namespace of one test. `leave` deletes it; what a failed test leaves goes with the cluster.
pub struct TestNamespace {
    pub name: String,
    client: Client,
}

impl std::fmt::Debug for TestNamespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestNamespace").field("name", &self.name).finish_non_exhaustive()
    }
}

impl TestNamespace {
    async fn make(client: Client) -> Result<Self, SharedError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("headrace-test-{}-{number}", std::process::id());
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces.create(&PostParams::default(), &namespace).await.map_err(ClusterError::from)?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &name);
        until(&format!("namespace {name} has its service account"), PATIENCE, async || {
            Ok(seen(accounts.get_opt("default").await?.is_some(), "it has none"))
        })
        .await?;
        Ok(Self { name, client })
    }

    /// The namespaced objects of a kind.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Deletes it with everything inside, and waits until it is gone.
    pub async fn leave(self) -> Result<(), SharedError> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.delete(&self.name, &DeleteParams::default()).await.map_err(ClusterError::from)?;
        until(&format!("namespace {} is gone", self.name), PATIENCE, async || {
            Ok(match namespaces.get_opt(&self.name).await? {
                None => Seen::Done(()),
                // Its conditions say what holds it.
                Some(namespace) => Seen::NotYet(format!("{:?}", namespace.status)),
            })
        })
        .await?;
        Ok(())
    }
}

fn seen(done: bool, otherwise: &str) -> Seen<()> {
    if done { Seen::Done(()) } else { Seen::NotYet(otherwise.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::on_loopback;

    #[test]
    fn only_loopback_needs_no_permission() {
        assert!(on_loopback("127.0.0.1") && on_loopback("localhost") && on_loopback("[::1]"));
        assert!(!on_loopback("10.0.0.1") && !on_loopback("api.example.com"));
    }
}
