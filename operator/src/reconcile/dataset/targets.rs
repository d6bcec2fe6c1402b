//! Which claims a Dataset should have.

use kube::ResourceExt;
use operator_api::crd::Dataset;

/// A claim that should be there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    pub namespace: String,
    pub claim: String,
}

/// The Dataset's own namespace first, then the grants, each once.
pub fn of(dataset: &Dataset) -> Vec<Target> {
    let name = dataset.name_any();
    let own = dataset.namespace().unwrap_or_default();
    let mut targets = vec![Target { namespace: own.clone(), claim: name.clone() }];
    for grant in dataset.spec.sharing.iter().flat_map(|sharing| &sharing.grants) {
        let claim = grant.claim_name.clone().unwrap_or_else(|| name.clone());
        if grant.namespace != own && !targets.iter().any(|target| target.namespace == grant.namespace) {
            targets.push(Target { namespace: grant.namespace.clone(), claim });
        }
    }
    targets
}
