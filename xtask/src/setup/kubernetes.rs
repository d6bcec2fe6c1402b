//! etcd and the control plane of the test cluster. HEADRACE_KUBE_BIN names a folder of ready ones instead;
//! tests/src/cluster/programs.rs finds them.

use std::env;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::State;
use super::gomodule::Module;
use crate::place::Place;

const KUBERNETES: Module = Module {
    title: "Kubernetes",
    folder: "kubernetes",
    requires: "k8s.io/kubernetes",
    programs: &[
        ("etcd", "go.etcd.io/etcd/server/v3"),
        ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
        ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
        ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
        ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    ],
    fetch_limit: Duration::from_secs(20 * 60),
    // The first program compiles most of what all share: some minutes on two free cores, more on busy ones.
    limit: Duration::from_secs(60 * 60),
    patience: "some ten minutes in all, once",
    failure: "could not build the test cluster's programs. If the lines below speak of the network, check that \
              proxy.golang.org is reachable (GOPROXY names another), then run `cargo xtask setup` again: it goes on \
              where it was. With ready programs, set HEADRACE_KUBE_BIN to their folder",
};

/// The folder of ready programs that a person named.
const NAMED: &str = "HEADRACE_KUBE_BIN";

pub fn check(place: &Place) -> Result<State> {
    if let Some(folder) = env::var_os(NAMED).filter(|folder| !folder.is_empty()) {
        return Ok(State::Ready(format!("those in {} ({NAMED})", Path::new(&folder).display())));
    }
    KUBERNETES.check(place)
}

pub fn provide(place: &Place) -> Result<()> {
    KUBERNETES.provide(place, linker_flags)
}

/// Without them the programs call themselves v0.0.0-master, and clients believe it.
fn linker_flags(version: &str) -> String {
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let mut flags = vec!["-s".to_owned(), "-w".to_owned()];
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        for (name, value) in
            [("gitVersion", version), ("gitMajor", major), ("gitMinor", minor), ("gitTreeState", "clean")]
        {
            flags.push(format!("-X={package}.{name}={value}"));
        }
    }
    flags.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_stamped_in() {
        let flags = linker_flags("v1.34.4");
        assert!(flags.contains("-X=k8s.io/component-base/version.gitVersion=v1.34.4"), "{flags}");
        assert!(flags.contains("-X=k8s.io/client-go/pkg/version.gitMinor=34"), "{flags}");
    }

    #[test]
    fn every_program_is_a_tool_of_the_module() {
        KUBERNETES.names_its_tools();
    }
}
