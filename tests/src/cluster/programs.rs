//! Where the programs of a control plane are: the folder that HEADRACE_KUBE_BIN names, or the cache that
//! `cargo xtask setup` fills.

use std::env;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The folder of ready programs; envtest's (etcd, kube-apiserver, kubectl) will do as far as it goes.
const NAMED: &str = "HEADRACE_KUBE_BIN";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Program {
    Etcd,
    Apiserver,
    ControllerManager,
    Scheduler,
}

impl Program {
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Apiserver => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
        }
    }
}

#[derive(Debug, Error)]
pub enum Absent {
    #[error(
        "this needs {name}, and neither {NAMED} nor {} has it. Run `cargo xtask setup`, which builds \
         Kubernetes once (some ten minutes), or set {NAMED} to a folder that holds etcd, kube-apiserver, \
         kube-controller-manager and kube-scheduler of Kubernetes 1.34, or set KUBECONFIG to a cluster that \
         may be used for tests",
        .cache.display()
    )]
    Program { name: &'static str, cache: PathBuf },
    #[error("neither XDG_CACHE_HOME nor HOME is set, so the built programs cannot be found: set HOME")]
    Home,
    #[error("{} names no version of {module}: restore it from git", .path.display())]
    Version { path: PathBuf, module: &'static str },
}

/// The path of a program.
pub fn find(program: Program) -> Result<PathBuf, Absent> {
    let name = program.name();
    let named = env::var_os(NAMED).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let cache = cache()?.join("kubernetes").join(version()?);
    let folders = named.into_iter().chain([cache.clone()]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file()).ok_or(Absent::Program { name, cache })
}

/// The version that tests/kubernetes/go.mod asks for, such as v1.34.4.
pub fn version() -> Result<String, Absent> {
    pinned("kubernetes", "k8s.io/kubernetes")
}

/// The version of a module that go.mod asks for in a folder of tests/.
pub fn pinned(folder: &str, module: &'static str) -> Result<String, Absent> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join("go.mod");
    let absent = || Absent::Version { path: path.clone(), module };
    let text = std::fs::read_to_string(&path).map_err(|_| absent())?;
    let line = text.lines().map(|line| line.trim().trim_start_matches("require ").trim_start());
    let mut versions = line.filter_map(|line| line.strip_prefix(module)?.strip_prefix(" v"));
    let number = versions.next().and_then(|rest| rest.split_whitespace().next()).ok_or_else(absent)?;
    Ok(format!("v{number}"))
}

/// `$XDG_CACHE_HOME/headrace`, else `~/.cache/headrace`, as xtask has it.
pub fn cache() -> Result<PathBuf, Absent> {
    let absolute = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || env::var_os("HOME").filter(|home| !home.is_empty());
    let cache = absolute.or_else(|| home().map(|home| PathBuf::from(home).join(".cache")));
    Ok(cache.ok_or(Absent::Home)?.join("headrace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_one_of_1_34() {
        assert!(version().unwrap().starts_with("v1.34."));
    }

    #[test]
    fn what_is_absent_is_said_with_the_way_out() {
        let text = Absent::Program { name: "etcd", cache: "/c".into() }.to_string();
        assert!(text.contains("needs etcd") && text.contains("cargo xtask setup"), "{text}");
        assert!(text.contains("HEADRACE_KUBE_BIN") && text.contains("KUBECONFIG"), "{text}");
    }
}
