//! What the inventory must know of the cluster, as facts. Pure.

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use operator_api::crd::access_profile::WorkloadRef;
use operator_api::crd::dataset as crd;
use operator_api::crd::{AccessProfile, Dataset};
use operator_api::validate::quantity;
use operator_api::validate::url::StoreUrl;

use crate::inventory::{
    DatasetSpec, Effect, Fact, First, Labels, Mount, Name, NodeFacts, Replicas, Requirement, Sharing, Taint,
    Term, Test, Toleration, Version,
};

/// A Dataset's name in the inventory and on the wire.
pub fn name(namespace: &str, name: &str) -> Name {
    format!("{namespace}/{name}").into()
}

pub fn dataset(dataset: &Dataset) -> Fact {
    let name = name(&dataset.namespace().unwrap_or_default(), &dataset.name_any());
    Fact::Dataset { dataset: name, spec: spec(dataset) }
}

pub fn dataset_gone(namespace: &str, dataset: &str) -> Fact {
    Fact::DatasetGone { dataset: name(namespace, dataset) }
}

/// The Dataset that an AccessProfile is about.
pub fn of(profile: &AccessProfile) -> Name {
    let namespace = profile.namespace().unwrap_or_default();
    let dataset = &profile.spec.dataset;
    name(dataset.namespace.as_deref().unwrap_or(&namespace), &dataset.name)
}

/// Whose it is, as `namespace/Kind/name`. Who may write where a Dataset lives may say of the pods of another namespace how
/// they read that Dataset, and of no other.
pub fn workload(profile: &AccessProfile) -> String {
    let lies = profile.namespace().unwrap_or_default();
    let at_home = profile.spec.dataset.namespace.as_ref().is_none_or(|home| *home == lies);
    let WorkloadRef { kind, name, namespace } = &profile.spec.workload;
    let namespace = namespace.as_ref().filter(|_| at_home).unwrap_or(&lies);
    format!("{namespace}/{kind}/{name}")
}

/// What its workload reads first; none where that is not said, or of no version.
pub fn first(profile: &AccessProfile) -> Option<First> {
    let version = Version::parse(profile.spec.version.as_deref()?)?;
    // What no schema would let in says nothing.
    let runs = profile.spec.first.iter().filter_map(|range| {
        let end = range.start.checked_add(range.count)?;
        Some(u32::try_from(range.start).ok()?..u32::try_from(end).ok()?)
    });
    First::new(version, runs)
}

/// Where a Dataset's mounts lie: (source as an agent would see it, place in the Dataset).
pub fn mounts(dataset: &Dataset) -> Vec<Mount> {
    let mounts = dataset.spec.mounts.iter().map(|mount| {
        // An agent sees a node's mount by its source in mountinfo; a folder of it goes on behind a slash.
        let seen = StoreUrl::parse(&mount.mount_point).ok().and_then(|url| url.mounted());
        let source = match seen {
            Some((source, folder)) if folder.is_empty() => source,
            Some((source, folder)) => format!("{}/{folder}", source.trim_end_matches('/')),
            None => mount.mount_point.clone(),
        };
        Mount { source: source.into(), path: mount.seen_at().trim_matches('/').into() }
    });
    mounts.collect()
}

fn spec(dataset: &Dataset) -> DatasetSpec {
    let default = crd::CacheSpec::default();
    let cache = dataset.spec.cache.as_ref().unwrap_or(&default);
    let selector: Term = cache
        .node_selector
        .iter()
        .map(|(key, value)| Requirement {
            key: key.as_str().into(),
            test: Test::In(vec![value.as_str().into()]),
        })
        .collect();
    DatasetSpec {
        mounts: mounts(dataset),
        quota: quota(cache),
        replicas: match cache.replicas() {
            crd::Replicas::Auto => Replicas::Auto,
            crd::Replicas::Count(count) => Replicas::Fixed(count),
        },
        sharing: match cache.placement {
            crd::PlacementMode::Shared => Sharing::Shared,
            crd::PlacementMode::Exclusive => Sharing::Exclusive,
        },
        nodes: if selector.is_empty() { Vec::new() } else { vec![selector] },
        tolerations: cache.tolerations.iter().map(toleration).collect(),
    }
}

/// Whether a Dataset wants its nodes for itself.
pub fn is_exclusive(cache: &crd::CacheSpec) -> bool {
    cache.placement == crd::PlacementMode::Exclusive
}

/// Bytes of a node that the Dataset may fill: its whole quota, or the tiers' together, whichever is less.
pub fn quota(cache: &crd::CacheSpec) -> Option<u64> {
    let whole = cache.quota.as_deref().and_then(quantity::bytes);
    let levels = cache.tieredstore.as_ref().map(|store| &store.levels).filter(|levels| !levels.is_empty());
    let tiers = levels.and_then(|levels| {
        let mut quotas = levels.iter().map(|level| quantity::bytes(&level.quota));
        quotas.try_fold(0_u64, |sum, bytes| sum.checked_add(bytes?))
    });
    whole.into_iter().chain(tiers).min()
}

fn toleration(toleration: &k8s_openapi::api::core::v1::Toleration) -> Toleration {
    let text = |text: &Option<String>| text.as_deref().filter(|t| !t.is_empty()).map(Name::from);
    let exists = toleration.operator.as_deref() == Some("Exists");
    Toleration {
        key: text(&toleration.key),
        value: if exists { None } else { Some(toleration.value.as_deref().unwrap_or_default().into()) },
        effect: toleration.effect.as_deref().and_then(effect),
    }
}

fn effect(text: &str) -> Option<Effect> {
    match text {
        "NoSchedule" => Some(Effect::NoSchedule),
        "PreferNoSchedule" => Some(Effect::PreferNoSchedule),
        "NoExecute" => Some(Effect::NoExecute),
        _ => None,
    }
}

pub fn node(node: &Node) -> Fact {
    let spec = node.spec.clone().unwrap_or_default();
    let ready = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = ready.filter(|condition| condition.type_ == "Ready");
    let taints = spec.taints.iter().flatten().filter_map(|taint| {
        let value = taint.value.as_deref().unwrap_or_default().into();
        Some(Taint { key: taint.key.as_str().into(), value, effect: effect(&taint.effect)? })
    });
    let labels: Labels =
        node.labels().iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect();
    let facts = NodeFacts {
        taints: taints.collect(),
        ready: ready.next().is_some_and(|condition| condition.status == "True"),
        unschedulable: spec.unschedulable.unwrap_or(false),
        labels,
    };
    Fact::Node { node: node.name_any().into(), facts }
}

pub fn node_gone(node: &str) -> Fact {
    Fact::NodeGone { node: node.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_dataset_becomes_what_placement_needs() {
        let dataset: Dataset = serde_json::from_value(json!({
            "metadata": {"name": "d", "namespace": "n"},
            "spec": {
                "mounts": [{"mountPoint": "nfs://nas/export", "name": "a"}, {"mountPoint": "s3://b/x", "path": "/y/z"},
                           {"mountPoint": "juicefs://data/train", "name": "j"}],
                "cache": {"replicas": 3, "placement": "Exclusive", "nodeSelector": {"k": "v"},
                          "tieredstore": {"levels": [{"mediumtype": "MEM", "quota": "1Gi"}, {"mediumtype": "SSD", "quota": "2Gi"}]},
                          "tolerations": [{"operator": "Exists", "effect": "NoExecute"}, {"key": "k", "value": "v"}]}
            }
        }))
        .unwrap();
        let Fact::Dataset { dataset: name, spec } = super::dataset(&dataset) else { panic!("no Dataset") };
        assert_eq!(&*name, "n/d");
        let mounts: Vec<_> = spec.mounts.iter().map(|m| (&*m.source, &*m.path)).collect();
        assert_eq!(mounts, [("nas:/export", "a"), ("s3://b/x", "y/z"), ("JuiceFS:data/train", "j")]);
        assert_eq!(
            (spec.quota, spec.replicas, spec.sharing),
            (Some(3 << 30), Replicas::Fixed(3), Sharing::Exclusive)
        );
        assert_eq!(
            spec.tolerations[0],
            Toleration { key: None, value: None, effect: Some(Effect::NoExecute) }
        );
        assert_eq!(spec.tolerations[1].value.as_deref(), Some("v"));
        assert_eq!(spec.nodes.len(), 1);
    }

    #[test]
    fn a_quota_stands_above_the_tiers_and_they_below_it() {
        let tiers =
            json!({"levels": [{"mediumtype": "MEM", "quota": "1Gi"}, {"mediumtype": "SSD", "quota": "2Gi"}]});
        for (cache, bytes) in [
            (json!({}), None),
            (json!({"quota": "8Gi"}), Some(8 << 30)),
            (json!({"tieredstore": tiers}), Some(3 << 30)),
            (json!({"quota": "8Gi", "tieredstore": tiers}), Some(3 << 30)),
            (json!({"quota": "2Gi", "tieredstore": tiers}), Some(2 << 30)),
            (json!({"quota": "2Gi", "tieredstore": {"levels": []}}), Some(2 << 30)),
        ] {
            assert_eq!(quota(&serde_json::from_value(cache.clone()).unwrap()), bytes, "{cache}");
        }
    }
}
