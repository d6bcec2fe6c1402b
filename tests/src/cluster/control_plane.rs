//! A private control plane: started in order, ready when it is returned, gone when it is dropped.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use rcgen::KeyPair;
use thiserror::Error;

use super::access::{Access, AccessError, Credential};
use super::authority::{Authority, AuthorityError, write_private};
use super::options::{Audit, Options, Scheduler};
use super::plan::{self, Layout, Ports};
use super::process::{Process, ProcessError};
use super::programs::Program;
use crate::hygiene::Folder;

/// A cold start takes six seconds here; beside a compiler, with cold disks, a minute.
pub const PATIENCE: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Error)]
pub enum ClusterError {
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("cannot prepare the control plane's folder or ports: {0}")]
    Prepare(#[from] std::io::Error),
    #[error("{name} ended right after its start; its last words:\n{words}")]
    Ended { name: &'static str, words: String },
    #[error("{name} is not ready after {} s ({state}); its last words:\n{words}", PATIENCE.as_secs())]
    Late { name: &'static str, state: String, words: String },
    #[error("this control plane was started without {0}")]
    Without(&'static str),
    #[error("the apiserver refused: {0}")]
    Refused(#[source] Box<kube::Error>),
}

impl From<kube::Error> for ClusterError {
    fn from(error: kube::Error) -> Self {
        Self::Refused(Box::new(error))
    }
}

#[derive(Debug)]
pub struct ControlPlane {
    // Programs before the folder: they end before their files go.
    scheduler: Option<Process>,
    controller_manager: Option<Process>,
    apiserver: Process,
    etcd: Process,
    authority: Authority,
    layout: Layout,
    access: Access,
    /// None when the folder belongs to somebody else.
    _folder: Option<Folder>,
}

impl ControlPlane {
    /// Starts everything on free ports, in a folder that goes with it.
    pub async fn start(options: &Options) -> Result<Self, ClusterError> {
        let folder = Folder::new()?;
        let mut plane = Self::start_in(folder.path(), options).await?;
        plane._folder = Some(folder);
        Ok(plane)
    }

    /// The same, in a folder that stays.
    pub async fn start_in(folder: &Path, options: &Options) -> Result<Self, ClusterError> {
        let authority = Authority::new()?;
        let layout = prepare(folder, &authority, options)?;
        let admin = authority.client("headrace-admin", Some("system:masters"))?;
        let access = Access {
            server: layout.apiserver_url(),
            authority: authority.pem().to_owned(),
            credential: Credential::Certificate(admin),
        };
        access.write(&folder.join(KUBECONFIG))?;

        // The apiserver waits for etcd by itself, and the others for the apiserver.
        let etcd = Process::start(Program::Etcd, plan::etcd(&layout), folder)?;
        let apiserver = Process::start(Program::Apiserver, plan::apiserver(&layout, &options.audit), folder)?;
        let mut plane = Self {
            scheduler: None,
            controller_manager: None,
            apiserver,
            etcd,
            authority,
            layout,
            access,
            _folder: None,
        };
        plane.wait_for_apiserver().await?;
        if let Some(options) = &options.controller_manager {
            let arguments = plan::controller_manager(&plane.layout, options);
            plane.controller_manager = Some(Process::start(Program::ControllerManager, arguments, folder)?);
        }
        if options.scheduler.is_some() {
            let arguments = plan::scheduler(&plane.layout);
            plane.scheduler = Some(Process::start(Program::Scheduler, arguments, folder)?);
        }
        plane.wait_for_controllers().await?;
        plane.wait_for_scheduler().await?;
        Ok(plane)
    }

    /// As cluster administrator.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The scheduler's own door, for its metrics.
    pub fn scheduler_access(&self) -> Access {
        self.access.at(format!("https://127.0.0.1:{}", self.layout.ports.scheduler))
    }

    /// As somebody whom RBAC has to allow everything; a member of `group` if there is one.
    pub fn access_of(&self, user: &str, group: Option<&str>) -> Result<Access, ClusterError> {
        Ok(self.access.with(Credential::Certificate(self.authority.client(user, group)?)))
    }

    /// A token of a service account, which is made if there is none; good for an hour.
    pub async fn service_account(&self, namespace: &str, name: &str) -> Result<Credential, ClusterError> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.access.client().await?, namespace);
        if accounts.get_opt(name).await?.is_none() {
            let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
            let account = ServiceAccount { metadata, ..ServiceAccount::default() };
            accounts.create(&PostParams::default(), &account).await?;
        }
        let request = TokenRequest::default();
        let answer = accounts.create_token_request(name, &PostParams::default(), &request).await?;
        Ok(Credential::Token(answer.status.map(|status| status.token).unwrap_or_default()))
    }

    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The administrator's kubeconfig, on disk.
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.folder.join(KUBECONFIG)
    }

    pub fn folder(&self) -> &Path {
        &self.layout.folder
    }

    /// The apiserver's audit log, if there is one.
    pub fn audit_log(&self) -> PathBuf {
        self.layout.audit_log()
    }

    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        [Some(&self.etcd), Some(&self.apiserver), self.controller_manager.as_ref(), self.scheduler.as_ref()]
            .into_iter()
            .flatten()
    }

    /// All programs go on after this guard.
    pub fn stay(self) {
        let Self { scheduler, controller_manager, apiserver, etcd, .. } = self;
        [scheduler, controller_manager, Some(apiserver), Some(etcd)]
            .into_iter()
            .flatten()
            .for_each(Process::stay);
    }

    /// Etcd gets no processor for so long; the apiserver answers what it can without.
    pub async fn pause_etcd(&self, time: Duration) -> Result<(), ClusterError> {
        self.etcd.pause()?;
        // A test that gives up in between must not leave it stopped.
        let resumed = Resume(&self.etcd);
        tokio::time::sleep(time).await;
        drop(resumed);
        Ok(())
    }

    /// Kills the apiserver; all its watches break and it refuses connections until `start_apiserver`.
    pub fn kill_apiserver(&mut self) {
        self.apiserver.kill();
    }

    /// Starts the apiserver again on its port, and waits until it is ready.
    pub async fn start_apiserver(&mut self) -> Result<(), ClusterError> {
        self.apiserver.restart()?;
        self.wait_for_apiserver().await
    }

    /// Starts the scheduler again with another configuration.
    pub async fn restart_scheduler(&mut self, options: &Scheduler) -> Result<(), ClusterError> {
        write_scheduler(&self.layout, options)?;
        self.scheduler.as_mut().ok_or(ClusterError::Without("a scheduler"))?.restart()?;
        self.wait_for_scheduler().await
    }

    async fn wait_for_apiserver(&mut self) -> Result<(), ClusterError> {
        let client = self.access.client().await?;
        let started = Instant::now();
        loop {
            for process in [&mut self.etcd, &mut self.apiserver] {
                fail_if_ended(process)?;
            }
            let asked = http::Request::get("/readyz").body(Vec::new());
            let state = match asked {
                Ok(request) => client.request_text(request).await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match state {
                Ok(_) => return Ok(()),
                Err(state) => fail_if_late(&self.apiserver, started, &state)?,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Ready when it has made what every namespace gets: pods are refused before.
    async fn wait_for_controllers(&mut self) -> Result<(), ClusterError> {
        let Some(process) = self.controller_manager.as_mut() else {
            return Ok(());
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.access.client().await?, "default");
        let started = Instant::now();
        while accounts.get_opt("default").await?.is_none() {
            fail_if_ended(process)?;
            fail_if_late(process, started, "no service account in the namespace default yet")?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Ready when it listens, which it does once its configuration has been accepted.
    async fn wait_for_scheduler(&mut self) -> Result<(), ClusterError> {
        let Some(process) = self.scheduler.as_mut() else {
            return Ok(());
        };
        let started = Instant::now();
        let port = self.layout.ports.scheduler;
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            fail_if_ended(process)?;
            fail_if_late(process, started, "it does not listen")?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
}

pub const KUBECONFIG: &str = "kubeconfig";

/// Continues a stopped process when dropped.
struct Resume<'a>(&'a Process);

impl Drop for Resume<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.resume() {
            eprintln!("warning: {error}");
        }
    }
}

fn fail_if_ended(process: &mut Process) -> Result<(), ClusterError> {
    if process.runs() {
        return Ok(());
    }
    Err(ClusterError::Ended { name: process.name(), words: process.last_words() })
}

fn fail_if_late(process: &Process, started: Instant, state: &str) -> Result<(), ClusterError> {
    if started.elapsed() < PATIENCE {
        return Ok(());
    }
    let (name, words) = (process.name(), process.last_words());
    Err(ClusterError::Late { name, state: state.to_owned(), words })
}

/// Writes certificates, kubeconfigs and configurations.
fn prepare(folder: &Path, authority: &Authority, options: &Options) -> Result<Layout, ClusterError> {
    let ports = Ports::free()?;
    let layout = Layout {
        ports,
        authority: folder.join("authority.crt"),
        authority_key: folder.join("authority.key"),
        server: authority.server("headrace-test-server")?.write(folder, "server")?,
        etcd_client: authority.client("etcd-client", None)?.write(folder, "etcd-client")?,
        service_accounts: folder.join("service-accounts.key"),
        service_accounts_public: folder.join("service-accounts.pub"),
        controller_manager: folder.join("controller-manager.kubeconfig"),
        scheduler: folder.join("scheduler.kubeconfig"),
        scheduler_configuration: folder.join("scheduler.json"),
        audit_policy: folder.join("audit-policy.json"),
        folder: folder.to_owned(),
    };
    write_private(&layout.authority, authority.pem())?;
    write_private(&layout.authority_key, &authority.key_pem())?;
    let signer = KeyPair::generate().map_err(AuthorityError::from)?;
    write_private(&layout.service_accounts, &signer.serialize_pem())?;
    write_private(&layout.service_accounts_public, &signer.public_key_pem())?;
    for (user, path) in [
        ("system:kube-controller-manager", &layout.controller_manager),
        ("system:kube-scheduler", &layout.scheduler),
    ] {
        let access = Access {
            server: layout.apiserver_url(),
            authority: authority.pem().to_owned(),
            credential: Credential::Certificate(authority.client(user, None)?),
        };
        access.write(path)?;
    }
    if let Some(options) = &options.scheduler {
        write_scheduler(&layout, options)?;
    }
    match &options.audit {
        Audit::Off => {}
        Audit::Users(users) => write_private(&layout.audit_policy, &Audit::policy(users).to_string())?,
        Audit::Policy(path) => {
            std::fs::copy(path, &layout.audit_policy)?;
        }
    }
    Ok(layout)
}

fn write_scheduler(layout: &Layout, options: &Scheduler) -> Result<(), AuthorityError> {
    let whole = options.whole(&layout.scheduler.to_string_lossy());
    write_private(&layout.scheduler_configuration, &whole.to_string())
}
