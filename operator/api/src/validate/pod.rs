//! What speaks against a DataProcess' pod. The rest is the apiserver's to judge when the Job is made.

use k8s_openapi::api::core::v1::PodSpec;

use super::refusal::Refusals;

/// The volume that brings the Dataset into the pod.
pub const VOLUME: &str = "headrace-dataset";

pub fn judge(pod: &PodSpec, mount_path: &str, refusals: &mut Refusals) {
    if pod.containers.is_empty() {
        refusals.add("processor.job.podSpec has no containers: add one");
    }
    if pod.restart_policy.as_deref().is_some_and(|policy| !["Never", "OnFailure"].contains(&policy)) {
        refusals.add("processor.job.podSpec.restartPolicy must be Never or OnFailure: the pod has to end");
    }
    if pod.volumes.iter().flatten().any(|volume| volume.name == VOLUME) {
        refusals.add(format!("the volume name {VOLUME} is the Dataset's own: rename yours"));
    }
    let containers = pod.containers.iter().chain(pod.init_containers.iter().flatten());
    for container in containers {
        let path = mount_path.trim_end_matches('/');
        let taken = |m: &&k8s_openapi::api::core::v1::VolumeMount| m.mount_path.trim_end_matches('/') == path;
        if let Some(mount) = container.volume_mounts.iter().flatten().find(taken) {
            refusals.add(format!(
                "container {} mounts {} at {mount_path}, where the Dataset goes: choose another mountPath",
                container.name, mount.name
            ));
        }
    }
}
