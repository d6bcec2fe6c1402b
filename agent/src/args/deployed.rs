//! deploy/agent, held to the command line: a flag that nobody knows, a port that leads nowhere, a path that is mounted
//! nowhere fails here. What a real apiserver makes of it is tests/tests/operator's.

use std::path::Path;

use clap::{CommandFactory, FromArgMatches, Parser};
use serde_json::{Value, json};

use super::{Args, command};
use crate::config::{AgentConfig, Command, OperatorConfig};

fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)).unwrap()
}

fn pod() -> Value {
    let text = file("agent/daemonset.yaml");
    let documents = text.split("\n---\n").map(|part| serde_saphyr::from_str::<Value>(part).unwrap());
    let mut found = documents.filter(|document| document["kind"] == "DaemonSet");
    found.next().unwrap()["spec"]["template"]["spec"].clone()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// The volume behind a path of the container, and what follows the path where it is mounted.
fn behind<'a>(pod: &'a Value, path: &'a Path) -> (&'a Value, &'a Path) {
    let mounts = list(&pod["containers"][0]["volumeMounts"]);
    let mounted = mounts.iter().find_map(|mount| {
        path.strip_prefix(text(&mount["mountPath"])).ok().map(|rest| (&mount["name"], rest))
    });
    let (name, rest) = mounted.unwrap_or_else(|| panic!("{} is mounted nowhere", path.display()));
    (list(&pod["volumes"]).iter().find(|volume| volume["name"] == *name).unwrap(), rest)
}

/// What the agent makes of a pod's arguments and variables, as the kubelet gives them to it.
fn understood(pod: &Value) -> Result<AgentConfig, String> {
    let container = &pod["containers"][0];
    let definition = Args::command();
    let sub = definition.find_subcommand("agent").unwrap();
    let mut line = vec!["headrace".to_owned()];
    line.extend(list(&container["args"]).iter().map(|one| text(one).to_owned()));
    for variable in list(&container["env"]) {
        let name = text(&variable["name"]);
        let flag = sub.get_arguments().find(|arg| arg.get_env().is_some_and(|env| env == name));
        let flag = flag.and_then(clap::Arg::get_long).ok_or(format!("the agent reads no {name}"))?;
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("spec.nodeName") => "node-7",
            Some(other) => return Err(format!("{name} comes from {other}")),
            None => text(&variable["value"]),
        };
        line.push(format!("--{flag}={value}"));
    }
    // What this test's own surroundings hold is not the pod's.
    let unset = |arg: clap::Arg| arg.env(clap::builder::Resettable::Reset);
    let definition = definition.mut_args(unset).mut_subcommand("agent", |sub| sub.mut_args(unset));
    let matches = definition.try_get_matches_from(line);
    let args = matches.and_then(|matches| Args::from_arg_matches(&matches));
    match args.map(command) {
        Ok(Command::Agent(config)) => Ok(config),
        Ok(Command::Ask(_)) => Err("it asks instead of running".into()),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn every_argument_and_variable_of_the_daemonset_is_understood() {
    let pod = pod();
    let config = understood(&pod).unwrap();
    assert_eq!(config.mounts_of, Some(1), "in a container the host's mounts are process 1's");
    assert_eq!(pod["hostPID"], true, "or process 1 is the agent itself");
    assert!(config.watch.is_empty() && !config.observe_only);
    let metrics = config.metrics.unwrap();
    assert!(metrics.ip().is_unspecified(), "Prometheus cannot come in");
    assert_eq!(pod["containers"][0]["ports"][0]["containerPort"], metrics.port());
    let OperatorConfig { url, node, authority, token, certificate } = config.operator.unwrap();
    assert_eq!((&*url, &*node), ("https://headrace-operator.headrace-system.svc:9443", "node-7"));
    assert_eq!(certificate, None);
    let (volume, rest) = behind(&pod, &token);
    let projected = &volume["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(Path::new(text(&projected["path"])), rest);
    let (volume, rest) = behind(&pod, &authority);
    assert_eq!((&volume["configMap"]["optional"], rest), (&json!(true), Path::new("ca.crt")));
    for path in [&config.state, &config.api.socket] {
        assert_eq!(behind(&pod, path).0["hostPath"]["type"], "DirectoryOrCreate", "{}", path.display());
    }

    // And what is not would be found.
    let changed = |at: &str, value: Value| {
        let mut pod = pod.clone();
        *pod.pointer_mut(at).unwrap() = value;
        understood(&pod).unwrap_err()
    };
    assert!(changed("/containers/0/args/1", json!("--mount-of=1")).contains("--mount-of"));
    assert!(changed("/containers/0/args/0", json!("node")).contains("unexpected"));
    assert!(changed("/containers/0/env/0/name", json!("HEADRACE_URL")).contains("reads no HEADRACE_URL"));
}

#[test]
fn its_probes_ask_what_the_image_can_be_asked() {
    let pod = pod();
    let image = file("images/agent.Dockerfile");
    for probe in ["livenessProbe", "readinessProbe"] {
        let words = list(&pod["containers"][0][probe]["exec"]["command"]);
        let (program, rest) = words.split_first().unwrap();
        assert!(image.contains(&format!("COPY headrace {}", text(program))), "{image}");
        let line = std::iter::once("headrace").chain(rest.iter().map(text));
        let asked = Args::try_parse_from(line).map(command);
        assert!(matches!(asked, Ok(Command::Ask(_))), "{words:?}: {asked:?}");
    }
}
