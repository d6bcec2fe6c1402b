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
use operator_api::crd::dataset_kind::DatasetSpec;
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

/// (namespace, object); none for what is not written: workloads outside of the cluster, and what does not fit.
/// `dataset` is (namespace, name).
pub fn write(
    told: &ProfileLearned,
    dataset: (&str, &str),
    dataset_uid: String,
    known: Known,
    at: Timestamp,
) -> Option<(String, AccessProfile)> {
    let (namespace, workload) = workload(&told.workload, known.owner.as_deref(), dataset.0)?;
    let data = STANDARD.encode(told.encode_to_vec());
    if data.len() > MAX_DATA {
        return None;
    }
    let at_home = namespace == dataset.0;
    // What was learned of a Dataset that is gone goes with it. An owner in another namespace would not be found: there
    // these labels are what the operator goes by (`reconcile/orphans.rs`).
    let mut labels = BTreeMap::from([(marks::MANAGED_BY.0.to_owned(), marks::MANAGED_BY.1.to_owned())]);
    let owner = if at_home {
        Some(OwnerReference {
            api_version: "headrace.io/v1alpha1".into(),
            kind: "Dataset".into(),
            name: dataset.1.into(),
            uid: dataset_uid,
            ..OwnerReference::default()
        })
    } else {
        labels.insert(marks::DATASET_NAMESPACE.to_owned(), dataset.0.to_owned());
        labels.insert(marks::DATASET_NAME.to_owned(), dataset.1.to_owned());
        labels.insert(marks::DATASET_UID.to_owned(), dataset_uid);
        None
    };
    let name = format!("learned-{:016x}", hash64(&(&told.workload, &told.source)));
    let metadata = ObjectMeta {
        name: Some(name),
        owner_references: owner.map(|owner| vec![owner]),
        labels: Some(labels),
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
        dataset: DatasetRef { name: dataset.1.into(), namespace: (!at_home).then(|| dataset.0.into()) },
        version: first.as_ref().map(|first| first.version.text()),
        pattern: pattern.map(|words| words.chars().take(WORDS).collect()),
        first: runs.map(range).collect(),
        data,
        learned_at: Some(Time(at)),
    };
    Some((namespace, AccessProfile { metadata, spec }))
}

/// What an agent has told, and whose pods it was told of, if that is what it says. It may lie where anybody has a
/// Dataset: the program it names is nobody's, and at the worst something else is prefetched.
pub fn read(profile: &AccessProfile) -> Option<(ProfileLearned, Option<Name>)> {
    if profile.spec.data.len() > MAX_DATA {
        return None;
    }
    let bytes = STANDARD.decode(&profile.spec.data).ok()?;
    let told = ProfileLearned::decode(bytes.as_slice()).ok()?;
    if !runs_in_the_cluster(&told.workload) {
        return None;
    }
    let WorkloadRef { kind, name } = &profile.spec.workload;
    let namespace = profile.namespace()?;
    let owner = (kind != PROGRAM).then(|| format!("{namespace}/{kind}/{name}").into());
    Some((told, owner))
}

/// Whether a workload may have learned anything of a Dataset that lives in `home`: where it is known whose it is, that
/// namespace may use it.
pub fn admitted(key: &str, owner: Option<&str>, home: &str, spec: &DatasetSpec) -> bool {
    workload(key, owner, home).is_some_and(|(namespace, _)| spec.admits(home, &namespace))
}

/// An agent's key says where the process runs and what it is: `pod exe=… script=…`.
fn runs_in_the_cluster(key: &str) -> bool {
    key.split_once(' ').is_some_and(|(place, _)| matches!(place, "pod" | "container"))
}

/// Its namespace, and what it is to a person. No path is written in the clear.
fn workload(key: &str, owner: Option<&str>, home: &str) -> Option<(String, WorkloadRef)> {
    if !runs_in_the_cluster(key) {
        return None;
    }
    let fits = |text: &str, most: usize| !text.is_empty() && text.len() <= most;
    // What the schema would not let in is nobody's: names of owners that an API server never bounded.
    let owner = owner.and_then(|owner| {
        let mut parts = owner.splitn(3, '/');
        let (namespace, kind, name) = (parts.next()?, parts.next()?, parts.next()?);
        (fits(namespace, SHORT) && fits(kind, SHORT) && fits(name, LONG) && kind != PROGRAM)
            .then(|| (namespace.to_owned(), WorkloadRef { kind: kind.into(), name: name.into() }))
    });
    Some(owner.unwrap_or_else(|| {
        let name = format!("{:016x}", hash64(key));
        (home.to_owned(), WorkloadRef { kind: PROGRAM.into(), name })
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

    fn written(told: &ProfileLearned, owner: Option<&str>) -> Option<(String, AccessProfile)> {
        let first = First::new(Version(7), [9..12, 0..1]);
        let known = Known { owner: owner.map(Name::from), pattern: Some("shuffled".into()), first };
        let written = write(told, ("ml", "train"), "u".into(), known, Timestamp::UNIX_EPOCH);
        written.map(|(namespace, object)| (namespace.clone(), lying(&namespace, object)))
    }

    /// As the apiserver gives it.
    fn lying(namespace: &str, mut object: AccessProfile) -> AccessProfile {
        object.metadata.namespace = Some(namespace.into());
        object
    }

    #[test]
    fn what_was_told_comes_back() {
        let told = told("pod exe=/usr/bin/python3 script=/t.py");
        for owner in [Some("ml/Job/t"), None] {
            let (namespace, object) = written(&told, owner).unwrap();
            let back = read(&object).unwrap();
            assert_eq!((namespace.as_str(), back.1.as_deref()), ("ml", owner));
            assert_eq!(back.0, told);
            let text = serde_json::to_string(&object.spec.workload).unwrap();
            assert!(!text.contains('/'), "{text}");
            let owner = &object.metadata.owner_references.as_ref().unwrap()[0];
            assert_eq!(
                (owner.kind.as_str(), owner.name.as_str(), owner.uid.as_str()),
                ("Dataset", "train", "u")
            );
            assert_eq!(written(&told, None).unwrap().1.metadata.name, object.metadata.name);
            assert_eq!(facts::first(&object), First::new(Version(7), [9..12, 0..1]));
        }
        let (_, job) = written(&told, Some("ml/Job/t")).unwrap();
        let WorkloadRef { kind, name } = job.spec.workload;
        assert_eq!((kind.as_str(), name.as_str()), ("Job", "t"));
    }

    #[test]
    fn a_workload_of_another_namespace_stays_there() {
        let (namespace, object) = written(&told("pod exe=/x"), Some("web/Job/t")).unwrap();
        assert_eq!(namespace, "web");
        assert_eq!(object.spec.dataset.namespace.as_deref(), Some("ml"));
        assert_eq!(object.metadata.owner_references, None);
        assert_eq!(read(&object).unwrap().1.as_deref(), Some("web/Job/t"));
        let labels = object.metadata.labels.unwrap();
        assert_eq!(
            labels.get(marks::DATASET_UID).map(String::as_str),
            Some("u"),
            "to be found by when it goes"
        );
    }

    #[test]
    fn nobody_speaks_for_the_pods_of_another_namespace() {
        let (_, object) = written(&told("pod exe=/x"), Some("ml/Job/t")).unwrap();
        let mut elsewhere = lying("aaa", object);
        elsewhere.spec.dataset.namespace = Some("ml".into());
        assert_eq!(read(&elsewhere).unwrap().1.as_deref(), Some("aaa/Job/t"));
    }

    #[test]
    fn what_the_schema_would_refuse_is_nobodys() {
        let (kind, name) = ("k".repeat(SHORT + 1), "n".repeat(LONG + 1));
        for owner in [
            "ml",
            "ml/Job",
            "ml//t",
            "ml/Job/",
            "/Job/t",
            "ml/Program/t",
            &format!("ml/{kind}/t"),
            &format!("ml/Job/{name}"),
        ] {
            let (namespace, object) = written(&told("pod exe=/x"), Some(owner)).unwrap();
            assert_eq!((namespace.as_str(), object.spec.workload.kind.as_str()), ("ml", PROGRAM), "{owner}");
        }
    }

    #[test]
    fn nothing_is_kept_in_a_namespace_that_may_not_use_the_dataset() {
        let spec: DatasetSpec = serde_json::from_value(
            serde_json::json!({"mounts": [], "sharing": {"grants": [{"namespace": "web"}]}}),
        )
        .unwrap();
        let admitted =
            |namespace: &str| admitted("pod exe=/x", Some(&format!("{namespace}/Job/t")), "ml", &spec);
        assert!(admitted("ml") && admitted("web"));
        assert!(!admitted("kube-system"));
        assert!(super::admitted("pod exe=/x", None, "ml", &spec), "it is kept beside the Dataset");
        assert!(!super::admitted("host exe=/x", Some("ml/Job/t"), "ml", &spec));
    }

    #[test]
    fn what_is_none_of_the_cluster_is_not_written() {
        for key in ["host exe=/bin/bash", "", "pod", "owner namespace=ml kind=Job name=t container=main"] {
            assert_eq!(written(&told(key), Some("ml/Job/t")), None, "{key}");
        }
        let large = ProfileLearned { profile: vec![0; MAX_DATA], ..told("pod exe=/x") };
        assert_eq!(written(&large, None), None);
        let mut damaged = written(&told("pod exe=/x"), None).unwrap().1;
        damaged.spec.data = "no base64!".into();
        assert_eq!(read(&damaged), None);
    }
}
