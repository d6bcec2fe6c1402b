//! What is said of the operation that touched a Dataset last.

use operator_api::crd::dataset_status::LastOperation;

use super::*;

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
    let said = |phase: &str, is_there: bool| status::if_there(last("x", phase, 0), |_| is_there).phase;
    assert_eq!(said("Executing", true), "Executing");
    for phase in ["Executing", "Pending"] {
        assert_eq!(said(phase, false), "Deleted");
    }
    for phase in ["Complete", "Failed", "Deleted"] {
        assert_eq!(said(phase, false), phase);
    }
}
