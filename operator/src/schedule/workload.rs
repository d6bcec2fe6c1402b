//! Which workload a pod belongs to: the key of what was learned of it.

use super::pod::Pod;

/// The label that a Deployment gives its ReplicaSets' pods, and its value ends the ReplicaSet's name.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// `namespace/Kind/name` of the object a person wrote, so that the second replica, or tomorrow's rollout, is
/// the same workload; none for a pod that nothing owns.
pub fn of(namespace: &str, pod: &Pod) -> Option<String> {
    let owner = pod.controller()?;
    let hash = pod.metadata.as_ref()?.labels.as_ref().and_then(|labels| labels.get(TEMPLATE_HASH));
    let deployment = hash.filter(|_| owner.kind == "ReplicaSet").and_then(|hash| {
        owner.name.strip_suffix(hash.as_str())?.strip_suffix('-').filter(|name| !name.is_empty())
    });
    Some(match deployment {
        Some(name) => format!("{namespace}/Deployment/{name}"),
        None => format!("{namespace}/{}/{}", owner.kind, owner.name),
    })
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
}
