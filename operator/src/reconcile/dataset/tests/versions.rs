//! What is said of versions while leaders, and with them what was told, come and go.

use operator_api::crd::dataset::{Follow, VersionPolicy};
use operator_api::crd::dataset_status::{NodeStatus, VersionStatus};

use super::*;

#[test]
fn a_version_was_first_seen_once_whoever_leads() {
    let version = |name: &str, cached_bytes| VersionStatus {
        version: name.into(),
        total_bytes: Some(9),
        cached_bytes,
        ..VersionStatus::default()
    };
    let told = Measure {
        reporting: 1,
        version: Some("v2".into()),
        versions: vec![version("v2", Some(5)), version("v1", None)],
        ..Measure::default()
    };
    let mut dataset = dataset();
    let mut say = |measure: Option<&Measure>, at: Timestamp| {
        let said = status::status(&dataset, &Decision::default(), measure, None, at);
        dataset.status = Some(said.clone());
        said.versions
    };
    let first = say(Some(&told), now());
    assert!(first.iter().all(|version| version.first_seen == Some(Time(now()))) && first[0].current);

    // Another leads: nobody has told it of anything, then of the Dataset, then of its versions.
    let later = now() + Duration::from_secs(3_600);
    let kept: Vec<_> = first
        .iter()
        .map(|version| VersionStatus { cached_bytes: None, current: false, ..version.clone() })
        .collect();
    assert_eq!(say(None, later), kept, "how much is held, and which one is seen, nobody knows");
    let reader = Measure { reporting: 1, reader_count: 1, ..Measure::default() };
    assert_eq!(say(Some(&reader), later), kept);
    assert_eq!(say(Some(&told), later), first);
    let grown = Measure { versions: vec![version("v3", None), version("v2", None)], ..told.clone() };
    let since: Vec<_> = say(Some(&grown), later).into_iter().map(|version| version.first_seen).collect();
    assert_eq!(since, [Some(Time(later)), Some(Time(now()))]);
}

#[test]
fn numbers_are_of_the_version_that_it_is_pinned_to() {
    let version = |name: &str, bytes, cached_bytes| VersionStatus {
        version: name.into(),
        total_bytes: Some(bytes),
        file_num: Some(bytes / 10),
        cached_bytes,
        ..VersionStatus::default()
    };
    let node = NodeStatus { node: "n".into(), cached_bytes: 50, percent: Some(50) };
    let told = Measure {
        reporting: 1,
        version: Some("v2".into()),
        versions: vec![version("v2", 100, Some(50)), version("v1", 70, None)],
        total_bytes: Some(100),
        file_num: Some(10),
        cached_bytes: Some(50),
        nodes: vec![node],
        node_count: 1,
        ..Measure::default()
    };
    let pinned = |to: &str| {
        let mut dataset = dataset();
        dataset.spec.version_policy = Some(VersionPolicy {
            follow: Follow::Pinned,
            version: Some(to.into()),
            ..VersionPolicy::default()
        });
        status::status(&dataset, &Decision::default(), Some(&told), None, now())
    };
    let newest = pinned("v2");
    assert_eq!((newest.total_bytes, newest.cached_bytes, newest.node_count), (Some(100), Some(50), Some(1)));
    let former = pinned("v1");
    assert_eq!(
        (former.version.as_deref(), former.total_bytes, former.file_num),
        (Some("v1"), Some(70), Some(7))
    );
    assert_eq!((former.cached_bytes, former.nodes.len(), former.node_count), (None, 0, None));
    assert_eq!(former.cache_states.unwrap().cached_percentage, "Unknown");
    let never_seen = pinned("v0");
    assert_eq!((never_seen.total_bytes, never_seen.ufs_total.as_deref()), (None, Some("Unknown")));
}
