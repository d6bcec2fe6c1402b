//! What is said of the operation that touched a Dataset last.

use futures::StreamExt;
use kube::runtime::reflector::store as reflected;
use kube::runtime::watcher::Event;
use operator_api::crd::dataset_status::{DatasetStatus, LastOperation};
use operator_api::crd::operation::{OperationKind, OperationStatus};

use super::edge::{context, look, told};
use super::*;
use crate::watch::Wake;

fn last(name: &str, phase: &str, minute: i64) -> LastOperation {
    let since = now().checked_add(Duration::from_secs(60 * minute.unsigned_abs())).unwrap();
    LastOperation {
        kind: "DataLoad".into(),
        name: name.into(),
        namespace: "a".into(),
        phase: phase.into(),
        since: Some(Time(since)),
    }
}

#[test]
fn the_later_one_is_named_and_one_says_of_itself_what_is_so_now() {
    let (early, late) = (last("early", "Complete", 1), last("late", "Executing", 2));
    assert_eq!(status::later(late.clone(), Some(early.clone())), late);
    // Somebody has suspended an older one: nothing was done to the Dataset.
    assert_eq!(status::later(early.clone(), Some(late.clone())), late);
    assert_eq!(status::later(early.clone(), None), early);
    // Tried again, by a clock that was set back.
    let again = last("late", "Pending", 0);
    assert_eq!(status::later(again.clone(), Some(late)), again);
}

#[test]
fn one_that_was_deleted_before_its_end_is_not_under_way_for_ever() {
    let own = |phase: &str| OperationStatus {
        phase: serde_json::from_value(json!(phase)).unwrap(),
        ..Default::default()
    };
    let said = |phase: &str, own: Option<OperationStatus>| {
        let own = own.map(|own| status::last(OperationKind::DataLoad, "a", "x", &own));
        let said = status::as_it_is(last("x", phase, 1), own);
        assert_eq!(said.since, last("x", phase, 1).since);
        said.phase
    };
    assert_eq!(said("Executing", Some(own("Executing"))), "Executing");
    assert_eq!(said("Executing", Some(own("Complete"))), "Complete");
    for phase in ["Executing", "Pending"] {
        assert_eq!(said(phase, None), "Deleted");
    }
    for phase in ["Complete", "Failed", "Deleted"] {
        assert_eq!(said(phase, None), phase);
        assert_eq!(said(phase, Some(own("Executing"))), phase, "another of that name, or the watch is late");
    }
}

#[tokio::test]
async fn what_an_operation_says_itself_is_said_of_it_whoever_ended_it() {
    let (context, log) = context(|_| None);
    // Its leader had written the end, and died before it came to say so here; this one saw it begin, in a term of before.
    let (loads, mut writer) = reflected();
    let ended = json!({"apiVersion": "headrace.io/v1alpha1", "kind": "DataLoad", "metadata": {"name": "x", "namespace": "a"},
        "spec": {"dataset": {"name": "d"}},
        "status": {"phase": "Failed", "run": 1, "startTime": "2026-11-24T09:11:00Z", "completionTime": "2026-11-24T09:12:00Z"}});
    writer.apply_watcher_event(&Event::Apply(serde_json::from_value(ended).unwrap()));
    let (datasets, mut writer) = reflected();
    let mut named = dataset();
    named.status =
        Some(DatasetStatus { last_operation: Some(last("x", "Executing", 1)), ..DatasetStatus::default() });
    writer.apply_watcher_event(&Event::Apply(named.clone()));
    let Ok(mut context) = Arc::try_unwrap(context) else { panic!("nobody else has it") };
    (context.stores.loads, context.stores.datasets) = (loads, datasets);
    context.touched("u1".into(), last("x", "Executing", 1));
    context.begin_term();

    let mut wakes = std::pin::pin!(context.stores.wakes.listen());
    context.wake_for_operations();
    let woken = tokio::time::timeout(Duration::from_secs(1), wakes.next()).await.unwrap().unwrap();
    assert!(matches!(woken, Wake::Dataset { name, .. } if &*name == "d"));
    let context = Arc::new(context);
    look(&named, &context).await.unwrap();
    let said = told(&log).last_operation.unwrap();
    assert_eq!(said, last("x", "Failed", 2));

    // What this term has heard is ahead of the watch.
    let mut before = last("y", "Executing", 3);
    context.touched("u1".into(), before.clone());
    before.phase = "Complete".into();
    context.touched("u1".into(), before.clone());
    look(&named, &context).await.unwrap();
    assert_eq!(told(&log).last_operation, Some(before));
}
