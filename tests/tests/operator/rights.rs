//! The rights of deploy/rbac, against what the operator was seen to do in the apiserver's own log: what is not used
//! is not allowed, and nothing was refused.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tests::cluster::audit::{self, Asked};

use super::stage::{USER, deployed};

/// One right: a verb on a resource, everywhere or in one namespace, on all objects or one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    role: String,
    verb: String,
    group: String,
    resource: String,
    /// Empty: all.
    namespace: String,
    /// Empty: all.
    name: String,
}

impl Right {
    fn covers(&self, asked: &Asked) -> bool {
        let Self { role: _, verb, group, resource, namespace, name } = self;
        let patched_into_being = verb == "create" && asked.verb == "patch" && asked.created;
        (group, resource) == (&asked.group, &asked.resource)
            && (*verb == asked.verb || patched_into_being)
            && (namespace.is_empty() || *namespace == asked.namespace)
            && (name.is_empty() || *name == asked.name)
    }
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|one| one.as_str()).map(str::to_owned).collect()
}

/// Those of the operator; roles that are bound to others alone are another test's.
fn rights() -> BTreeSet<Right> {
    let documents = deployed("rbac");
    let own = |binding: &&Value| {
        binding["subjects"].as_array().is_some_and(|subjects| {
            subjects.iter().any(|subject| {
                USER == format!(
                    "system:serviceaccount:{}:{}",
                    subject["namespace"].as_str().unwrap_or_default(),
                    subject["name"].as_str().unwrap_or_default()
                )
            })
        })
    };
    let bound: BTreeSet<_> = documents
        .iter()
        .filter(own)
        .map(|binding| (binding["roleRef"]["kind"].clone(), binding["roleRef"]["name"].clone()))
        .map(|(kind, name)| (kind.to_string(), name.to_string()))
        .collect();
    let mut rights = BTreeSet::new();
    for role in documents {
        if !bound.contains(&(role["kind"].to_string(), role["metadata"]["name"].to_string())) {
            continue;
        }
        let label = format!("{} {}", role["kind"], role["metadata"]["name"]);
        let namespace = role["metadata"]["namespace"].as_str().unwrap_or_default();
        for rule in role["rules"].as_array().into_iter().flatten() {
            let mut names = texts(&rule["resourceNames"]);
            if names.is_empty() {
                names.push(String::new());
            }
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        for name in &names {
                            rights.insert(Right {
                                role: label.clone(),
                                verb: verb.clone(),
                                group: group.clone(),
                                resource: resource.clone(),
                                namespace: namespace.into(),
                                name: name.clone(),
                            });
                        }
                    }
                }
            }
        }
    }
    rights
}

pub async fn are_minimal(log: &Path) {
    // Watches are told when they end.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let rights = rights();
    assert!(rights.len() > 40, "the roles are not understood: {rights:?}");
    for right in &rights {
        assert!(![&right.verb, &right.resource, &right.group].contains(&&"*".to_owned()), "{right:?}");
    }
    let asked = audit::asked(log, USER).unwrap();
    // What a namespace that is being deleted, or a quota, forbids is another's word than RBAC's.
    let unallowed: Vec<_> = asked.iter().filter(|asked| !rights.iter().any(|r| r.covers(asked))).collect();
    assert!(unallowed.is_empty(), "deploy/rbac lacks what the operator needs: {unallowed:#?}");
    let unused: Vec<_> = rights.iter().filter(|right| !asked.iter().any(|a| right.covers(a))).collect();
    assert!(unused.is_empty(), "deploy/rbac allows what the operator never does: {unused:#?}");
}
