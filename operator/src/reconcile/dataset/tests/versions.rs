//! What is said of versions while leaders, and with them what was told, come and go.

use operator_api::crd::dataset_status::VersionStatus;

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
