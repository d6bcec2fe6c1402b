//! Webhooks and extender, as the operator serves them: with its own certificate, from what agents have told it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Error};
use operator_api::crd::Dataset;
use operator_api::report::v1::{down, instruction};
use serde_json::{Value, json};
use tests::agents::obedient::Obedient;
use tests::cluster::fleet::Spec;
use tests::cluster::options::Scheduler;
use tests::cluster::wait::{Seen, until};

use super::stage::{BYTES, HOME, LIMIT, Stage, decision, documents};

/// What a node is told to fetch on account of a pod.
async fn told_to_fetch(agent: &Obedient, pod: &str) -> Vec<u32> {
    until(&format!("the node of {pod} is told to begin"), LIMIT, async || {
        for told in agent.heard() {
            let down::Kind::Instruction(told) = told else { continue };
            if let Some(instruction::Work::Fetch(fetch)) = told.work.filter(|_| told.reason.contains(pod)) {
                return Ok(Seen::Done(fetch.extent.unwrap_or_default().chunks));
            }
        }
        Ok(Seen::NotYet("nothing was told".into()))
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_itself_steers_pods() {
    let mut stage = Stage::set(Spec { cpus: 8, ..Spec::new("led", 4) }).await;
    stage.dataset("train").await;
    let _holder = stage.agent("led-1", &["train"], &["train"], None).await;
    let empty = stage.agent("led-3", &["train"], &[], None).await;

    let words = stage.would_be_steered("train").await;
    assert!(
        words.starts_with("prefers led-1 (1.0 GiB) of led/train (1.0 GiB expected to be read)"),
        "{words}"
    );
    let made = stage.make(&stage.pod("one", "train")).await;
    assert!(decision(&made).starts_with("prefers led-1"), "{made:?}");
    assert_eq!(stage.node_of("one").await, "led-1");

    // Bound elsewhere, by whomever: its node begins with what it has not.
    let mut elsewhere = stage.pod("elsewhere", "train");
    elsewhere.spec.as_mut().unwrap().node_name = Some("led-3".into());
    stage.make(&elsewhere).await;
    assert_eq!(told_to_fetch(&empty, "led/elsewhere").await, [0, (BYTES >> 22) as u32]);

    // What cannot work is refused, with what to change.
    let bad = json!({
        "apiVersion": "headrace.io/v1alpha1", "kind": "Dataset", "metadata": {"name": "bad"},
        "spec": {"mounts": [{"mountPoint": "gopher://nas/x", "name": "x"}]},
    });
    let bad: Dataset = serde_json::from_value(bad).unwrap();
    let refused = stage.api::<Dataset>().create(&PostParams::default(), &bad).await.unwrap_err();
    let Error::Api(status) = refused else { panic!("{refused}") };
    assert!(
        status.message.contains("objects.headrace.io") && status.message.contains("gopher"),
        "{status:?}"
    );

    nodes_without_mounts_are_kept_off(&stage, "webhook").await;
    // It hears too that they can mount again.
    stage.would_be_steered("train").await;
    the_extender_steers_too(&mut stage).await;

    // Who installs the webhooks anew has the authority in them again.
    let all: Api<MutatingWebhookConfiguration> = Api::all(stage.client.clone());
    all.delete("headrace", &DeleteParams::default()).await.unwrap();
    stage.webhooks().await;
    stage.would_be_steered("train").await;

    // The operator is gone: pods are made as they are.
    stage.end_operator().await;
    let made = stage.make(&stage.pod("orphan", "train")).await;
    assert_eq!(made.metadata.annotations, None);
}

/// Sets the nodes' label, or takes it away.
async fn mountable(stage: &Stage, nodes: &[&str], label: Value) {
    let all: Api<Node> = Api::all(stage.client.clone());
    let patch = Patch::Merge(json!({"metadata": {"labels": {"headrace.io/mount": label}}}));
    for node in nodes {
        all.patch(node, &PatchParams::default(), &patch).await.unwrap();
    }
}

/// Not even for bytes does a pod come where nothing can be mounted.
async fn nodes_without_mounts_are_kept_off(stage: &Stage, by: &str) {
    let holders = ["led-1", "led-3"];
    mountable(stage, &holders, json!("disabled")).await;
    let (pods, now) = (stage.api::<Pod>(), DeleteParams::default().grace_period(0));
    let tried = AtomicU32::new(0);
    let kept_away = async || {
        let name = format!("kept-away-by-{by}-{}", tried.fetch_add(1, Ordering::Relaxed));
        stage.make(&stage.pod(&name, "train")).await;
        let node = stage.node_of(&name).await;
        pods.delete(&name, &now).await?;
        Ok(if holders.contains(&node.as_str()) { Seen::NotYet(node) } else { Seen::Done(()) })
    };
    // The operator hears of the label when its watch does.
    until("a pod is kept away", LIMIT, kept_away).await.unwrap();
    // Of nodes that are all the same to the scheduler one of these would be taken every other time.
    for _ in 0..6 {
        until("it stays so", Duration::ZERO, kept_away).await.unwrap();
    }
    mountable(stage, &holders, json!(null)).await;
}

/// A scheduler with deploy/scheduler's extender, but for where the operator is; webhooks are taken out, so it filters too.
pub async fn the_extender_steers_too(stage: &mut Stage) {
    let all: Api<MutatingWebhookConfiguration> = Api::all(stage.client.clone());
    all.delete("headrace", &DeleteParams::default()).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(stage.client.clone(), HOME);
    let authority = maps.get("headrace-authority").await.unwrap().data.unwrap()["ca.crt"].clone();
    let mut extenders = documents("scheduler/configuration.yaml")[0]["extenders"].clone();
    extenders[0]["urlPrefix"] = json!(format!("https://127.0.0.1:{}/extender", stage.scheduling.port()));
    extenders[0]["filterVerb"] = json!("filter");
    // The name that deploy/scheduler expects in the certificate stays.
    extenders[0]["tlsConfig"] = json!({
        "serverName": extenders[0]["tlsConfig"]["serverName"],
        "caData": ByteString(authority.into_bytes()),
    });
    let configuration = json!({ "extenders": extenders });
    stage.plane.restart_scheduler(&Scheduler { configuration, ..Scheduler::default() }).await.unwrap();
    for number in 0..3 {
        let name = format!("extended-{number}");
        let made = stage.make(&stage.pod(&name, "train")).await;
        assert_eq!(decision(&made), "", "the webhook is gone");
        let node = stage.node_of(&name).await;
        // led-3 has fetched it meanwhile.
        assert!(["led-1", "led-3"].contains(&node.as_str()), "{name} landed on {node}");
    }
    nodes_without_mounts_are_kept_off(stage, "filter").await;
    let now = DeleteParams::default().grace_period(0);
    stage.api::<Pod>().delete_collection(&now, &ListParams::default()).await.unwrap();
    stage.webhooks().await;
    // Within register's period.
    tokio::time::timeout(Duration::from_secs(60), stage.would_be_steered("train")).await.expect("in time");
}
