//! From what the watches see to what scheduling knows: claims of Datasets, namespaces that opt out, profiles.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::ResourceExt;
use operator_api::crd::{AccessProfile, Dataset};

use super::picture::{Claim, Picture};
use super::pod::{DISABLED, SCHEDULING};
use super::reach::DatasetName;
use crate::inventory::ChunkSet;
use crate::watch::facts;
use crate::watch::stores::Heard;

/// Whose a profile is: the workload as `namespace/Kind/name`, and the Dataset.
type Subject = (String, DatasetName);

#[derive(Debug)]
pub struct Hearing {
    picture: Arc<Picture>,
    /// By the AccessProfile's own namespace and name, to take back what a deleted one said.
    profiles: Mutex<HashMap<(String, String), Subject>>,
}

impl Hearing {
    pub fn new(picture: Arc<Picture>) -> Self {
        Self { picture, profiles: Mutex::default() }
    }

    pub fn hear(&self, heard: Heard<'_>) {
        match heard {
            Heard::Dataset(dataset) => {
                let namespace = dataset.namespace().unwrap_or_default();
                let name = facts::name(&namespace, &dataset.name_any());
                self.picture.set_dataset(&name, claims(&namespace, dataset));
            }
            Heard::DatasetGone { namespace, name } => {
                self.picture.drop_dataset(&facts::name(namespace, name));
            }
            Heard::Namespace(namespace) => {
                let alone = namespace.labels().get(SCHEDULING).is_some_and(|value| value == DISABLED);
                self.picture.leave_alone(&namespace.name_any(), alone);
            }
            Heard::NamespaceGone(name) => self.picture.leave_alone(name, false),
            Heard::Profile(profile) => self.learned(profile),
            Heard::ProfileGone { namespace, name } => {
                let mut profiles = self.profiles.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((workload, dataset)) = profiles.remove(&(namespace.to_owned(), name.to_owned())) {
                    self.picture.set_profile(&workload, &dataset, ChunkSet::default());
                }
            }
            // The picture takes nodes over from the inventory.
            Heard::Node(_) | Heard::NodeGone(_) => {}
        }
    }

    fn learned(&self, profile: &AccessProfile) {
        let namespace = profile.namespace().unwrap_or_default();
        let spec = &profile.spec;
        let workload = format!("{namespace}/{}/{}", spec.workload.kind, spec.workload.name);
        let of = spec.dataset.namespace.as_deref().unwrap_or(&namespace);
        let dataset = facts::name(of, &spec.dataset.name);
        let mut first = ChunkSet::default();
        for range in &spec.first {
            let end = range.start.saturating_add(range.count);
            // What no schema would let in says nothing.
            if let (Ok(start), Ok(end)) = (u32::try_from(range.start), u32::try_from(end)) {
                first.insert(&(start..end));
            }
        }
        let subject = (workload, dataset);
        let mut profiles = self.profiles.lock().unwrap_or_else(PoisonError::into_inner);
        let before = profiles.insert((namespace, profile.name_any()), subject.clone());
        if let Some((workload, dataset)) = before.filter(|before| *before != subject) {
            self.picture.set_profile(&workload, &dataset, ChunkSet::default());
        }
        self.picture.set_profile(&subject.0, &subject.1, first);
    }
}

/// The claims of a Dataset: one of its name at home, and one in each namespace that it is shared with.
fn claims(namespace: &str, dataset: &Dataset) -> Vec<Claim> {
    let name = dataset.name_any();
    let grants = dataset.spec.sharing.iter().flat_map(|sharing| &sharing.grants);
    let granted = grants.map(|grant| {
        let claim = grant.claim_name.as_deref().unwrap_or(&name);
        (grant.namespace.as_str().into(), claim.into())
    });
    std::iter::once((namespace.into(), name.as_str().into())).chain(granted).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::RwLock;

    use serde_json::{Value, json};

    use super::super::reach::View;
    use super::*;
    use crate::inventory::Inventory;

    fn hearing() -> (Arc<Picture>, Hearing) {
        let picture = Arc::new(Picture::new(Arc::new(RwLock::new(Inventory::default()))));
        (picture.clone(), Hearing::new(picture))
    }

    fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_dataset_has_its_claims_and_loses_them() {
        let (picture, hearing) = hearing();
        let dataset: Dataset = object(json!({
            "metadata": {"name": "d", "namespace": "own"},
            "spec": {"mounts": [], "sharing": {"grants": [{"namespace": "a"}, {"namespace": "b", "claimName": "c"}]}}
        }));
        hearing.hear(Heard::Dataset(&dataset));
        for (namespace, claim, known) in
            [("own", "d", true), ("a", "d", true), ("b", "c", true), ("b", "d", false)]
        {
            let found = View::dataset(&*picture, namespace, claim);
            assert_eq!(found.as_deref() == Some("own/d"), known, "{namespace}/{claim}");
        }
        hearing.hear(Heard::DatasetGone { namespace: "own", name: "d" });
        assert_eq!(View::dataset(&*picture, "a", "d"), None);
    }

    #[test]
    fn a_namespace_opts_out_by_its_label() {
        let (picture, hearing) = hearing();
        for (value, alone) in [("disabled", true), ("enabled", false), ("disabled", true)] {
            hearing.hear(Heard::Namespace(&object(
                json!({"metadata": {"name": "n", "labels": {"headrace.io/scheduling": value}}}),
            )));
            assert_eq!(picture.opted_out("n"), alone);
        }
        hearing.hear(Heard::NamespaceGone("n"));
        assert!(!picture.opted_out("n"));
    }

    #[test]
    fn profiles_are_taken_over_and_taken_back() {
        let (picture, hearing) = hearing();
        let profile = |workload: &str, start: i64, count: i64| -> AccessProfile {
            object(json!({
                "metadata": {"name": "p", "namespace": "n"},
                "spec": {"workload": {"kind": "Job", "name": workload}, "dataset": {"name": "d"}, "data": "",
                         "first": [{"start": start, "count": count}]}
            }))
        };
        let generation = || picture.generation(&[]);
        let mut last = generation();
        for event in [profile("a", 0, 5), profile("b", 0, 5), profile("b", -5, 3), profile("b", 0, i64::MAX)]
        {
            hearing.hear(Heard::Profile(&event));
            assert_ne!(generation(), last);
            last = generation();
        }
        hearing.hear(Heard::ProfileGone { namespace: "n", name: "p" });
        assert_ne!(generation(), last);
        last = generation();
        hearing.hear(Heard::ProfileGone { namespace: "n", name: "p" });
        assert_eq!(generation(), last, "gone once");
    }
}
