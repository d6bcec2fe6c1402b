//! How pods come to see a Dataset's files: a volume that every kubelet can mount where the Dataset is one folder of an
//! NFS server, and else one of the driver to come.
//!
//! A volume cannot be changed once it is made, so that one made before somebody changed the Dataset's mounts shows
//! another store. That is said, never hidden.

use k8s_openapi::api::core::v1::{NFSVolumeSource, PersistentVolume};
use operator_api::crd::Dataset;
use operator_api::crd::dataset::AccessMode;
use operator_api::validate::url::StoreUrl;

/// A folder of an NFS server.
#[derive(Clone, Debug, PartialEq)]
pub struct Folder {
    pub source: NFSVolumeSource,
    /// mount(8)'s options; the first are ours.
    pub options: Vec<String>,
}

/// Data has no devices and no programs that run as somebody else.
const OPTIONS: [&str; 2] = ["nodev", "nosuid"];

const PORT: &str = "port=";

/// The NFS folder that is all of the Dataset, if it is one: a single mount that is seen at the Dataset's root.
pub fn folder(dataset: &Dataset) -> Option<Folder> {
    let [mount] = dataset.spec.mounts.as_slice() else { return None };
    if !mount.seen_at().trim_matches('/').is_empty() {
        return None;
    }
    let url = StoreUrl::parse(&mount.mount_point).ok().filter(|url| url.scheme == "nfs")?;
    // "nas:/export": what agents will find in mountinfo.
    let (mounted, _) = url.mounted()?;
    let (server, path) = mounted.rsplit_once(":/")?;
    let port = url.authority.strip_prefix(server).and_then(|rest| rest.strip_prefix(':'));
    let told = mount.options.iter().map(|(name, value)| match value.as_str() {
        "" => name.clone(),
        value => format!("{name}={value}"),
    });
    let own = OPTIONS.into_iter().map(str::to_owned).chain(port.map(|port| format!("{PORT}{port}")));
    let source = NFSVolumeSource {
        server: server.to_owned(),
        path: format!("/{path}"),
        read_only: Some(mount.read_only || is_read_only(dataset)),
    };
    Some(Folder { source, options: own.chain(told).collect() })
}

pub fn is_read_only(dataset: &Dataset) -> bool {
    dataset.spec.access_modes.iter().all(|mode| *mode == AccessMode::ReadOnlyMany)
}

/// What a volume that is there shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// What the Dataset says.
    This,
    /// Nothing yet, as no kubelet can mount it: an earlier release made it.
    Nothing,
    /// Another store, or part of one.
    Other,
}

pub fn shows(volume: &PersistentVolume, dataset: &Dataset) -> Shows {
    let spec = volume.spec.as_ref();
    let nfs = spec.and_then(|spec| spec.nfs.as_ref());
    let port = |options: &[String]| options.iter().find(|option| option.starts_with(PORT)).cloned();
    match (nfs, folder(dataset)) {
        (None, None) => Shows::This,
        (None, Some(_)) => Shows::Nothing,
        (Some(_), None) => Shows::Other,
        (Some(there), Some(wanted)) => {
            let there_port = spec.and_then(|spec| spec.mount_options.as_deref()).and_then(port);
            let read_only = |source: &NFSVolumeSource| source.read_only.unwrap_or(false);
            let same = there.server == wanted.source.server
                && there.path == wanted.source.path
                && read_only(there) == read_only(&wanted.source)
                && there_port == port(&wanted.options);
            if same { Shows::This } else { Shows::Other }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn dataset(spec: Value) -> Dataset {
        serde_json::from_value(json!({"metadata": {"name": "d", "namespace": "a", "uid": "u"}, "spec": spec}))
            .unwrap()
    }

    fn one(mount: Value) -> Option<(String, String, bool, String)> {
        let Folder { source, options } = folder(&dataset(json!({"mounts": [mount]})))?;
        Some((source.server, source.path, source.read_only?, options.join(",")))
    }

    #[test]
    fn one_folder_of_a_server_at_the_root_is_a_volume_of_every_kubelet() {
        let said = |server: &str, path: &str, options: &str| {
            Some((server.to_owned(), path.to_owned(), true, format!("nodev,nosuid{options}")))
        };
        let at = |url: &str| one(json!({"mountPoint": url, "path": "/"}));
        assert_eq!(at("nfs://nas/export/train"), said("nas", "/export/train", ""));
        assert_eq!(at("nfs://nas:2050/export"), said("nas", "/export", ",port=2050"));
        assert_eq!(at("nfs://[fd00::1]:2049/x"), said("[fd00::1]", "/x", ",port=2049"));
        assert_eq!(at("nfs://[fd00::1]/x"), said("[fd00::1]", "/x", ""));
        assert_eq!(at("nfs://nas"), said("nas", "/", ""));
        let options = json!({"vers": "4.2", "hard": ""});
        let mount = json!({"mountPoint": "nfs://nas/x", "path": "/", "options": options});
        assert_eq!(one(mount), said("nas", "/x", ",hard,vers=4.2"));
        assert_eq!(at("s3://bucket/x"), None);
        assert_eq!(
            one(json!({"mountPoint": "nfs://nas/x", "name": "x"})),
            None,
            "seen at /x, not at the root"
        );
        let two = json!({"mounts": [{"mountPoint": "nfs://nas/x", "path": "/"}, {"mountPoint": "nfs://nas/y", "name": "y"}]});
        assert_eq!(folder(&dataset(two)), None);
    }

    #[test]
    fn who_may_write_is_told_to_the_kubelet() {
        let of = |modes: Value, read_only: bool| {
            let mount = json!({"mountPoint": "nfs://nas/x", "path": "/", "readOnly": read_only});
            folder(&dataset(json!({"mounts": [mount], "accessModes": modes}))).unwrap().source.read_only
        };
        assert_eq!(of(json!(["ReadWriteMany"]), false), Some(false));
        assert_eq!(of(json!(["ReadOnlyMany", "ReadWriteMany"]), false), Some(false));
        assert_eq!(of(json!(["ReadWriteMany"]), true), Some(true));
        assert_eq!(of(json!(["ReadOnlyMany"]), false), Some(true));
    }
}
