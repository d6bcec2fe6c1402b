//! What the webhook changes in a pod, as one JSON patch: whole, or not at all.
//!
//! The patch begins with tests of what its positions mean, adds and never replaces, and is empty where there
//! is nothing to add; a second pass over its result therefore finds nothing to do.

use serde_json::{Value, json};

use super::affinity::Preference;
use super::pod::{Container, Pod, VolumeMount};

/// Says on the pod what was decided and why. A pod that has it is not steered again.
pub const DECISION: &str = "headrace.io/decision";

/// The API server refuses annotations of more than 256 KiB in all; a sentence needs far less.
const LONGEST: usize = 4 << 10;

/// A pod may name at most this many mounts to change; a pod with more is left alone, and says why.
const MOST_MOUNTS: usize = 512;

/// Volumes by index, with the claim each of them names; `preference` is none where the pod's node is settled
/// already, and then `settled` says why.
#[derive(Debug)]
pub struct Change<'a> {
    pub volumes: &'a [(usize, &'a str, &'a str)],
    pub preference: Result<Preference, &'static str>,
}

/// The operations, or none where the pod is as it should be.
pub fn patch(pod: &Pod, change: Change<'_>) -> Option<Vec<Value>> {
    let Change { volumes, preference } = change;
    let metadata = pod.metadata.as_ref()?;
    let (mut tests, mut additions) = (Vec::new(), Vec::new());

    let mut propagated = 0;
    for (list, containers) in
        [("containers", &pod.spec.containers), ("initContainers", &pod.spec.init_containers)]
    {
        for (at, mount) in mounts_to_change(containers, volumes) {
            if propagated == MOST_MOUNTS {
                return None;
            }
            propagated += 1;
            let path = format!("/spec/{list}/{}/volumeMounts/{}", at.0, at.1);
            tests.push(test(format!("{path}/name"), &mount.name));
            additions.push(add(format!("{path}/mountPropagation"), json!("HostToContainer")));
        }
    }

    if pod.annotation(DECISION).is_none() {
        let mut words = match preference {
            Ok(Preference { terms, words }) => {
                if !terms.is_empty() {
                    additions.extend(affinity(pod, terms));
                }
                words
            }
            Err(settled) => settled.to_owned(),
        };
        if propagated > 0 {
            words.push_str(
                "; mounts that come back after a restart of the agent are passed on to its containers",
            );
        }
        words.truncate(words.floor_char_boundary(LONGEST));
        additions.push(match &metadata.annotations {
            None => add("/metadata/annotations".to_owned(), json!({ DECISION: words })),
            Some(_) => add(format!("/metadata/annotations/{}", DECISION.replace('/', "~1")), json!(words)),
        });
    }

    if additions.is_empty() {
        return None;
    }
    for (index, _, claim) in volumes {
        tests.push(test(format!("/spec/volumes/{index}/persistentVolumeClaim/claimName"), claim));
    }
    tests.extend(additions);
    Some(tests)
}

/// Mounts of those volumes that would lose sight of the file system when it is mounted anew on the host.
///
/// Left as they are: a propagation that the user chose; a part of the volume (`subPath`), which is bound once
/// and never follows; and recursive read-only mounts, which the API allows no propagation.
fn mounts_to_change<'a>(
    containers: &'a [Container],
    volumes: &'a [(usize, &str, &str)],
) -> impl Iterator<Item = ((usize, usize), &'a VolumeMount)> {
    let whole = |mount: &VolumeMount| {
        let recursive = mount.recursive_read_only.as_deref().unwrap_or("Disabled");
        mount.mount_propagation.is_none()
            && mount.sub_path.is_empty()
            && mount.sub_path_expr.is_empty()
            && recursive == "Disabled"
            && volumes.iter().any(|(_, volume, _)| *volume == mount.name)
    };
    containers.iter().enumerate().flat_map(move |(container, of)| {
        let mounts = of.volume_mounts.iter().enumerate();
        mounts.filter(move |(_, mount)| whole(mount)).map(move |(index, mount)| ((container, index), mount))
    })
}

/// The terms behind those that the user has, with as much of the path as is missing.
fn affinity(pod: &Pod, terms: Vec<Value>) -> Vec<Value> {
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let Some(affinity) = &pod.spec.affinity else {
        return vec![add("/spec/affinity".to_owned(), json!({"nodeAffinity": { PREFERRED: terms }}))];
    };
    let Some(node) = &affinity.node_affinity else {
        return vec![add("/spec/affinity/nodeAffinity".to_owned(), json!({ PREFERRED: terms }))];
    };
    let path = format!("/spec/affinity/nodeAffinity/{PREFERRED}");
    match &node.preferred_during_scheduling_ignored_during_execution {
        None => vec![add(path, json!(terms))],
        Some(_) => terms.into_iter().map(|term| add(format!("{path}/-"), term)).collect(),
    }
}

fn test(path: String, value: &str) -> Value {
    json!({"op": "test", "path": path, "value": value})
}

fn add(path: String, value: Value) -> Value {
    json!({"op": "add", "path": path, "value": value})
}
