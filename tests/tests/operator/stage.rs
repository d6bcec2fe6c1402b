//! One control plane for all tests here, with deploy/crd and deploy/rbac applied as they are, and replicas of the
//! operator that have no right but those.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, ServiceAccount};
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::discovery::Scope;
use kube::{Api, Client, ResourceExt};
use operator::config::{AgentsConfig, CertificatesConfig, Config, LogFormat};
use operator_api::crd::Dataset;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tests::cluster::access::Access;
use tests::cluster::control_plane::ControlPlane;
use tests::cluster::kubelet::RUN_SECONDS;
use tests::cluster::options::{Audit, Options};
use tests::cluster::wait::{Seen, until};
use tests::hygiene;
use tokio::sync::{Mutex, MutexGuard, OnceCell, watch};

pub const NAMESPACE: &str = "headrace-system";
pub const ACCOUNT: &str = "headrace-operator";
/// The agents' account.
pub const AGENTS: &str = "headrace-agent";
/// Who the operator is to the apiserver, and in its audit log.
pub const USER: &str = "system:serviceaccount:headrace-system:headrace-operator";

pub const LIMIT: Duration = Duration::from_secs(90);

pub struct Stage {
    pub plane: ControlPlane,
    /// Replicas see the whole cluster: the tests that run some take turns.
    turn: Mutex<()>,
}

pub fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// The documents of a folder of deploy/, in the order of their files.
pub fn deployed(folder: &str) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(folder);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    // Whatever names a namespace comes after it.
    files.sort_by_key(|file| !file.ends_with("operator.yaml"));
    let texts = files.iter().map(|file| std::fs::read_to_string(file).unwrap());
    texts
        .flat_map(|text| {
            text.split("\n---\n").map(|part| serde_saphyr::from_str(part).unwrap()).collect::<Vec<Value>>()
        })
        .collect()
}

pub async fn apply(client: &Client, value: &Value) {
    let object: DynamicObject = object(value.clone());
    let api = api_of(client, &object).await;
    let params = PatchParams::apply("tests").force();
    api.patch(&object.name_any(), &params, &Patch::Apply(value)).await.unwrap();
}

/// The API of an object whose kind only it knows.
pub async fn api_of(client: &Client, object: &DynamicObject) -> Api<DynamicObject> {
    let kind = object.types.clone().unwrap();
    let (group, version) = kind.api_version.split_once('/').unwrap_or(("", &kind.api_version));
    let gvk = kube::api::GroupVersionKind::gvk(group, version, &kind.kind);
    let (resource, caps) = kube::discovery::pinned_kind(client, &gvk).await.unwrap();
    match (caps.scope, object.namespace()) {
        (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client.clone(), &namespace, &resource),
        _ => Api::all_with(client.clone(), &resource),
    }
}

impl Stage {
    /// Set by the first test that asks; taken down with the program.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Stage> = OnceCell::const_new();
        SHARED.get_or_init(Self::set).await
    }

    async fn set() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        // The operator's own words, for whoever looks at a failure.
        let filter = std::env::var("HEADRACE_LOG").unwrap_or_else(|_| "warn".into());
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        hygiene::on_signals().unwrap();
        hygiene::at_exit();
        hygiene::remove_stale().unwrap();
        let options = Options { audit: Audit::Users(vec![USER.into()]), ..Options::default() };
        let plane = ControlPlane::start(&options).await.unwrap_or_else(|error| panic!("{error}"));
        let stage = Self { plane, turn: Mutex::default() };
        let client = stage.client().await;
        for document in deployed("crd").iter().chain(&deployed("rbac")) {
            apply(&client, document).await;
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
        assert!(accounts.get_opt(ACCOUNT).await.unwrap().is_some(), "deploy/rbac makes the account");
        until("the CRDs are served", LIMIT, async || {
            let served = Api::<Dataset>::all(client.clone()).list(&ListParams::default()).await;
            Ok(served.map_or_else(|error| Seen::NotYet(error.to_string()), |_| Seen::Done(())))
        })
        .await
        .unwrap();
        stage
    }

    /// As the cluster's administrator, for the runtime of the test that asks.
    pub async fn client(&self) -> Client {
        self.plane.access().client().await.unwrap()
    }

    /// The operator's way in.
    pub async fn operator(&self) -> Access {
        let credential = self.plane.service_account(NAMESPACE, ACCOUNT).await.unwrap();
        self.plane.access().with(credential)
    }

    /// deploy/webhook, but for where the operator is: no Service leads into this process.
    pub async fn webhooks(&self, at: SocketAddr) {
        let client = self.client().await;
        for mut document in deployed("webhook") {
            for hook in document["webhooks"].as_array_mut().unwrap() {
                let path = hook["clientConfig"]["service"]["path"].as_str().unwrap().to_owned();
                hook["clientConfig"] = json!({"url": format!("https://localhost:{}{path}", at.port())});
            }
            apply(&client, &document).await;
        }
    }

    pub async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }
}

/// One replica in this process.
pub struct Replica {
    pub health: SocketAddr,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

/// A port that is free now. Somebody else may take it first: then the replica says so.
pub fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Replica {
    /// `doors` are where agents, and the apiserver, come in.
    pub async fn start(access: &Access, identity: &str, doors: Option<[SocketAddr; 2]>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let client = access.client().await.unwrap();
        let health = free();
        let config = Config {
            namespace: NAMESPACE.into(),
            identity: identity.into(),
            health,
            worker_image: Some("registry.invalid/worker".into()),
            log: "info".into(),
            log_format: LogFormat::Text,
            agents: doors.map(|[listen, _]| AgentsConfig { listen, account: AGENTS.into() }),
            scheduling: doors.map(|[_, listen]| listen),
            address: None,
            certificates: CertificatesConfig {
                folder: None,
                names: vec!["localhost".into(), "127.0.0.1".into()],
            },
        };
        let task =
            tokio::spawn(async move { operator::run::operator(config, client, stopped).await.unwrap() });
        Self { health, stop, task }
    }

    /// As SIGTERM does.
    pub async fn end(self) {
        self.stop.send(true).unwrap();
        tokio::time::timeout(Duration::from_secs(10), self.task).await.expect("it ends").unwrap();
    }

    /// As kill -9 does: nothing is given back.
    pub fn kill(self) {
        self.task.abort();
    }
}

/// A namespace that is gone with the control plane.
pub async fn namespace(client: &Client, name: &str) {
    let namespace: Namespace = object(json!({"metadata": {"name": name}}));
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
}

pub fn api<K>(client: &Client, namespace: &str) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    Api::namespaced(client.clone(), namespace)
}

/// `base` with the fields of `extra` over it.
pub fn with(mut base: Value, extra: Value) -> Value {
    for (key, value) in extra.as_object().into_iter().flatten() {
        base[key] = value.clone();
    }
    base
}

pub fn dataset(name: &str, extra: Value) -> Value {
    let spec = with(json!({"mounts": [{"mountPoint": "s3://bucket/x", "name": "x"}]}), extra);
    json!({"apiVersion": "headrace.io/v1alpha1", "kind": "Dataset", "metadata": {"name": name}, "spec": spec})
}

/// A DataProcess whose pod takes so many seconds; `timing` is when it runs.
pub fn process(namespace: &str, name: &str, dataset: &str, seconds: &str, timing: Value) -> Value {
    let processor = json!({
        "podMetadata": {"annotations": {RUN_SECONDS: seconds}},
        "job": {"podSpec": {"containers": [{"name": "main", "image": "registry.invalid/none"}]}}});
    let spec =
        with(json!({"dataset": {"name": dataset, "mountPath": "/data"}, "processor": processor}), timing);
    json!({"apiVersion": "headrace.io/v1alpha1", "kind": "DataProcess",
           "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

pub async fn make<K>(api: &Api<K>, value: Value) -> K
where
    K: kube::Resource + Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize,
{
    api.create(&PostParams::default(), &object(value)).await.unwrap()
}

pub async fn phase_is(api: &Api<Dataset>, name: &str, phase: &str) -> Dataset {
    until(&format!("Dataset {name} is {phase}"), LIMIT, async || {
        let found = api.get(name).await?;
        let status = serde_json::to_value(&found.status).unwrap();
        Ok(if status["phase"] == phase { Seen::Done(found) } else { Seen::NotYet(status.to_string()) })
    })
    .await
    .unwrap()
}

/// What a condition of a Dataset says; empty where it has none of that name.
pub fn says(dataset: &Dataset, condition: &str) -> String {
    let conditions = dataset.status.iter().flat_map(|status| &status.conditions);
    let found = conditions.filter(|found| found.type_ == condition);
    found.map(|found| format!("{} {}: {}", found.status, found.reason, found.message)).collect()
}

/// Waits until a condition of a Dataset says this.
pub async fn said(api: &Api<Dataset>, name: &str, condition: &str, words: &str) -> Dataset {
    until(&format!("Dataset {name} says '{words}'"), LIMIT, async || {
        let found = api.get(name).await?;
        let text = says(&found, condition);
        Ok(if text.contains(words) { Seen::Done(found) } else { Seen::NotYet(text) })
    })
    .await
    .unwrap()
}

pub async fn gone<K>(api: &Api<K>, name: &str)
where
    K: kube::Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    until(&format!("{name} is gone"), LIMIT, async || {
        let Some(mut found) = api.get_opt(name).await? else { return Ok(Seen::Done(())) };
        found.meta_mut().managed_fields = None;
        Ok(Seen::NotYet(format!("{found:?}")))
    })
    .await
    .unwrap();
}

pub async fn claim_is_bound(api: &Api<PersistentVolumeClaim>, name: &str) {
    until(&format!("claim {name} is bound"), LIMIT, async || {
        let phase = api.get_opt(name).await?.and_then(|claim| claim.status?.phase);
        let bound = phase.as_deref() == Some("Bound");
        Ok(if bound { Seen::Done(()) } else { Seen::NotYet(format!("{phase:?}")) })
    })
    .await
    .unwrap();
}

/// Waits until an operation's status is so, and gives it.
pub async fn operation(
    client: &Client,
    kind: &str,
    namespace: &str,
    name: &str,
    what: &str,
    is: impl Fn(&Value) -> bool,
) -> Value {
    let types = json!({"apiVersion": "headrace.io/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace}});
    let api = api_of(client, &object(types)).await;
    until(&format!("{kind} {name} {what}"), LIMIT, async || {
        let status = api.get(name).await?.data["status"].clone();
        Ok(if is(&status) { Seen::Done(status) } else { Seen::NotYet(status.to_string()) })
    })
    .await
    .unwrap()
}
