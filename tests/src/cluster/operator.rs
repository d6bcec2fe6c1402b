//! Headrace's operator on a test cluster: its CRDs installed, its program started as a user of its own.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::access::{Access, AccessError};
use super::wait::{Seen, WaitError, until};
use crate::hygiene::Ward;

/// Who the operator is to the apiserver, and in the audit log.
pub const USER: &str = "headrace-operator";
/// Where its Lease and Secrets are.
pub const NAMESPACE: &str = "headrace-system";

const MANAGER: &str = "headrace-test";
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Error)]
pub enum OperatorError {
    #[error("cannot use {}: {error}", .path.display())]
    File { path: PathBuf, error: std::io::Error },
    #[error("{} is not understood: {error}", .path.display())]
    Crd { path: PathBuf, error: String },
    #[error("{} holds no CRD: run `cargo xtask codegen`", .0.display())]
    NoCrds(PathBuf),
    #[error("cannot install {what}: {error}")]
    Install { what: String, error: Box<kube::Error> },
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("the operator: {error}; its last words:\n{words}")]
    NotReady { error: WaitError, words: String },
    #[error(transparent)]
    Wait(#[from] WaitError),
    #[error("the operator was sent SIGUSR1 and has not said within {} s what its inventory holds", PATIENCE.as_secs())]
    Silent,
}

/// Installs deploy/crd, the operator's namespace, and lets `USER` do everything: what it needs at the least is
/// another test's question.
pub async fn install(client: &Client) -> Result<(), OperatorError> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("deploy").join("crd");
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let params = PatchParams::apply(MANAGER).force();
    let mut names = Vec::new();
    for path in yaml_files(&folder)? {
        let text = std::fs::read_to_string(&path)
            .map_err(|error| OperatorError::File { path: path.clone(), error })?;
        let crd: CustomResourceDefinition = serde_saphyr::from_str(&text)
            .map_err(|error| OperatorError::Crd { path: path.clone(), error: error.to_string() })?;
        let name = crd.name_any();
        crds.patch(&name, &params, &Patch::Apply(crd)).await.map_err(install_error(&name))?;
        names.push(name);
    }
    if names.is_empty() {
        return Err(OperatorError::NoCrds(folder));
    }
    for name in &names {
        until(&format!("{name} is served"), PATIENCE, async || {
            let crd = crds.get(name).await?;
            let conditions = crd.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let served = conditions.clone().any(|c| c.type_ == "Established" && c.status == "True");
            Ok(if served { Seen::Done(()) } else { Seen::NotYet(format!("{:?}", crd.status)) })
        })
        .await?;
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
    namespaces
        .patch(NAMESPACE, &params, &Patch::Apply(namespace))
        .await
        .map_err(install_error("the namespace"))?;
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": { "name": USER },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "kind": "User", "name": USER, "apiGroup": "rbac.authorization.k8s.io" }],
    });
    bindings
        .patch(USER, &params, &Patch::Apply(binding))
        .await
        .map_err(install_error("the operator's rights"))?;
    Ok(())
}

fn install_error(what: &str) -> impl FnOnce(kube::Error) -> OperatorError {
    let what = what.to_owned();
    move |error| OperatorError::Install { what, error: Box::new(error) }
}

fn yaml_files(folder: &Path) -> Result<Vec<PathBuf>, OperatorError> {
    let failed = |error| OperatorError::File { path: folder.to_owned(), error };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// A running operator; ended when dropped.
#[derive(Debug)]
pub struct Operator {
    ward: Ward,
    health: SocketAddr,
    log: PathBuf,
}

impl Operator {
    /// Starts `program` with this way into the cluster and waits until it says that it is ready. Kubeconfig
    /// and log go to `folder`.
    pub async fn start(
        program: &Path,
        access: &Access,
        folder: &Path,
        arguments: &[&str],
    ) -> Result<Self, OperatorError> {
        let mut operator = Self::launch(program, access, folder, arguments)?;
        operator.wait_until_ready().await?;
        Ok(operator)
    }

    /// The same without waiting.
    pub fn launch(
        program: &Path,
        access: &Access,
        folder: &Path,
        arguments: &[&str],
    ) -> Result<Self, OperatorError> {
        let kubeconfig = folder.join("operator.kubeconfig");
        access.write(&kubeconfig)?;
        let log = folder.join("operator.log");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| OperatorError::File { path, error }
        };
        let output = File::options().create(true).append(true).open(&log).map_err(failed(&log))?;
        let errors = output.try_clone().map_err(failed(&log))?;
        let health = free_port().map_err(failed(&log))?;
        let child = Command::new(program)
            .env("KUBECONFIG", &kubeconfig)
            .args(["--namespace", NAMESPACE, "--health", &health.to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(failed(program))?;
        Ok(Self { ward: Ward::new(child), health, log })
    }

    pub fn id(&self) -> u32 {
        self.ward.id()
    }

    /// Where it answers /healthz, /readyz and /metrics.
    pub fn health(&self) -> SocketAddr {
        self.health
    }

    /// Ends it as its pod's deletion would; true when it went by itself in time.
    pub fn stop(mut self) -> bool {
        self.ward.end()
    }

    /// Whether it says that it is ready.
    pub async fn is_ready(&self) -> bool {
        status_of(self.health, "/readyz").await == Some(200)
    }

    /// As kill -9 does.
    pub fn kill(mut self) -> std::io::Result<()> {
        self.ward.child().kill()?;
        self.ward.child().wait().map(drop)
    }

    /// A value of /metrics by its name and labels; none while it does not answer, or has no such value.
    pub async fn metric(&self, series: &str) -> Option<u64> {
        metric_of(self.health, series).await
    }

    /// Has it say what its inventory holds (SIGUSR1), and reads the digest in its log.
    pub async fn digest(&self) -> Result<String, OperatorError> {
        let failed = |error| OperatorError::File { path: self.log.clone(), error };
        let from = std::fs::metadata(&self.log).map_err(failed)?.len();
        let own = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        own.ok_or(rustix::io::Errno::SRCH)
            .and_then(|own| kill_process(own, Signal::USR1))
            .map_err(|error| failed(error.into()))?;
        let begun = std::time::Instant::now();
        while begun.elapsed() < PATIENCE {
            let mut text = String::new();
            let mut log = File::open(&self.log).map_err(failed)?;
            log.seek(SeekFrom::Start(from)).map_err(failed)?;
            log.read_to_string(&mut text).map_err(failed)?;
            let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            if let Some(line) = lines.find(|line| line.contains("SIGUSR1: the inventory"))
                && let Some(digest) =
                    line.split(|c: char| !c.is_ascii_hexdigit()).find(|word| word.len() == 32)
            {
                return Ok(digest.to_owned());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(OperatorError::Silent)
    }

    pub async fn wait_until_ready(&mut self) -> Result<(), OperatorError> {
        let health = self.health;
        let ready = until("the operator is ready", PATIENCE, async || {
            if !matches!(self.ward.child().try_wait(), Ok(None)) {
                return Ok(Seen::Done(false));
            }
            Ok(match status_of(health, "/readyz").await {
                Some(200) => Seen::Done(true),
                other => Seen::NotYet(format!("/readyz answers {other:?}")),
            })
        })
        .await;
        let error = match ready {
            Ok(true) => return Ok(()),
            Ok(false) => WaitError::Late {
                what: "the operator is ready".to_owned(),
                limit: PATIENCE,
                seen: "it has ended".to_owned(),
            },
            Err(error) => error,
        };
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(15).collect();
        Err(OperatorError::NotReady { error, words: lines.into_iter().rev().collect::<Vec<_>>().join("\n") })
    }
}

/// The status code of a plain GET; None when there is no answer.
pub async fn status_of(address: SocketAddr, path: &str) -> Option<u16> {
    answer(address, path).await?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// A value of /metrics there; None when there is no answer, or no such value.
pub async fn metric_of(address: SocketAddr, series: &str) -> Option<u64> {
    let text = answer(address, "/metrics").await?;
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

/// All that a plain GET gives, head and body.
async fn answer(address: SocketAddr, path: &str) -> Option<String> {
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        Some(text)
    };
    tokio::time::timeout(Duration::from_secs(2), ask).await.ok()?
}

/// Somebody else may take it before the operator does: then that does not start, and says so.
pub fn free_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?.local_addr()
}
