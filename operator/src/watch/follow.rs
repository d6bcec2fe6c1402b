//! One watch, for as long as the program lives.

use std::fmt::Debug;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::listings::{self, Listing};
use super::pace::Pace;
use super::readable::Told;

/// A watch that stays interrupted is told of again after so long.
const AGAIN: Duration = Duration::from_secs(60);

/// Before a kind is listed anew because an object that could not be read is gone: many of them go together.
const ANEW: Duration = Duration::from_secs(1);

/// A watch on a kind whose objects the apiserver itself makes sense of.
pub(super) fn plain<K>(
    client: &Client,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<Told<K>>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let events = watch(Api::<K>::all(client.clone()), config).backoff(Pace::default());
    events.modify(|object| object.meta_mut().managed_fields = None).map(|event| event.map(Told::Event))
}

/// Watches for ever. What cannot be had is asked for again, less and less often; the library knows the rules
/// (a watch that ended, a version too old, an apiserver that says no).
pub(super) async fn follow<K, S>(watch: impl Fn() -> S, listing: Listing, mut fold: impl FnMut(Event<K>))
where
    S: Stream<Item = watcher::Result<Told<K>>>,
{
    let mut told: Option<Instant> = None;
    loop {
        let mut events = pin!(watch());
        while let Some(event) = events.next().await {
            match event {
                Ok(Told::Event(event)) => {
                    told = None;
                    let whole = matches!(event, Event::InitDone);
                    fold(event);
                    if whole {
                        listing.listed();
                    }
                }
                Ok(Told::Nothing) => {}
                Ok(Told::ListAnew) => break,
                Err(error) => {
                    let why = listings::why(listing.kind(), &error);
                    listing.failed(&why);
                    // The first of a row, and then now and again: the others say the same.
                    if told.is_none_or(|told| told.elapsed() > AGAIN) {
                        tracing::warn!(kind = listing.kind(), why, "a watch is interrupted");
                        told = Some(Instant::now());
                    }
                }
            }
        }
        tokio::time::sleep(ANEW).await;
    }
}
