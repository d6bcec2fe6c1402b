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
use crate::inventory::{Chunks, First};
use crate::marks;

/// Of a workload that nothing in the cluster owns: its program is told apart by a number.
const PROGRAM: &str = "Program";

/// Characters that the schema lets into a kind and a container, a name, a pattern.
const SHORT: usize = 63;
const LONG: usize = 253;
const WORDS: usize = 128;

/// What is known of a workload beside what its agent keeps to itself.
#[derive(Clone, Debug, Default)]
pub struct Known {
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
    let (namespace, workload) = workload(&told.workload, dataset.0)?;
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
    let Known { pattern, first } = known;
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

/// What an agent has told, if it is that and lies where it would be written: who may write in one namespace must not
/// speak for the workloads of another.
pub fn read(profile: &AccessProfile) -> Option<ProfileLearned> {
    if profile.spec.data.len() > MAX_DATA {
        return None;
    }
    let bytes = STANDARD.decode(&profile.spec.data).ok()?;
    let told = ProfileLearned::decode(bytes.as_slice()).ok()?;
    let lies = profile.namespace()?;
    let home = profile.spec.dataset.namespace.as_deref().unwrap_or(&lies);
    let (namespace, _) = workload(&told.workload, home)?;
    (namespace == lies).then_some(told)
}

/// Whether a workload may have learned anything of a Dataset that lives in `home`: its namespace may use it.
pub fn admitted(key: &str, home: &str, spec: &DatasetSpec) -> bool {
    workload(key, home).is_some_and(|(namespace, _)| spec.admits(home, &namespace))
}

/// Its namespace, and what it is to a person. An agent's key is `owner namespace=… kind=… name=… container=…`, or
/// where the process runs and what it is: `pod exe=… script=…`. No path is written in the clear.
fn workload(key: &str, home: &str) -> Option<(String, WorkloadRef)> {
    let (place, fields) = key.split_once(' ')?;
    let field = |name: &str, most: usize| {
        let value = fields.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='))?;
        (!value.is_empty() && value.len() <= most).then(|| value.to_owned())
    };
    match place {
        "owner" => {
            let namespace = field("namespace", SHORT)?;
            let (kind, name) = (field("kind", SHORT)?, field("name", LONG)?);
            Some((namespace, WorkloadRef { kind, name, container: field("container", SHORT) }))
        }
        "pod" | "container" => {
            let name = format!("{:016x}", hash64(key));
            Some((home.to_owned(), WorkloadRef { kind: PROGRAM.into(), name, container: None }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Version;
    use crate::watch::facts;

    fn told(workload: &str) -> ProfileLearned {
        let (source, profile) = ("nas:/x".into(), vec![0, 1, 255]);
        ProfileLearned { workload: workload.into(), source, profile, first: Vec::new() }
    }

    fn written(told: &ProfileLearned) -> Option<(String, AccessProfile)> {
        let first = First::new(Version(7), [9..12, 0..1]);
        let known = Known { pattern: Some("shuffled".into()), first };
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
        for key in
            ["owner namespace=ml kind=Job name=t container=main", "pod exe=/usr/bin/python3 script=/t.py"]
        {
            let told = told(key);
            let (namespace, object) = written(&told).unwrap();
            assert_eq!((namespace.as_str(), read(&object)), ("ml", Some(told.clone())));
            let text = serde_json::to_string(&object.spec.workload).unwrap();
            assert!(!text.contains('/'), "{text}");
            let owner = &object.metadata.owner_references.as_ref().unwrap()[0];
            assert_eq!(
                (owner.kind.as_str(), owner.name.as_str(), owner.uid.as_str()),
                ("Dataset", "train", "u")
            );
            assert_eq!(written(&told).unwrap().1.metadata.name, object.metadata.name);
            assert_eq!(facts::first(&object), First::new(Version(7), [9..12, 0..1]));
        }
        let (_, job) = written(&told("owner namespace=ml kind=Job name=t container=main")).unwrap();
        let WorkloadRef { kind, name, container } = job.spec.workload;
        assert_eq!((kind.as_str(), name.as_str(), container.as_deref()), ("Job", "t", Some("main")));
    }

    #[test]
    fn a_workload_of_another_namespace_stays_there() {
        let (namespace, object) =
            written(&told("owner namespace=web kind=Job name=t container=main")).unwrap();
        assert_eq!(namespace, "web");
        assert_eq!(object.spec.dataset.namespace.as_deref(), Some("ml"));
        assert_eq!(object.metadata.owner_references, None);
        assert!(read(&object).is_some());
        let labels = object.metadata.labels.unwrap();
        assert_eq!(
            labels.get(marks::DATASET_UID).map(String::as_str),
            Some("u"),
            "to be found by when it goes"
        );
    }

    #[test]
    fn nobody_speaks_for_the_workloads_of_another_namespace() {
        for key in ["owner namespace=ml kind=Job name=t container=main", "pod exe=/x"] {
            let (_, object) = written(&told(key)).unwrap();
            assert!(read(&object).is_some());
            let mut elsewhere = lying("aaa", object);
            elsewhere.spec.dataset.namespace = Some("ml".into());
            assert_eq!(read(&elsewhere), None, "{key}");
        }
    }

    #[test]
    fn nothing_is_kept_in_a_namespace_that_may_not_use_the_dataset() {
        let spec: DatasetSpec = serde_json::from_value(
            serde_json::json!({"mounts": [], "sharing": {"grants": [{"namespace": "web"}]}}),
        )
        .unwrap();
        let admitted = |namespace: &str| {
            admitted(&format!("owner namespace={namespace} kind=Job name=t container=main"), "ml", &spec)
        };
        assert!(admitted("ml") && admitted("web"));
        assert!(!admitted("kube-system"));
        assert!(super::admitted("pod exe=/x", "ml", &spec), "it is kept beside the Dataset");
        assert!(!super::admitted("host exe=/x", "ml", &spec));
    }

    #[test]
    fn what_is_none_of_the_cluster_is_not_written() {
        for key in [
            "host exe=/bin/bash",
            "",
            "owner",
            "owner namespace=ml kind=Job",
            "owner namespace= kind=J name=n",
        ] {
            assert_eq!(written(&told(key)), None, "{key}");
        }
        let large = ProfileLearned { profile: vec![0; MAX_DATA], ..told("pod exe=/x") };
        assert_eq!(written(&large), None);
        let mut damaged = written(&told("pod exe=/x")).unwrap().1;
        damaged.spec.data = "no base64!".into();
        assert_eq!(read(&damaged), None);
    }
}
