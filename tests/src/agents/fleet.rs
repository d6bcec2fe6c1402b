//! All simulated nodes together: their certificates, their threads, and what they have seen.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use agent::report::connect::{self, Address};
use agent::report::speaker::Speaker;
use anyhow::{Context, Result};
use operator::certs::Authority;
use rcgen::{CertificateParams, KeyPair};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::runtime::Runtime;

use super::memory::Memory;
use super::node::Node;
use super::shared::Shared;
use super::world::{Random, World};

#[derive(Debug)]
pub struct Fleet {
    pub shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

/// A node's own TLS configuration, with a certificate that the authority signs for it.
pub fn tls_of(authority: &Authority, node: &str) -> Result<Arc<ClientConfig>> {
    let key = KeyPair::generate()?;
    let request = CertificateParams::default().serialize_request(&key)?;
    let certificate = authority.sign_node(request.der(), node, SystemTime::now())?;
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
            doubles: AtomicU64::new(0),
            last_error: Mutex::default(),
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
                random,
            };
            runtime.spawn(node.run());
        }
        Ok(Self { shared, runtime: Some(runtime) })
    }

    pub fn connected(&self) -> u32 {
        u32::try_from(self.shared.connected.load(Relaxed)).unwrap_or(0)
    }

    /// Whether everything sent has been acknowledged, as far as the counts tell.
    pub fn settled(&self) -> bool {
        self.shared.reports.load(Relaxed) <= self.shared.acks.load(Relaxed)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}
