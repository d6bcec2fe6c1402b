//! Pods that use a Dataset, on a real control plane with a real kube-scheduler: they land where the bytes are
//! while there is room, elsewhere when there is none, and never wait.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, PostParams};
use operator::inventory::Fact;
use operator::schedule::bound::{Agents, Begin};
use operator::schedule::pods;
use operator::schedule::register::{self, Registered};
use tests::bench::steering::stage::{Extender, Stage, Steering};
use tests::cluster::fleet::Spec;
use tests::cluster::kubelet::WAITS;
use tests::cluster::wait::{Seen, until};
use tokio::sync::{mpsc, watch};

/// Hears what agents are told.
struct Heard(mpsc::UnboundedSender<Begin>);

impl Agents for Heard {
    fn begin(&self, begin: Begin) {
        let _ = self.0.send(begin);
    }

    fn call_off(&self, _: &str, _: &str) {}
}

const HOLDERS: [&str; 2] = ["steered-1", "steered-4"];

/// Six pods of a Dataset that is on two nodes with room for two each: how many land on which node.
async fn landed(stage: &Stage, run: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for number in 0..6 {
        let name = format!("{run}-{number}");
        let pod = stage.pod(&name, "train", "4").unwrap();
        stage.pods().create(&PostParams::default(), &pod).await.unwrap();
        *counts.entry(stage.node_of(&name).await.unwrap()).or_default() += 1;
    }
    let now = DeleteParams::default().grace_period(0);
    stage.pods().delete_collection(&now, &ListParams::default()).await.unwrap();
    counts
}

fn on_holders(counts: &BTreeMap<String, usize>) -> Vec<usize> {
    HOLDERS.iter().map(|node| counts.get(*node).copied().unwrap_or(0)).collect()
}

/// A pod with a node of its own choice: no scheduler of ours sees it, the watch does.
async fn a_bound_pod_has_its_node_begin(stage: &Stage) {
    let (sender, mut heard) = mpsc::unbounded_channel();
    let facts = Arc::new(Mutex::new(Vec::new()));
    let (stop, stopped) = watch::channel(false);
    let (lead, leads) = watch::channel(None);
    let told = facts.clone();
    let tell = move |fact| told.lock().unwrap().push(fact);
    let watching =
        pods::watch(stage.client.clone(), stage.picture(), Arc::new(Heard(sender)), leads, tell, stopped);
    let watching = tokio::spawn(watching);
    let mut pod = stage.pod("named", "train", "1").unwrap();
    pod.spec.as_mut().unwrap().node_name = Some("steered-0".to_owned());
    pod.annotations_mut().insert(WAITS.to_owned(), String::new());
    stage.pods().create(&PostParams::default(), &pod).await.unwrap();
    let mut next = async || loop {
        let begin = tokio::time::timeout(Duration::from_secs(60), heard.recv()).await.unwrap().unwrap();
        if begin.reason.contains("steered/named") {
            break begin;
        }
    };
    let begin = next().await;
    assert_eq!((&*begin.node, &*begin.dataset), ("steered-0", "steered/train"));
    assert_eq!(begin.chunks, [0..256], "1 GiB: nobody knows the node's memory, or what is read first");
    let bound = |fact: &Fact| matches!(fact, Fact::PodBound { node, .. } if &**node == "steered-0");
    assert!(facts.lock().unwrap().iter().any(bound));
    // Who begins to lead has the same asked once more, when agents have had the time to come.
    lead.send(Instant::now().checked_sub(Duration::from_secs(15))).unwrap();
    assert_eq!(next().await, begin);
    assert_eq!(facts.lock().unwrap().iter().filter(|fact| bound(fact)).count(), 1, "it is bound once");
    let now = DeleteParams::default().grace_period(0);
    stage.pods().delete("named", &now).await.unwrap();
    let ended = |fact: &Fact| matches!(fact, Fact::PodEnded { .. });
    until("the pod's end is told", Duration::from_secs(60), async || {
        let ended = facts.lock().unwrap().iter().any(ended);
        Ok(if ended { Seen::Done(()) } else { Seen::NotYet("it is not".to_owned()) })
    })
    .await
    .unwrap();
    stop.send_replace(true);
    watching.await.unwrap();
}

/// Server-side apply of caBundle alone: everything else of the configurations stays.
async fn the_authority_is_written_where_it_belongs(stage: &Stage) {
    let all: Api<MutatingWebhookConfiguration> = Api::all(stage.client.clone());
    let before = all.get("headrace").await.unwrap();
    for pem in ["first", "second", "second"] {
        let done = register::once(&stage.client, &stage.namespace, "headrace", pem.as_bytes()).await.unwrap();
        assert_eq!(done, Registered::All);
        let mut after = all.get("headrace").await.unwrap();
        let hook = &mut after.webhooks.as_mut().unwrap()[0];
        assert_eq!(hook.client_config.ca_bundle.as_ref().unwrap().0, pem.as_bytes());
        hook.client_config.ca_bundle = before.webhooks.as_ref().unwrap()[0].client_config.ca_bundle.clone();
        assert_eq!(after.webhooks, before.webhooks);
        let maps: Api<ConfigMap> = Api::namespaced(stage.client.clone(), &stage.namespace);
        let map = maps.get("headrace-authority").await.unwrap();
        assert_eq!(map.data.unwrap()["ca.crt"], pem);
    }
    all.delete("headrace", &DeleteParams::default()).await.unwrap();
    let done = register::once(&stage.client, &stage.namespace, "headrace", b"third").await.unwrap();
    assert_eq!(done, Registered::WithoutWebhooks);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_land_where_their_bytes_are_while_there_is_room() {
    let mut stage = Stage::set(Spec { cpus: 8, ..Spec::new("steered", 6) }).await.unwrap();
    stage.dataset("train").await.unwrap();
    stage.claims_are_bound().await.unwrap();
    for node in HOLDERS {
        stage.holds(node, &["train"]);
    }

    // As deploy/scheduler has it for a cluster with the webhooks, and for one without.
    for (run, webhooks, extender) in [
        ("both", true, Some(Extender::Ours)),
        ("webhook", true, None),
        ("extender", false, Some(Extender::Filtering)),
    ] {
        stage.steer(Steering { webhooks, extender }).await.unwrap();
        let (before, _) = stage.scored();
        let counts = landed(&stage, run).await;
        let scored = stage.scored().0 - before;
        assert!(
            if extender.is_some() { scored >= 6 } else { scored == 0 },
            "with {run}: scores of {scored} pods"
        );
        assert_eq!(on_holders(&counts), [2, 2], "with {run}: {counts:?}");
        assert_eq!(counts.values().sum::<usize>(), 6, "with {run}: {counts:?}");
    }

    stage.steer(Steering { webhooks: true, extender: Some(Extender::Ours) }).await.unwrap();
    let mut left_alone = stage.pod("left-alone", "train", "1").unwrap();
    let label = ("headrace.io/scheduling".to_owned(), "disabled".to_owned());
    left_alone.metadata.labels = Some([label].into());
    let made = stage.pods().create(&PostParams::default(), &left_alone).await.unwrap();
    assert_eq!(made.spec.as_ref().and_then(|spec| spec.affinity.as_ref()), None);
    let steered = stage.pod("steered", "train", "1").unwrap();
    let made = stage.pods().create(&PostParams::default(), &steered).await.unwrap();
    let words = made.metadata.annotations.as_ref().and_then(|all| all.get("headrace.io/decision")).unwrap();
    assert!(
        words.starts_with("prefers steered-1 (4.0 GiB), steered-4 (4.0 GiB) of steered/train"),
        "{words}"
    );
    let mount = made.spec.as_ref().unwrap().containers[0].volume_mounts.as_ref().unwrap()[0].clone();
    assert_eq!(mount.mount_propagation.as_deref(), Some("HostToContainer"));

    a_bound_pod_has_its_node_begin(&stage).await;
    the_authority_is_written_where_it_belongs(&stage).await;

    stage.steer(Steering { webhooks: true, extender: Some(Extender::Ours) }).await.unwrap();
    stage.operator_gone().await;
    let orphan = stage.pod("orphan", "train", "1").unwrap();
    let made = stage.pods().create(&PostParams::default(), &orphan).await.unwrap();
    assert_eq!(made.metadata.annotations, None, "made as it is without the operator");
    stage.node_of("orphan").await.unwrap();
}
