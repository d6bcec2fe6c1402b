//! What one node's agent learned is there for another's, also when every operator was restarted in between.

use kube::api::ListParams;
use operator_api::crd::AccessProfile;
use operator_api::report::v1::{ProfileLearned, ProfileWanted, down, up};
use tests::cluster::fleet::Spec;
use tests::cluster::wait::{Seen, until};

use super::stage::{LIMIT, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_learned_outlives_the_operator() {
    let mut stage = Stage::set(Spec::new("led", 2)).await;
    stage.dataset("train").await;
    let first = stage.agent("led-0", &["train"], &[], None).await;
    let workload = "owner namespace=led kind=Job name=trainer container=main".to_owned();
    let (source, profile) = ("nas:/train".to_owned(), vec![7; 1_000]);
    let told = |workload: &str| {
        let (source, profile) = (source.clone(), profile.clone());
        up::Kind::Learned(ProfileLearned { workload: workload.into(), source, profile })
    };
    first.say(told(&workload));
    first.say(told("host exe=/usr/bin/duckdb"));

    let api = stage.api::<AccessProfile>();
    let kept = until("an AccessProfile is there", LIMIT, async || {
        let mut all = api.list(&ListParams::default()).await?.items;
        Ok(all.pop().map_or(Seen::NotYet("none".into()), Seen::Done))
    })
    .await
    .unwrap();
    let spec = &kept.spec;
    assert_eq!((spec.workload.kind.as_str(), spec.workload.name.as_str()), ("Job", "trainer"));
    assert_eq!((spec.dataset.name.as_str(), spec.workload.container.as_deref()), ("train", Some("main")));
    assert_eq!(kept.metadata.owner_references.as_ref().unwrap()[0].kind, "Dataset");

    // Learned again at once, it is not written again at once.
    first.say(told(&workload));
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    let all = api.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(all.len(), 1, "what runs beside the cluster is not written: {all:?}");
    assert_eq!(all[0].metadata.resource_version, kept.metadata.resource_version);

    drop(first);
    stage.end_operator().await;
    stage.start_operator().await;
    let second = stage.agent("led-1", &["train"], &[], None).await;
    until("another node is told what was learned", LIMIT, async || {
        second.say(up::Kind::Wanted(ProfileWanted { workload: workload.clone(), source: source.clone() }));
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let known = second.heard().into_iter().find_map(|told| match told {
            down::Kind::Profile(told) if !told.profile.is_empty() => Some(told),
            _ => None,
        });
        Ok(known.map_or(Seen::NotYet("nothing is known".into()), Seen::Done))
    })
    .await
    .map(|told| assert_eq!((told.workload, told.profile), (workload.clone(), profile)))
    .unwrap();
    stage.end_operator().await;
}
