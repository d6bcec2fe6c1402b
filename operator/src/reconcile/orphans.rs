//! What is left of a Dataset that is gone. Volumes and claims: somebody took its finalizer out while no operator ran,
//! or deleted the CRD by force. Nobody else would ever remove them.
//!
//! Missing in the reflector is not gone: two watches are never at the same moment. What is missing in two looks is
//! asked for once more, and what the apiserver itself does not have is swept. What may not be deleted is tried again at
//! each turn, and takes nobody else's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;
use kube::api::ListParams;
use operator_api::crd::Dataset;

use super::dataset::reconcile::Context;
use super::dataset::volumes::{self, Act};
use super::write::WriteError;
use crate::marks;

pub(super) const LOOK: Duration = Duration::from_secs(10);

/// Datasets swept at one look; the rest waits for the next.
const AT_ONCE: usize = 64;

/// Who was missing at the last look, by uid.
#[derive(Debug, Default)]
pub(super) struct Missing(BTreeSet<String>);

impl Missing {
    /// Those that are missing for the second time in a row.
    pub(super) fn look(
        &mut self,
        owners: impl IntoIterator<Item = String>,
        there: &BTreeSet<String>,
    ) -> Vec<String> {
        let missing: BTreeSet<String> = owners.into_iter().filter(|uid| !there.contains(uid)).collect();
        let again = missing.intersection(&self.0).cloned().collect();
        self.0 = missing;
        again
    }
}

/// Runs until dropped. Only the leader calls it, when everything has been listed.
pub async fn run(context: Arc<Context>) {
    let mut missing = Missing::default();
    let mut last = String::new();
    loop {
        let stores = &context.stores;
        let owners = stores.claims.owners().into_iter().chain(stores.volumes.owners());
        let there = stores.datasets.state().iter().filter_map(|dataset| dataset.uid()).collect();
        for uid in turn(missing.look(owners, &there), &last).into_iter().take(AT_ONCE) {
            if let Err(error) = sweep(&context, &uid).await {
                tracing::warn!(uid, %error, "what is left of a Dataset that is gone could not be removed; it is repeated");
            }
            last = uid;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Those that come after the last one that was swept, and then the others.
fn turn(mut uids: Vec<String>, last: &str) -> Vec<String> {
    let next = uids.partition_point(|uid| uid.as_str() <= last);
    uids.rotate_left(next);
    uids
}

async fn sweep(context: &Context, uid: &str) -> Result<(), WriteError> {
    let (claims, volumes) = (context.stores.claims.of(uid), context.stores.volumes.of(uid));
    let labels =
        claims.iter().map(|claim| claim.labels()).chain(volumes.iter().map(|volume| volume.labels()));
    let mut names = labels.filter_map(|labels| {
        Some((labels.get(marks::DATASET_NAMESPACE)?.clone(), labels.get(marks::DATASET_NAME)?.clone()))
    });
    // Marks that somebody has damaged name nobody who could be asked about: then nothing is removed.
    let Some((namespace, name)) = names.next() else { return Ok(()) };
    let writer = &context.writer;
    let named = ListParams::default().fields(&format!("metadata.name={name}"));
    if writer
        .list(&writer.namespaced::<Dataset>(&namespace), &named)
        .await?
        .iter()
        .any(|d| d.uid().as_deref() == Some(uid))
    {
        return Ok(());
    }
    // One that may not be deleted keeps no other.
    let mut failed = Ok(());
    for act in volumes::leave(&claims, &volumes) {
        match act {
            Act::DeleteClaim { namespace: home, name: claim, uid } => {
                tracing::warn!("claim {home}/{claim} is removed: its Dataset {namespace}/{name} is gone");
                let api = writer.namespaced::<PersistentVolumeClaim>(&home);
                match writer.delete(&api, &claim, &uid).await {
                    Ok(true) => {}
                    Ok(false) => context.stores.claims.gone(&home, &claim, &uid),
                    Err(error) => failed = Err(error),
                }
            }
            Act::DeleteVolume { name: volume, uid } => {
                tracing::warn!("volume {volume} is removed: its Dataset {namespace}/{name} is gone");
                match writer.delete(&writer.all::<PersistentVolume>(), &volume, &uid).await {
                    Ok(true) => {}
                    Ok(false) => context.stores.volumes.gone("", &volume, &uid),
                    Err(error) => failed = Err(error),
                }
            }
            Act::AddFinalizer | Act::CreateVolume(..) | Act::CreateClaim(..) | Act::RemoveFinalizer => {}
        }
    }
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_missing_twice_in_a_row_is_asked_for() {
        let mut missing = Missing::default();
        let set = |uids: &[&str]| uids.iter().map(|uid| (*uid).to_owned()).collect::<BTreeSet<_>>();
        let owners = || set(&["a", "b", "c"]);
        assert!(missing.look(owners(), &set(&["a"])).is_empty());
        assert_eq!(missing.look(owners(), &set(&["a", "c"])), ["b"]);
        assert!(missing.look(owners(), &set(&["a", "b"])).is_empty(), "c was there in between");
        assert!(missing.look(set(&[]), &set(&[])).is_empty(), "nothing is left of it");
    }

    #[test]
    fn what_may_not_be_deleted_takes_nobodys_turn() {
        let uids = || ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        assert_eq!(turn(uids(), ""), uids());
        assert_eq!(turn(uids(), "b"), ["c", "d", "a", "b"]);
        assert_eq!(turn(uids(), "bb"), ["c", "d", "a", "b"], "that one is gone");
        assert_eq!(turn(uids(), "d"), uids());
    }
}
