//! Scheduling as a part of the running operator: what the watches see goes into its picture, bound pods go to
//! the agents, and the edge answers from it.

use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::inventory::{Fact, Inventory};
use crate::reconcile::agents::{Agents, Wish};
use crate::schedule::bound::{self, Begin};
use crate::schedule::hearing::Hearing;
use crate::schedule::https::{Schedule, Tls};
use crate::schedule::leader::Leader;
use crate::schedule::objects::Objects;
use crate::schedule::picture::Picture;
use crate::schedule::pods;
use crate::watch::Heard;
use crate::watch::Stores;

/// Between moments: how old a score may be, and how late a new node is seen.
const MOMENT: Duration = Duration::from_secs(1);

/// Of instructions: a pod that was bound waits, a load that somebody planned can (those have up to 100,999).
const PRIORITY: u32 = 200_000;

#[derive(Clone, Debug)]
pub struct Steering {
    inventory: Arc<RwLock<Inventory>>,
    picture: Arc<Picture>,
    hearing: Arc<Hearing>,
}

/// The agents, as pods that were bound need them.
struct OnBind(Arc<dyn Agents>);

impl bound::Agents for OnBind {
    fn begin(&self, begin: Begin) {
        let Begin { id, node, dataset, version, chunks, reason } = begin;
        let wish = Wish {
            id: id.into(),
            node,
            dataset,
            path: String::new(),
            chunks: Some((version, chunks)),
            pin: false,
            priority: PRIORITY,
            reason: reason.into(),
            // The kubelet mounts a pod's volumes when it has been bound.
            awaits_mount: true,
        };
        if let Err(why) = self.0.ask(&wish) {
            // The pod reads as it would have read; its agent learns of it from its reads.
            tracing::debug!(node = %wish.node, dataset = %wish.dataset, why, "nothing was fetched on bind");
        }
    }

    fn call_off(&self, node: &str, prefix: &str) {
        self.0.call_off(node, prefix);
    }
}

impl Steering {
    pub fn new(inventory: Arc<RwLock<Inventory>>) -> Self {
        let picture = Arc::new(Picture::new(inventory.clone()));
        let hearing = Arc::new(Hearing::new(picture.clone()));
        Self { inventory, picture, hearing }
    }

    pub fn hear(&self, heard: Heard<'_>) {
        self.hearing.hear(heard);
    }

    /// Starts what runs beside the edge; it ends with `tasks`.
    pub fn start(
        &self,
        client: Client,
        stores: Stores,
        agents: Arc<dyn Agents>,
        leads: watch::Receiver<Option<Instant>>,
        tell: impl FnMut(Fact) + Send + 'static,
        tasks: &mut JoinSet<()>,
    ) {
        let (picture, told) = (self.picture.clone(), agents.clone());
        tasks.spawn(async move {
            let mut tick = tokio::time::interval(MOMENT);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                picture.set_coming(told.under_way());
                picture.tick();
            }
        });
        let picture = self.picture.clone();
        tasks.spawn(async move {
            // A pod whose claims mean nothing yet would be passed over.
            stores.wait_until_ready().await;
            let (_never, stop) = watch::channel(false);
            pods::watch(client, picture, Arc::new(OnBind(agents)), leads, tell, stop).await;
        });
    }

    /// Answers the API server and schedulers until `stop` is true; where another replica leads, by its word. `lead.0`:
    /// since when this one does.
    pub async fn serve(
        &self,
        stores: Stores,
        lead: (watch::Receiver<Option<Instant>>, Leader),
        listener: TcpListener,
        tls: Tls,
        stop: watch::Receiver<bool>,
    ) {
        let (leads, leader) = lead;
        let objects = Objects::new(stores, self.picture.clone(), self.inventory.clone(), leads);
        let schedule = Schedule::new(self.picture.clone(), Arc::new(objects)).behind(Arc::new(leader));
        schedule.serve(listener, tls, stop).await;
    }
}
