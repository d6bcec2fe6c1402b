//! Nodes that only seem to be there: Node objects that are ready and stay so, with a kubelet for their pods.
//!
//! A Node is made with its status, as a kubelet does it, and kept ready by a lease that is renewed now and
//! then: 50 requests a second at the most. A controller-manager of ours waits an hour for a sign of life; one
//! of another cluster waits 50 s, which is enough for 1,000 nodes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::task::AbortHandle;

use super::kubelet;
use super::wait::{Seen, WaitError, until};

/// Label of every node of a fleet; its value is the fleet's name. Pods of a test select it.
pub const FLEET: &str = "tests.headrace.io/fleet";

const AT_ONCE: usize = 32;

/// Who writes these objects, in their managedFields.
const MANAGER: &str = "headrace-test-fleet";

#[derive(Debug, Error)]
pub enum FleetError {
    #[error("cannot make node {name}: {error}")]
    Make { name: String, error: Box<kube::Error> },
    #[error("cannot remove node {name}: {error}")]
    Remove { name: String, error: Box<kube::Error> },
    #[error(transparent)]
    Wait(#[from] WaitError),
}

/// What the nodes are like.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Their names are this and a number, such as `a-0`; unique within the cluster.
    pub name: String,
    pub count: usize,
    /// Dealt out in turn; none leaves the label away.
    pub zones: Vec<String>,
    /// Nodes of one rack stand in one zone: node `i` is in rack `i / this`, labelled below `RACK`.
    pub nodes_per_rack: Option<usize>,
    pub cpus: u32,
    pub memory_gib: u32,
    /// Room for so many pods.
    pub pods: u32,
    pub labels: Vec<(String, String)>,
    /// How often each node's lease is renewed.
    pub heartbeat: Duration,
    /// Whether pods that have a node are said to run; they wait otherwise.
    pub kubelet: bool,
}

/// Label that names a node's rack.
pub const RACK: &str = "topology.headrace.io/rack";

impl Spec {
    pub fn new(name: &str, count: usize) -> Self {
        Self {
            name: name.to_owned(),
            count,
            zones: Vec::new(),
            nodes_per_rack: None,
            cpus: 32,
            memory_gib: 256,
            pods: 110,
            labels: Vec::new(),
            heartbeat: Duration::from_secs(20).max(Duration::from_millis(20 * count as u64)),
            kubelet: true,
        }
    }

    pub fn node_name(&self, number: usize) -> String {
        format!("{}-{number}", self.name)
    }

    /// The whole object, status included.
    pub fn node(&self, number: usize) -> Value {
        let name = self.node_name(number);
        let mut labels = json!({
            FLEET: self.name,
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
        });
        if let Some(zone) = number.checked_rem(self.zones.len()).and_then(|turn| self.zones.get(turn)) {
            labels["topology.kubernetes.io/zone"] = json!(zone);
        }
        if let Some(rack) = self.nodes_per_rack.and_then(|size| number.checked_div(size)) {
            labels[RACK] = json!(format!("{}-rack-{rack}", self.name));
        }
        for (label, value) in &self.labels {
            labels[label] = json!(value);
        }
        let now = Timestamp::now().to_string();
        let condition = |kind: &str, status: &str, reason: &str| {
            json!({
                "type": kind,
                "status": status,
                "reason": reason,
                "message": "a node of the test harness",
                "lastHeartbeatTime": now,
                "lastTransitionTime": now,
            })
        };
        let room = json!({
            "cpu": self.cpus.to_string(),
            "memory": format!("{}Gi", self.memory_gib),
            "pods": self.pods.to_string(),
            "ephemeral-storage": "100Gi",
        });
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": name, "labels": labels },
            "status": {
                "capacity": room,
                "allocatable": room,
                "addresses": [{ "type": "Hostname", "address": name }],
                "nodeInfo": {
                    "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "containerd://0",
                    "kernelVersion": "", "kubeProxyVersion": "", "kubeletVersion": "v1.34.0",
                    "machineID": "", "operatingSystem": "linux", "osImage": "", "systemUUID": "",
                },
                "conditions": [
                    condition("Ready", "True", "KubeletReady"),
                    condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
                    condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
                    condition("PIDPressure", "False", "KubeletHasSufficientPID"),
                ],
            },
        })
    }
}

/// Nodes of fleets whose test has panicked: pods of the next one would go to them.
static LEFT_BEHIND: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Nodes in a cluster, kept ready until this is dropped. `leave` takes them away; after a panic the next fleet of this
/// process does.
pub struct Fleet {
    spec: Spec,
    client: Client,
    tasks: Vec<AbortHandle>,
}

impl Fleet {
    /// Makes the nodes and waits until pods may be scheduled on all of them.
    pub async fn join(client: Client, spec: Spec) -> Result<Self, FleetError> {
        let former = std::mem::take(&mut *LEFT_BEHIND.lock().unwrap_or_else(PoisonError::into_inner));
        remove(&client, former).await?;
        let mut fleet = Self { spec, client, tasks: Vec::new() };
        let nodes: Api<Node> = Api::all(fleet.client.clone());
        let spec = &fleet.spec;
        futures::stream::iter(0..spec.count)
            .map(|number| make(&nodes, spec, number))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        // The kubelet is there before the first pod can be.
        let kubelet =
            spec.kubelet.then(|| tokio::spawn(kubelet::run(fleet.client.clone(), format!("{}-", spec.name))));
        let heartbeat = tokio::spawn(heartbeats(fleet.client.clone(), spec.clone()));
        fleet.tasks = kubelet.iter().chain([&heartbeat]).map(tokio::task::JoinHandle::abort_handle).collect();
        fleet.wait_until_ready().await?;
        Ok(fleet)
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    pub fn names(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.spec.count).map(|number| self.spec.node_name(number))
    }

    fn selector(&self) -> ListParams {
        ListParams::default().labels(&format!("{FLEET}={}", self.spec.name))
    }

    /// New nodes carry a taint until the controller-manager has seen that they are ready.
    async fn wait_until_ready(&self) -> Result<(), FleetError> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let selector = self.selector();
        let limit = Duration::from_secs(60) + Duration::from_millis(50) * self.spec.count as u32;
        let what = format!("the {} nodes of fleet {} take pods", self.spec.count, self.spec.name);
        until(&what, limit, async || {
            let listed = nodes.list(&selector).await?;
            let free = |node: &&Node| {
                node.spec.as_ref().is_none_or(|spec| spec.taints.as_ref().is_none_or(Vec::is_empty))
            };
            let ready = listed.items.iter().filter(free).count();
            Ok(if ready == self.spec.count { Seen::Done(()) } else { Seen::NotYet(format!("{ready} do")) })
        })
        .await?;
        Ok(())
    }

    /// Takes the nodes away.
    pub async fn leave(self) -> Result<(), FleetError> {
        remove(&self.client, self.names().collect()).await
    }
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        if std::thread::panicking() {
            LEFT_BEHIND.lock().unwrap_or_else(PoisonError::into_inner).extend(self.names());
        }
    }
}

/// Takes nodes and their leases away, as far as they are there.
async fn remove(client: &Client, names: Vec<String>) -> Result<(), FleetError> {
    let (nodes, leases): (Api<Node>, _) = (Api::all(client.clone()), leases(client));
    futures::stream::iter(names)
        .map(|name| {
            let (nodes, leases) = (nodes.clone(), leases.clone());
            async move {
                let now = DeleteParams::default();
                let removed = nodes.delete(&name, &now).await.map(drop);
                let released = leases.delete(&name, &now).await.map(drop);
                for outcome in [removed, released] {
                    match outcome {
                        Err(kube::Error::Api(status)) if status.code == 404 => {}
                        Err(error) => return Err(FleetError::Remove { name, error: Box::new(error) }),
                        Ok(()) => {}
                    }
                }
                Ok(())
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn make(nodes: &Api<Node>, spec: &Spec, number: usize) -> Result<(), FleetError> {
    let name = spec.node_name(number);
    let refused = |error: kube::Error| FleetError::Make { name: name.clone(), error: Box::new(error) };
    let node: Node =
        serde_json::from_value(spec.node(number)).map_err(kube::Error::SerdeError).map_err(refused)?;
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    match nodes.create(&params, &node).await {
        Ok(_) => Ok(()),
        // Left by an earlier run in a cluster that stays.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(refused(error)),
    }
}

fn leases(client: &Client) -> Api<Lease> {
    Api::namespaced(client.clone(), "kube-node-lease")
}

/// Renews one lease after another, evenly over the period.
async fn heartbeats(client: Client, spec: Spec) {
    let leases = leases(&client);
    let share = spec.heartbeat / u32::try_from(spec.count.max(1)).unwrap_or(u32::MAX);
    let mut tick = tokio::time::interval(share.max(Duration::from_millis(1)));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for number in (0..spec.count).cycle() {
        tick.tick().await;
        let name = spec.node_name(number);
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "name": name },
            "spec": {
                "holderIdentity": name,
                "leaseDurationSeconds": 40,
                "renewTime": format!("{:.6}", Timestamp::now()),
            },
        });
        let params = PatchParams::apply(MANAGER).force();
        // One missed is made good by the next; a cluster that is down says so elsewhere.
        let _ = leases.patch(&name, &params, &Patch::Apply(lease)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_whole_and_dealt_out() {
        let spec = Spec {
            zones: vec!["a".into(), "b".into()],
            nodes_per_rack: Some(2),
            labels: vec![("x".into(), "y".into())],
            ..Spec::new("fleet", 5)
        };
        let node: Node = serde_json::from_value(spec.node(3)).unwrap();
        let labels = node.metadata.labels.unwrap();
        assert_eq!(labels.get("topology.kubernetes.io/zone").map(String::as_str), Some("b"));
        assert_eq!(labels.get(RACK).map(String::as_str), Some("fleet-rack-1"));
        assert_eq!(labels.get("x").map(String::as_str), Some("y"));
        let ready = node.status.unwrap().conditions.unwrap().remove(0);
        assert_eq!((ready.type_.as_str(), ready.status.as_str()), ("Ready", "True"));
        assert!(Spec::new("plain", 1).node(0)["metadata"]["labels"].get(RACK).is_none());
    }

    #[test]
    fn many_nodes_beat_seldom() {
        assert_eq!(Spec::new("few", 3).heartbeat, Duration::from_secs(20));
        assert_eq!(Spec::new("many", 5_000).heartbeat, Duration::from_secs(100));
    }
}
