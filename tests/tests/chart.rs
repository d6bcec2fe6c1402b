//! deploy/chart says what the files of deploy/ say, and Helm installs it, upgrades it and takes it away on a real control
//! plane.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams};
use kube::config::Kubeconfig;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tests::cluster::control_plane::ControlPlane;
use tests::cluster::fleet::{Fleet, Spec};
use tests::cluster::options::Options;
use tests::cluster::wait::{Seen, until};
use tests::helm;

const NAMESPACE: &str = "headrace-system";
const LIMIT: Duration = Duration::from_secs(90);

/// Files of deploy/ that the chart holds too.
const FILES: [&str; 9] = [
    "rbac/operator.yaml",
    "rbac/agents.yaml",
    "rbac/scheduling.yaml",
    "rbac/authority.yaml",
    "operator/deployment.yaml",
    "agent/daemonset.yaml",
    "webhook/webhooks.yaml",
    "scheduler/deployment.yaml",
    "scheduler/configuration.yaml",
];

/// By kind and name.
type Objects = BTreeMap<(String, String), Value>;

fn objects(documents: Vec<Value>) -> Objects {
    let mut all = Objects::new();
    for document in documents {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of = (text(&document["kind"]), text(&document["metadata"]["name"]));
        assert_eq!(all.insert(of.clone(), document), None, "{of:?} is there twice");
    }
    all
}

fn deploy() -> PathBuf {
    helm::chart().parent().unwrap().to_owned()
}

fn deployed(file: &str) -> Vec<Value> {
    helm::documents(&std::fs::read_to_string(deploy().join(file)).unwrap()).unwrap()
}

fn rendered(settings: &[&str]) -> Result<Objects, String> {
    let chart = helm::chart();
    let mut arguments =
        vec!["template", "any", chart.to_str().unwrap(), "--namespace", NAMESPACE, "--kube-version", "1.34"];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    let manifest = helm::run(arguments, None).map_err(|error| format!("{error:#}"))?;
    Ok(objects(helm::documents(&manifest).unwrap()))
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn get<'a>(objects: &'a Objects, kind: &str, name: &str) -> &'a Value {
    objects.get(&(kind.into(), name.into())).unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

#[test]
fn it_says_what_the_files_say() {
    let mut wanted = objects(FILES.iter().flat_map(|file| deployed(file)).collect());
    // Helm makes the namespace, and puts no label on it: NOTES.txt says which it needs.
    assert!(wanted.remove(&("Namespace".into(), NAMESPACE.into())).is_some());
    let mut found = rendered(&["scheduler.enabled=true"]).unwrap();
    // The second scheduler's configuration is a file here, and there in the ConfigMap that its pods mount.
    let configuration = wanted.remove(&("KubeSchedulerConfiguration".into(), String::new())).unwrap();
    let map = found.remove(&("ConfigMap".into(), "headrace-scheduler".into())).unwrap();
    assert_eq!(map["metadata"]["namespace"], NAMESPACE);
    let held = helm::documents(map["data"]["configuration.yaml"].as_str().unwrap()).unwrap();
    assert_eq!(held, [configuration]);
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (of, value) in &wanted {
        assert_eq!(&found[of], value, "{of:?} is another thing in the chart");
    }
    let crds = |folder: &Path| {
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name()).collect();
        files.sort();
        files
    };
    assert_eq!(crds(&helm::chart().join("crds")), crds(&deploy().join("crd")));
}

#[test]
fn what_is_chosen_arrives() {
    let plain = rendered(&[]).unwrap();
    assert!(!plain.contains_key(&("Deployment".into(), "headrace-scheduler".into())));
    // Without the webhooks nothing else keeps pods off nodes that can mount no Dataset.
    let alone = rendered(&["scheduler.enabled=true", "webhooks.enabled=false"]).unwrap();
    let map = get(&alone, "ConfigMap", "headrace-scheduler");
    let held = helm::documents(map["data"]["configuration.yaml"].as_str().unwrap()).unwrap();
    assert_eq!(held[0]["extenders"][0]["filterVerb"], "filter");

    let chosen = rendered(&[
        "image.registry=r.example/h",
        "image.tag=9.9",
        "image.pullPolicy=Always",
        "image.pullSecrets[0].name=key",
        "listen=[::]",
        "operator.certificates=tls",
        "operator.args[0]=--log-format=json",
        "agent.args[0]=--observe-only",
        "quota=false",
        "webhooks.failurePolicy=Fail",
    ])
    .unwrap();
    let operator = &get(&chosen, "Deployment", "headrace-operator")["spec"]["template"]["spec"];
    let container = &operator["containers"][0];
    assert_eq!(container["image"], "r.example/h/operator:9.9");
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(operator["imagePullSecrets"], json!([{"name": "key"}]));
    let folder = &container["volumeMounts"][0]["mountPath"];
    assert_eq!(
        container["args"],
        json!([
            "--agents=[::]:9443",
            "--scheduling=[::]:9444",
            format!("--certificates={}", folder.as_str().unwrap()),
            "--log-format=json"
        ])
    );
    assert_eq!(operator["volumes"][0]["secret"]["secretName"], "tls");
    let variables = container["env"].as_array().unwrap();
    let value = |name: &str| variables.iter().find(|one| one["name"] == name).unwrap()["value"].clone();
    assert_eq!(value("HEADRACE_WORKER_IMAGE"), "r.example/h/worker:9.9");
    assert_eq!(value("HEADRACE_HEALTH"), "[::]:9465");
    assert!(
        !chosen.contains_key(&("Role".into(), "headrace-operator-authority".into())),
        "who is given certificates keeps none"
    );
    assert!(!chosen.keys().any(|(kind, _)| kind == "ResourceQuota"));
    let agent = &get(&chosen, "DaemonSet", "headrace-agent")["spec"]["template"]["spec"];
    assert_eq!(agent["containers"][0]["image"], "r.example/h/agent:9.9");
    assert_eq!(agent["containers"][0]["args"][3], "--observe-only");
    let hook = &get(&chosen, "MutatingWebhookConfiguration", "headrace")["webhooks"][0];
    assert_eq!(hook["failurePolicy"], "Fail");

    let alone = rendered(&["operator.enabled=false", "scheduler.enabled=true"]).unwrap();
    let kinds: Vec<_> = alone.keys().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["DaemonSet", "ResourceQuota", "ServiceAccount"]);
    let agent = &get(&alone, "DaemonSet", "headrace-agent")["spec"]["template"]["spec"]["containers"][0];
    let asked = |one: &Value| one["name"] == "HEADRACE_OPERATOR";
    assert!(!agent["env"].as_array().unwrap().iter().any(asked), "nobody is there to be asked");
}

#[test]
fn what_is_mistyped_is_refused() {
    for wrong in
        ["operator.replica=3", "image.pullPolicy=Sometimes", "listen=10.0.0.1", "operator.replicas=0"]
    {
        let words = rendered(&[wrong]).unwrap_err();
        let (path, _) = wrong.split_once('=').unwrap();
        assert!(path.split('.').all(|part| words.contains(part)), "{wrong}: {words}");
    }
    helm::run([Path::new("lint"), Path::new("--strict"), &helm::chart()], None).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_installed_upgraded_and_taken_away() {
    let plane = ControlPlane::start(&Options::default()).await.unwrap_or_else(|error| panic!("{error}"));
    let client = plane.access().client().await.unwrap();
    let fleet = Fleet::join(client.clone(), Spec::new("charted", 2)).await.unwrap();
    let (chart, kubeconfig) = (helm::chart(), plane.kubeconfig());
    let helm = |line: &str| {
        let words: Vec<&str> = line
            .split(' ')
            .map(|word| if word == "CHART" { chart.to_str().unwrap() } else { word })
            .collect();
        helm::run(words, Some(&kubeconfig))
    };
    let notes = helm("install headrace CHART --namespace headrace-system --create-namespace").unwrap();
    assert!(notes.contains("pod-security.kubernetes.io/enforce=privileged"), "{notes}");
    stands(&client, "0.1.0").await;
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let ours = async || {
        let all = crds.list(&ListParams::default()).await.unwrap();
        all.iter().filter(|crd| crd.spec.group == "headrace.io").count()
    };
    assert_eq!(ours().await, 6);

    // What the operator writes into the webhooks stays through an upgrade.
    let hooks: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let known = Kubeconfig::read_from(&kubeconfig).unwrap().clusters.remove(0).cluster.unwrap();
    // Any certificate will do.
    let trusted = json!(known.certificate_authority_data.unwrap());
    let write = json!([{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": trusted}]);
    let write: Patch<()> = Patch::Json(object(write));
    hooks.patch("headrace", &PatchParams::default(), &write).await.unwrap();
    helm("upgrade headrace CHART --namespace headrace-system --set image.tag=0.2.0,scheduler.enabled=true")
        .unwrap();
    stands(&client, "0.2.0").await;
    let hook = hooks.get("headrace").await.unwrap().webhooks.unwrap().remove(0);
    assert_eq!(json!(hook.client_config.ca_bundle), trusted);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    assert!(maps.get_opt("headrace-scheduler").await.unwrap().is_some());

    helm("uninstall headrace --namespace headrace-system --wait --timeout 90s").unwrap();
    assert_eq!(ours().await, 6, "with the kinds everybody's Datasets would go");
    let named = |name: String| name.starts_with("headrace").then_some(name);
    let roles = Api::<ClusterRole>::all(client.clone()).list(&ListParams::default()).await.unwrap();
    let bindings = Api::<ClusterRoleBinding>::all(client.clone()).list(&ListParams::default()).await.unwrap();
    let left: Vec<String> = roles
        .iter()
        .map(|role| role.name_any())
        .chain(bindings.iter().map(|one| one.name_any()))
        .filter_map(named)
        .collect();
    assert_eq!(left, Vec::<String>::new());
    let secrets =
        Api::<Secret>::namespaced(client.clone(), NAMESPACE).list(&ListParams::default()).await.unwrap();
    assert_eq!(secrets.items.len(), 0);
    fleet.leave().await.unwrap();
}

/// Both replicas and both nodes' agents run, of that release.
async fn stands(client: &Client, tag: &str) {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let agents: Api<DaemonSet> = Api::namespaced(client.clone(), NAMESPACE);
    until(&format!("release {tag} stands"), LIMIT, async || {
        let deployment = serde_json::to_value(deployments.get("headrace-operator").await?).unwrap();
        let agents = serde_json::to_value(agents.get("headrace-agent").await?).unwrap();
        let image = |value: &Value, name: &str| {
            value["spec"]["template"]["spec"]["containers"][0]["image"]
                == format!("registry.example.com/headrace/{name}:{tag}")
        };
        let observed =
            |value: &Value| value["status"]["observedGeneration"] == value["metadata"]["generation"];
        let done = image(&deployment, "operator")
            && image(&agents, "agent")
            && observed(&deployment)
            && observed(&agents)
            && deployment["status"]["availableReplicas"] == 2
            && deployment["status"]["updatedReplicas"] == 2
            && agents["status"]["numberAvailable"] == 2
            && agents["status"]["updatedNumberScheduled"] == 2;
        Ok(if done {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{} and {}", deployment["status"], agents["status"]))
        })
    })
    .await
    .unwrap();
}
