//! What speaks against a Dataset.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Toleration;

use super::known::Known;
use super::nfs;
use super::quantity;
use super::refusal::{Refusal, Refusals};
use super::secret::{self, Secret};
use super::url::StoreUrl;
use crate::crd::Dataset;
use crate::crd::dataset::{CacheSpec, Mount, Sharing};
use crate::crd::dataset_kind::DatasetSpec;

pub fn judge(namespace: &str, dataset: &Dataset, known: &dyn Known) -> Result<(), Refusal> {
    let name = dataset.metadata.name.as_deref().unwrap_or_default();
    let mut refusals = Refusals::default();
    mounts(&dataset.spec.mounts, &mut refusals);
    let DatasetSpec { shared_options, shared_encrypt_options, .. } = &dataset.spec;
    secrets("sharedOptions", "sharedEncryptOptions", shared_options, &mut refusals);
    // A mount's own win over the shared ones, in clear or secret; of two that are both shared neither does.
    for option in shared_encrypt_options.iter().filter(|option| shared_options.contains_key(&option.name)) {
        refusals.add(format!(
            "option {} is in sharedOptions and in sharedEncryptOptions: take it out of sharedOptions",
            option.name
        ));
    }
    if let Some(space) = &dataset.spec.cache {
        cache(space, known, &mut refusals);
    }
    if let Some(claim) = known.claim(namespace, name)
        && claim.dataset != (namespace.into(), name.into())
    {
        let (owner, other) = claim.dataset;
        refusals.add(format!(
            "the claim {name} in namespace {namespace} is made for Dataset {owner}/{other}, which is shared with \
             this namespace: choose another name, or have that grant say another claimName"
        ));
    }
    if let Some(sharing) = &dataset.spec.sharing {
        grants(namespace, name, sharing, known, &mut refusals);
    }
    refusals.into_result()
}

fn mounts(mounts: &[Mount], refusals: &mut Refusals) {
    nfs::judge(mounts, refusals);
    let mut places = BTreeSet::new();
    for mount in mounts {
        let place = mount.seen_at();
        if let Err(error) = StoreUrl::parse(&mount.mount_point) {
            refusals.add(format!("the mountPoint of mount {place} cannot be used: {error}"));
        }
        let clean: Vec<_> = place.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if !places.insert(clean.join("/")) {
            refusals.add(format!("two mounts are seen at {place}: give one of them another path"));
        }
        secrets(&format!("options of mount {place}"), "encryptOptions", &mount.options, refusals);
        for option in &mount.encrypt_options {
            if mount.options.contains_key(&option.name) {
                refusals.add(format!(
                    "option {} of mount {place} is in options and in encryptOptions: take it out of options",
                    option.name
                ));
            }
        }
    }
}

fn secrets(place: &str, instead: &str, options: &BTreeMap<String, String>, refusals: &mut Refusals) {
    for (name, value) in options {
        let what = match secret::found(name, value) {
            None => continue,
            Some(Secret::ByName) => format!("hold '{name}' in the clear"),
            Some(Secret::Password) => format!("hold a password in the value of '{name}'"),
        };
        refusals.add(format!("{place} {what}: put the value into a Secret and name it in {instead}"));
    }
}

/// Bytes that a Dataset asks for of each node. What is no amount asks for none.
pub fn asked(cache: &CacheSpec) -> u64 {
    let levels = cache.tieredstore.iter().flat_map(|store| &store.levels);
    let tiers = levels.map(|level| quantity::bytes(&level.quota).unwrap_or(0)).reduce(u64::saturating_add);
    // The tiers' own quotas stand below the whole one.
    match (tiers, cache.quota.as_deref().and_then(quantity::bytes)) {
        (Some(tiers), Some(whole)) => tiers.min(whole),
        (one, other) => one.or(other).unwrap_or(0),
    }
}

fn cache(cache: &CacheSpec, known: &dyn Known, refusals: &mut Refusals) {
    for level in cache.tieredstore.iter().flat_map(|store| &store.levels) {
        if quantity::bytes(&level.quota).is_none() {
            refusals.add(format!("the tier's quota '{}' is no amount: write 100Gi", level.quota));
        }
    }
    if let Some(quota) = &cache.quota
        && quantity::bytes(quota).is_none()
    {
        refusals.add(format!("cache.quota '{quota}' is no amount: write 100Gi"));
    }
    let wanted = asked(cache);
    if let Some(room) = known.roomiest_node()
        && wanted > room.bytes
    {
        refusals.add(format!(
            "the quota of {} is above what any node can cache: the roomiest of the {} whose agents have reported has {}; \
             ask for that much or less, or see why the agent of a roomier one is silent",
            quantity::words(wanted),
            room.nodes,
            quantity::words(room.bytes)
        ));
    }
    for (key, value) in &cache.node_selector {
        if !label_key(key) || !label_value(value) {
            refusals.add(format!("cache.nodeSelector '{key}: {value}' is no label that a node can have"));
        }
    }
    cache.tolerations.iter().for_each(|toleration| tolerate(toleration, refusals));
}

fn tolerate(toleration: &Toleration, refusals: &mut Refusals) {
    let operator = toleration.operator.as_deref().unwrap_or("Equal");
    if !["Equal", "Exists"].contains(&operator) {
        refusals.add(format!("a toleration's operator is Equal or Exists, not '{operator}'"));
    }
    let value = toleration.value.as_deref().unwrap_or_default();
    if operator == "Exists" && !value.is_empty() {
        refusals.add(format!("a toleration with operator Exists has no value: take out '{value}'"));
    }
    if operator == "Equal" && toleration.key.as_deref().unwrap_or_default().is_empty() {
        refusals.add("a toleration without key tolerates everything only with operator Exists: set it");
    }
    if let Some(effect) = toleration.effect.as_deref()
        && !["", "NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect)
    {
        refusals.add(format!(
            "a toleration's effect is NoSchedule, PreferNoSchedule or NoExecute, not '{effect}'"
        ));
    }
}

fn grants(namespace: &str, name: &str, sharing: &Sharing, known: &dyn Known, refusals: &mut Refusals) {
    let mut places = BTreeSet::new();
    for grant in &sharing.grants {
        let target = &grant.namespace;
        if target == namespace {
            refusals
                .add(format!("{namespace} is the Dataset's own namespace and needs no grant: take it out"));
        }
        if !places.insert(target) {
            refusals.add(format!("namespace {target} is granted twice: take one out"));
        }
        let claim = grant.claim_name.as_deref().unwrap_or(name);
        if let Some(other) = known.claim(target, claim)
            && other.dataset != (namespace.into(), name.into())
        {
            // Whose claim it is stays untold: the asker need not be one who may know.
            refusals.add(format!(
                "a claim {claim} in namespace {target} belongs to another Dataset: set claimName in the grant"
            ));
        }
    }
}

/// `prefix/name` with a DNS name before the slash.
fn label_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let dns = |prefix: &str| {
        !prefix.is_empty()
            && prefix.len() <= 253
            && prefix.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
    };
    prefix.is_none_or(dns) && !name.is_empty() && label_value(name)
}

fn label_value(value: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    value.len() <= 63
        && value.chars().all(inner)
        && edge(value.chars().next())
        && edge(value.chars().next_back())
}
