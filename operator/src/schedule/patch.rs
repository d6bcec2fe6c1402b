//! What the webhook changes in a pod, as one JSON patch: whole, or not at all.
//!
//! The patch begins with tests of what its positions mean, adds and never replaces, and is empty where there
//! is nothing to add; a second pass over its result therefore finds nothing to do.

use std::fmt::Write;

use serde_json::{Value, json};

use super::affinity::Preference;
use super::mountable;
use super::pod::{Container, NodeAffinity, Pod, VolumeMount};

/// Says on the pod what was decided and why. A pod that has it is not steered again.
pub const DECISION: &str = "headrace.io/decision";

/// The API server refuses annotations of more than 256 KiB in all; a sentence needs far less.
const LONGEST: usize = 4 << 10;

/// A pod may name at most this many mounts to change; a pod with more is left alone, and says why.
const MOST_MOUNTS: usize = 512;

/// Volumes by index, with the claim each of them names; what the pod prefers, and how many nodes it has to be kept off because
/// no Dataset can be mounted there, or why its node is settled already.
#[derive(Debug)]
pub struct Change<'a> {
    pub volumes: &'a [(usize, &'a str, &'a str)],
    pub steering: Result<(Preference, usize), &'static str>,
}

/// The operations, or none where the pod is as it should be.
pub fn patch(pod: &Pod, change: Change<'_>) -> Option<Vec<Value>> {
    let Change { volumes, steering } = change;
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
        let mut words = match steering {
            Ok((Preference { terms, mut words }, unmountable)) => {
                if !terms.is_empty() || unmountable > 0 {
                    additions.extend(path_to(pod));
                }
                if !terms.is_empty() {
                    additions.extend(preferred(pod, terms));
                }
                if unmountable > 0 {
                    let (meant, kept_off) = required(pod);
                    tests.extend(meant);
                    additions.extend(kept_off);
                    let _ =
                        write!(words, "; kept off nodes that can mount no Dataset ({unmountable} by now)");
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

const NODE_AFFINITY: &str = "/spec/affinity/nodeAffinity";

fn node_affinity(pod: &Pod) -> Option<&NodeAffinity> {
    pod.spec.affinity.as_ref()?.node_affinity.as_ref()
}

/// As much of the path to a pod's node affinity as is missing.
fn path_to(pod: &Pod) -> Vec<Value> {
    let mut missing = Vec::new();
    if pod.spec.affinity.is_none() {
        missing.push(add("/spec/affinity".to_owned(), json!({})));
    }
    if node_affinity(pod).is_none() {
        missing.push(add(NODE_AFFINITY.to_owned(), json!({})));
    }
    missing
}

/// The terms behind those that the user has.
fn preferred(pod: &Pod, terms: Vec<Value>) -> Vec<Value> {
    let path = format!("{NODE_AFFINITY}/preferredDuringSchedulingIgnoredDuringExecution");
    match node_affinity(pod)
        .and_then(|node| node.preferred_during_scheduling_ignored_during_execution.as_ref())
    {
        None => vec![add(path, json!(terms))],
        Some(_) => terms.into_iter().map(|term| add(format!("{path}/-"), term)).collect(),
    }
}

/// That a Dataset can be mounted, in each of the user's terms, of which a node has to meet one; first what they are known by.
fn required(pod: &Pod) -> (Vec<Value>, Vec<Value>) {
    let path = format!("{NODE_AFFINITY}/requiredDuringSchedulingIgnoredDuringExecution");
    let own =
        node_affinity(pod).and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    let Some(own) = own else {
        let terms = json!({"nodeSelectorTerms": [{"matchExpressions": mountable::requirements()}]});
        return (Vec::new(), vec![add(path, terms)]);
    };
    let (mut tests, mut additions) = (Vec::new(), Vec::new());
    for (index, term) in own.node_selector_terms.iter().enumerate() {
        let path = format!("{path}/nodeSelectorTerms/{index}");
        let expressions = term.match_expressions.as_deref();
        let known_by =
            [("matchFields", &*term.match_fields), ("matchExpressions", expressions.unwrap_or_default())];
        let Some((list, first)) = known_by.iter().find_map(|(list, all)| Some((list, all.first()?))) else {
            // No node meets a term without requirements; with one of ours some would.
            continue;
        };
        tests.push(test(format!("{path}/{list}/0/key"), &first.key));
        let path = format!("{path}/matchExpressions");
        match expressions {
            None => additions.push(add(path, json!(mountable::requirements()))),
            Some(_) => additions.extend(mountable::requirements().map(|one| add(format!("{path}/-"), one))),
        }
    }
    (tests, additions)
}

fn test(path: String, value: &str) -> Value {
    json!({"op": "test", "path": path, "value": value})
}

fn add(path: String, value: Value) -> Value {
    json!({"op": "add", "path": path, "value": value})
}
