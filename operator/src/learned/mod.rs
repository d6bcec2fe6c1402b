//! What agents learn of workloads, kept as AccessProfiles: a new replica on any node starts with it, also after
//! every operator was restarted.
//!
//! The leader writes, a few a second and each seldom: a profile grows with every run, and etcd is no place for what
//! changes often. `profile` (pure) says what an AccessProfile says, `turns` (pure) which is written next. Every
//! replica takes over what it sees of them.

mod profile;

mod turns;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use operator_api::crd::AccessProfile;

use crate::ingest::Hub;
use crate::reconcile::write::{WriteError, Writer};
use crate::watch::Stores;

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
            let Some((bytes, pattern)) = known(hub, workload, source) else { continue };
            let Some(dataset) = bytes.dataset.as_deref().and_then(|name| name.split_once('/')) else {
                continue;
            };
            // What is learned of one that is gone would be left behind.
            let uid = stores.dataset(dataset.0, dataset.1).and_then(|dataset| dataset.uid());
            let Some(uid) = uid else { continue };
            let told = wire(workload, source, bytes.profile);
            let at = Timestamp::now();
            let Some((namespace, object)) = profile::write(&told, dataset, uid, pattern, at) else {
                continue;
            };
            match writer.profile(&namespace, &object).await {
                Ok(()) => {}
                Err(WriteError::NotLeading) => return,
                // Tried again when it is learned anew: what is refused now would be refused in a second.
                Err(error) => {
                    let name = object.name_any();
                    tracing::warn!("AccessProfile {namespace}/{name} was not written: {error}");
                }
            }
        }
    }
}

/// An AccessProfile was seen: agents that ask for it are told.
pub fn hear(hub: &Hub, seen: &AccessProfile) {
    // What somebody else wrote there says nothing; the agent checks what it is given.
    let Some(told) = profile::read(seen) else { return };
    hub.profiles(|profiles| profiles.restore(&told.workload, &told.source, told.profile));
}

struct Known {
    profile: Vec<u8>,
    dataset: Option<crate::inventory::Name>,
}

/// What is known of a workload on a source; the pattern in words, where the Dataset there has one.
fn known(hub: &Hub, workload: &str, source: &str) -> Option<(Known, Option<String>)> {
    let dataset = hub.directory().found_on(source);
    hub.profiles(|profiles| {
        let profile = profiles.get(workload, source)?.to_vec();
        let pattern = dataset.as_deref().and_then(|dataset| {
            let mut patterns = profiles.patterns(dataset);
            patterns.find(|(name, _)| *name == workload).map(|(_, pattern)| pattern.words.to_string())
        });
        Some((Known { profile, dataset }, pattern))
    })
}

fn wire(workload: &str, source: &str, profile: Vec<u8>) -> operator_api::report::v1::ProfileLearned {
    operator_api::report::v1::ProfileLearned { workload: workload.into(), source: source.into(), profile }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
