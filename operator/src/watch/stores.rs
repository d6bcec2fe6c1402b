//! The reflectors, and who is woken by what they see.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim};
use kube::api::ObjectMeta;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::{Client, Resource, ResourceExt};
use operator_api::crd::operation::{
    OperationKind, OperationPhase, OperationRef, OperationStatus, Policy, Timing,
};
use operator_api::crd::{AccessProfile, DataBackup, DataLoad, DataMigrate, DataProcess, Dataset};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::changes::{Change, Changes};
use super::follow::{follow, plain};
use super::heard::{Heard, Sink};
use super::kind::Operation;
use super::listings::{Listing, Listings};
use super::owned::Owned;
use super::partly;
use super::readable::{self, Told};
use super::wake::{Wake, Wakes};
use crate::marks;

/// The cluster as it was last seen. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stores {
    pub datasets: Store<Dataset>,
    pub loads: Store<DataLoad>,
    pub migrates: Store<DataMigrate>,
    pub backups: Store<DataBackup>,
    pub processes: Store<DataProcess>,
    pub namespaces: Store<Namespace>,
    /// When each was made, and nothing else of them: [`partly::nodes`].
    pub nodes: Store<Node>,
    pub claims: Owned<PersistentVolumeClaim>,
    pub volumes: Owned<PersistentVolume>,
    pub jobs: Owned<Job>,
    /// What was learned of Datasets, without what was learned: [`partly`].
    pub profiles: Owned<AccessProfile>,
    pub wakes: Wakes,
    pub listings: Listings,
}

/// What of an operation does not depend on its kind.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    pub kind: OperationKind,
    pub metadata: &'a ObjectMeta,
    pub timing: &'a Timing,
    pub status: Option<&'a OperationStatus>,
}

impl Stores {
    /// Waits until every kind has been listed once. Until then nothing may be concluded from what is absent.
    pub async fn wait_until_ready(&self) {
        self.listings.wait().await;
    }

    pub fn dataset(&self, namespace: &str, name: &str) -> Option<Arc<Dataset>> {
        self.datasets.get(&ObjectRef::new(name).within(namespace))
    }

    /// When an operation runs, and how it is doing.
    pub fn operation(
        &self,
        kind: OperationKind,
        namespace: &str,
        name: &str,
    ) -> Option<(Policy, OperationStatus)> {
        match kind {
            OperationKind::DataLoad => one(&self.loads, namespace, name),
            OperationKind::DataMigrate => one(&self.migrates, namespace, name),
            OperationKind::DataBackup => one(&self.backups, namespace, name),
            OperationKind::DataProcess => one(&self.processes, namespace, name),
        }
    }

    /// Shows all operations of a namespace, of whichever kind.
    pub fn operations(&self, namespace: &str, mut see: impl FnMut(Shown<'_>)) {
        all(&self.loads, namespace, &mut see);
        all(&self.migrates, namespace, &mut see);
        all(&self.backups, namespace, &mut see);
        all(&self.processes, namespace, &mut see);
    }

    /// Whether an operation runs after this one and may yet ask how it ended: it has not begun, or runs again and again.
    pub fn is_awaited(&self, namespace: &str, before: &OperationRef) -> bool {
        let mut awaited = false;
        self.operations(namespace, |Shown { metadata, timing, status, .. }| {
            let phase = status.map(|status| status.phase).unwrap_or_default();
            awaited |= metadata.deletion_timestamp.is_none()
                && timing.run_after.contains(before)
                && (timing.policy != Policy::Once || phase == OperationPhase::Pending);
        });
        awaited
    }

    pub fn namespace(&self, name: &str) -> Option<Arc<Namespace>> {
        self.namespaces.get(&ObjectRef::new(name))
    }
}

/// Starts all reflectors; they end with `tasks`.
pub fn start(client: &Client, sink: Sink, tasks: &mut JoinSet<()>) -> Stores {
    let wakes = Wakes::default();
    let claims = Owned::by(marks::DATASET_UID);
    let volumes = Owned::by(marks::DATASET_UID);
    let jobs = Owned::by(marks::OPERATION_UID);
    let (datasets, datasets_writer) = store();
    let (loads, loads_writer) = store();
    let (migrates, migrates_writer) = store();
    let (backups, backups_writer) = store();
    let (processes, processes_writer) = store();
    let (namespaces, namespaces_writer) = store();
    let (nodes, nodes_writer) = store();
    let stores = Stores {
        datasets,
        loads,
        migrates,
        backups,
        processes,
        namespaces,
        nodes,
        claims,
        volumes,
        jobs,
        profiles: Owned::by(marks::DATASET_UID),
        wakes,
        listings: Listings::default(),
    };

    let (to, seen) = (sink.clone(), stores.clone());
    tasks.spawn(reflect(
        readable_of(client),
        datasets_writer,
        stores.wakes.clone(),
        stores.listing::<Dataset>(),
        move |change| {
            let (namespace, name) = match &change {
                Change::Is(dataset) => {
                    to(Heard::Dataset(dataset));
                    (dataset.namespace().unwrap_or_default(), dataset.name_any())
                }
                Change::Gone { namespace, name, .. } => {
                    to(Heard::DatasetGone { namespace, name });
                    (namespace.clone(), name.clone())
                }
            };
            seen.wakes.dataset(&namespace, &name);
        },
    ));
    operations::<DataLoad>(client, &stores, loads_writer, OperationKind::DataLoad, tasks);
    operations::<DataMigrate>(client, &stores, migrates_writer, OperationKind::DataMigrate, tasks);
    operations::<DataBackup>(client, &stores, backups_writer, OperationKind::DataBackup, tasks);
    operations::<DataProcess>(client, &stores, processes_writer, OperationKind::DataProcess, tasks);

    let (to, seen) = (sink.clone(), stores.clone());
    tasks.spawn(reflect(
        plain_of(client),
        namespaces_writer,
        stores.wakes.clone(),
        stores.listing::<Namespace>(),
        move |change| {
            let name = match change {
                Change::Is(namespace) => {
                    to(Heard::Namespace(&namespace));
                    namespace.name_any()
                }
                Change::Gone { name, .. } => {
                    to(Heard::NamespaceGone(&name));
                    name
                }
            };
            concerned(&seen, &name);
        },
    ));
    tasks.spawn(partly::nodes(
        client.clone(),
        nodes_writer,
        stores.wakes.clone(),
        stores.listing::<Node>(),
        sink.clone(),
    ));

    let ours = watcher::Config::default().labels(marks::SELECTOR);
    let (to, mut changes) = (sink.clone(), Changes::default());
    let hear = move |event: Event<PersistentVolumeClaim>| {
        for change in changes.of(event) {
            match change {
                Change::Is(claim) => to(Heard::Claim(&claim)),
                Change::Gone { namespace, name, .. } => {
                    to(Heard::ClaimGone { namespace: &namespace, name: &name });
                }
            }
        }
    };
    owned(client, ours.clone(), stores.claims.clone(), &stores, wake_dataset(&stores), hear, tasks);
    owned(client, ours.clone(), stores.volumes.clone(), &stores, wake_dataset(&stores), drop, tasks);
    owned(client, ours, stores.jobs.clone(), &stores, wake_owner(&stores), drop, tasks);
    tasks.spawn(partly::profiles(
        client.clone(),
        stores.profiles.clone(),
        stores.listing::<AccessProfile>(),
        sink,
    ));
    stores
}

fn store<K>() -> (Store<K>, Writer<K>)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let writer = Writer::new(());
    (writer.as_reader(), writer)
}

fn operations<K>(
    client: &Client,
    stores: &Stores,
    writer: Writer<K>,
    kind: OperationKind,
    tasks: &mut JoinSet<()>,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let seen = stores.clone();
    tasks.spawn(reflect(
        readable_of(client),
        writer,
        stores.wakes.clone(),
        stores.listing::<K>(),
        move |change| {
            let (namespace, name) = match &change {
                Change::Is(object) => (object.namespace().unwrap_or_default(), object.name_any()),
                Change::Gone { namespace, name, .. } => (namespace.clone(), name.clone()),
            };
            seen.wakes.operation(kind, &namespace, &name);
            successors(&seen, &namespace, &OperationRef { kind, name });
        },
    ));
}

/// Operations of a namespace that run after one.
fn successors(stores: &Stores, namespace: &str, before: &OperationRef) {
    stores.operations(namespace, |Shown { kind, metadata, timing, .. }| {
        if timing.run_after.contains(before) {
            stores.wakes.operation(kind, namespace, metadata.name.as_deref().unwrap_or_default());
        }
    });
}

fn one<K: Operation>(store: &Store<K>, namespace: &str, name: &str) -> Option<(Policy, OperationStatus)> {
    let found = store.get(&ObjectRef::new(name).within(namespace))?;
    Some((found.timing().policy, found.status().cloned().unwrap_or_default()))
}

fn all<K: Operation>(store: &Store<K>, namespace: &str, see: &mut impl FnMut(Shown<'_>)) {
    for object in store.state() {
        let metadata = object.meta();
        if metadata.namespace.as_deref() == Some(namespace) {
            see(Shown { kind: K::KIND, metadata, timing: object.timing(), status: object.status() });
        }
    }
}

/// Datasets that live in a namespace or are shared with it.
fn concerned(stores: &Stores, namespace: &str) {
    for dataset in stores.datasets.state() {
        let own = dataset.namespace().unwrap_or_default();
        if dataset.spec.admits(&own, namespace) {
            stores.wakes.dataset(&own, &dataset.name_any());
        }
    }
}

fn wake_dataset<K: Resource>(stores: &Stores) -> impl Fn(&K) + Send + use<K> {
    let wakes = stores.wakes.clone();
    move |object| {
        let label = |key| object.meta().labels.as_ref()?.get(key).cloned();
        if let (Some(namespace), Some(name)) = (label(marks::DATASET_NAMESPACE), label(marks::DATASET_NAME)) {
            wakes.dataset(&namespace, &name);
        }
    }
}

fn wake_owner(stores: &Stores) -> impl Fn(&Job) + Send + use<> {
    let wakes = stores.wakes.clone();
    move |job| {
        let namespace = job.namespace().unwrap_or_default();
        for owner in job.owner_references() {
            if let Some(kind) = OperationKind::ALL.into_iter().find(|kind| kind.name() == owner.kind) {
                wakes.operation(kind, &namespace, &owner.name);
            }
        }
    }
}

fn owned<K>(
    client: &Client,
    config: watcher::Config,
    owned: Owned<K>,
    stores: &Stores,
    wake: impl Fn(&K) + Send + 'static,
    mut hear: impl FnMut(Event<K>) + Send + 'static,
    tasks: &mut JoinSet<()>,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let client = client.clone();
    let all = stores.wakes.clone();
    let listing = stores.listing::<K>();
    tasks.spawn(async move {
        follow(
            || plain::<K>(&client, config.clone()),
            listing,
            move |event| {
                owned.apply(&event);
                match &event {
                    Event::Apply(object) | Event::Delete(object) => wake(object),
                    Event::InitDone => all.send(Wake::Everything),
                    Event::Init | Event::InitApply(_) => {}
                }
                hear(event);
            },
        )
        .await;
    });
}

/// Keeps a store, and tells of every change after the store has it.
async fn reflect<K, S>(
    watch: impl Fn() -> S,
    mut writer: Writer<K>,
    wakes: Wakes,
    listing: Listing,
    mut tell: impl FnMut(Change<K>),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone,
    S: Stream<Item = watcher::Result<Told<K>>>,
{
    let mut changes = Changes::default();
    follow(watch, listing, |event| {
        writer.apply_watcher_event(&event);
        // Only now the store holds the list's objects: those woken one by one would not have been found.
        let listed = matches!(event, Event::InitDone);
        changes.of(event).into_iter().for_each(&mut tell);
        if listed {
            wakes.send(Wake::Everything);
        }
    })
    .await;
}

/// All of a kind that people write.
fn readable_of<K>(client: &Client) -> impl Fn() -> BoxStream<'static, watcher::Result<Told<K>>> + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let client = client.clone();
    move || readable::events(&client, watcher::Config::default()).boxed()
}

/// All of one of Kubernetes' own kinds.
fn plain_of<K>(client: &Client) -> impl Fn() -> BoxStream<'static, watcher::Result<Told<K>>> + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let client = client.clone();
    move || plain(&client, watcher::Config::default()).boxed()
}

impl Stores {
    fn listing<K: Resource<DynamicType = ()>>(&self) -> Listing {
        self.listings.expect(&K::kind(&()))
    }

    /// Everything there is, to look at again.
    pub fn wake_all(&self) {
        self.wakes.send(Wake::Everything);
    }
}
