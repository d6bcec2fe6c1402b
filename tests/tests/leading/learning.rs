//! What one node's agent learned is there for another's, also when every operator was restarted in between; and the
//! next replica is steered to the bytes that the first one read, not to most bytes.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use operator_api::crd::AccessProfile;
use operator_api::report::v1::{First, ProfileLearned, ProfileWanted, down, up};
use serde_json::{Value, json};
use tests::agents::obedient::Obedient;
use tests::cluster::fleet::Spec;
use tests::cluster::wait::{Seen, until};

use super::stage::{BYTES, LIMIT, Stage, decision};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_learned_outlives_the_operator() {
    let mut stage = Stage::set(Spec::new("led", 3)).await;
    stage.dataset("train").await;
    let first = stage.agent("led-0", &["train"], &[], None).await;
    let workload = "pod exe=/usr/bin/python3.12 script=/app/train.py".to_owned();
    let (source, profile) = ("nas:/train".to_owned(), vec![7; 1_000]);
    // An agent teaches of Datasets that a pod on its node uses, or used.
    let (trainer, former) = (reader(&stage, "trainer").await, reader(&stage, "former").await);
    let told = |workload: &str| {
        let (source, profile, pods) = (source.clone(), profile.clone(), vec![trainer.clone()]);
        up::Kind::Learned(ProfileLearned {
            workload: workload.into(),
            source,
            profile,
            first: Vec::new(),
            pods,
        })
    };

    let api = stage.api::<AccessProfile>();
    let kept = until("an AccessProfile is there", LIMIT, async || {
        first.say(told(&workload));
        first.say(told("host exe=/usr/bin/duckdb"));
        let all = api.list(&ListParams::default()).await?.items;
        // Until the operator has heard of the pod it is nobody's.
        let named = all.into_iter().find(|kept| kept.spec.workload.kind == KIND);
        Ok(named.map_or(Seen::NotYet("none".into()), Seen::Done))
    })
    .await
    .unwrap();
    let spec = &kept.spec;
    assert_eq!((spec.workload.name.as_str(), spec.dataset.name.as_str()), ("trainer", "train"));
    assert_eq!(kept.metadata.owner_references.as_ref().unwrap()[0].kind, "Dataset");

    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    for name in ["trainer", "former"] {
        stage.api::<Pod>().delete(name, &now).await.unwrap();
    }
    // Learned again at once, it is not written again at once.
    first.say(told(&workload));
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    let all = api.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(all.len(), 1, "what runs beside the cluster is not written: {all:?}");
    assert_eq!(all[0].metadata.resource_version, kept.metadata.resource_version);

    the_next_replica_goes_where_its_bytes_are(&stage, &first, &source, [trainer, former]).await;

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

/// What owns pods here: its objects are nobody's business, where a Job's controller would let go of pods not its own.
const KIND: &str = "ConfigMap";

fn owned_by(name: &str, uid: &str) -> Value {
    json!([{"apiVersion": "v1", "kind": KIND, "name": name, "uid": uid, "controller": true}])
}

/// A pod on the first node that reads, and is not to steer anybody; gives its uid.
async fn reader(stage: &Stage, owner: &str) -> String {
    let object = ConfigMap {
        metadata: ObjectMeta { name: Some(owner.into()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    };
    let object = stage.api::<ConfigMap>().create(&PostParams::default(), &object).await.unwrap();
    let mut pod = stage.pod(owner, "train");
    pod.metadata.annotations = Some([("headrace.io/scheduling".into(), "disabled".into())].into());
    pod.metadata.owner_references =
        serde_json::from_value(owned_by(owner, &object.metadata.uid.unwrap())).unwrap();
    pod.spec.get_or_insert_default().node_name = Some("led-0".into());
    stage.make(&pod).await.metadata.uid.unwrap()
}

/// A node has three quarters of the Dataset, another the quarter that the workload reads.
async fn the_next_replica_goes_where_its_bytes_are(
    stage: &Stage,
    teacher: &Obedient,
    source: &str,
    [trainer, former]: [String; 2],
) {
    let chunks = u32::try_from(BYTES >> 22).unwrap();
    let quarter = chunks / 4;
    let most = stage.agent("led-1", &["train"], &[], None).await;
    let right = stage.agent("led-2", &["train"], &[], None).await;
    for (agent, run) in [(&most, 0..3 * quarter), (&right, 3 * quarter..chunks)] {
        agent.bring("led/train", run);
    }
    let decided = async |owner: Value| {
        let mut pod = stage.pod("replica", "train");
        pod.metadata.owner_references = serde_json::from_value(owner).unwrap();
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        stage.api::<Pod>().create(&dry, &pod).await.map(|made| decision(&made))
    };
    let says = async |name: &str, words: &str| {
        until(&format!("a pod of {name} {words}"), LIMIT, async || {
            let found = decided(owned_by(name, "0")).await?;
            Ok(if found.starts_with(words) { Seen::Done(()) } else { Seen::NotYet(found) })
        })
        .await
        .unwrap();
    };
    says("trainer", "prefers led-1 (768.0 MiB), led-2 (256.0 MiB)").await;
    // Of version 7, as the stage's agents say; the Dataset's number is the operator's first.
    let first = First { dataset: 1, version_high: 0, version_low: 7, chunks: vec![3 * quarter, quarter] };
    let stale = First { version_low: 6, ..first.clone() };
    // Other programs, so that they need not wait for their turn; of pods that have ended.
    for (program, first, pod) in [("side", first, trainer), ("former", stale, former)] {
        teacher.say(up::Kind::Learned(ProfileLearned {
            workload: format!("pod exe=/app/{program}"),
            source: source.to_owned(),
            profile: vec![7; 10],
            first: vec![first],
            pods: vec![pod],
        }));
    }
    says("trainer", "prefers led-2 (256.0 MiB) of led/train (256.0 MiB expected to be read)").await;
    until("what is stale is kept too", LIMIT, async || {
        let kept = stage.api::<AccessProfile>().list(&ListParams::default()).await?.items;
        let there = kept.iter().any(|kept| kept.spec.workload.name == "former");
        Ok(if there { Seen::Done(()) } else { Seen::NotYet(format!("{} are", kept.len())) })
    })
    .await
    .unwrap();
    says("former", "prefers led-1 (768.0 MiB)").await;
    says("another", "prefers led-1 (768.0 MiB)").await;
    let kept = stage.api::<AccessProfile>().list(&ListParams::default()).await.unwrap().items;
    let said = |kept: &&AccessProfile| kept.spec.workload.name == "trainer" && !kept.spec.first.is_empty();
    let side = kept.iter().find(said).unwrap();
    let told: Vec<_> = side.spec.first.iter().map(|range| (range.start, range.count)).collect();
    assert_eq!(told, [(i64::from(3 * quarter), i64::from(quarter))]);
    assert_eq!(side.spec.version.as_deref(), Some("00000000000000000000000000000007"));
}
