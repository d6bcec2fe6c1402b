//! How many AccessProfiles one Dataset may have, whoever told them and in whatever term. Pure.

use std::sync::Arc;

use kube::ResourceExt;
use operator_api::crd::AccessProfile;

use crate::marks;

/// A Dataset is read by some dozens of workloads; this many at the largest size take 32 MiB, where etcd has 2 GiB.
const MOST: usize = 256;

/// Of a Dataset's profiles those that are to go: the ones learned longest ago. What somebody else has made stays, and
/// does not count; nor does what lies elsewhere than in its namespace, whatever its labels say, or its writer could
/// push out everybody's.
pub fn surplus<'a>(all: &'a [Arc<AccessProfile>], home: &str) -> Vec<&'a AccessProfile> {
    let ours = |profile: &&AccessProfile| {
        profile.labels().get(marks::MANAGED_BY.0).is_some_and(|by| by == marks::MANAGED_BY.1)
            && profile.namespace().is_some_and(|namespace| namespace == home)
    };
    let mut ours: Vec<&AccessProfile> = all.iter().map(|profile| &**profile).filter(ours).collect();
    ours.sort_by_cached_key(|profile| {
        let at = profile.spec.learned_at.as_ref().map(|at| at.0);
        (at, profile.namespace(), profile.name_any())
    });
    ours.truncate(ours.len().saturating_sub(MOST));
    ours
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    fn profile(name: String, at: Option<i64>, ours: bool) -> Arc<AccessProfile> {
        let mut profile = AccessProfile::new(&name, Default::default());
        profile.metadata.namespace = Some("ml".into());
        if ours {
            profile.labels_mut().insert(marks::MANAGED_BY.0.into(), marks::MANAGED_BY.1.into());
        }
        profile.spec.learned_at = at.map(|at| Time(Timestamp::from_second(at).unwrap()));
        Arc::new(profile)
    }

    #[test]
    fn those_learned_longest_ago_go_and_nobody_elses() {
        let count = i64::try_from(MOST).unwrap();
        let mut all: Vec<_> =
            (0..count).map(|at| profile(format!("p{at}"), Some(count - at), true)).collect();
        all.extend((0..10).map(|at| profile(format!("theirs{at}"), Some(at), false)));
        assert!(surplus(&all, "ml").is_empty());
        // Labels are free to write, in whatever namespace.
        all.extend((0..10).map(|at| {
            let mut foreign = (*profile(format!("foreign{at}"), Some(2 * count), true)).clone();
            foreign.metadata.namespace = Some("aaa".into());
            Arc::new(foreign)
        }));
        assert!(surplus(&all, "ml").is_empty());
        all.push(profile("late".into(), Some(count + 1), true));
        all.push(profile("never".into(), None, true));
        let gone: Vec<_> = surplus(&all, "ml").into_iter().map(|profile| profile.name_any()).collect();
        assert_eq!(gone, ["never".to_owned(), format!("p{}", count - 1)]);
    }
}
