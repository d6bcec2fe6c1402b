//! The watch on bound pods: waits for events, and carries out what `bound` says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1 as core;
use kube::api::ApiResource;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio::sync::watch;

use super::bound::{Agents, Bound, FIELDS, Needs, Outcome, Watched};
use crate::inventory::Fact;
use crate::watch::Pace;

/// Whoever begins to lead knows what nodes hold when their agents have come. What pods wait for is asked then: the replica
/// that led before may have asked it and been forgotten, or not have come to it.
const HEARD: Duration = Duration::from_secs(15);

/// When a replica that leads since then asks; never for one that does not lead.
async fn due(leads: Option<Instant>) {
    match leads {
        Some(since) => tokio::time::sleep_until((since + HEARD).into()).await,
        None => std::future::pending().await,
    }
}

/// `leads`: since when this replica does. Runs until `stop` is true. Should begin when the Datasets are known: a pod whose
/// claims mean nothing yet is passed over.
pub async fn watch(
    client: Client,
    needs: Arc<dyn Needs>,
    agents: Arc<dyn Agents>,
    mut leads: watch::Receiver<Option<Instant>>,
    mut tell: impl FnMut(Fact),
    mut stop: watch::Receiver<bool>,
) {
    let pods: Api<Watched> = Api::all_with(client, &ApiResource::erase::<core::Pod>(&()));
    let follow = || {
        watcher::watcher(pods.clone(), watcher::Config::default().fields(FIELDS))
            .backoff(Pace::default())
            .boxed()
    };
    let mut events = follow();
    let mut bound = Bound::default();
    let mut asks = *leads.borrow_and_update();
    loop {
        let event = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            // Where nobody elects any more, what is known stands.
            Ok(()) = leads.changed() => {
                asks = *leads.borrow_and_update();
                continue;
            }
            () = due(asks) => {
                asks = None;
                bound.ask_anew();
                events = follow();
                continue;
            }
            event = events.next() => event,
        };
        let outcomes = match event {
            None => return,
            Some(Err(error)) => {
                tracing::warn!(%error, "the watch on bound pods broke; fetching on bind waits until it is back");
                continue;
            }
            Some(Ok(Event::Init)) => {
                bound.listing();
                continue;
            }
            Some(Ok(Event::InitDone)) => bound.listed(),
            Some(Ok(Event::InitApply(pod) | Event::Apply(pod))) => bound.seen(&*needs, &pod),
            Some(Ok(Event::Delete(pod))) => bound.ended(&pod),
        };
        for outcome in outcomes {
            match outcome {
                Outcome::Tell(fact) => tell(fact),
                Outcome::Begin(begin) => agents.begin(begin),
                Outcome::CallOff { node, prefix } => agents.call_off(&node, &prefix),
            }
        }
    }
}
