//! Kinds of which little is kept here: what is large in them goes on to who needs it.

use k8s_openapi::api::core::v1::Node;
use kube::api::ObjectMeta;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event};
use kube::{Client, Resource, ResourceExt};
use operator_api::crd::access_profile::AccessProfileSpec;
use operator_api::crd::{AccessProfile, Dataset};

use super::changes::{Change, Changes};
use super::follow::{follow, plain};
use super::heard::{Heard, Sink};
use super::listings::Listing;
use super::owned::Owned;
use super::readable;
use super::wake::{Wake, Wakes};
use crate::marks;

/// What was learned of workloads; handed on, because it is large and asked for elsewhere. Kept is whose it is.
pub(super) async fn profiles(client: Client, kept: Owned<AccessProfile>, listing: Listing, sink: Sink) {
    let mut changes = Changes::default();
    let watch = || readable::events(&client, watcher::Config::default());
    follow(watch, listing, move |event| {
        kept.apply(&with_each(&event, bare));
        for change in changes.of(event) {
            match change {
                Change::Is(profile) => sink(Heard::Profile(&profile)),
                Change::Gone { namespace, name, .. } => {
                    sink(Heard::ProfileGone { namespace: &namespace, name: &name });
                }
            }
        }
    })
    .await;
}

/// Some hundred KiB of a profile are not needed to know whose it is, and when it was learned. Its Dataset owns it; here a
/// label says it, as for claims and volumes.
fn bare(profile: &AccessProfile) -> AccessProfile {
    let AccessProfileSpec { workload, dataset, learned_at, .. } = &profile.spec;
    let spec = AccessProfileSpec {
        workload: workload.clone(),
        dataset: dataset.clone(),
        version: None,
        pattern: None,
        first: Vec::new(),
        data: String::new(),
        learned_at: learned_at.clone(),
    };
    let mut metadata = profile.metadata.clone();
    let owner = profile.owner_references().iter().find(|owner| owner.kind == Dataset::kind(&()));
    if let Some(owner) = owner {
        let labels = metadata.labels.get_or_insert_default();
        labels.entry(marks::DATASET_UID.to_owned()).or_insert_with(|| owner.uid.clone());
    }
    AccessProfile { metadata, spec }
}

/// What is told of nodes is kept by who hears it: here it is enough to know since when there is one. Five thousand of them with
/// labels, conditions and the images that they hold would be some tens of MiB.
pub(super) async fn nodes(
    client: Client,
    mut writer: Writer<Node>,
    wakes: Wakes,
    listing: Listing,
    sink: Sink,
) {
    let mut changes = Changes::default();
    let watch = || plain(&client, watcher::Config::default());
    follow(watch, listing, move |event: Event<Node>| {
        writer.apply_watcher_event(&with_each(&event, |node| {
            let ObjectMeta { name, creation_timestamp, .. } = node.metadata.clone();
            Node {
                metadata: ObjectMeta { name, creation_timestamp, ..Default::default() },
                ..Default::default()
            }
        }));
        let listed = matches!(event, Event::InitDone);
        for change in changes.of(event) {
            match change {
                Change::Is(node) => sink(Heard::Node(&node)),
                Change::Gone { name, .. } => sink(Heard::NodeGone(&name)),
            }
        }
        if listed {
            wakes.send(Wake::Everything);
        }
    })
    .await;
}

/// The same event of a part of its object.
fn with_each<K>(event: &Event<K>, part: impl Fn(&K) -> K) -> Event<K> {
    match event {
        Event::Apply(object) => Event::Apply(part(object)),
        Event::Delete(object) => Event::Delete(part(object)),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(part(object)),
        Event::InitDone => Event::InitDone,
    }
}
