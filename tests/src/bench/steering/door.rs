//! The operator's HTTPS edge in a process of its own, with a world behind it in which reports keep coming.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::jiff::Timestamp;
use operator::schedule::https::{Schedule, Tls};
use operator_api::crd::Dataset;
use operator_api::validate::{Claim, Known, Room, graph::Graph};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::world::{self, World};

/// What the process says first, on one line of its standard output.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Opened {
    pub port: u16,
    /// The certificate, which is its own authority.
    pub authority: String,
}

/// A certificate for 127.0.0.1, and what to serve it with.
pub fn certificate() -> Result<(String, Tls)> {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    let config = Arc::new(config);
    Ok((made.cert.pem(), Arc::new(move || config.clone())))
}

/// Knows no other objects: these benchmarks make none.
#[derive(Debug)]
pub struct Nothing;

impl Known for Nothing {
    fn dataset(&self, _: &str, _: &str) -> Option<Arc<Dataset>> {
        None
    }
    fn claim(&self, _: &str, _: &str) -> Option<Claim> {
        None
    }
    fn operations(&self, _: &str) -> Graph {
        Graph::default()
    }
    fn roomiest_node(&self) -> Option<Room> {
        None
    }
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Serves until standard input ends.
pub fn run(world: World, reports_a_second: u32) -> Result<()> {
    let (authority, tls) = certificate()?;
    let (inventory, picture) = world.build(world::node);
    let picture = Arc::new(picture);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let opened = Opened { port: listener.local_addr()?.port(), authority };
    let (stop, stopped) = watch::channel(false);
    let served =
        runtime.spawn(Schedule::new(picture.clone(), Arc::new(Nothing)).serve(listener, tls, stopped));
    let ticking = picture.clone();
    runtime.spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tick.tick().await;
            ticking.tick();
        }
    });
    if reports_a_second > 0 {
        std::thread::spawn(move || {
            let (begun, pause) = (Instant::now(), Duration::from_secs(1) / reports_a_second);
            for number in 0_u32.. {
                // Each node in turn; its first report was the whole.
                world.report(&inventory, number, u64::from(number / world.nodes) + 2);
                std::thread::sleep((pause * (number + 1)).saturating_sub(begun.elapsed()));
            }
        });
    }
    println!("{}", serde_json::to_string(&opened)?);
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest).context("standard input broke")?;
    stop.send_replace(true);
    runtime.block_on(served)?;
    Ok(())
}
