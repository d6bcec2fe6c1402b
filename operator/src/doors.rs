//! The two ports that need to show who is behind them: agents' streams, and webhooks with the scheduler extender.
//!
//! Both serve with one certificate, which is opened and renewed here; the leader tells the cluster of its
//! authority. Ports are bound at once, so that a bad address is known at start, and served when there is a
//! certificate: who comes earlier waits in the kernel's queue.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use rustls::pki_types::ServerName;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::certs::{self, Enrolments, KubeVault, Serving, Source, TokenReviews};
use crate::config::{AgentsConfig, CertificatesConfig};
use crate::ingest::{self, Hub, IngestError, Listening};
use crate::marks;
use crate::metrics::Metrics;
use crate::schedule::leader::Leader;
use crate::schedule::register;
use crate::steering::Steering;
use crate::watch::Stores;

/// The Secret that keeps the authority.
const SECRET: &str = "headrace-authority";

/// How soon certificates are asked for again where that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// How long agents wait in the kernel's queue for this replica to find out whether it leads: one that is started again
/// in the place of a leader has the Lease within tenths of a second.
const UNDECIDED: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    #[error(transparent)]
    Agents(#[from] IngestError),
    #[error("nothing can listen at {addr}: {source}; choose another address with --scheduling")]
    Scheduling { addr: SocketAddr, source: std::io::Error },
    #[error("'{0}' is no name that a certificate can have; choose another namespace, or --name")]
    Name(String),
}

/// Bound, and not yet served.
#[derive(Debug)]
pub struct Doors {
    agents: Option<(Listening, String)>,
    scheduling: Option<TcpListener>,
    source: Source<KubeVault>,
    namespace: String,
    /// By which replicas know each other.
    name: ServerName<'static>,
    shut: Shut,
}

/// Why there is no certificate; see [`Doors::shut`].
type Shut = watch::Sender<Option<String>>;

/// What answers behind the doors.
#[derive(Clone, Debug)]
pub struct Inside {
    pub hub: Arc<Hub>,
    pub steering: Steering,
    pub stores: Stores,
    /// Since when this replica leads; none where it does not.
    pub leads: watch::Receiver<Option<Instant>>,
    /// Where another one that leads is asked.
    pub leader: watch::Receiver<Option<SocketAddr>>,
    pub metrics: Metrics,
}

impl Doors {
    pub async fn bind(
        agents: Option<AgentsConfig>,
        scheduling: Option<SocketAddr>,
        certificates: CertificatesConfig,
        namespace: &str,
        client: Client,
    ) -> Result<Self, DoorError> {
        let CertificatesConfig { folder, names } = certificates;
        let name = names.first().cloned().unwrap_or_else(|| format!("headrace-operator.{namespace}.svc"));
        let name = ServerName::try_from(name.clone()).map_err(|_| DoorError::Name(name))?;
        let source = match folder {
            Some(folder) => Source::Files { folder },
            None => Source::Own { vault: KubeVault::new(client, namespace, SECRET), names },
        };
        let agents = match agents {
            Some(AgentsConfig { listen, account }) => Some((ingest::bind(listen)?, account)),
            None => None,
        };
        let scheduling = match scheduling {
            Some(addr) => {
                let bound = TcpListener::bind(addr).await;
                Some(bound.map_err(|source| DoorError::Scheduling { addr, source })?)
            }
            None => None,
        };
        let why =
            (agents.is_some() || scheduling.is_some()).then(|| "it has only just been asked for".to_owned());
        let shut = watch::Sender::new(why);
        Ok(Self { agents, scheduling, source, namespace: namespace.to_owned(), name, shut })
    }

    /// Why there is no certificate to serve with yet; none once there is one, or where none is needed.
    pub fn shut(&self) -> watch::Receiver<Option<String>> {
        self.shut.subscribe()
    }

    /// Serves until `stop` turns true, and then until what is under way has ended, within bounds.
    pub async fn serve(
        self,
        client: Client,
        inside: Inside,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), DoorError> {
        let Self { agents, scheduling, source, namespace, name, shut } = self;
        if agents.is_none() && scheduling.is_none() {
            let _ = stop.wait_for(|stop| *stop).await;
            return Ok(());
        }
        let opened = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            opened = Box::pin(opened(&source, &shut)) => opened,
        };
        let (serving, signer) = opened;
        let Inside { hub, steering, stores, leads, leader, metrics } = inside;

        let agents = agents.map(|(listening, account)| {
            let reviews = TokenReviews::new(client.clone(), &namespace, &account);
            let enrolments = Enrolments::new(reviews, signer.clone());
            let until = (leads.clone(), stop.clone());
            Box::pin(serve_agents(listening, hub, serving.clone(), enrolments, until))
        });
        let scheduling = scheduling.map(|listener| {
            let (serving, stop, authority) = (serving.clone(), stop.clone(), serving.authority());
            let leader = Leader::new(leader, serving.authority(), name, Arc::new(metrics));
            let lead = (leads.clone(), leader);
            let keep =
                register::keep(client, namespace, marks::FIELD_MANAGER, authority, leads, stop.clone());
            let answer = answer(steering, stores, lead, listener, serving, stop);
            Box::pin(async move { tokio::join!(keep, answer) })
        });
        let renewing = certs::renew(source, serving, signer, stop);
        tokio::try_join!(
            async { if_any(agents).await.unwrap_or(Ok(())) },
            async {
                if_any(scheduling).await;
                Ok(())
            },
            async {
                renewing.await;
                Ok(())
            },
        )?;
        Ok(())
    }
}

/// Serves once it is decided whether this replica leads (`until.0`), until it is to end (`until.1`). Whoever is turned away
/// because it does not lead yet comes again seconds later.
async fn serve_agents(
    listening: Listening,
    hub: Arc<Hub>,
    serving: Serving,
    enrolments: Enrolments<TokenReviews>,
    until: (watch::Receiver<Option<Instant>>, watch::Receiver<bool>),
) -> Result<(), IngestError> {
    let (mut leads, mut stop) = until;
    let stopped = stop.clone();
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        _ = tokio::time::timeout(UNDECIDED, leads.wait_for(Option::is_some)) => {}
    }
    listening.serve(hub, serving, Some(enrolments), stopped).await
}

async fn if_any<F: Future>(future: Option<F>) -> Option<F::Output> {
    match future {
        Some(future) => Some(future.await),
        None => None,
    }
}

/// An API server that is away now is there again later.
async fn opened(source: &Source<KubeVault>, shut: &Shut) -> (Serving, certs::Signer) {
    loop {
        match certs::open(source).await {
            Ok(opened) => {
                shut.send_replace(None);
                return opened;
            }
            Err(error) => {
                tracing::error!("agents, webhooks and schedulers cannot be served yet: {error}");
                shut.send_replace(Some(error.to_string()));
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// What is answered before everything has been listed would refuse objects for what is only not yet known.
async fn answer(
    steering: Steering,
    stores: Stores,
    lead: (watch::Receiver<Option<Instant>>, Leader),
    listener: TcpListener,
    serving: Serving,
    mut stop: watch::Receiver<bool>,
) {
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => return,
        () = stores.wait_until_ready() => {}
    }
    steering.serve(stores, lead, listener, Arc::new(move || serving.current()), stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn doors_say_why_they_are_shut_until_there_is_a_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let service = tower::service_fn(|_: axum::http::Request<kube::client::Body>| {
            std::future::pending::<Result<axum::http::Response<kube::client::Body>, std::convert::Infallible>>(
            )
        });
        let client = Client::new(service, "n");
        let bind = |scheduling: Option<SocketAddr>| {
            let certificates =
                CertificatesConfig { folder: Some(folder.path().to_owned()), names: Vec::new() };
            Doors::bind(None, scheduling, certificates, "n", client.clone())
        };
        assert_eq!(*bind(None).await.unwrap().shut().borrow(), None, "nobody is to be served");

        let doors = bind(Some(([127, 0, 0, 1], 0).into())).await.unwrap();
        let mut shut = doors.shut();
        assert!(shut.borrow_and_update().is_some());
        let opening = opened(&doors.source, &doors.shut);
        tokio::select! {
            _ = opening => panic!("there is nothing to open with"),
            changed = tokio::time::timeout(AGAIN, shut.changed()) => changed.unwrap().unwrap(),
        }
        let why = shut.borrow().clone().unwrap();
        assert!(why.contains(&folder.path().display().to_string()), "{why}");

        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(folder.path().join("tls.crt"), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join("tls.key"), made.signing_key.serialize_pem()).unwrap();
        std::fs::write(folder.path().join("ca.crt"), made.cert.pem()).unwrap();
        opened(&doors.source, &doors.shut).await;
        assert_eq!(*shut.borrow(), None);
    }
}
