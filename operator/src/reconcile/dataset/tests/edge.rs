//! What is written when the apiserver lets something not be.

use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::controller::Action;
use kube::runtime::reflector::store as reflected;
use kube::runtime::watcher::Event;
use operator_api::crd::dataset_status::DatasetStatus;

use super::*;
use crate::reconcile::dataset::reconcile::{Context, reconcile};
use crate::reconcile::event::Events;
use crate::reconcile::measure::Nothing;
use crate::reconcile::standin::{self, Asked, Log};
use crate::reconcile::write::{Leading, WriteError, Writer};
use crate::watch::{Listings, Owned, Stores, Wakes};

const PATH: &str = "/apis/headrace.io/v1alpha1/namespaces/a/datasets/d";
const SOON: Duration = Duration::from_secs(60);

fn stores() -> Stores {
    let (namespaces, mut writer) = reflected::<Namespace>();
    for name in ["a", "b"] {
        let namespace = json!({"metadata": {"name": name}});
        writer.apply_watcher_event(&Event::Apply(serde_json::from_value(namespace).unwrap()));
    }
    Stores {
        datasets: reflected().0,
        loads: reflected().0,
        migrates: reflected().0,
        backups: reflected().0,
        processes: reflected().0,
        namespaces,
        nodes: reflected().0,
        claims: Owned::by(marks::DATASET_UID),
        volumes: Owned::by(marks::DATASET_UID),
        jobs: Owned::by(marks::OPERATION_UID),
        profiles: Owned::by(marks::DATASET_UID),
        wakes: Wakes::default(),
        listings: Listings::default(),
    }
}

/// A leader's context, before an apiserver that answers so what it does not let be, and lets be all else.
pub(super) fn context(
    refuses: impl Fn(&Asked) -> Option<u16> + Send + Sync + 'static,
) -> (Arc<Context>, Log) {
    let (client, log) = standin::client(move |asked| {
        if let Some(code) = refuses(asked) {
            return standin::status(code, "", "policy: no");
        }
        let mut object = asked.2.clone();
        let (method, path) = (asked.0.as_str(), asked.1.as_str());
        if method == "PATCH" {
            object = serde_json::to_value(dataset()).unwrap();
        } else if method == "POST" && object["metadata"].is_object() {
            object["metadata"]["uid"] = json!(format!("uid-of-{path}"));
        } else if method == "DELETE" {
            object = json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "code": 200});
        }
        (200, object)
    });
    let leading = Leading::default();
    leading.set(true);
    let context = Context {
        stores: stores(),
        writer: Writer::new(client.clone(), leading.clone()),
        events: Events::new(client, "test", leading),
        measured: Arc::new(Nothing),
        last_operations: Default::default(),
        written: Default::default(),
        leads_since: Default::default(),
    };
    (Arc::new(context), log)
}

fn is(asked: &Asked, method: &str, words: &str) -> bool {
    asked.0 == method && asked.1.contains(words)
}

pub(super) async fn look(dataset: &Dataset, context: &Arc<Context>) -> Result<Action, WriteError> {
    reconcile(Arc::new(dataset.clone()), context.clone()).await
}

/// The status that was written last.
pub(super) fn told(log: &Log) -> DatasetStatus {
    let all = log.all();
    let last = all.iter().rfind(|asked| is(asked, "PATCH", "/status")).expect("a status is written");
    serde_json::from_value(last.2["status"].clone()).unwrap()
}

fn says(status: &DatasetStatus, type_: &str, words: &str) -> bool {
    status
        .conditions
        .iter()
        .any(|c| c.type_ == type_ && c.message.contains(words) && c.message.contains("policy: no"))
}

/// One that is being deleted, with what it has left behind in the stores.
fn ending(context: &Context, with_claims: bool) -> Dataset {
    let mut ending = dataset();
    ending.metadata.deletion_timestamp = Some(Time(now()));
    let target = targets::of(&ending).remove(0);
    let mut claim = objects::claim(&ending, &target);
    claim.metadata.uid = Some("claim".into());
    let mut volume = objects::volume(&ending, &target, "claim".into());
    volume.metadata.uid = Some("volume".into());
    context.stores.volumes.note(volume);
    if with_claims {
        context.stores.claims.note(claim);
    }
    ending
}

#[tokio::test]
async fn a_claim_that_a_webhook_denies_is_said() {
    let (context, log) = context(|asked| is(asked, "POST", "/persistentvolumeclaims").then_some(400));
    assert_eq!(look(&dataset(), &context).await.unwrap(), Action::requeue(SOON));
    let status = told(&log);
    assert_eq!(status.phase, DatasetPhase::Failed);
    assert!(says(&status, "Ready", "the apiserver refused claim a/d"), "{status:?}");
    assert_eq!(log.count("POST", "/events"), 1);
}

#[tokio::test]
async fn without_the_finalizer_nothing_is_made_and_that_is_said() {
    let (context, log) = context(|asked| (is(asked, "PATCH", PATH) && asked.1 == PATH).then_some(403));
    let mut bare = dataset();
    bare.finalizers_mut().clear();
    assert_eq!(look(&bare, &context).await.unwrap(), Action::requeue(SOON));
    assert!(says(&told(&log), "Ready", "refused the Dataset's finalizer"), "{:?}", told(&log));
    assert_eq!(log.count("POST", "/persistentvolume"), 0);
    assert_eq!(log.all().iter().filter(|asked| asked.1 == PATH).count(), 1, "asked once");
}

#[tokio::test]
async fn a_volume_that_may_not_be_deleted_keeps_no_dataset() {
    for code in [400, 403, 500] {
        let (context, log) = context(move |asked| is(asked, "DELETE", "/persistentvolumes").then_some(code));
        let ending = ending(&context, false);
        assert_eq!(look(&ending, &context).await.unwrap(), Action::await_change(), "{code}");
        assert_eq!(log.count("DELETE", "/persistentvolumes"), 1);
        let taken_out = log.all().into_iter().find(|asked| is(asked, "PATCH", PATH)).expect("it goes");
        assert_eq!(taken_out.2[2]["op"], "remove");
    }
}

#[tokio::test]
async fn a_claim_that_may_not_be_deleted_is_what_deletion_waits_for() {
    for code in [400, 403, 500] {
        let (context, log) =
            context(move |asked| is(asked, "DELETE", "/persistentvolumeclaims").then_some(code));
        let ending = ending(&context, true);
        let looked = look(&ending, &context).await;
        // What was not refused may be over in a moment.
        assert_eq!(looked.ok(), (code < 500).then(|| Action::requeue(SOON)), "{code}");
        let status = told(&log);
        assert_eq!(status.phase, DatasetPhase::Terminating);
        assert!(says(&status, "Terminating", "claim a/d could not be deleted"), "{status:?}");
        assert_eq!(log.count("DELETE", "/persistentvolumeclaims"), 1, "asked once");
        assert_eq!(log.all().iter().filter(|asked| asked.1 == PATH).count(), 0, "pods may use it");
    }
}

#[tokio::test]
async fn a_finalizer_that_may_not_go_is_said() {
    let (context, log) = context(|asked| (asked.1 == PATH).then_some(403));
    let ending = ending(&context, false);
    look(&ending, &context).await.unwrap();
    assert!(says(&told(&log), "Terminating", "refused to take the finalizer"), "{:?}", told(&log));
    // Somebody has changed it since it was read.
    let (context, _) = self::context(|asked| (asked.1 == PATH).then_some(422));
    assert!(look(&self::ending(&context, false), &context).await.is_err());
}

#[tokio::test]
async fn what_may_not_be_deleted_keeps_no_living_dataset_from_its_status() {
    for what in ["/persistentvolumes/", "/persistentvolumeclaims/"] {
        let (context, log) = context(move |asked| is(asked, "DELETE", what).then_some(403));
        let mut dataset = dataset();
        dataset.spec.sharing = None;
        // Of a grant that was taken back.
        let target = Target { namespace: "b".into(), claim: "shared".into() };
        let mut claim = objects::claim(&dataset, &target);
        claim.metadata.uid = Some("former".into());
        let mut volume = objects::volume(&dataset, &target, "former".into());
        volume.metadata.uid = Some("volume".into());
        context.stores.volumes.note(volume);
        if what.contains("claims") {
            context.stores.claims.note(claim);
        }
        assert_eq!(look(&dataset, &context).await.unwrap(), Action::requeue(SOON), "{what}");
        let volumes: Vec<_> = told(&log).volumes.into_iter().map(|volume| volume.namespace).collect();
        assert_eq!(volumes, ["a"], "{what}");
    }
}
