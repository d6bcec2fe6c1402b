//! A Dataset that is one folder of an NFS server: what a kubelet is to mount, and with which options.
//!
//! The options are a list of those that are known to be harmless: a volume is mounted by root on the node, and who may make
//! Datasets may not thereby turn off `nosuid`, or `ro`, or name another server's port.

use super::refusal::Refusals;
use super::url::StoreUrl;
use crate::crd::dataset::Mount;

/// mount.nfs's options that a Dataset may name (nfs(5)). Not nosharecache: each pod of a node would have a page cache of its
/// own, and what was brought into one would be told as held for all.
const OPTIONS: [&str; 46] = [
    "ac",
    "acdirmax",
    "acdirmin",
    "acl",
    "acregmax",
    "acregmin",
    "actimeo",
    "async",
    "cto",
    "fsc",
    "hard",
    "intr",
    "local_lock",
    "lock",
    "lookupcache",
    "minorversion",
    "namlen",
    "nconnect",
    "nfsvers",
    "noac",
    "noacl",
    "noatime",
    "nocto",
    "nodiratime",
    "nofsc",
    "nointr",
    "nolock",
    "nordirplus",
    "noresvport",
    "proto",
    "rdirplus",
    "relatime",
    "resvport",
    "retrans",
    "retry",
    "ro",
    "rsize",
    "sec",
    "soft",
    "softerr",
    "sync",
    "tcp",
    "timeo",
    "vers",
    "wsize",
    "xprtsec",
];

/// A folder of an NFS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NfsFolder {
    pub server: String,
    /// Absolute.
    pub path: String,
    pub port: Option<String>,
    /// As mount(8) takes them, those that are allowed.
    pub options: Vec<String>,
    /// The mount says so.
    pub read_only: bool,
}

/// The folder that is all of a Dataset, if it is one: a single mount that is seen at the Dataset's root.
pub fn folder(mounts: &[Mount]) -> Option<NfsFolder> {
    let [mount] = mounts else { return None };
    if mount.seen_at().split('/').any(|part| !part.is_empty() && part != ".") {
        return None;
    }
    let url = StoreUrl::parse(&mount.mount_point).ok().filter(|url| url.scheme == "nfs")?;
    // "nas:/export": what agents will find in mountinfo.
    let (mounted, _) = url.mounted()?;
    let (server, path) = mounted.split_once(":/")?;
    let port = url.authority.strip_prefix(server).and_then(|rest| rest.strip_prefix(':'));
    let allowed = mount.options.iter().filter(|(name, value)| allows(name, value));
    let options = allowed.map(|(name, value)| match value.as_str() {
        "" => name.clone(),
        value => format!("{name}={value}"),
    });
    Some(NfsFolder {
        server: server.to_owned(),
        path: format!("/{path}"),
        port: port.map(str::to_owned),
        options: options.collect(),
        read_only: mount.read_only,
    })
}

/// Whether an option is one, and its value cannot be more than one.
fn allows(name: &str, value: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    OPTIONS.contains(&name) && value.len() <= 64 && value.bytes().all(plain)
}

/// Says which options of such a Dataset no volume gets.
pub(super) fn judge(mounts: &[Mount], refusals: &mut Refusals) {
    if folder(mounts).is_none() {
        return;
    }
    let told = || mounts.iter().flat_map(|mount| &mount.options);
    let strange: Vec<&str> = told().map(|(name, _)| &**name).filter(|name| !OPTIONS.contains(name)).collect();
    if !strange.is_empty() {
        refusals.add(format!(
            "options that a Dataset may not give its NFS volume: {}; take them out. vers, proto, nconnect, rsize, wsize, timeo, \
             hard and their like are allowed (docs/operator.md); a port stands in the URL, readOnly in the mount",
            strange.join(", ")
        ));
    }
    for (name, value) in told().filter(|(name, value)| OPTIONS.contains(&&***name) && !allows(name, value)) {
        let len = value.len();
        refusals.add(format!(
            "the value of option '{name}' ({len} bytes) must be at most 64 letters, digits, '_', '.', ':' and '-'"
        ));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn one(mount: Value) -> Option<NfsFolder> {
        folder(&[serde_json::from_value(mount).unwrap()])
    }

    #[test]
    fn a_single_mount_at_the_root_is_one() {
        let said = |server: &str, path: &str, port: Option<&str>| {
            let (options, read_only) = (Vec::new(), false);
            Some(NfsFolder {
                server: server.into(),
                path: path.into(),
                port: port.map(str::to_owned),
                options,
                read_only,
            })
        };
        let at = |url: &str| one(json!({"mountPoint": url, "path": "/"}));
        assert_eq!(at("nfs://nas/export/train"), said("nas", "/export/train", None));
        assert_eq!(at("nfs://nas/export//./train/"), said("nas", "/export/train", None));
        assert_eq!(at("nfs://nas:2050/export"), said("nas", "/export", Some("2050")));
        assert_eq!(at("nfs://[fd00::1]:2049/x"), said("[fd00::1]", "/x", Some("2049")));
        assert_eq!(at("nfs://[fd00::1]/x"), said("[fd00::1]", "/x", None));
        assert_eq!(at("nfs://nas"), said("nas", "/", None));
        assert_eq!(at("s3://bucket/x"), None);
        assert_eq!(one(json!({"mountPoint": "nfs://nas/x", "path": "/./"})), said("nas", "/x", None));
        assert_eq!(
            one(json!({"mountPoint": "nfs://nas/x", "name": "x"})),
            None,
            "seen at /x, not at the root"
        );
        let mount: Mount = serde_json::from_value(json!({"mountPoint": "nfs://nas/x", "path": "/"})).unwrap();
        assert_eq!(folder(&[mount.clone(), mount]), None);
    }

    #[test]
    fn no_option_undoes_what_guards_the_node() {
        let options = json!({"vers": "4.2", "hard": "", "suid": "", "dev": "", "rw": "", "port": "1", "context": "x",
                             "timeo": "600,suid", "proto": "tcp suid", "bind": "", "x-systemd.automount": ""});
        let mount = json!({"mountPoint": "nfs://nas/x", "path": "/", "options": options});
        assert_eq!(one(mount.clone()).unwrap().options, ["hard", "vers=4.2"]);
        let mut refusals = Refusals::default();
        judge(&[serde_json::from_value(mount).unwrap()], &mut refusals);
        let said = refusals.into_result().unwrap_err().to_string();
        for name in
            ["suid", "dev", "rw", "port,", "context", "'timeo'", "'proto'", "bind", "x-systemd.automount"]
        {
            assert!(said.contains(name), "{name}: {said}");
        }
        let mut refusals = Refusals::default();
        let other = json!({"mountPoint": "s3://b/x", "path": "/", "options": {"endpoint": "http://a,b"}});
        judge(&[serde_json::from_value(other).unwrap()], &mut refusals);
        refusals.into_result().unwrap();
    }
}
