//! The mutating webhook's answer for one pod: whether it uses a Dataset, what it should prefer, and the patch.

use operator_api::validate::bulk;

use super::affinity;
use super::patch::{self, Change};
use super::pod::Pod;
use super::reach::{DATASETS, DatasetName, View};
use super::review::{Request, Verdict};
use super::workload;

pub fn judge(view: &dyn View, request: &Request<'_>) -> Verdict {
    let is_pod = request.kind.as_ref().is_some_and(|kind| kind.group.is_empty() && kind.kind == "Pod");
    if !is_pod || request.operation.as_deref() != Some("CREATE") {
        return Verdict::Allowed;
    }
    let Some(object) = request.object else { return Verdict::Allowed };
    let unread = |why: &dyn std::fmt::Display| {
        Verdict::Warned(format!("headrace: the pod cannot be read ({why}); it was not changed"))
    };
    if let Err(bulky) = bulk::check(object.get()) {
        return unread(&bulky);
    }
    let pod: Pod = match serde_json::from_str(object.get()) {
        Ok(pod) => pod,
        Err(error) => return unread(&error),
    };
    // While a pod is being created its own namespace may still be empty; the request's is not.
    let namespace = request.namespace.as_deref().unwrap_or_else(|| pod.namespace());
    change(view, namespace, &pod)
}

fn change(view: &dyn View, namespace: &str, pod: &Pod) -> Verdict {
    if pod.claims().next().is_none() || pod.opted_out() || view.opted_out(namespace) {
        return Verdict::Allowed;
    }
    let mut volumes = Vec::new();
    let mut datasets: Vec<DatasetName> = Vec::new();
    for (index, volume, claim) in pod.claims() {
        let Some(dataset) = view.dataset(namespace, claim) else { continue };
        volumes.push((index, volume, claim));
        if !datasets.contains(&dataset) && datasets.len() < DATASETS {
            datasets.push(dataset);
        }
    }
    if datasets.is_empty() {
        return Verdict::Allowed;
    }
    let steering = match settled(pod) {
        Some(words) => Err(words),
        None => {
            let reach = view.reach(&datasets, workload::of(namespace, pod).as_deref());
            Ok((affinity::prefer(&reach, &datasets.join(" and ")), reach.nodes.unmountable()))
        }
    };
    match patch::patch(pod, Change { volumes: &volumes, steering }) {
        Some(operations) => Verdict::Patched(operations),
        None => Verdict::Allowed,
    }
}

/// Why the pod's node is not for a scheduler to choose.
fn settled(pod: &Pod) -> Option<&'static str> {
    if !pod.spec.node_name.is_empty() {
        return Some("its node was named already: nothing to prefer");
    }
    // Such a pod is bound to its node by a required term on metadata.name.
    if pod.controller().is_some_and(|owner| owner.kind == "DaemonSet") {
        return Some("a DaemonSet runs one on every node: nothing to prefer");
    }
    None
}
