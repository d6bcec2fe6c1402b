//! A control plane with the operator in this process, its webhooks installed, and agents.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use agent::report::connect::Address;
use agent::report::speaker::{Demand, Facts, Version};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod, Secret, ServiceAccount};
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::discovery::Scope;
use kube::{Api, Client, ResourceExt};
use operator::certs::vault::obtain;
use operator::certs::{Authority, KubeVault};
use operator::config::{AgentsConfig, CertificatesConfig, Config, LogFormat};
use operator_api::crd::Dataset;
use operator_api::report::v1 as wire;
use serde_json::{Value, json};
use tests::agents::fleet::tls_of;
use tests::agents::obedient::{self, Obedient};
use tests::cluster::control_plane::ControlPlane;
use tests::cluster::fleet::{Fleet, Spec};
use tests::cluster::operator::{self as program, USER};
use tests::cluster::options::Options;
use tests::cluster::wait::{Seen, until};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub const LIMIT: Duration = Duration::from_secs(120);

/// Where the operator is, as deploy/ has it.
pub const HOME: &str = "headrace-system";

/// Where Datasets and pods are.
pub const NAMESPACE: &str = "led";

/// Of every Dataset here: 1 GiB.
pub const BYTES: u64 = 1 << 30;

pub struct Stage {
    pub plane: ControlPlane,
    pub client: Client,
    /// Its nodes stay ready as long as this is there.
    _fleet: Fleet,
    pub health: SocketAddr,
    pub agents: SocketAddr,
    pub scheduling: SocketAddr,
    stop: watch::Sender<bool>,
    operator: Option<JoinHandle<()>>,
}

impl Stage {
    /// Everything stands, the operator leads, its authority is known.
    pub async fn set(nodes: Spec) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        // What the operator says, with a failed test's output.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let plane = ControlPlane::start(&Options::default()).await.unwrap();
        let client = plane.access().client().await.unwrap();
        program::install(&client).await.unwrap();
        let bindings: Api<k8s_openapi::api::rbac::v1::ClusterRoleBinding> = Api::all(client.clone());
        bindings.delete(USER, &Default::default()).await.unwrap();
        for file in ["operator", "agents", "authority", "scheduling"] {
            for mut document in documents(&format!("rbac/{file}.yaml")) {
                if document.get("subjects").is_some() {
                    document["subjects"] =
                        json!([{"kind": "User", "name": USER, "apiGroup": "rbac.authorization.k8s.io"}]);
                }
                apply(&client, &document).await;
            }
        }
        namespace(&client).await;
        let fleet = Fleet::join(client.clone(), nodes).await.unwrap();
        let mut stage = Self {
            plane,
            client,
            _fleet: fleet,
            health: free_port(),
            agents: free_port(),
            scheduling: free_port(),
            stop: watch::Sender::new(false),
            operator: None,
        };
        stage.webhooks().await;
        stage.start_operator().await;
        stage
    }

    /// deploy/webhook, but for where the operator is: no Service leads into this process. It names no authority.
    pub async fn webhooks(&self) {
        for mut object in documents("webhook/webhooks.yaml") {
            for hook in object["webhooks"].as_array_mut().unwrap() {
                let path = hook["clientConfig"]["service"]["path"].as_str().unwrap().to_owned();
                let url = format!("https://localhost:{}{path}", self.scheduling.port());
                hook["clientConfig"] = json!({ "url": url });
            }
            apply(&self.client, &object).await;
        }
    }

    pub async fn start_operator(&mut self) {
        let (stop, task) = self.replica("one", self.health, self.agents, self.scheduling).await;
        (self.stop, self.operator) = (stop, Some(task));
        // The API server trusts what the operator has written there.
        let all: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        until("the webhooks name the operator's authority", LIMIT, async || {
            let hooks = all.get("headrace").await?.webhooks.unwrap_or_default();
            let known = hooks.iter().all(|hook| hook.client_config.ca_bundle.is_some());
            Ok(if known && !hooks.is_empty() { Seen::Done(()) } else { Seen::NotYet("not yet".into()) })
        })
        .await
        .unwrap();
    }

    /// A replica of the operator, which runs until it is told to stop.
    pub async fn replica(
        &self,
        identity: &str,
        health: SocketAddr,
        agents: SocketAddr,
        scheduling: SocketAddr,
    ) -> (watch::Sender<bool>, JoinHandle<()>) {
        let config = Config {
            namespace: HOME.into(),
            identity: identity.into(),
            health,
            worker_image: None,
            log: "info".into(),
            log_format: LogFormat::Text,
            agents: Some(AgentsConfig { listen: agents, account: "headrace-agent".into() }),
            scheduling: Some(scheduling),
            address: None,
            certificates: CertificatesConfig {
                folder: None,
                names: vec![
                    "headrace-operator.headrace-system.svc".into(),
                    "localhost".into(),
                    "127.0.0.1".into(),
                ],
            },
        };
        let (stop, stopped) = watch::channel(false);
        let client = self.plane.access_of(USER, None).unwrap().client().await.unwrap();
        let life = async move { operator::run::operator(config, client, stopped).await.unwrap() };
        (stop, tokio::spawn(life))
    }

    /// Ends it as kill -9 would: nothing is given back.
    pub fn kill_operator(&mut self) {
        self.operator.take().unwrap().abort();
    }

    /// Ends it as SIGTERM would.
    pub async fn end_operator(&mut self) {
        self.stop.send_replace(true);
        let task = self.operator.take().unwrap();
        tokio::time::timeout(Duration::from_secs(10), task).await.expect("it ends").unwrap();
    }

    /// What the operator has put into its Secret.
    pub async fn authority(&self) -> Authority {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), HOME);
        until("the authority is kept", LIMIT, async || {
            let there = secrets.get_opt("headrace-authority").await?.is_some();
            Ok(if there { Seen::Done(()) } else { Seen::NotYet("no Secret".into()) })
        })
        .await
        .unwrap();
        let vault = KubeVault::new(self.client.clone(), HOME, "headrace-authority");
        obtain(&vault, SystemTime::now()).await.unwrap().authority
    }

    /// The agent of a node of the fleet, with these Datasets mounted; it has all of those in `whole`, and may have
    /// readers of one.
    pub async fn agent(
        &self,
        node: &str,
        mounted: &[&str],
        whole: &[&str],
        demand: Option<(&str, Demand)>,
    ) -> Obedient {
        let mut facts = Facts {
            capacity: Some(wire::Capacity { ram_bytes: 64 << 30, cache_bytes: 0 }),
            ..Facts::default()
        };
        let full = |name: &&str| -> Arc<str> { format!("{NAMESPACE}/{name}").into() };
        for dataset in mounted.iter().map(full) {
            let version = Version { version: 7, bytes: BYTES, files: 10, seen_ms: 1 };
            facts.versions.insert(dataset, version);
        }
        if let Some((dataset, demand)) = demand {
            facts.demand.insert(full(&dataset), demand);
        }
        Obedient::start(obedient::Spec {
            name: node.to_owned(),
            address: Address::parse(&format!("https://127.0.0.1:{}", self.agents.port())).unwrap(),
            tls: tls_of(&self.authority().await, node).unwrap(),
            sources: mounted.iter().map(|name| format!("nas:/{name}")).collect(),
            facts,
            whole: whole.iter().map(full).collect(),
            stuck: false,
        })
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Makes it, and waits for its claim.
    pub async fn dataset(&self, name: &str) {
        let value = json!({
            "apiVersion": "headrace.io/v1alpha1", "kind": "Dataset", "metadata": {"name": name},
            "spec": {"mounts": [{"mountPoint": format!("nfs://nas/{name}"), "name": "data", "path": "/"}]},
        });
        let dataset: Dataset = serde_json::from_value(value).unwrap();
        self.api().create(&PostParams::default(), &dataset).await.unwrap();
        let claims: Api<PersistentVolumeClaim> = self.api();
        until(&format!("claim {name} is bound"), LIMIT, async || {
            let phase = claims.get_opt(name).await?.and_then(|claim| claim.status?.phase);
            let bound = phase.as_deref() == Some("Bound");
            Ok(if bound { Seen::Done(()) } else { Seen::NotYet(format!("{phase:?}")) })
        })
        .await
        .unwrap();
    }

    /// A pod that reads a Dataset.
    pub fn pod(&self, name: &str, dataset: &str) -> Pod {
        let value = json!({
            "metadata": {"name": name},
            "spec": {
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": dataset}}],
                "containers": [{
                    "name": "main", "image": "registry.invalid/none",
                    "resources": {"requests": {"cpu": "1"}},
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }],
            }
        });
        serde_json::from_value(value).unwrap()
    }

    pub async fn make(&self, pod: &Pod) -> Pod {
        self.api().create(&PostParams::default(), pod).await.unwrap()
    }

    /// What the webhook would say of a pod, once the operator knows what agents hold; until then pods are made
    /// without a preference.
    pub async fn would_be_steered(&self, dataset: &str) -> String {
        let pods: Api<Pod> = self.api();
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        until("a pod would be steered", LIMIT, async || {
            let made = pods.create(&dry, &self.pod("dry", dataset)).await?;
            let words = decision(&made);
            Ok(if words.starts_with("prefers") { Seen::Done(words) } else { Seen::NotYet(words) })
        })
        .await
        .unwrap()
    }

    pub async fn node_of(&self, pod: &str) -> String {
        let pods: Api<Pod> = self.api();
        until(&format!("pod {pod} has a node"), LIMIT, async || {
            let pod = pods.get(pod).await?;
            let node = pod.spec.and_then(|spec| spec.node_name);
            Ok(node.map_or_else(|| Seen::NotYet(format!("{:?}", pod.status)), Seen::Done))
        })
        .await
        .unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(task) = &self.operator {
            task.abort();
        }
    }
}

/// What the webhook has decided for a pod.
pub fn decision(pod: &Pod) -> String {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get("headrace.io/decision")).cloned().unwrap_or_default()
}

async fn namespace(client: &Client) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}})).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    until("the namespace takes pods", LIMIT, async || {
        let there = !accounts.list(&ListParams::default()).await?.items.is_empty();
        Ok(if there { Seen::Done(()) } else { Seen::NotYet("it has no service account".into()) })
    })
    .await
    .unwrap();
}

/// The YAML documents of a file below deploy/.
pub fn documents(path: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path);
    let text = std::fs::read_to_string(path).unwrap();
    text.split("\n---\n").map(|part| serde_saphyr::from_str(part).unwrap()).collect()
}

async fn apply(client: &Client, value: &Value) {
    let object: DynamicObject = serde_json::from_value(value.clone()).unwrap();
    let kind = object.types.clone().unwrap();
    let gvk = kube::core::GroupVersionKind::try_from(&kind).unwrap();
    let (resource, caps) = kube::discovery::pinned_kind(client, &gvk).await.unwrap();
    let api: Api<DynamicObject> = match (caps.scope, object.namespace()) {
        (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client.clone(), &namespace, &resource),
        _ => Api::all_with(client.clone(), &resource),
    };
    let params = PatchParams::apply("tests").force();
    api.patch(&object.name_any(), &params, &Patch::Apply(value)).await.unwrap();
}

/// Somebody else may take it before the operator does: then that does not start, and says so.
pub fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}
