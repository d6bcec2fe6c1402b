//! How each program is started: from ports, files and options to argument vectors. Pure.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use super::authority::Files;
use super::options::{Audit, ControllerManager};

/// One port of loopback for each listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub etcd: u16,
    pub etcd_peer: u16,
    pub apiserver: u16,
    pub controller_manager: u16,
    pub scheduler: u16,
}

impl Ports {
    /// Ports that nobody listens on now. Somebody else may take one before it is used: then that program
    /// does not start, and says so.
    pub fn free() -> std::io::Result<Self> {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        // All held at once, so that they differ.
        let held: Vec<TcpListener> =
            (0..5).map(|_| TcpListener::bind(loopback)).collect::<std::io::Result<_>>()?;
        let mut ports = Vec::with_capacity(held.len());
        for listener in &held {
            ports.push(listener.local_addr()?.port());
        }
        let [etcd, etcd_peer, apiserver, controller_manager, scheduler] =
            <[u16; 5]>::try_from(ports).map_err(|_| std::io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { etcd, etcd_peer, apiserver, controller_manager, scheduler })
    }
}

/// The files of one control plane.
#[derive(Clone, Debug)]
pub struct Layout {
    pub folder: PathBuf,
    pub ports: Ports,
    pub authority: PathBuf,
    pub authority_key: PathBuf,
    pub server: Files,
    /// What the apiserver shows to etcd.
    pub etcd_client: Files,
    pub service_accounts: PathBuf,
    pub service_accounts_public: PathBuf,
    pub controller_manager: PathBuf,
    pub scheduler: PathBuf,
    pub scheduler_configuration: PathBuf,
    pub audit_policy: PathBuf,
}

impl Layout {
    pub fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    pub fn apiserver_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.apiserver)
    }
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}

fn file(name: &str, path: &Path) -> String {
    flag(name, path.display())
}

pub fn etcd(layout: &Layout) -> Vec<String> {
    let client = format!("https://127.0.0.1:{}", layout.ports.etcd);
    let peer = format!("https://127.0.0.1:{}", layout.ports.etcd_peer);
    vec![
        flag("name", "headrace"),
        file("data-dir", &layout.folder.join("etcd")),
        flag("listen-client-urls", &client),
        flag("advertise-client-urls", &client),
        flag("listen-peer-urls", &peer),
        flag("initial-advertise-peer-urls", &peer),
        flag("initial-cluster", format!("headrace={peer}")),
        "--client-cert-auth".to_owned(),
        file("trusted-ca-file", &layout.authority),
        file("cert-file", &layout.server.certificate),
        file("key-file", &layout.server.key),
        "--peer-client-cert-auth".to_owned(),
        file("peer-trusted-ca-file", &layout.authority),
        file("peer-cert-file", &layout.server.certificate),
        file("peer-key-file", &layout.server.key),
        // What is lost with the machine is made anew by the next test.
        "--unsafe-no-fsync".to_owned(),
        flag("log-level", "warn"),
        // 5,000 nodes and 10,000 Datasets with their history, until the apiserver compacts.
        flag("quota-backend-bytes", 8_u64 << 30),
    ]
}

pub fn apiserver(layout: &Layout, audit: &Audit) -> Vec<String> {
    let mut arguments = vec![
        flag("etcd-servers", format!("https://127.0.0.1:{}", layout.ports.etcd)),
        file("etcd-cafile", &layout.authority),
        file("etcd-certfile", &layout.etcd_client.certificate),
        file("etcd-keyfile", &layout.etcd_client.key),
        flag("bind-address", "127.0.0.1"),
        flag("advertise-address", "127.0.0.1"),
        // Endpoints on loopback are refused by validation; nobody here looks for them.
        flag("endpoint-reconciler-type", "none"),
        flag("secure-port", layout.ports.apiserver),
        file("cert-dir", &layout.folder),
        file("tls-cert-file", &layout.server.certificate),
        file("tls-private-key-file", &layout.server.key),
        file("client-ca-file", &layout.authority),
        file("service-account-key-file", &layout.service_accounts_public),
        file("service-account-signing-key-file", &layout.service_accounts),
        flag("service-account-issuer", "https://kubernetes.default.svc"),
        flag("service-cluster-ip-range", "10.96.0.0/16"),
        flag("authorization-mode", "Node,RBAC"),
        flag("allow-privileged", true),
        flag("profiling", false),
    ];
    if *audit != Audit::Off {
        arguments.push(file("audit-policy-file", &layout.audit_policy));
        arguments.push(file("audit-log-path", &layout.audit_log()));
    }
    arguments
}

pub fn controller_manager(layout: &Layout, options: &ControllerManager) -> Vec<String> {
    vec![
        file("kubeconfig", &layout.controller_manager),
        file("authentication-kubeconfig", &layout.controller_manager),
        file("authorization-kubeconfig", &layout.controller_manager),
        flag("bind-address", "127.0.0.1"),
        flag("secure-port", layout.ports.controller_manager),
        file("tls-cert-file", &layout.server.certificate),
        file("tls-private-key-file", &layout.server.key),
        flag("leader-elect", false),
        flag("use-service-account-credentials", true),
        file("service-account-private-key-file", &layout.service_accounts),
        file("root-ca-file", &layout.authority),
        file("cluster-signing-cert-file", &layout.authority),
        file("cluster-signing-key-file", &layout.authority_key),
        flag("kube-api-qps", options.qps),
        flag("kube-api-burst", options.burst),
        flag("node-monitor-grace-period", format!("{}s", options.node_grace.as_secs())),
    ]
}

pub fn scheduler(layout: &Layout) -> Vec<String> {
    vec![
        file("config", &layout.scheduler_configuration),
        file("authentication-kubeconfig", &layout.scheduler),
        file("authorization-kubeconfig", &layout.scheduler),
        flag("bind-address", "127.0.0.1"),
        flag("secure-port", layout.ports.scheduler),
        file("tls-cert-file", &layout.server.certificate),
        file("tls-private-key-file", &layout.server.key),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        let files = |name: &str| Files {
            certificate: format!("/f/{name}.crt").into(),
            key: format!("/f/{name}.key").into(),
        };
        Layout {
            folder: "/f".into(),
            ports: Ports { etcd: 1, etcd_peer: 2, apiserver: 3, controller_manager: 4, scheduler: 5 },
            authority: "/f/ca.crt".into(),
            authority_key: "/f/ca.key".into(),
            server: files("server"),
            etcd_client: files("etcd-client"),
            service_accounts: "/f/sa.key".into(),
            service_accounts_public: "/f/sa.pub".into(),
            controller_manager: "/f/kcm".into(),
            scheduler: "/f/ks".into(),
            scheduler_configuration: "/f/ks.json".into(),
            audit_policy: "/f/audit.json".into(),
        }
    }

    #[test]
    fn free_ports_differ() {
        let ports = Ports::free().unwrap();
        assert!(ports.etcd != ports.apiserver && ports.scheduler != ports.controller_manager);
    }

    #[test]
    fn nothing_listens_but_on_loopback() {
        let layout = layout();
        for arguments in [
            apiserver(&layout, &Audit::Off),
            controller_manager(&layout, &ControllerManager::default()),
            scheduler(&layout),
        ] {
            assert!(arguments.contains(&"--bind-address=127.0.0.1".to_owned()), "{arguments:?}");
        }
        let urls = etcd(&layout);
        assert!(urls.iter().filter(|a| a.contains("-urls=")).all(|a| a.contains("=https://127.0.0.1:")));
    }

    #[test]
    fn the_audit_log_is_written_only_when_asked_for() {
        let audited = |audit: &Audit| apiserver(&layout(), audit).iter().any(|a| a.starts_with("--audit"));
        assert!(!audited(&Audit::Off));
        assert!(audited(&Audit::Users(vec!["somebody".into()])));
    }

    #[test]
    fn the_limits_of_the_benchmark_are_passed_on() {
        let arguments = controller_manager(&layout(), &ControllerManager::default());
        for wanted in ["--kube-api-qps=500", "--kube-api-burst=1000"] {
            assert!(arguments.contains(&wanted.to_owned()), "{wanted}");
        }
    }
}
