//! The kubelet of nodes without machines: pods bound to them run, end, and go.
//!
//! `next` says what a pod needs (pure); `run` watches and does it. A pod runs as soon as it is bound. One
//! that is not to be restarted ends after the time its annotation names, at once without one, with the exit
//! code its annotation names. A pod that is being deleted goes.

use std::collections::HashMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Annotation: seconds, such as "2.5", after which the pod's containers end.
pub const RUN_SECONDS: &str = "tests.headrace.io/run-seconds";
/// Annotation: what they end with; 0 when it is missing.
pub const EXIT_CODE: &str = "tests.headrace.io/exit-code";
/// Annotation: what they leave in their termination message; nothing when it is missing.
pub const MESSAGE: &str = "tests.headrace.io/message";
/// Annotation: the pod never starts, as if its image did not come.
pub const WAITS: &str = "tests.headrace.io/waits";

/// Requests under way at a time; more would only queue in the apiserver.
const AT_ONCE: usize = 32;

/// What a pod needs from its kubelet.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    Nothing,
    Start,
    /// Ends by itself after this time.
    End {
        after: Duration,
        code: i32,
    },
    Remove,
}

/// What is to be done for a pod as it is now.
pub fn next(pod: &Pod) -> Next {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    if pod.metadata.deletion_timestamp.is_some() {
        return Next::Remove;
    }
    match phase {
        "Pending" if pod.annotations().contains_key(WAITS) => Next::Nothing,
        "Pending" => Next::Start,
        "Running" => {
            let annotation = |name| pod.annotations().get(name).map(String::as_str);
            let restarts =
                pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always");
            let named = annotation(RUN_SECONDS).and_then(|text| text.parse::<f64>().ok());
            let after = named.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            let code = annotation(EXIT_CODE).and_then(|text| text.parse().ok()).unwrap_or(0);
            match (restarts, after) {
                ("Always", _) => Next::Nothing,
                (_, after) => Next::End { after: after.unwrap_or_default(), code },
            }
        }
        _ => Next::Nothing,
    }
}

/// The status of a pod whose containers run.
fn running(pod: &Pod, address: &str) -> Value {
    let now = Timestamp::now().to_string();
    let containers = containers(pod, |_| json!({ "running": { "startedAt": now } }), true);
    json!({ "status": {
        "phase": "Running",
        "startTime": now,
        "podIP": address,
        "podIPs": [{ "ip": address }],
        "conditions": conditions(&now, "True"),
        "containerStatuses": containers,
    }})
}

/// The status of a pod whose containers have ended.
fn ended(pod: &Pod, code: i32) -> Value {
    let now = Timestamp::now().to_string();
    let reason = if code == 0 { "Completed" } else { "Error" };
    let message = pod.annotations().get(MESSAGE);
    let state = |_: &str| json!({ "terminated": { "exitCode": code, "reason": reason, "finishedAt": now, "message": message } });
    json!({ "status": {
        "phase": if code == 0 { "Succeeded" } else { "Failed" },
        "conditions": conditions(&now, "False"),
        "containerStatuses": containers(pod, state, false),
    }})
}

fn conditions(now: &str, ready: &str) -> Value {
    let of = |name, status| json!({ "type": name, "status": status, "lastTransitionTime": now });
    json!([
        of("PodScheduled", "True"),
        of("Initialized", "True"),
        of("ContainersReady", ready),
        of("Ready", ready)
    ])
}

fn containers(pod: &Pod, state: impl Fn(&str) -> Value, ready: bool) -> Vec<Value> {
    let specified = pod.spec.iter().flat_map(|spec| &spec.containers);
    specified
        .map(|container| {
            json!({
                "name": container.name,
                "image": container.image,
                "imageID": "none",
                "ready": ready,
                "started": ready,
                "restartCount": 0,
                "state": state(&container.name),
            })
        })
        .collect()
}

/// Keeps the pods on the nodes whose names begin with `prefix` going, until it is dropped. Errors of single
/// requests are told and made good by the next event.
pub async fn run(client: Client, prefix: String) {
    let pods: Api<Pod> = Api::all(client.clone());
    let bound = watcher::Config::default().fields("spec.nodeName!=");
    let ours = |pod: &Pod| {
        pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|n| n.starts_with(&prefix))
    };
    // Timers come back on a channel, so that one loop does all the deciding; each pod has one at the most.
    let (ring, mut rung) = mpsc::channel::<Pod>(AT_ONCE);
    let mut ending: HashMap<String, tokio::task::AbortHandle> = HashMap::new();
    let mut events = watcher(pods, bound).default_backoff().applied_objects().boxed();
    let (work, mut todo) = mpsc::channel::<(Pod, Next)>(AT_ONCE);
    let mut workers = tokio::task::JoinSet::new();
    let doing = async {
        let stream = futures::stream::poll_fn(move |cx| todo.poll_recv(cx));
        stream
            .for_each_concurrent(AT_ONCE, |(pod, next)| {
                let client = client.clone();
                async move {
                    if let Err(error) = carry_out(client, &pod, &next).await {
                        eprintln!("kubelet: pod {}: {next:?}: {error}", pod.name_any());
                    }
                }
            })
            .await;
    };
    let deciding = async {
        loop {
            let (pod, timer) = tokio::select! {
                event = events.try_next() => match event {
                    Ok(Some(pod)) => (pod, false),
                    Ok(None) => return,
                    // The watcher has its own back-off.
                    Err(error) => { eprintln!("kubelet: {error}"); continue; }
                },
                Some(pod) = rung.recv() => (pod, true),
            };
            if !ours(&pod) {
                continue;
            }
            let uid = pod.uid().unwrap_or_default();
            match next(&pod) {
                Next::Nothing => {
                    ending.remove(&uid);
                }
                Next::End { after, code } if timer || after.is_zero() => {
                    if ending.remove(&uid).is_some() || after.is_zero() {
                        let _ = work.send((pod, Next::End { after, code })).await;
                    }
                }
                Next::End { after, .. } => {
                    let ring = ring.clone();
                    let until = Instant::now() + after;
                    ending.entry(uid).or_insert_with(|| {
                        workers.spawn(async move {
                            tokio::time::sleep_until(until).await;
                            let _ = ring.send(pod).await;
                        })
                    });
                    while workers.try_join_next().is_some() {}
                }
                next @ (Next::Start | Next::Remove) => {
                    if let (Next::Remove, Some(timer)) = (&next, ending.remove(&uid)) {
                        timer.abort();
                    }
                    let _ = work.send((pod, next)).await;
                }
            }
        }
    };
    tokio::join!(doing, deciding);
}

async fn carry_out(client: Client, pod: &Pod, next: &Next) -> Result<(), kube::Error> {
    let pods: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    let status = match next {
        Next::Nothing => return Ok(()),
        Next::Start => running(pod, &address(pod)),
        Next::End { code, .. } => ended(pod, *code),
        Next::Remove => {
            let now = DeleteParams {
                preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
                ..DeleteParams::default().grace_period(0)
            };
            return gone_is_fine(pods.delete(&name, &now).await.map(drop));
        }
    };
    let patch = pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await;
    gone_is_fine(patch.map(drop))
}

/// What another has deleted in the meantime needs nothing more.
fn gone_is_fine(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        other => other,
    }
}

/// An address from the range that is set aside for benchmarks, the same for a pod each time. Nobody connects.
fn address(pod: &Pod) -> String {
    let uid = pod.uid().unwrap_or_default();
    let mixed = uid.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let [_, _, a, b] = mixed.to_be_bytes();
    format!("198.18.{a}.{b}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(value: Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_bound_pod_starts_and_a_deleted_one_goes() {
        assert_eq!(next(&pod(json!({}))), Next::Start);
        assert_eq!(next(&pod(json!({ "metadata": { "annotations": { WAITS: "" } } }))), Next::Nothing);
        let deleted = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } });
        assert_eq!(next(&pod(deleted)), Next::Remove);
    }

    #[test]
    fn only_what_is_not_restarted_ends() {
        let status = json!({ "phase": "Running" });
        let always = json!({ "spec": { "containers": [] }, "status": status });
        assert_eq!(next(&pod(always)), Next::Nothing);
        let job = json!({
            "metadata": { "annotations": { RUN_SECONDS: "2.5", EXIT_CODE: "3" } },
            "spec": { "containers": [], "restartPolicy": "Never" },
            "status": status,
        });
        assert_eq!(next(&pod(job)), Next::End { after: Duration::from_millis(2_500), code: 3 });
        let odd = json!({
            "metadata": { "annotations": { RUN_SECONDS: "-1" } },
            "spec": { "containers": [], "restartPolicy": "Never" },
            "status": status,
        });
        assert_eq!(next(&pod(odd)), Next::End { after: Duration::ZERO, code: 0 });
        assert_eq!(next(&pod(json!({ "status": { "phase": "Succeeded" } }))), Next::Nothing);
    }

    #[test]
    fn the_statuses_are_what_kubernetes_understands() {
        let one = pod(json!({ "spec": { "containers": [{ "name": "main", "image": "none" }] } }));
        let status: Pod = serde_json::from_value(running(&one, "198.18.0.1")).unwrap();
        assert_eq!(status.status.unwrap().container_statuses.unwrap()[0].name, "main");
        let status: Pod = serde_json::from_value(ended(&one, 1)).unwrap();
        assert_eq!(status.status.unwrap().phase.as_deref(), Some("Failed"));
    }
}
