//! All simulated nodes together: their certificates, their threads, and what they have seen.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use agent::report::connect::{self, Address};
use agent::report::speaker::Speaker;
use anyhow::{Context, Result};
use operator::certs::Authority;
use operator::inventory::{Fact, Inventory, Millis};
use rcgen::{CertificateParams, KeyPair};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::deed::Numbers;
use super::memory::Memory;
use super::node::Node;
use super::shared::Shared;
use super::world::{Random, World};

/// Every connected node answers at once; one that is about to connect does then.
const CENSUS: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Fleet {
    pub shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

/// A node's own TLS configuration, with a certificate that the authority signs for it.
pub fn tls_of(authority: &Authority, node: &str) -> Result<Arc<ClientConfig>> {
    tls_from(authority, node, SystemTime::now())
}

/// The same with a certificate that was signed at that time.
pub fn tls_from(authority: &Authority, node: &str, signed: SystemTime) -> Result<Arc<ClientConfig>> {
    let key = KeyPair::generate()?;
    let request = CertificateParams::default().serialize_request(&key)?;
    let certificate = authority.sign_node(request.der(), node, signed)?;
    let trusted: Vec<CertificateDer<'static>> = vec![authority.certificate().clone()];
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    Ok(connect::tls(&trusted, Some((vec![certificate], key)))?)
}

impl Fleet {
    /// Starts all nodes; they connect as soon as they can.
    pub fn start(
        world: World,
        period: Duration,
        url: &str,
        authority: &Authority,
        threads: usize,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            world,
            period,
            changing: AtomicBool::new(true),
            connected: AtomicI64::new(0),
            failures: AtomicU64::new(0),
            reports: AtomicU64::new(0),
            ranges: AtomicU64::new(0),
            acks: AtomicU64::new(0),
            resyncs: AtomicU64::new(0),
            instructions: AtomicU64::new(0),
            loads: AtomicU64::new(0),
            doubles: AtomicU64::new(0),
            twice: Mutex::default(),
            last_error: Mutex::default(),
            census: watch::Sender::default(),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("agents")
            .enable_all()
            .build()
            .context("starting the threads of the simulated agents failed")?;
        let address = Address::parse(url)?;
        for number in 0..world.nodes {
            let name = world.node_name(number);
            let mut random = Random::new(world.seed.wrapping_mul(31).wrapping_add(number.into()));
            let node = Node {
                number,
                shared: shared.clone(),
                address: address.clone(),
                tls: tls_of(authority, &name)?,
                speaker: Speaker::new(&name, random.draw()),
                memory: Memory::default(),
                numbers: Numbers::new(),
                random,
            };
            runtime.spawn(node.run());
        }
        Ok(Self { shared, runtime: Some(runtime) })
    }

    /// The digest of an inventory that knows what every node holds now, whatever the operator was told, and of the cluster
    /// what `declared` says. Means something while nothing changes.
    pub fn digest(&self, declared: &[Fact]) -> Result<u128> {
        let world = self.shared.world;
        let runtime = self.runtime.as_ref().context("the simulated agents have ended")?;
        let (sender, mut told) = mpsc::unbounded_channel();
        self.shared.census.send_replace(Some(sender));
        let mut inventory = Inventory::default();
        for fact in declared {
            inventory.apply(fact.clone(), Millis(0));
        }
        for heard in 0..world.nodes {
            let next = runtime.block_on(async { timeout(CENSUS, told.recv()).await });
            let (node, report) = next.ok().flatten().with_context(|| {
                format!("{heard} of {} nodes said what they hold within {CENSUS:?}", world.nodes)
            })?;
            inventory.apply(Fact::Report { node: world.node_name(node).into(), report }, Millis(0));
        }
        self.shared.census.send_replace(None);
        Ok(inventory.digest())
    }

    pub fn connected(&self) -> u32 {
        u32::try_from(self.shared.connected.load(Relaxed)).unwrap_or(0)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Nothing of them outlives the process, and one that is asynchronous must not wait here.
            runtime.shutdown_background();
        }
    }
}
