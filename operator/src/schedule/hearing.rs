//! From what the watches see to what scheduling knows: which claims Datasets want and which were made for them,
//! namespaces that opt out, profiles.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use kube::ResourceExt;
use operator_api::crd::{AccessProfile, Dataset};

use super::picture::{Claim, Picture};
use super::pod::{DISABLED, SCHEDULING};
use super::reach::DatasetName;
use crate::inventory::First;
use crate::marks;
use crate::watch::Heard;
use crate::watch::facts;

/// Whose a profile is: the workload as `namespace/Kind/name`, and the Dataset.
type Subject = (String, DatasetName);

/// The AccessProfile's own namespace and name.
type Key = (String, String);

#[derive(Debug)]
pub struct Hearing {
    picture: Arc<Picture>,
    profiles: Mutex<Profiles>,
}

/// A workload has a profile for each program: what one of them said is taken back when it is deleted.
#[derive(Debug, Default)]
struct Profiles {
    subjects: HashMap<Key, Subject>,
    said: HashMap<Subject, BTreeMap<Key, First>>,
}

impl Profiles {
    /// What a profile says now; gives whoever it concerns.
    fn set(&mut self, key: Key, now: Option<(Subject, Option<First>)>) -> Vec<Subject> {
        let before = self.subjects.remove(&key);
        if let Some(before) = &before
            && let Some(said) = self.said.get_mut(before)
        {
            said.remove(&key);
            if said.is_empty() {
                self.said.remove(before);
            }
        }
        let mut concerned: Vec<Subject> = before.into_iter().collect();
        if let Some((subject, first)) = now {
            self.subjects.insert(key.clone(), subject.clone());
            if let Some(first) = first {
                self.said.entry(subject.clone()).or_default().insert(key, first);
            }
            if !concerned.contains(&subject) {
                concerned.push(subject);
            }
        }
        concerned
    }

    /// All that is said of a subject, by version.
    fn of(&self, subject: &Subject) -> Vec<First> {
        let mut all: Vec<First> = Vec::new();
        for first in self.said.get(subject).into_iter().flat_map(BTreeMap::values) {
            match all.iter_mut().find(|known| known.version == first.version) {
                Some(known) => known.unite(first),
                None => all.push(first.clone()),
            }
        }
        all
    }
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
                let uid = dataset.uid().unwrap_or_default();
                self.picture.set_dataset(&name, &uid, claims(&namespace, dataset));
            }
            Heard::DatasetGone { namespace, name } => {
                self.picture.drop_dataset(&facts::name(namespace, name));
            }
            Heard::Claim(claim) => {
                let (namespace, name) = (claim.namespace().unwrap_or_default(), claim.name_any());
                match claim.labels().get(marks::DATASET_UID) {
                    Some(uid) => self.picture.set_claim(&namespace, &name, uid),
                    None => self.picture.drop_claim(&namespace, &name),
                }
            }
            Heard::ClaimGone { namespace, name } => self.picture.drop_claim(namespace, name),
            Heard::Namespace(namespace) => {
                let alone = namespace.labels().get(SCHEDULING).is_some_and(|value| value == DISABLED);
                self.picture.leave_alone(&namespace.name_any(), alone);
            }
            Heard::NamespaceGone(name) => self.picture.leave_alone(name, false),
            Heard::Profile(profile) => self.learned(profile),
            Heard::ProfileGone { namespace, name } => {
                self.profile((namespace.to_owned(), name.to_owned()), None);
            }
            // The picture takes nodes over from the inventory.
            Heard::Node(_) | Heard::NodeGone(_) => {}
        }
    }

    fn learned(&self, profile: &AccessProfile) {
        let namespace = profile.namespace().unwrap_or_default();
        let said = ((facts::workload(profile), facts::of(profile)), facts::first(profile));
        self.profile((namespace, profile.name_any()), Some(said));
    }

    fn profile(&self, key: Key, now: Option<(Subject, Option<First>)>) {
        let mut profiles = self.profiles.lock().unwrap_or_else(PoisonError::into_inner);
        for subject in profiles.set(key, now) {
            self.picture.set_profile(&subject.0, &subject.1, profiles.of(&subject));
        }
    }
}

/// The claims that a Dataset wants: one of its name at home, and one in each namespace that it is shared with.
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

    use k8s_openapi::api::core::v1::PersistentVolumeClaim;
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
            "metadata": {"name": "d", "namespace": "own", "uid": "u1"},
            "spec": {"mounts": [], "sharing": {"grants": [{"namespace": "a"}, {"namespace": "b", "claimName": "c"}]}}
        }));
        let claim = |namespace: &str, name: &str, labels: Value| -> PersistentVolumeClaim {
            object(json!({"metadata": {"name": name, "namespace": namespace, "labels": labels}}))
        };
        let ours = |namespace: &str, name: &str| claim(namespace, name, json!({marks::DATASET_UID: "u1"}));
        let found = |namespace: &str, claim: &str| {
            View::dataset(&*picture, namespace, claim).map(|name| name.to_string())
        };
        hearing.hear(Heard::Dataset(&dataset));
        let wanted = [("own", "d"), ("a", "d"), ("b", "c")];
        for (namespace, claim) in wanted {
            assert_eq!(picture.wanted_by(namespace, claim).as_deref(), Some("own/d"));
            assert_eq!(found(namespace, claim), None, "{namespace}/{claim} is not known to be ours");
        }
        // Of an earlier Dataset of that name, and of nobody.
        hearing.hear(Heard::Claim(&claim("a", "d", json!({marks::DATASET_UID: "u0"}))));
        hearing.hear(Heard::Claim(&claim("b", "c", json!({}))));
        assert_eq!((found("a", "d"), found("b", "c")), (None, None));
        for (namespace, claim) in wanted.into_iter().chain([("b", "d")]) {
            hearing.hear(Heard::Claim(&ours(namespace, claim)));
        }
        for (namespace, claim, known) in
            [("own", "d", true), ("a", "d", true), ("b", "c", true), ("b", "d", false)]
        {
            assert_eq!(found(namespace, claim).as_deref() == Some("own/d"), known, "{namespace}/{claim}");
        }
        hearing.hear(Heard::ClaimGone { namespace: "b", name: "c" });
        hearing.hear(Heard::Claim(&claim("own", "d", json!({}))));
        assert_eq!((found("b", "c"), found("own", "d")), (None, None));
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
        let profile = |name: &str,
                       workload: &str,
                       version: Option<&str>,
                       start: i64,
                       count: i64|
         -> AccessProfile {
            object(json!({
                "metadata": {"name": name, "namespace": "n"},
                "spec": {"workload": {"kind": "Job", "name": workload}, "dataset": {"name": "d"}, "data": "",
                         "version": version, "first": [{"start": start, "count": count}]}
            }))
        };
        let said = |workload: &str| {
            let first = hearing.profiles.lock().unwrap().of(&(format!("n/Job/{workload}"), "n/d".into()));
            first.into_iter().map(|first| (first.version.0, first.runs().to_vec())).collect::<Vec<_>>()
        };
        let one = "00000000000000000000000000000001";
        let generation = || picture.generation(&[]);
        let mut last = generation();
        let mut hear = |event: Heard<'_>| {
            hearing.hear(event);
            assert_ne!(generation(), last);
            last = generation();
        };
        hear(Heard::Profile(&profile("main", "a", Some(one), 0, 5)));
        hear(Heard::Profile(&profile("side", "a", Some(one), 8, 2)));
        assert_eq!(said("a"), [(1, vec![0..5, 8..10])], "both programs read");
        hear(Heard::Profile(&profile("main", "b", Some(one), 0, 5)));
        assert_eq!((said("a"), said("b")), (vec![(1, vec![8..10])], vec![(1, vec![0..5])]));
        // What cannot be, and what belongs to no version, says nothing.
        for (version, start, count) in [
            (Some(one), -5, 3),
            (Some(one), 0, i64::MAX),
            (Some(one), i64::MAX, 1),
            (None, 0, 5),
            (Some("v1"), 0, 5),
        ] {
            hear(Heard::Profile(&profile("main", "b", version, start, count)));
            assert_eq!(said("b"), [], "{version:?} {start} {count}");
        }
        hear(Heard::ProfileGone { namespace: "n", name: "side" });
        assert_eq!(said("a"), []);
        hear(Heard::ProfileGone { namespace: "n", name: "main" });
        last = generation();
        hearing.hear(Heard::ProfileGone { namespace: "n", name: "main" });
        assert_eq!(generation(), last, "gone once");
        assert!(hearing.profiles.lock().unwrap().subjects.is_empty());
    }
}
