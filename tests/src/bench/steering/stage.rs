//! A real control plane with the operator's scheduling in it: webhooks and extender as deploy/ has them, served
//! by this process, Datasets whose claims are bound, and nodes that only seem to be there.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use operator::inventory::{
    CHUNK, ChunkSet, DatasetReport, DatasetSpec, Fact, Inventory, Millis, Name, NodeFacts, Report, Tier,
    Version, VersionFacts,
};
use operator::schedule::https::Schedule;
use operator::schedule::picture::Picture;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::asked::Asked;
use super::door::{Nothing, certificate};
use super::floor::{self, Floor};
use crate::cluster::control_plane::ControlPlane;
use crate::cluster::fleet::{Fleet, Spec};
use crate::cluster::options::{Options, Scheduler};
use crate::cluster::wait::{Seen, until};

const VERSION: Version = Version(1);

/// Chunks of each Dataset here: 4 GiB.
pub const CHUNKS: u32 = 1_024;

const PATIENCE: Duration = Duration::from_secs(120);

/// Whom the scheduler asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extender {
    /// Ours for scores alone, as deploy/ has it.
    Ours,
    /// Ours for scores, and to filter too, as deploy/ says it for a cluster without the webhooks.
    Filtering,
    /// For scores, one that does nothing.
    Floor,
}

/// Which of the doors are open to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steering {
    pub webhooks: bool,
    pub extender: Option<Extender>,
}

pub struct Stage {
    pub plane: ControlPlane,
    pub client: Client,
    pub fleet: Fleet,
    pub namespace: String,
    pub inventory: Arc<RwLock<Inventory>>,
    floor: Floor,
    picture: Arc<Picture>,
    asked: Arc<Asked>,
    port: u16,
    authority: String,
    stop: watch::Sender<bool>,
    served: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Stage").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Stage {
    /// Starts everything but the steering; `nodes` stand in the inventory too.
    pub async fn set(nodes: Spec) -> Result<Self> {
        let plane = ControlPlane::start(&Options::default()).await?;
        let client = plane.access().client().await?;
        let fleet = Fleet::join(client.clone(), nodes).await?;
        let namespace = "steered".to_owned();
        let object: Namespace = from(json!({"metadata": {"name": namespace}}))?;
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await?;
        let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> =
            Api::namespaced(client.clone(), &namespace);
        until("the namespace takes pods", PATIENCE, async || {
            Ok(match accounts.get_opt("default").await? {
                Some(_) => Seen::Done(()),
                None => Seen::NotYet("it has no service account".to_owned()),
            })
        })
        .await?;

        let mut inventory = Inventory::default();
        for name in fleet.names() {
            let facts = NodeFacts { ready: true, ..NodeFacts::default() };
            inventory.apply(Fact::Node { node: name.into(), facts }, Millis(0));
        }
        let inventory = Arc::new(RwLock::new(inventory));
        let picture = Arc::new(Picture::new(inventory.clone()));
        let asked = Arc::new(Asked::new(picture.clone()));
        let (authority, tls) = certificate()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (stop, stopped) = watch::channel(false);
        let ticking = picture.clone();
        let served = vec![
            tokio::spawn(Schedule::new(asked.clone(), Arc::new(Nothing)).serve(listener, tls, stopped)),
            tokio::spawn(async move {
                let mut tick = tokio::time::interval(Duration::from_secs(1));
                loop {
                    tick.tick().await;
                    ticking.tick();
                }
            }),
        ];
        Ok(Self {
            plane,
            client,
            fleet,
            namespace,
            inventory,
            floor: floor::open()?,
            picture,
            asked,
            port,
            authority,
            stop,
            served,
        })
    }

    /// A Dataset with a claim of its name, bound as the operator's are.
    pub async fn dataset(&self, name: &str) -> Result<()> {
        let volume: PersistentVolume = from(json!({
            "metadata": {"name": format!("{}-{name}", self.namespace)},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadOnlyMany"], "storageClassName": "",
                "persistentVolumeReclaimPolicy": "Retain", "nfs": {"server": "store.invalid", "path": "/"},
                "claimRef": {"namespace": self.namespace, "name": name},
            }
        }))?;
        let claim: PersistentVolumeClaim = from(json!({
            "metadata": {"name": name},
            "spec": {
                "accessModes": ["ReadOnlyMany"], "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}},
                "volumeName": format!("{}-{name}", self.namespace),
            }
        }))?;
        let made = PostParams::default();
        Api::<PersistentVolume>::all(self.client.clone()).create(&made, &volume).await?;
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &self.namespace);
        claims.create(&made, &claim).await?;
        let dataset = self.full_name(name);
        self.tell(Fact::Dataset { dataset: dataset.clone(), spec: DatasetSpec::default() });
        let bytes = Some(u64::from(CHUNKS) * CHUNK);
        let facts = VersionFacts { version: VERSION, bytes, files: None, at: Millis(0) };
        self.tell(Fact::Version { dataset: dataset.clone(), facts });
        self.picture.set_claim(&self.namespace, name, name);
        self.picture.set_dataset(&dataset, name, vec![(self.namespace.as_str().into(), name.into())]);
        Ok(())
    }

    /// What the operator knows, as its watches and webhooks ask it.
    pub fn picture(&self) -> Arc<Picture> {
        self.picture.clone()
    }

    /// How often a scheduler has asked for the scores of a pod's nodes: ours, and the one that does nothing.
    pub fn scored(&self) -> (usize, usize) {
        (self.asked.scored(), self.floor.scored())
    }

    pub async fn claims_are_bound(&self) -> Result<()> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &self.namespace);
        until("every claim is bound", PATIENCE, async || {
            let all = claims.list(&ListParams::default()).await?;
            let bound = |claim: &&PersistentVolumeClaim| {
                claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
            };
            let count = all.items.iter().filter(bound).count();
            Ok(if count == all.items.len() { Seen::Done(()) } else { Seen::NotYet(format!("{count} are")) })
        })
        .await?;
        Ok(())
    }

    /// What a node holds from now on, all in its cache.
    pub fn holds(&self, node: &str, datasets: &[&str]) {
        let mut whole = ChunkSet::default();
        whole.insert(&(0..CHUNKS));
        let held = |name: &&str| DatasetReport::holds(self.full_name(name), VERSION, Tier::Cache, &whole);
        let datasets = datasets.iter().map(held).collect();
        let session = {
            let inventory = self.inventory.read().unwrap_or_else(PoisonError::into_inner);
            inventory
                .node_id(node)
                .and_then(|id| inventory.node(id)?.told())
                .map_or(1, |(session, _)| session + 1)
        };
        let report = Report { session, sequence: 1, whole: true, datasets, ..Report::default() };
        self.tell(Fact::Report { node: node.into(), report });
    }

    fn full_name(&self, dataset: &str) -> Name {
        format!("{}/{dataset}", self.namespace).into()
    }

    fn tell(&self, fact: Fact) {
        self.inventory.write().unwrap_or_else(PoisonError::into_inner).apply(fact, Millis(0));
    }

    /// Opens or closes the doors, as deploy/ describes them but for where they are.
    pub async fn steer(&mut self, steering: Steering) -> Result<()> {
        let mutating: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let validating: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        gone(mutating.delete("headrace", &DeleteParams::default()).await.map(drop))?;
        gone(validating.delete("headrace", &DeleteParams::default()).await.map(drop))?;
        if steering.webhooks {
            for mut object in documents("webhook/webhooks.yaml")? {
                let hooks = object["webhooks"].as_array_mut().context("webhooks.yaml has no webhooks")?;
                for hook in hooks {
                    let path =
                        hook["clientConfig"]["service"]["path"].as_str().context("a webhook without path")?;
                    hook["clientConfig"] = json!({
                        "url": format!("https://localhost:{}{path}", self.port),
                        "caBundle": ByteString(self.authority.clone().into_bytes()),
                    });
                }
                match object["kind"].as_str() {
                    Some("MutatingWebhookConfiguration") => {
                        mutating.create(&PostParams::default(), &from(object)?).await?;
                    }
                    _ => {
                        validating.create(&PostParams::default(), &from(object)?).await?;
                    }
                }
            }
        }
        let mut configuration = json!({});
        if let Some(extender) = steering.extender {
            let documents = documents("scheduler/configuration.yaml")?;
            let mut extenders =
                documents.first().context("configuration.yaml is empty")?["extenders"].clone();
            if extender == Extender::Filtering {
                extenders[0]["filterVerb"] = json!("filter");
            }
            if extender == Extender::Floor {
                let port = self.floor.port;
                extenders[0]["urlPrefix"] = json!(format!("http://127.0.0.1:{port}/extender"));
                extenders[0]["enableHTTPS"] = json!(false);
                extenders[0]["tlsConfig"] = Value::Null;
            } else {
                extenders[0]["urlPrefix"] = json!(format!("https://localhost:{}/extender", self.port));
                extenders[0]["tlsConfig"] =
                    json!({"caData": ByteString(self.authority.clone().into_bytes())});
            }
            configuration = json!({ "extenders": extenders });
        }
        self.plane.restart_scheduler(&Scheduler { configuration, ..Scheduler::default() }).await?;
        Ok(())
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A pod that reads a Dataset; it takes a share of a node's processors.
    pub fn pod(&self, name: &str, dataset: &str, cpus: &str) -> Result<Pod> {
        from(json!({
            "metadata": {"name": name},
            "spec": {
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": dataset}}],
                "containers": [{
                    "name": "main", "image": "registry.invalid/none",
                    "resources": {"requests": {"cpu": cpus}},
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }],
            }
        }))
    }

    /// Waits until a pod has a node, and says which.
    pub async fn node_of(&self, pod: &str) -> Result<String> {
        let pods = self.pods();
        let node = until(&format!("pod {pod} has a node"), PATIENCE, async || {
            let pod = pods.get(pod).await?;
            Ok(match pod.spec.and_then(|spec| spec.node_name) {
                Some(node) => Seen::Done(node),
                None => Seen::NotYet(format!("{:?}", pod.status.and_then(|status| status.conditions))),
            })
        })
        .await?;
        Ok(node)
    }

    /// The operator is gone: nothing listens any more.
    pub async fn operator_gone(&mut self) {
        self.stop.send_replace(true);
        for task in self.served.drain(..).rev() {
            // The ticking one never ends by itself; the serving one has been told to.
            task.abort();
            let _ = task.await;
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.served.iter().for_each(JoinHandle::abort);
    }
}

fn gone(deleted: kube::Result<()>) -> Result<()> {
    match deleted {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => Ok(other?),
    }
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> Result<T> {
    Ok(serde_json::from_value(value)?)
}

/// The YAML documents of a file below deploy/.
fn documents(path: &str) -> Result<Vec<Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let all: Vec<Value> = text
        .split("\n---\n")
        .map(serde_saphyr::from_str)
        .collect::<Result<_, _>>()
        .context("deploy/ holds no YAML")?;
    if all.is_empty() {
        bail!("{} is empty", path.display());
    }
    Ok(all)
}
