//! How pods come to see a Dataset's files: a volume that every kubelet can mount where the Dataset is one folder of an
//! NFS server, and else one of the driver to come.
//!
//! A volume cannot be changed once it is made, so that one made before somebody changed the Dataset's mounts shows
//! another store. That is said, never hidden.

use k8s_openapi::api::core::v1::{NFSVolumeSource, PersistentVolume};
use operator_api::crd::Dataset;
use operator_api::crd::dataset::AccessMode;
use operator_api::validate::nfs;

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

/// The NFS folder that is all of the Dataset, if it is one.
pub fn folder(dataset: &Dataset) -> Option<Folder> {
    let found = nfs::folder(&dataset.spec.mounts)?;
    let own = OPTIONS.into_iter().map(str::to_owned).chain(found.port.map(|port| format!("{PORT}{port}")));
    let source = NFSVolumeSource {
        server: found.server,
        path: found.path,
        read_only: Some(found.read_only || is_read_only(dataset)),
    };
    Some(Folder { source, options: own.chain(found.options).collect() })
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
    /// The same with other options: what was there when it was made.
    OtherOptions,
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
            let options = spec.and_then(|spec| spec.mount_options.as_deref()).unwrap_or_default();
            let read_only = |source: &NFSVolumeSource| source.read_only.unwrap_or(false);
            let same = there.server == wanted.source.server
                && there.path == wanted.source.path
                && read_only(there) == read_only(&wanted.source)
                && port(options) == port(&wanted.options);
            match same {
                true if options == wanted.options => Shows::This,
                true => Shows::OtherOptions,
                false => Shows::Other,
            }
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

    #[test]
    fn what_guards_the_node_comes_first() {
        let mount = json!({"mountPoint": "nfs://nas:2050/x", "path": "/", "options": {"vers": "4.2", "hard": "", "suid": ""}});
        let Folder { source, options } = folder(&dataset(json!({"mounts": [mount]}))).unwrap();
        assert_eq!((&*source.server, &*source.path, source.read_only), ("nas", "/x", Some(true)));
        assert_eq!(options, ["nodev", "nosuid", "port=2050", "hard", "vers=4.2"]);
        assert_eq!(folder(&dataset(json!({"mounts": [{"mountPoint": "s3://b/x", "path": "/"}]}))), None);
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
