//! kube-runtime calls the reconcilers: one look at an object at a time, all objects side by side, failures again
//! after a wait that grows.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::Resource;
use kube::runtime::controller::{self, Action, Error};
use kube::runtime::reflector::{ObjectRef, Store};
use operator_api::causes::chain;
use operator_api::crd::{DataBackup, DataLoad, DataMigrate, DataProcess};

use super::operation::job::Work;
use super::write::WriteError;
use super::{dataset, operation, orphans};
use crate::watch::Wake;

/// Looks under way at once, of each kind: what keeps an apiserver busy without being all of its work.
const CONCURRENCY: u16 = 64;

/// Waits after failures in a row.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

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
        counts.clone(),
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
    kind(K::KIND.name(), store, queue, context.clone(), operation::reconcile::reconcile::<K>, counts.clone())
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
    counts: Arc<dyn Counts>,
) where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
    F: Future<Output = Result<Action, WriteError>> + Send,
    Ctx: Send + Sync + 'static,
{
    let failures: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    let (failing, ending) = (failures.clone(), failures);
    let applied = controller_applier(store, queue, context, reconcile, failing);
    let mut applied = pin!(applied);
    while let Some(result) = applied.next().await {
        match result {
            Ok((object, _)) => {
                counts.looked(name, false);
                ending.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(&object));
            }
            // It was deleted between wake and look.
            Err(Error::ObjectNotFound(object)) => {
                let gone = format!("{}/{}", object.namespace.unwrap_or_default(), object.name);
                ending.lock().unwrap_or_else(PoisonError::into_inner).remove(&gone);
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
    failures: Arc<Mutex<HashMap<String, u32>>>,
) -> impl Stream<Item = Result<(ObjectRef<K>, Action), Error<WriteError, Infallible>>>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
    F: Future<Output = Result<Action, WriteError>> + Send,
    Ctx: Send + Sync + 'static,
{
    let policy = move |object: Arc<K>, _: &WriteError, _: Arc<Ctx>| {
        let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key(&ObjectRef::from_obj(&*object))).or_default();
        *count = count.saturating_add(1);
        Action::requeue(FIRST_WAIT.saturating_mul(1 << (*count - 1).min(10)).min(LONGEST_WAIT))
    };
    let config = controller::Config::default().concurrency(CONCURRENCY);
    kube::runtime::applier(
        move |object, context| Box::pin(reconcile(object, context)),
        policy,
        context,
        store,
        queue,
        config,
    )
}

fn key<K: Resource<DynamicType = ()>>(object: &ObjectRef<K>) -> String {
    format!("{}/{}", object.namespace.as_deref().unwrap_or_default(), object.name)
}
