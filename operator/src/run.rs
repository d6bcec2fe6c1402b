//! The operator's life: connect, watch, stand for election, lead, stop.
//!
//! Every replica watches and answers; the one that holds the Lease also writes. Whoever loses it stops writing at
//! once and stands again.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use kube::client::ClientBuilder;
use kube::{Client, Resource};
use operator_api::crd::Dataset;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::agents;
use crate::census;
use crate::clock;
use crate::config::{Config, LogFormat};
use crate::doors::{DoorError, Doors, Inside};
use crate::health::{self, Health, HealthError};
use crate::ingest::{Hub, Limits};
use crate::inventory::{Fact, Inventory};
use crate::learned;
use crate::lease::Candidate;
use crate::metrics::Metrics;
use crate::placing;
use crate::reconcile::controller;
use crate::reconcile::dataset::reconcile::Context as Datasets;
use crate::reconcile::event::Events;
use crate::reconcile::measured::Ledger;
use crate::reconcile::operation::reconcile::Context;
use crate::reconcile::write::{Leading, Writer};
use crate::steering::Steering;
use crate::watch::{Heard, Sink, Stores, facts, stores};

/// Name of the Lease.
const LEASE: &str = "headrace-operator";

/// At the start agents tell what they learned while nobody listened, of pods that are not listed yet, or have ended
/// since: so long they are believed, as where no pods are watched.
const UNLISTED: Duration = Duration::from_secs(300);

/// How long giving the Lease back may take at the end.
const FAREWELL: Duration = Duration::from_secs(3);

/// Who waits for the cluster says so after so long.
const SILENCE: Duration = Duration::from_secs(15);

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the log filter is not understood: {0}; use info, or operator=debug")]
    Log(String),
    #[error("the runtime could not be started: {0}")]
    Runtime(#[source] std::io::Error),
    #[error("no way to a cluster: {0}; run in a pod with a service account, or set KUBECONFIG")]
    Cluster(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Door(#[from] DoorError),
    #[error(transparent)]
    Health(#[from] HealthError),
    #[error("signals cannot be waited for: {0}")]
    Signal(#[source] std::io::Error),
    #[error("a part of the operator ended unasked: {0}; it is a fault of the program, please report it")]
    Ended(String),
}

/// Descriptors the operator can use: one for each node's agent, those of the doors, and the watches.
const DESCRIPTORS: u64 = 16_384;

/// The usual soft limit of 1,024 is made for select(2), which nothing here calls, and is less than a large cluster has
/// nodes. Where it cannot be raised, what runs out says so.
fn more_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(DESCRIPTORS, |most| most.min(DESCRIPTORS));
    if limit.current.is_some_and(|current| current < wanted) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    }
}

pub fn run(config: Config) -> Result<(), RunError> {
    // kube and tonic would each bring another; rustls takes the first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log);
    let filter = filter.map_err(|error| RunError::Log(error.to_string()))?;
    // A second one in one process, as in tests, changes nothing.
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // What cannot be logged would be told on stderr, by a macro that panics when that fails too.
        .log_internal_errors(false);
    let _ = match config.log_format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    more_descriptors();
    let runtime = tokio::runtime::Runtime::new().map_err(RunError::Runtime)?;
    let ended = runtime.block_on(life(config));
    // What hangs in a blocking call must not keep the process.
    runtime.shutdown_timeout(FAREWELL);
    ended
}

/// The cluster's client; what its answers say of the time is heard.
async fn client() -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
    let hears = tower::util::MapResponseLayer::new(|answer: http::Response<_>| {
        clock::hear(answer.headers());
        answer
    });
    let config = kube::Config::infer().await?;
    Ok(ClientBuilder::try_from(config)?.with_layer(&hears).build())
}

async fn life(config: Config) -> Result<(), RunError> {
    let (stop, stopped) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signal)?;
    let client = client().await.map_err(RunError::Cluster)?;
    let serving = operator(config, client, stopped);
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return ended,
        _ = terminate.recv() => tracing::info!("SIGTERM: ending"),
        _ = interrupt.recv() => tracing::info!("SIGINT: ending"),
    }
    let _ = stop.send(true);
    serving.await
}

/// The operator over one cluster, until `stop` turns true.
pub async fn operator(config: Config, client: Client, stop: watch::Receiver<bool>) -> Result<(), RunError> {
    let reached_at = config.reached_at();
    let Config {
        namespace,
        identity,
        health: addr,
        worker_image,
        log: _,
        log_format: _,
        agents,
        scheduling,
        address: _,
        certificates,
    } = config;
    if scheduling.is_some() && reached_at.is_none() {
        tracing::warn!(
            "no --address: should other replicas run beside this one, pods get no preference from them while this one leads; set HEADRACE_ADDRESS to status.podIP"
        );
    }
    let health = Health::default();
    let listener = health::bind(addr).await?;
    let doors = Doors::bind(agents, scheduling, certificates, &namespace, client.clone()).await?;
    let inventory: Arc<RwLock<Inventory>> = Arc::default();

    let asked = signal(SignalKind::user_defined1()).map_err(RunError::Signal)?;

    let mut tasks = JoinSet::new();
    tasks.spawn(health.clone().pulse());
    tasks.spawn(census::keep(asked, inventory.clone()));
    let hub = Hub::new(Limits::default(), life_number(), inventory.clone());
    hub.admit(false);
    hub.directory_is_whole(false);
    let metrics = Metrics::new(hub.clone());
    let steering = Steering::new(inventory.clone());
    let sink = sink(inventory.clone(), steering.clone(), hub.clone());
    let stores = stores::start(&client, sink, &mut tasks);
    tasks.spawn(readiness(stores.clone(), doors.shut(), health.clone(), metrics.clone()));
    let shut = doors.shut();
    let answering = health::serve(listener, health.clone(), metrics.clone(), stop.clone());

    let leading = Leading::default();
    let datasets = Arc::new(Datasets {
        stores: stores.clone(),
        writer: Writer::new(client.clone(), leading.clone()),
        events: Events::new(client.clone(), &identity, leading.clone()),
        measured: Arc::new(Ledger::new(inventory.clone())),
        last_operations: Mutex::new(HashMap::new()),
        written: Mutex::new(HashMap::new()),
        leads_since: Mutex::new(None),
    });
    let told = inventory.clone();
    hub.watch_pods(Instant::now() + UNLISTED);
    let (tell, leads) = (move |fact| tell(&told, fact), leading.changes());
    steering.start(client.clone(), stores.clone(), hub.clone(), leads, tell, &mut tasks);
    let candidate = Candidate::new(client.clone(), &namespace, LEASE, &identity, reached_at);
    let (leads, leader, metrics_too) = (leading.changes(), candidate.leader(), metrics.clone());
    let (listings, to_bind, mut ending) = (stores.listings.clone(), hub.clone(), stop.clone());
    let inside = Inside { hub: hub.clone(), steering, stores, leads, leader, metrics: metrics_too };
    // Boxed, as the doors' own parts are: all in one future overflow a worker's stack where nothing is optimised.
    let doors = Box::pin(doors.serve(client, inside, stop.clone()));
    let campaign = async {
        campaign((candidate, shut), leading, datasets, hub, worker_image, metrics, stop).await;
        Ok(())
    };
    let telling = async {
        answering.await;
        Ok(())
    };
    let binding = async {
        let kind = Dataset::kind(&());
        tokio::select! {
            () = listings.wait_for(&kind) => to_bind.directory_is_whole(true),
            _ = ending.wait_for(|stop| *stop) => {}
        }
        Ok(())
    };
    let mut life = std::pin::pin!(async { tokio::try_join!(campaign, doors, telling, binding) });
    tokio::select! {
        // Ends when it is told to, and has given the Lease back by then; early only where a door fails.
        ended = &mut life => {
            ended?;
        }
        Some(ended) = tasks.join_next() => return Err(RunError::Ended(format!("{ended:?}"))),
    }
    health.set_unready(Some("the operator is ending".into()));
    Ok(())
}

/// Stands for election, leads, and stands again, until `stop` turns true; then gives the Lease back. The candidate comes with
/// why it cannot serve.
async fn campaign(
    (mut candidate, mut shut): (Candidate, watch::Receiver<Option<String>>),
    leading: Leading,
    datasets: Arc<Datasets>,
    hub: Arc<Hub>,
    image: Option<String>,
    metrics: Metrics,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let since = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            since = candidate.acquire(&mut shut) => since,
        };
        tracing::info!("this replica leads now");
        leading.set(true);
        hub.admit(true);
        metrics.lead(true);
        datasets.begin_term();
        let context = Arc::new(Context {
            datasets: datasets.clone(),
            agents: hub.clone(),
            image: image.clone(),
            asked: Mutex::default(),
            refused: Mutex::default(),
            written: Mutex::default(),
        });
        let told = tokio::select! {
            () = candidate.hold(since) => false,
            () = controller::run(context, Arc::new(metrics.clone())) => false,
            () = placing::run(hub.clone()) => false,
            () = learned::keep(&hub, &datasets.stores, &datasets.writer) => false,
            _ = stop.wait_for(|stop| *stop) => true,
        };
        leading.set(false);
        hub.admit(false);
        metrics.lead(false);
        if told {
            match tokio::time::timeout(FAREWELL, candidate.release()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the Lease was not given back; it runs out by itself")
                }
                Err(_) => tracing::warn!("the Lease was not given back in time; it runs out by itself"),
            }
            return;
        }
        tracing::warn!("this replica does not lead any more; nothing is written until it does again");
    }
}

/// Ready when everything has been listed and whoever comes can be served; counts what there is.
async fn readiness(
    stores: Stores,
    mut shut: watch::Receiver<Option<String>>,
    health: Health,
    metrics: Metrics,
) {
    let mut turns = stores.listings.turns();
    while let Some(why) = stores.listings.waits_for() {
        health.set_unready(Some(format!("the cluster has not been listed yet: {why}")));
        if tokio::time::timeout(SILENCE, turns.next()).await.is_err() {
            tracing::warn!(why, "not ready: the cluster has not been listed yet");
        }
    }
    loop {
        let Some(why) = shut.borrow_and_update().clone() else { break };
        health.set_unready(Some(format!("no certificate yet: {why}")));
        if shut.changed().await.is_err() {
            // The doors have ended, and with them the operator does.
            return std::future::pending().await;
        }
    }
    health.set_unready(None);
    loop {
        metrics.objects("Dataset", stores.datasets.len());
        metrics.objects("DataLoad", stores.loads.len());
        metrics.objects("DataMigrate", stores.migrates.len());
        metrics.objects("DataBackup", stores.backups.len());
        metrics.objects("DataProcess", stores.processes.len());
        metrics.objects("Node", stores.nodes.len());
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

/// What is seen of the cluster goes into the inventory.
fn sink(inventory: Arc<RwLock<Inventory>>, steering: Steering, hub: Arc<Hub>) -> Sink {
    Arc::new(move |heard| {
        steering.hear(heard);
        if let Heard::Profile(profile) = heard {
            learned::hear(&hub, profile);
        }
        let fact = match heard {
            Heard::Dataset(dataset) => facts::dataset(dataset),
            Heard::DatasetGone { namespace, name } => facts::dataset_gone(namespace, name),
            Heard::Node(node) => facts::node(node),
            Heard::NodeGone(name) => facts::node_gone(name),
            Heard::Claim(_)
            | Heard::ClaimGone { .. }
            | Heard::Namespace(_)
            | Heard::NamespaceGone(_)
            | Heard::Profile(_)
            | Heard::ProfileGone { .. } => {
                return;
            }
        };
        agents::hear(&hub, &fact);
        tell(&inventory, fact);
    })
}

/// Names this life of the operator to the agents.
fn life_number() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

fn tell(inventory: &RwLock<Inventory>, fact: Fact) {
    inventory.write().unwrap_or_else(PoisonError::into_inner).apply(fact, clock::millis());
}
