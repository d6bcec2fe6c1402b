//! deploy/, held to the command line and to itself: a flag that nobody knows, a port that leads nowhere or a name that
//! nothing has fails here. What a real apiserver makes of it is tests/tests/operator's.

use std::path::Path;

use clap::{CommandFactory, FromArgMatches};
use serde_json::{Value, json};

use super::{Args, config};
use crate::certs::AUDIENCE;
use crate::config::Config;

/// The documents of a file of deploy/.
fn documents(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    text.split("\n---\n").map(|part| serde_saphyr::from_str(part).unwrap()).collect()
}

fn document(file: &str, kind: &str) -> Value {
    let mut found = documents(file).into_iter().filter(|document| document["kind"] == kind);
    let one = found.next().unwrap_or_else(|| panic!("{file} has no {kind}"));
    assert!(found.next().is_none(), "{file} has two of {kind}");
    one
}

fn ours(kind: &str) -> Value {
    document("operator/deployment.yaml", kind)
}

fn pod() -> Value {
    ours("Deployment")["spec"]["template"].clone()
}

fn container() -> Value {
    let pod = pod();
    assert_eq!(list(&pod["spec"]["containers"]).len(), 1);
    pod["spec"]["containers"][0].clone()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

const POD: &str = "headrace-operator-7d4b9c-x2x4z";
const ADDRESS: &str = "10.0.0.7";

/// What the operator makes of a container's arguments and variables, as the kubelet gives them to it.
fn understood(container: &Value, namespace: &str) -> Result<Config, String> {
    let command = Args::command();
    let mut line = vec!["headrace-operator".to_owned()];
    line.extend(list(&container["args"]).iter().map(|one| text(one).to_owned()));
    for variable in list(&container["env"]) {
        let name = text(&variable["name"]);
        let flag = command.get_arguments().find(|arg| arg.get_env().is_some_and(|env| env == name));
        let flag = flag.and_then(clap::Arg::get_long).ok_or(format!("the operator reads no {name}"))?;
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("metadata.name") => POD,
            Some("metadata.namespace") => namespace,
            Some("status.podIP") => ADDRESS,
            Some(other) => return Err(format!("{name} comes from {other}")),
            None => text(&variable["value"]),
        };
        line.push(format!("--{flag}={value}"));
    }
    // What this test's own surroundings hold is not the pod's.
    let matches =
        command.mut_args(|arg| arg.env(clap::builder::Resettable::Reset)).try_get_matches_from(line);
    let args = matches.and_then(|matches| Args::from_arg_matches(&matches));
    args.map(config).map_err(|error| error.to_string())
}

fn port(name: &Value) -> u16 {
    let container = container();
    let found = list(&container["ports"]).iter().find(|port| port["name"] == *name);
    let found = found.unwrap_or_else(|| panic!("the container has no port {name}"));
    u16::try_from(found["containerPort"].as_u64().unwrap()).unwrap()
}

#[test]
fn every_argument_and_variable_is_understood() {
    let deployment = ours("Deployment");
    let namespace = text(&deployment["metadata"]["namespace"]);
    let read = understood(&container(), namespace).unwrap();
    assert_eq!((read.identity.as_str(), read.namespace.as_str()), (POD, namespace));
    let port = |name: &str| port(&json!(name));
    let [agents, scheduling] = [read.agents.as_ref().map(|agents| agents.listen), read.scheduling];
    for (listens, name) in [(agents, "agents"), (scheduling, "scheduling"), (Some(read.health), "health")] {
        let listens = listens.unwrap_or_else(|| panic!("nothing listens for {name}"));
        assert!(listens.ip().is_unspecified(), "{name} is not reached from outside of its pod");
        assert_eq!(listens.port(), port(name), "{name}");
    }
    assert_eq!(read.reached_at(), Some(format!("{ADDRESS}:{}", port("scheduling")).parse().unwrap()));
    assert!(read.worker_image.is_some_and(|image| image.contains("worker")));
    assert_eq!(read.certificates.folder, None, "nothing is mounted");

    // And what is not would be found.
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut container = container();
        change(&mut container);
        understood(&container, namespace).unwrap_err()
    };
    assert!(changed(&|c| c["args"][0] = json!("--agent=0.0.0.0:1")).contains("--agent"));
    assert!(changed(&|c| c["args"][0] = json!("--agents=localhost:1")).contains("not looked up"));
    assert!(changed(&|c| c["env"][0]["name"] = json!("HEADRACE_NAME")).contains("reads no HEADRACE_NAME"));
    let twice = changed(&|c| c["env"][1] = json!({"name": "HEADRACE_AGENTS", "value": "0.0.0.0:1"}));
    assert!(twice.contains("multiple times"), "{twice}");
}

#[test]
fn its_account_is_the_one_that_has_the_rights() {
    let account = pod()["spec"]["serviceAccountName"].clone();
    let namespace = ours("Deployment")["metadata"]["namespace"].clone();
    let made = document("rbac/operator.yaml", "ServiceAccount");
    assert_eq!((&made["metadata"]["name"], &made["metadata"]["namespace"]), (&account, &namespace));
    assert_eq!(document("rbac/operator.yaml", "Namespace")["metadata"]["name"], namespace);
    let files = ["operator.yaml", "agents.yaml", "scheduling.yaml", "authority.yaml"];
    let all: Vec<_> = files.iter().flat_map(|file| documents(&format!("rbac/{file}"))).collect();
    let bindings: Vec<_> = all.iter().filter(|one| !one["subjects"].is_null()).collect();
    assert!(bindings.len() >= files.len());
    for binding in bindings {
        let subject = json!([{"kind": "ServiceAccount", "name": account, "namespace": namespace}]);
        assert_eq!(binding["subjects"], subject, "{binding}");
    }
}

/// A cluster that limits critical pods to its own namespace lets in those that a quota of theirs speaks of.
#[test]
fn critical_pods_are_spoken_of_by_the_namespaces_quota() {
    let quota = document("rbac/operator.yaml", "ResourceQuota");
    let [scope] = list(&quota["spec"]["scopeSelector"]["matchExpressions"]) else { panic!("{quota}") };
    assert_eq!((&scope["scopeName"], &scope["operator"]), (&json!("PriorityClass"), &json!("In")));
    for file in ["operator/deployment.yaml", "agent/daemonset.yaml", "scheduler/deployment.yaml"] {
        let class = |one: &&Value| !one["spec"]["template"]["spec"]["priorityClassName"].is_null();
        let workload = documents(file).into_iter().find(|one| class(&one)).expect(file);
        let class = &workload["spec"]["template"]["spec"]["priorityClassName"];
        assert!(list(&scope["values"]).contains(class), "{file}: {class}");
        assert_eq!(workload["metadata"]["namespace"], quota["metadata"]["namespace"], "{file}");
    }
}

#[test]
fn its_service_is_the_one_that_is_asked() {
    let service = ours("Service");
    let (name, namespace) = (&service["metadata"]["name"], &service["metadata"]["namespace"]);
    // Where a port of the Service leads to.
    let leads = |wanted: u64| {
        let found = list(&service["spec"]["ports"]).iter().find(|port| port["port"] == wanted);
        let found = found.unwrap_or_else(|| panic!("the Service has no port {wanted}"));
        port(&found["targetPort"])
    };
    let read = understood(&container(), text(namespace)).unwrap();
    let scheduling = read.scheduling.unwrap().port();
    let mut hooks = 0;
    for webhooks in documents("webhook/webhooks.yaml") {
        for hook in list(&webhooks["webhooks"]) {
            let asked = &hook["clientConfig"]["service"];
            assert_eq!((&asked["name"], &asked["namespace"]), (name, namespace), "{hook}");
            assert_eq!(leads(asked["port"].as_u64().unwrap()), scheduling);
            hooks += 1;
        }
    }
    assert_eq!(hooks, 2);
    let scheduler = document("scheduler/configuration.yaml", "KubeSchedulerConfiguration");
    let extender = &scheduler["extenders"][0];
    let host = format!("{}.{}.svc", text(name), text(namespace));
    assert_eq!(extender["urlPrefix"], format!("https://{host}:443/extender"));
    assert_eq!(extender["tlsConfig"]["serverName"], host);
    assert_eq!(leads(443), scheduling);
    assert!(read.certificates.names.contains(&host), "{:?}", read.certificates.names);
    // An agent that is given no port takes this one.
    assert_eq!(leads(9443), read.agents.unwrap().listen.port());
    assert_eq!(leads(9465), read.health.port());
}

#[test]
fn agents_come_as_whom_it_lets_in() {
    let agents = document("agent/daemonset.yaml", "DaemonSet");
    let (namespace, pod) = (&agents["metadata"]["namespace"], &agents["spec"]["template"]["spec"]);
    assert_eq!(namespace, &ours("Deployment")["metadata"]["namespace"]);
    let read = understood(&container(), text(namespace)).unwrap();
    assert_eq!(pod["serviceAccountName"], read.agents.unwrap().account);
    let account = document("agent/daemonset.yaml", "ServiceAccount");
    assert_eq!(
        (&account["metadata"]["name"], &account["metadata"]["namespace"]),
        (&pod["serviceAccountName"], namespace)
    );
    let volume =
        |name: &str| list(&pod["volumes"]).iter().find(|volume| volume["name"] == name).unwrap().clone();
    let token = &volume("token")["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(token["audience"], AUDIENCE);
    let scheduler = document("scheduler/deployment.yaml", "Deployment");
    let mut mounted = list(&scheduler["spec"]["template"]["spec"]["volumes"]).iter();
    assert!(mounted.any(|mounted| mounted["configMap"]["name"] == volume("authority")["configMap"]["name"]));
    let asked = &pod["containers"][0]["env"][0];
    let host = format!("{}.{}.svc", text(&ours("Service")["metadata"]["name"]), text(namespace));
    assert_eq!(
        (&asked["name"], &asked["value"]),
        (&json!("HEADRACE_OPERATOR"), &json!(format!("https://{host}:9443")))
    );
}

#[test]
fn its_labels_hold_it_together() {
    let (deployment, pod) = (ours("Deployment"), pod());
    let labels = &pod["metadata"]["labels"];
    assert_eq!(&ours("Service")["spec"]["selector"], labels);
    assert_eq!(&deployment["spec"]["selector"]["matchLabels"], labels);
    let budget = ours("PodDisruptionBudget");
    assert_eq!(&budget["spec"]["selector"]["matchLabels"], labels);
    let (out, replicas) = (&budget["spec"]["maxUnavailable"], &deployment["spec"]["replicas"]);
    assert!(out.as_u64() < replicas.as_u64() && out.as_u64() > Some(0), "{out} of {replicas}");
    for constraint in list(&pod["spec"]["topologySpreadConstraints"]) {
        assert_eq!(&constraint["labelSelector"]["matchLabels"], labels);
    }
    let away = &pod["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"];
    for term in list(away) {
        assert_eq!(&term["podAffinityTerm"]["labelSelector"]["matchLabels"], labels);
    }
    // The second scheduler's pods are others.
    assert_ne!(
        &document("scheduler/deployment.yaml", "Deployment")["spec"]["selector"]["matchLabels"],
        labels
    );
    for document in documents("operator/deployment.yaml") {
        assert_eq!(document["metadata"]["namespace"], deployment["metadata"]["namespace"]);
    }
}
