//! What can be chosen about a private control plane. The default is what tests of behaviour want; the
//! benchmarks raise the limits that would otherwise be all that they measure.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

#[derive(Clone, Debug)]
pub struct Options {
    pub audit: Audit,
    pub controller_manager: Option<ControllerManager>,
    pub scheduler: Option<Scheduler>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            audit: Audit::Off,
            controller_manager: Some(ControllerManager::default()),
            scheduler: Some(Scheduler::default()),
        }
    }
}

/// What the apiserver writes into its audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audit {
    Off,
    /// Every request of these users, without bodies. Service accounts are called
    /// system:serviceaccount:NAMESPACE:NAME.
    Users(Vec<String>),
    /// A policy file of one's own.
    Policy(PathBuf),
}

impl Audit {
    /// The policy for `Users`.
    pub fn policy(users: &[String]) -> Value {
        json!({
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            // One line a request, when it has ended; a watch would write two.
            "omitStages": ["RequestReceived", "ResponseStarted"],
            "rules": [{ "level": "Metadata", "users": users }, { "level": "None" }],
        })
    }
}

#[derive(Clone, Debug)]
pub struct ControllerManager {
    /// Requests a second. Kubernetes' own default is 20, which makes every figure one of this limit.
    pub qps: u32,
    pub burst: u32,
    /// A node that has given no sign of life for so long is taken for lost. Kubernetes' default is 50 s;
    /// the nodes here are heard of by a few requests a minute instead.
    pub node_grace: Duration,
}

impl Default for ControllerManager {
    fn default() -> Self {
        Self { qps: 500, burst: 1_000, node_grace: Duration::from_secs(3_600) }
    }
}

#[derive(Clone, Debug)]
pub struct Scheduler {
    /// Requests a second; Kubernetes' own default is 50.
    pub qps: u32,
    pub burst: u32,
    /// A KubeSchedulerConfiguration, or the part of one that matters (extenders, profiles): laid over ours,
    /// which names the kubeconfig and keeps leader election off.
    pub configuration: Value,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self { qps: 5_000, burst: 5_000, configuration: json!({}) }
    }
}

impl Scheduler {
    /// The whole configuration.
    pub fn whole(&self, kubeconfig: &str) -> Value {
        let mut whole = self.configuration.clone();
        let ours = json!({
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "leaderElection": { "leaderElect": false },
            "clientConnection": { "kubeconfig": kubeconfig, "qps": self.qps, "burst": self.burst },
        });
        if let (Some(whole), Value::Object(ours)) = (whole.as_object_mut(), ours.clone()) {
            whole.extend(ours);
            return Value::Object(whole.clone());
        }
        ours
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_keeps_its_extenders_and_gets_our_kubeconfig() {
        let configuration = json!({
            "extenders": [{ "urlPrefix": "https://127.0.0.1:1" }],
            "leaderElection": { "leaderElect": true },
        });
        let whole = Scheduler { configuration, ..Scheduler::default() }.whole("/k");
        assert_eq!(whole["extenders"][0]["urlPrefix"], "https://127.0.0.1:1");
        assert_eq!(whole["leaderElection"]["leaderElect"], false);
        assert_eq!(whole["clientConnection"]["kubeconfig"], "/k");
        assert_eq!(
            Scheduler { configuration: json!(3), ..Scheduler::default() }.whole("/k")["kind"],
            "KubeSchedulerConfiguration"
        );
    }
}
