//! Which workload a pod belongs to: the key of what was learned of it, and what people are told.

use operator_api::crd::dataset_status::MAX_WORKLOAD;

use super::pod::Pod;

/// The label that a Deployment gives its ReplicaSets' pods, and its value ends the ReplicaSet's name.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// `namespace/Kind/name` of the object a person wrote, so that the second replica, or tomorrow's rollout, is
/// the same workload; none for a pod that nothing owns, and for one whose owner has a longer name than there can be: the
/// apiserver bounds names, but not what an owner's reference says, anybody who may make a pod writes that, and what is
/// remembered by workload is bounded by their number.
pub fn of(namespace: &str, pod: &Pod) -> Option<String> {
    let owner = pod.controller()?;
    if owner.kind.len() + 1 + owner.name.len() > MAX_WORKLOAD {
        return None;
    }
    let hash = pod.metadata.as_ref()?.labels.as_ref().and_then(|labels| labels.get(TEMPLATE_HASH));
    let deployment = hash.filter(|_| owner.kind == "ReplicaSet").and_then(|hash| {
        owner.name.strip_suffix(hash.as_str())?.strip_suffix('-').filter(|name| !name.is_empty())
    });
    Some(match deployment {
        Some(name) => format!("{namespace}/Deployment/{name}"),
        None => format!("{namespace}/{}/{}", owner.kind, owner.name),
    })
}

/// The same for people, and for each pod: one of no workload is `namespace/Pod/name`. No longer than a status takes.
pub fn shown(namespace: &str, name: &str, pod: &Pod) -> String {
    of(namespace, pod).unwrap_or_else(|| format!("{namespace}/Pod/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_owner(kind: &str, name: &str, labels: &str) -> Option<String> {
        let text = format!(
            r#"{{"metadata":{{"labels":{labels},"ownerReferences":[
                {{"kind":"Other","name":"o"}},{{"kind":"{kind}","name":"{name}","controller":true}}]}}}}"#
        );
        of("ns", &serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn a_rollout_stays_the_same_workload() {
        let hash = r#"{"pod-template-hash":"5d9c"}"#;
        assert_eq!(of_owner("ReplicaSet", "web-5d9c", hash).as_deref(), Some("ns/Deployment/web"));
        assert_eq!(of_owner("ReplicaSet", "web-5d9c", "null").as_deref(), Some("ns/ReplicaSet/web-5d9c"));
        assert_eq!(of_owner("ReplicaSet", "-5d9c", hash).as_deref(), Some("ns/ReplicaSet/-5d9c"));
        assert_eq!(of_owner("Job", "train", "null").as_deref(), Some("ns/Job/train"));
        assert_eq!(of("ns", &Pod::default()), None);
    }

    #[test]
    fn what_people_are_told_fits_into_a_status() {
        assert_eq!(shown("ns", "p", &Pod::default()), "ns/Pod/p");
        let pod = |kind: &str| -> Pod {
            let text = format!(
                r#"{{"metadata":{{"ownerReferences":[{{"kind":"{kind}","name":"n","controller":true}}]}}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        assert_eq!(shown("ns", "p", &pod("Job")), "ns/Job/n");
        let widest = "ö".repeat((MAX_WORKLOAD - 2) / 2);
        assert_eq!(shown("ns", "p", &pod(&widest)), format!("ns/{widest}/n"));
        for flood in [format!("{widest}o"), "ö".repeat(100_000)] {
            assert_eq!(of("ns", &pod(&flood)), None);
            assert_eq!(shown("ns", "p", &pod(&flood)), "ns/Pod/p");
        }
    }
}
