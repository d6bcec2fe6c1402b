//! What is said of versions while leaders, and with them what was told, come and go.

use operator_api::crd::dataset::{Follow, VersionPolicy};
use operator_api::crd::dataset_status::{DatasetStatus, NodeStatus, VersionStatus, condition};

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
    // Whoever leads then is told by agents of the present one alone.
    let grown =
        Measure { version: Some("v3".into()), versions: vec![version("v3", Some(1))], ..told.clone() };
    let said = say(Some(&grown), later);
    let since: Vec<_> = said.iter().map(|version| (&*version.version, version.first_seen.clone())).collect();
    assert_eq!(since, [("v3", Some(Time(later))), ("v2", Some(Time(now()))), ("v1", Some(Time(now())))]);
    assert_eq!((said[1].total_bytes, said[1].cached_bytes, said[1].current), (Some(9), None, false));
    for number in 4..40 {
        let next = version(&format!("v{number}"), None);
        say(
            Some(&Measure { version: Some(next.version.clone()), versions: vec![next], ..told.clone() }),
            later,
        );
    }
    let said = say(Some(&told), later);
    assert_eq!((said.len(), said[0].version.as_str(), said[2].version.as_str()), (16, "v2", "v39"));
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
    let observed = |status: &DatasetStatus| {
        let condition = status.conditions.iter().find(|c| c.type_ == condition::OBSERVED).unwrap();
        (condition.status.clone(), condition.message.clone())
    };
    let newest = pinned("v2");
    assert_eq!(observed(&newest).1, "reported by one agent");
    assert_eq!((newest.total_bytes, newest.cached_bytes, newest.node_count), (Some(100), Some(50), Some(1)));
    let former = pinned("v1");
    assert_eq!(
        (former.version.as_deref(), former.total_bytes, former.file_num),
        (Some("v1"), Some(70), Some(7))
    );
    assert_eq!((former.cached_bytes, former.nodes.len(), former.node_count), (None, 0, None));
    assert_eq!(former.cache_states.as_ref().unwrap().cached_percentage, "Unknown");
    assert_eq!(observed(&former).0, "True");
    assert!(observed(&former).1.contains("the stores hold v2, and pods read"), "{:?}", observed(&former));
    let never_seen = pinned("v0");
    assert_eq!(observed(&never_seen).0, "Unknown");
    assert!(observed(&never_seen).1.contains("no agent has ever seen"), "{:?}", observed(&never_seen));
    assert_eq!((never_seen.total_bytes, never_seen.ufs_total.as_deref()), (None, Some("Unknown")));
}
