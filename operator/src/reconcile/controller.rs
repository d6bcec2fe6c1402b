//! kube-runtime calls the reconcilers: one look at an object at a time, all objects side by side, failures again
//! after a wait that grows.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use kube::Resource;
use kube::runtime::controller::{self, Action, Error};
use kube::runtime::reflector::{ObjectRef, Store};
use operator_api::causes::chain;
use operator_api::crd::{DataBackup, DataLoad, DataMigrate, DataProcess};

use super::event::Events;
use super::failing::Failing;
use super::operation::job::Work;
use super::write::WriteError;
use super::{dataset, operation, orphans};
use crate::watch::Wake;

/// Looks under way at once, of each kind: what keeps an apiserver busy without being all of its work.
const CONCURRENCY: u16 = 64;

/// Counts what the reconcilers do.
pub trait Counts: Send + Sync + 'static {
    fn looked(&self, kind: &'static str, failed: bool);
}

/// Runs all reconcilers until dropped. Only the leader calls it.
pub async fn run(context: Arc<operation::reconcile::Context>, counts: Arc<dyn Counts>) {
    let stores = context.datasets.stores.clone();
    stores.wait_until_ready().await;
    let datasets = kind(
        "Dataset",
        stores.datasets.clone(),
        keys(stores.wakes.listen(), stores.datasets.clone(), |wake| match wake {
            Wake::Dataset { namespace, name } => Some((namespace.to_string(), name.to_string())),
            _ => None,
        }),
        context.datasets.clone(),
        dataset::reconcile::reconcile,
        (context.datasets.events.clone(), counts.clone()),
    );
    let loads = operations::<DataLoad>(&context, stores.loads.clone(), &counts);
    let migrates = operations::<DataMigrate>(&context, stores.migrates.clone(), &counts);
    let backups = operations::<DataBackup>(&context, stores.backups.clone(), &counts);
    let processes = operations::<DataProcess>(&context, stores.processes.clone(), &counts);
    let orphans = orphans::run(context.datasets.clone());
    let leftovers = operation::leftovers::run(context.clone());
    // All listen by now.
    stores.wake_all();
    futures::join!(datasets, loads, migrates, backups, processes, orphans, leftovers);
}

fn operations<K: Work>(
    context: &Arc<operation::reconcile::Context>,
    store: Store<K>,
    counts: &Arc<dyn Counts>,
) -> impl Future<Output = ()> + use<K> {
    let wakes = context.datasets.stores.wakes.listen();
    let queue = keys(wakes, store.clone(), |wake| match wake {
        Wake::Operation { kind, namespace, name } if kind == K::KIND => {
            Some((namespace.to_string(), name.to_string()))
        }
        _ => None,
    });
    let told = (context.datasets.events.clone(), counts.clone());
    kind(K::KIND.name(), store, queue, context.clone(), operation::reconcile::reconcile::<K>, told)
}

/// The objects of a kind that wakes concern.
fn keys<K>(
    wakes: impl Stream<Item = Wake> + Send,
    store: Store<K>,
    one: impl Fn(Wake) -> Option<(String, String)> + Send,
) -> impl Stream<Item = Result<ObjectRef<K>, Infallible>> + Send
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    wakes.flat_map(move |wake| {
        let refs: Vec<ObjectRef<K>> = if wake == Wake::Everything {
            store.state().iter().map(|object| ObjectRef::from_obj(&**object)).collect()
        } else {
            one(wake).map(|(namespace, name)| ObjectRef::new(&name).within(&namespace)).into_iter().collect()
        };
        stream::iter(refs.into_iter().map(Ok))
    })
}

async fn kind<K, Ctx, F>(
    name: &'static str,
    store: Store<K>,
    queue: impl Stream<Item = Result<ObjectRef<K>, Infallible>> + Send,
    context: Arc<Ctx>,
    reconcile: impl Fn(Arc<K>, Arc<Ctx>) -> F + Send,
    (events, counts): (Events, Arc<dyn Counts>),
) where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
    F: Future<Output = Result<Action, WriteError>> + Send,
    Ctx: Send + Sync + 'static,
{
    let failing = Arc::<Failing>::default();
    let applied = controller_applier(store, queue, context, reconcile, (failing.clone(), events));
    let mut applied = pin!(applied);
    while let Some(result) = applied.next().await {
        match result {
            Ok(_) => counts.looked(name, false),
            // It was deleted between wake and look.
            Err(Error::ObjectNotFound(object)) => {
                let gone = format!("{}/{}", object.namespace.unwrap_or_default(), object.name);
                failing.forget(&gone);
            }
            Err(Error::ReconcilerFailed(WriteError::NotLeading, _)) => {}
            Err(error) => {
                counts.looked(name, true);
                tracing::warn!(kind = name, error = %chain(&error), "a look failed; it is repeated");
            }
        }
    }
}

fn controller_applier<K, Ctx, F>(
    store: Store<K>,
    queue: impl Stream<Item = Result<ObjectRef<K>, Infallible>> + Send,
    context: Arc<Ctx>,
    reconcile: impl Fn(Arc<K>, Arc<Ctx>) -> F + Send,
    (failing, events): (Arc<Failing>, Events),
) -> impl Stream<Item = Result<(ObjectRef<K>, Action), Error<WriteError, Infallible>>>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
    F: Future<Output = Result<Action, WriteError>> + Send,
    Ctx: Send + Sync + 'static,
{
    let waits = failing.clone();
    let policy =
        move |object: Arc<K>, _: &WriteError, _: Arc<Ctx>| Action::requeue(waits.wait(&key(&*object)));
    let config = controller::Config::default().concurrency(CONCURRENCY);
    kube::runtime::applier(
        move |object: Arc<K>, context| {
            let (failing, events) = (failing.clone(), events.clone());
            let look = reconcile(object.clone(), context);
            Box::pin(async move {
                let ended = look.await;
                failing.note(&key(&*object), &object.object_ref(&()), &ended, &events).await;
                ended
            })
        },
        policy,
        context,
        store,
        queue,
        config,
    )
}

fn key<K: Resource<DynamicType = ()>>(object: &K) -> String {
    let meta = object.meta();
    format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::time::Duration;

    use k8s_openapi::api::batch::v1::Job;
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;
    use crate::reconcile::standin;
    use crate::reconcile::write::{Created, Leading, Writer};

    /// Looks so often at a load whose Job the apiserver can make or not at the n-th try; the notes of the events.
    async fn looks(times: usize, fails: impl Fn(usize) -> bool + Send + Sync + 'static) -> Vec<String> {
        let tries = Arc::new(AtomicUsize::new(0));
        let nth = tries.clone();
        let (client, log) = standin::client(move |asked| {
            if asked.1.ends_with("/jobs") && fails(nth.load(Relaxed)) {
                let why = "failed calling webhook \"policy\": connection refused";
                return standin::status(500, "InternalError", why);
            }
            (201, asked.2.clone())
        });
        let leading = Leading::default();
        leading.set(true);
        let writer = Arc::new(Writer::new(client.clone(), leading.clone()));
        let load: DataLoad = serde_json::from_value(json!({
            "metadata": {"name": "l", "namespace": "a", "uid": "u"}, "spec": {"dataset": {"name": "d"}}
        }))
        .unwrap();
        let (store, mut seen) = reflector::store::<DataLoad>();
        for event in [Event::Init, Event::InitApply(load.clone()), Event::InitDone] {
            seen.apply_watcher_event(&event);
        }
        let queue = stream::iter([Ok(ObjectRef::from_obj(&load))]).chain(stream::pending());
        let reconcile = move |_: Arc<DataLoad>, writer: Arc<Writer>| {
            tries.fetch_add(1, Relaxed);
            async move {
                let job: Job = serde_json::from_value(json!({"metadata": {"name": "j"}})).unwrap();
                let made = writer.create(&writer.namespaced::<Job>("a"), &job).await?;
                assert!(matches!(made, Created::New(_)), "{made:?}");
                Ok(Action::requeue(Duration::ZERO))
            }
        };
        let told = (Arc::new(Failing::without_waits()), Events::new(client, "test", leading));
        let looks = controller_applier(store, queue, writer, reconcile, told).take(times).count();
        assert_eq!(tokio::time::timeout(Duration::from_secs(60), looks).await, Ok(times));
        let events =
            log.all().into_iter().filter(|(method, path, _)| method == "POST" && path.ends_with("/events"));
        events.map(|(.., event)| event["note"].as_str().unwrap_or_default().to_owned()).collect()
    }

    #[tokio::test]
    async fn what_a_webhook_leaves_unanswered_is_told_after_some_tries_and_seldom_again() {
        assert_eq!(looks(5, |_| true).await, [""; 0], "it may be over in a moment");
        let notes = looks(65, |_| true).await;
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].starts_with("6 tries in a row have failed"), "{}", notes[0]);
        assert!(notes[0].contains("webhook \"policy\": connection refused"), "{}", notes[0]);
        assert_eq!(looks(66, |_| true).await.len(), 2);
    }

    #[tokio::test]
    async fn tries_that_fail_now_and_then_are_told_to_nobody() {
        assert_eq!(looks(100, |nth| !nth.is_multiple_of(6)).await, [""; 0]);
    }
}
