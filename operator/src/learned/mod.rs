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
use std::time::Duration;

use kube::ResourceExt;
use operator_api::crd::AccessProfile;
use operator_api::report::v1::ProfileLearned;

use crate::clock;
use crate::ingest::{Hub, Whose};
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
            let found = hub.directory().found_on(source);
            let (whose, read) = hub.profiles(|profiles| {
                let whose = profiles.whose(workload, source).cloned();
                (whose, profiles.firsts(workload, source).cloned().collect::<Vec<_>>())
            });
            // That which its pods use; else one of those that it is said to read; else the only one there is: any other may be
            // somebody else's.
            let used = whose.iter().map(|whose| &whose.dataset).filter(|used| found.contains(used));
            let read = found.iter().filter(|found| read.contains(found));
            // What is learned of one that is gone would be left behind.
            let only = found.iter().filter(|_| found.len() == 1);
            let found = used.chain(read).chain(only).find_map(|found| {
                let (home, name) = found.split_once('/')?;
                let dataset = stores.dataset(home, name)?;
                let uid = dataset.uid()?;
                Some((found, (home, name), dataset, uid))
            });
            let Some((found, dataset, seen, uid)) = found else { continue };
            // A namespace that may not use it any more is not named beside it.
            let owner =
                whose.as_ref().filter(|whose| whose.dataset == *found).map(|whose| whose.owner.clone());
            let owner = owner.filter(|owner| {
                owner.split_once('/').is_some_and(|(namespace, _)| seen.spec.admits(dataset.0, namespace))
            });
            let Some((profile, known)) = known(hub, workload, source, owner, found) else { continue };
            let (workload, source) = (workload.into(), source.into());
            let told = ProfileLearned { workload, source, profile, ..ProfileLearned::default() };
            let Some(object) = profile::write(&told, dataset, uid.clone(), known, clock::now()) else {
                continue;
            };
            let namespace = dataset.0;
            match writer.profile(namespace, &object).await {
                Ok(()) => {}
                Err(WriteError::NotLeading) => return,
                // Tried again when it is learned anew: what is refused now would be refused in a second.
                Err(error) => {
                    let name = object.name_any();
                    tracing::warn!("AccessProfile {namespace}/{name} was not written: {error}");
                }
            }
            thin(&stores.profiles.of(&uid), namespace, writer).await;
        }
    }
}

/// Lets go of what a Dataset has too many of: as many at once as are written, so that there are never more again.
async fn thin(all: &[Arc<AccessProfile>], home: &str, writer: &Writer) {
    for profile in few::surplus(all, home).into_iter().take(AT_ONCE) {
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
    let Some(told) = profile::read(seen) else { return };
    let dataset = facts::of(seen);
    let whose = profile::is_owned(seen)
        .then(|| Whose { owner: facts::workload(seen).into(), dataset: dataset.clone() });
    let first = facts::first(seen).map(|first| (dataset, first)).into_iter().collect();
    let kept = seen.spec.learned_at.as_ref().map(|at| at.0.as_second());
    hub.profiles(|profiles| {
        profiles.restore(&told.workload, &told.source, told.profile, kept, first, whose);
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
    Duration::from_millis(clock::millis().0)
}
