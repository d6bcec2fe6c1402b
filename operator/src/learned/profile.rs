//! An AccessProfile for what an agent has told, and back. Pure.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use operator_api::crd::AccessProfile;
use operator_api::crd::access_profile::{AccessProfileSpec, ChunkRange, MAX_DATA, MAX_FIRST, WorkloadRef};
use operator_api::crd::common::DatasetRef;
use operator_api::report::v1::ProfileLearned;
use prost::Message;

use crate::inventory::hash::hash64;
use crate::inventory::{Chunks, First, Name};
use crate::marks;

/// Of a workload of which nobody has said whose pods it runs in: its program is told apart by a number.
const PROGRAM: &str = "Program";

/// Characters that the schema lets into a kind, a name, a pattern.
const SHORT: usize = 63;
const LONG: usize = 253;
const WORDS: usize = 128;

/// What is known of a workload beside what its agent keeps to itself.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Whose pods it ran in, as `namespace/Kind/name`.
    pub owner: Option<Name>,
    pub pattern: Option<String>,
    pub first: Option<First>,
}

/// None for what is not written: workloads outside of the cluster, and what does not fit. `dataset` is (namespace, name):
/// it lies beside that, and goes with it. An agent's paths are those of all its pods that run the program, so no other
/// namespace is given them.
pub fn write(
    told: &ProfileLearned,
    dataset: (&str, &str),
    dataset_uid: String,
    known: Known,
    at: Timestamp,
) -> Option<AccessProfile> {
    let workload = workload(&told.workload, known.owner.as_deref(), dataset.0)?;
    let data = STANDARD.encode(told.encode_to_vec());
    if data.len() > MAX_DATA {
        return None;
    }
    let owner = OwnerReference {
        api_version: "headrace.io/v1alpha1".into(),
        kind: "Dataset".into(),
        name: dataset.1.into(),
        uid: dataset_uid,
        ..OwnerReference::default()
    };
    let name = format!("learned-{:016x}", hash64(&(&told.workload, &told.source)));
    let metadata = ObjectMeta {
        name: Some(name),
        owner_references: Some(vec![owner]),
        labels: Some(BTreeMap::from([(marks::MANAGED_BY.0.to_owned(), marks::MANAGED_BY.1.to_owned())])),
        ..ObjectMeta::default()
    };
    let Known { owner: _, pattern, first } = known;
    let runs = first.iter().flat_map(First::runs).take(MAX_FIRST);
    let range = |run: &Chunks| ChunkRange {
        start: run.start.into(),
        count: (run.end.saturating_sub(run.start)).into(),
    };
    let spec = AccessProfileSpec {
        workload,
        dataset: DatasetRef { name: dataset.1.into(), namespace: None },
        version: first.as_ref().map(|first| first.version.text()),
        pattern: pattern.map(|words| words.chars().take(WORDS).collect()),
        first: runs.map(range).collect(),
        data,
        learned_at: Some(Time(at)),
    };
    Some(AccessProfile { metadata, spec })
}

/// What an agent has told, if it is that and lies where it would be written, beside its Dataset.
pub fn read(profile: &AccessProfile) -> Option<ProfileLearned> {
    let lies = profile.namespace()?;
    let at_home = profile.spec.dataset.namespace.as_ref().is_none_or(|home| *home == lies);
    if !at_home || profile.spec.data.len() > MAX_DATA {
        return None;
    }
    let bytes = STANDARD.decode(&profile.spec.data).ok()?;
    let told = ProfileLearned::decode(bytes.as_slice()).ok()?;
    runs_in_the_cluster(&told.workload).then_some(told)
}

/// Whether it says whose pods the workload ran in.
pub fn is_owned(profile: &AccessProfile) -> bool {
    profile.spec.workload.kind != PROGRAM
}

/// An agent's key says where the process runs and what it is: `pod exe=… script=…`.
fn runs_in_the_cluster(key: &str) -> bool {
    key.split_once(' ').is_some_and(|(place, _)| matches!(place, "pod" | "container"))
}

/// What it is to a person, from beside a Dataset in `home`; none outside of the cluster. No path is written in the clear.
fn workload(key: &str, owner: Option<&str>, home: &str) -> Option<WorkloadRef> {
    if !runs_in_the_cluster(key) {
        return None;
    }
    let fits = |text: &str, most: usize| !text.is_empty() && text.len() <= most;
    // What the schema would not let in is nobody's: names of owners that an API server never bounded.
    let owner = owner.and_then(|owner| {
        let mut parts = owner.splitn(3, '/');
        let (namespace, kind, name) = (parts.next()?, parts.next()?, parts.next()?);
        let fits = fits(namespace, SHORT) && fits(kind, SHORT) && fits(name, LONG) && kind != PROGRAM;
        let namespace = (namespace != home).then(|| namespace.to_owned());
        fits.then(|| WorkloadRef { kind: kind.into(), name: name.into(), namespace })
    });
    Some(owner.unwrap_or_else(|| {
        let name = format!("{:016x}", hash64(key));
        WorkloadRef { kind: PROGRAM.into(), name, namespace: None }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Version;
    use crate::watch::facts;

    fn told(workload: &str) -> ProfileLearned {
        let (source, profile) = ("nas:/x".into(), vec![0, 1, 255]);
        ProfileLearned { workload: workload.into(), source, profile, ..ProfileLearned::default() }
    }

    fn written(told: &ProfileLearned, owner: Option<&str>) -> Option<AccessProfile> {
        let first = First::new(Version(7), [9..12, 0..1]);
        let known = Known { owner: owner.map(Name::from), pattern: Some("shuffled".into()), first };
        let written = write(told, ("ml", "train"), "u".into(), known, Timestamp::UNIX_EPOCH);
        written.map(|object| lying("ml", object))
    }

    /// As the apiserver gives it.
    fn lying(namespace: &str, mut object: AccessProfile) -> AccessProfile {
        object.metadata.namespace = Some(namespace.into());
        object
    }

    #[test]
    fn what_was_told_comes_back() {
        let told = told("pod exe=/usr/bin/python3 script=/t.py");
        for owner in [Some("ml/Job/t"), Some("web/Job/t"), None] {
            let object = written(&told, owner).unwrap();
            assert_eq!(read(&object), Some(told.clone()));
            assert_eq!(is_owned(&object).then(|| facts::workload(&object)).as_deref(), owner);
            let text = serde_json::to_string(&object.spec.workload).unwrap();
            assert!(!text.contains('/'), "{text}");
            let owner = &object.metadata.owner_references.as_ref().unwrap()[0];
            assert_eq!(
                (owner.kind.as_str(), owner.name.as_str(), owner.uid.as_str()),
                ("Dataset", "train", "u")
            );
            assert_eq!(written(&told, None).unwrap().metadata.name, object.metadata.name);
            assert_eq!(facts::first(&object), First::new(Version(7), [9..12, 0..1]));
        }
        let WorkloadRef { kind, name, namespace } = written(&told, Some("ml/Job/t")).unwrap().spec.workload;
        assert_eq!((kind.as_str(), name.as_str(), namespace), ("Job", "t", None));
    }

    #[test]
    fn nobody_speaks_for_the_pods_of_another_namespace_but_beside_a_dataset() {
        let object = written(&told("pod exe=/x"), Some("web/Job/t")).unwrap();
        let mut elsewhere = lying("aaa", object);
        elsewhere.spec.dataset.namespace = Some("ml".into());
        assert_eq!(read(&elsewhere), None);
        assert_eq!(facts::workload(&elsewhere), "aaa/Job/t");
        // Of a Dataset of its own.
        elsewhere.spec.dataset.namespace = None;
        assert_eq!(
            (facts::workload(&elsewhere).as_str(), &*facts::of(&elsewhere)),
            ("web/Job/t", "aaa/train")
        );
    }

    #[test]
    fn what_the_schema_would_refuse_is_nobodys() {
        let (kind, name) = ("k".repeat(SHORT + 1), "n".repeat(LONG + 1));
        let (kind, name) = (format!("ml/{kind}/t"), format!("ml/Job/{name}"));
        for owner in ["ml", "ml/Job", "ml//t", "ml/Job/", "/Job/t", "ml/Program/t", &kind, &name] {
            let object = written(&told("pod exe=/x"), Some(owner)).unwrap();
            assert!(!is_owned(&object), "{owner}");
        }
    }

    #[test]
    fn what_is_none_of_the_cluster_is_not_written() {
        for key in ["host exe=/bin/bash", "", "pod", "owner namespace=ml kind=Job name=t container=main"] {
            assert_eq!(written(&told(key), Some("ml/Job/t")), None, "{key}");
        }
        let large = ProfileLearned { profile: vec![0; MAX_DATA], ..told("pod exe=/x") };
        assert_eq!(written(&large, None), None);
        let mut damaged = written(&told("pod exe=/x"), None).unwrap();
        damaged.spec.data = "no base64!".into();
        assert_eq!(read(&damaged), None);
    }
}
