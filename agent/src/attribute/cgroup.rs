//! Pod and container from `/proc/PID/cgroup`, whatever wrote the tree.
//!
//! Lines are `ID:CONTROLLERS:PATH`, one for each v1 hierarchy and `0::PATH` for v2; on hybrid systems some
//! of them say nothing, so the line that says most is taken. The components of a path are:
//! - kubelet, systemd driver: `kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<UID>.slice`,
//!   UID with `_` for `-`; below another root (kind) each name has the root's before it;
//! - kubelet, cgroupfs driver: `kubepods/burstable/pod<UID>`; Guaranteed pods have no QoS folder;
//! - the runtime: `cri-containerd-<ID>.scope`, `crio-<ID>.scope`, `docker-<ID>.scope`, a bare ID, or with
//!   unlike drivers of kubelet and containerd `<slice>:cri-containerd:<ID>` as one component.
//!
//! Of containers within containers the outermost below the pod is taken: it is the one the API knows.
//! Within a cgroup namespace paths start with `/..`; the components that are left are read the same way.

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
    /// The part of the path that says it is out of sight.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Runtime {
    Containerd,
    CriO,
    Docker,
    Podman,
    /// A bare ID: containerd and Docker write it alike with the cgroupfs driver.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Container {
    pub id: Box<str>,
    pub runtime: Runtime,
}

/// Where a process lives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    Host,
    Container(Container),
    /// `uid` as the API writes it; of a static pod the hash of its file, which the API shows as the
    /// annotation kubernetes.io/config.hash. No container for the runtime's own helpers (conmon).
    Pod {
        uid: Box<str>,
        qos: Qos,
        container: Option<Container>,
    },
}

/// The best of all lines; `Host` where none names a container.
pub fn place(cgroup: &[u8]) -> Place {
    let mut best = Place::Host;
    for line in cgroup.split(|&byte| byte == b'\n') {
        let Some(path) = line.splitn(3, |&byte| byte == b':').nth(2) else {
            continue;
        };
        // IDs and UIDs are ASCII; a component that is no UTF-8 is none of them.
        let found = place_of_path(&String::from_utf8_lossy(path));
        if worth(&found) > worth(&best) {
            best = found;
        }
    }
    best
}

fn worth(place: &Place) -> u8 {
    match place {
        Place::Host => 0,
        Place::Container(_) => 1,
        Place::Pod { container: None, .. } => 2,
        Place::Pod { container: Some(_), qos: Qos::Unknown, .. } => 3,
        Place::Pod { container: Some(_), .. } => 4,
    }
}

fn place_of_path(path: &str) -> Place {
    let mut components = path.split(['/', ':']).filter(|part| !part.is_empty());
    let mut before = "";
    let mut outer: Option<Container> = None;
    let mut pod: Option<(Box<str>, Qos)> = None;
    for part in components.by_ref() {
        if let Some(found) = pod_of(part, before) {
            pod = Some(found);
            break;
        }
        if outer.is_none() {
            outer = container_of(part, before);
        }
        before = part;
    }
    let Some((uid, qos)) = pod else {
        return outer.map_or(Place::Host, Place::Container);
    };
    before = "";
    let mut container = None;
    for part in components {
        if part.starts_with("crio-conmon-") || part.starts_with("libpod-conmon-") {
            break;
        }
        container = container_of(part, before);
        if container.is_some() {
            break;
        }
        before = part;
    }
    Place::Pod { uid, qos, container }
}

/// `pod<UID>` of the cgroupfs driver, or `[<root>-]kubepods[-<qos>]-pod<UID>.slice` of systemd's.
fn pod_of(part: &str, before: &str) -> Option<(Box<str>, Qos)> {
    if let Some(uid) = part.strip_prefix("pod").filter(|uid| is_uid(uid)) {
        let qos = match before {
            "burstable" => Qos::Burstable,
            "besteffort" => Qos::BestEffort,
            "kubepods" => Qos::Guaranteed,
            _ => Qos::Unknown,
        };
        return Some((uid.into(), qos));
    }
    let slice = part.strip_suffix(".slice")?;
    let (parents, uid) = slice.rsplit_once("-pod").filter(|(_, uid)| is_uid(uid))?;
    let qos = match parents.rsplit('-').next()? {
        "burstable" => Qos::Burstable,
        "besteffort" => Qos::BestEffort,
        "kubepods" => Qos::Guaranteed,
        _ => return None,
    };
    Some((uid.replace('_', "-").into(), qos))
}

/// A UUID with `-` or `_`, or the 32 hexadecimal digits of a static pod.
fn is_uid(uid: &str) -> bool {
    let hex = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    match uid.len() {
        32 => hex(uid),
        36 => {
            let lengths = uid.split(['-', '_']).map(str::len);
            lengths.eq([8, 4, 4, 4, 12]) && uid.split(['-', '_']).all(hex)
        }
        _ => false,
    }
}

fn container_of(part: &str, before: &str) -> Option<Container> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    let container = |id: &str, runtime| {
        let id = (!id.is_empty() && id.len() <= 128).then(|| id.into())?;
        Some(Container { id, runtime })
    };
    let prefixes = [
        ("cri-containerd-", Runtime::Containerd),
        ("nerdctl-", Runtime::Containerd),
        ("crio-", Runtime::CriO),
        ("docker-", Runtime::Docker),
        ("libpod-", Runtime::Podman),
    ];
    for (prefix, runtime) in prefixes {
        if let Some(id) = name.strip_prefix(prefix).filter(|id| is_id(id)) {
            return container(id, runtime);
        }
    }
    let runtime = match before {
        "cri-containerd" => Runtime::Containerd,
        "docker" | "moby" => Runtime::Docker,
        // containerd's name spaces outside Kubernetes; there an ID may be any name (`ctr run … my-job`).
        "default" | "k8s.io" if !part.contains(".s") => return container(part, Runtime::Containerd),
        _ => Runtime::Unknown,
    };
    match is_id(part) {
        true => container(part, runtime),
        false => None,
    }
}

/// What every runtime makes for Kubernetes and Docker: 64 hexadecimal digits.
fn is_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
#[path = "cgroup_tests.rs"]
mod tests;
