//! What agents learn of workloads, kept as AccessProfiles: a new replica on any node starts with it, also after
//! every operator was restarted.
//!
//! The leader writes, a few a second and each seldom: a profile grows with every run, and etcd is no place for what
//! changes often. `profile` (pure) says what an AccessProfile says, `turns` (pure) which is written next, `few` (pure)
//! which have to go. Every replica takes over what it sees of them.

mod profile;

mod few;

mod turns;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use operator_api::crd::AccessProfile;
use operator_api::report::v1::ProfileLearned;

use crate::ingest::Hub;
use crate::inventory::Name;
use crate::reconcile::write::{WriteError, Writer};
use crate::watch::{Stores, facts};

use profile::Known;
use turns::Turns;

/// Between looks; each writes [`AT_ONCE`] at most.
const LOOK: Duration = Duration::from_secs(1);
const AT_ONCE: usize = 2;

/// Keeps what is learned until it is dropped, as it is when this replica does not lead any more.
pub async fn keep(hub: &Hub, stores: &Stores, writer: &Writer) {
    // Whose a Dataset is would not be known yet.
    stores.wait_until_ready().await;
    let mut turns = hub.profiles(|profiles| Turns::begin(profiles.revision()));
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let due = hub.profiles(|profiles| turns.due(profiles, now(), AT_ONCE));
        for key in due {
            let (workload, source) = (&*key.0, &*key.1);
            let mut found = hub.directory().found_on(source);
            // Of several on one file system the one that it is said to read.
            hub.profiles(|profiles| {
                found.sort_by_key(|dataset| profiles.first(workload, source, dataset).is_none());
            });
            // What is learned of one that is gone would be left behind; and where its pods may not use it any more nothing is
            // kept.
            let owner = hub.profiles(|profiles| profiles.owner(workload, source).cloned());
            let found = found.iter().find_map(|found| {
                let (home, name) = found.split_once('/')?;
                let dataset = stores.dataset(home, name)?;
                let admitted = profile::admitted(workload, owner.as_deref(), home, &dataset.spec);
                let uid = dataset.uid()?;
                admitted.then_some((found, (home, name), dataset, uid))
            });
            let Some((found, dataset, seen, uid)) = found else { continue };
            let Some((profile, known)) = known(hub, workload, source, owner.clone(), found) else { continue };
            let (workload, source) = (workload.into(), source.into());
            let told = ProfileLearned { workload, source, profile, ..ProfileLearned::default() };
            let written = profile::write(&told, dataset, uid.clone(), known, Timestamp::now());
            let Some((namespace, object)) = written else { continue };
            match writer.profile(&namespace, &object).await {
                Ok(()) => {}
                Err(WriteError::NotLeading) => return,
                // Tried again when it is learned anew: what is refused now would be refused in a second.
                Err(error) => {
                    let name = object.name_any();
                    tracing::warn!("AccessProfile {namespace}/{name} was not written: {error}");
                }
            }
            let admits = |namespace: &str| seen.spec.admits(dataset.0, namespace);
            thin(&stores.profiles.of(&uid), admits, writer).await;
        }
    }
}

/// Lets go of what a Dataset has too many of: as many at once as are written, so that there are never more again.
async fn thin(all: &[Arc<AccessProfile>], admits: impl Fn(&str) -> bool, writer: &Writer) {
    for profile in few::surplus(all, admits).into_iter().take(AT_ONCE) {
        let (Some(namespace), Some(uid)) = (profile.namespace(), profile.uid()) else { continue };
        let name = profile.name_any();
        let api = writer.namespaced::<AccessProfile>(&namespace);
        match writer.delete(&api, &name, &uid).await {
            Ok(_) => tracing::info!(
                "AccessProfile {namespace}/{name} is let go: its Dataset has more than are kept, and it was learned longest ago"
            ),
            // Tried again when the next one is written.
            Err(error) => tracing::warn!("AccessProfile {namespace}/{name} could not be let go: {error}"),
        }
    }
}

/// An AccessProfile was seen: agents that ask for it are told.
pub fn hear(hub: &Hub, seen: &AccessProfile) {
    // What somebody else wrote there says nothing; the agent checks what it is given.
    let Some((told, owner)) = profile::read(seen) else { return };
    let first = facts::first(seen).map(|first| (facts::of(seen), first)).into_iter().collect();
    hub.profiles(|profiles| {
        let restored = profiles.restore(&told.workload, &told.source, told.profile, first);
        if let Some(owner) = owner.filter(|_| restored) {
            profiles.ran_for(&told.workload, &told.source, owner);
        }
    });
}

/// What is known of a workload on a source: its agent's own, and what is said of the Dataset there.
fn known(
    hub: &Hub,
    workload: &str,
    source: &str,
    owner: Option<Name>,
    dataset: &str,
) -> Option<(Vec<u8>, Known)> {
    hub.profiles(|profiles| {
        let bytes = profiles.get(workload, source)?.to_vec();
        let first = profiles.first(workload, source, dataset).cloned();
        let mut patterns = profiles.patterns(dataset);
        let pattern =
            patterns.find(|(name, _)| *name == workload).map(|(_, pattern)| pattern.words.to_string());
        Some((bytes, Known { owner, pattern, first }))
    })
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
