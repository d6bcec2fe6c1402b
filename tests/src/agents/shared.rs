//! What all simulated nodes share: the world they live in, and what they count.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::time::Duration;

use operator::inventory::Report;
use tokio::sync::{mpsc, watch};

use super::world::World;

/// What the nodes have done, and what they should do.
#[derive(Debug)]
pub struct Shared {
    pub world: World,
    pub period: Duration,
    /// Whether residency changes with each interval.
    pub changing: AtomicBool,
    pub connected: AtomicI64,
    pub failures: AtomicU64,
    pub reports: AtomicU64,
    pub ranges: AtomicU64,
    pub acks: AtomicU64,
    pub resyncs: AtomicU64,
    pub instructions: AtomicU64,
    /// Of these, those of DataLoads.
    pub loads: AtomicU64,
    pub doubles: AtomicU64,
    /// What some of these were, for people.
    pub twice: Mutex<Vec<String>>,
    pub last_error: Mutex<String>,
    /// Where each node says once what it holds, by its number.
    pub census: watch::Sender<Option<mpsc::UnboundedSender<(u32, Report)>>>,
}
