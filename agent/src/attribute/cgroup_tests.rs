//! The recorded trees of tests/fixtures/cgroup, each with what it says.

use std::path::Path;

use proptest::prelude::*;

use super::*;

const ID: &str = "7be92808767a667f35c8505cbf40d14e931ef6db5b0210329cf193b15ba9d605";
const UID: &str = "0f90f31c-ebd9-4f8c-9f2d-3a1d1b9c7e55";

fn fixture(name: &str) -> Place {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cgroup").join(name);
    place(&std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn pod(qos: Qos, runtime: Runtime) -> Place {
    pod_named(UID, qos, runtime)
}

fn pod_named(uid: &str, qos: Qos, runtime: Runtime) -> Place {
    Place::Pod { uid: uid.into(), qos, container: Some(Container { id: ID.into(), runtime }) }
}

fn container(id: &str, runtime: Runtime) -> Place {
    Place::Container(Container { id: id.into(), runtime })
}

#[test]
fn recorded_trees() {
    const STATIC: &str = "b1e89a2fcc688644de3eb95aee8025ce";
    let table = [
        ("v2-systemd-containerd-burstable", pod(Qos::Burstable, Runtime::Containerd)),
        ("v2-systemd-containerd-guaranteed", pod(Qos::Guaranteed, Runtime::Containerd)),
        ("v2-systemd-containerd-besteffort", pod(Qos::BestEffort, Runtime::Containerd)),
        ("v2-systemd-crio-burstable", pod(Qos::Burstable, Runtime::CriO)),
        ("v2-systemd-docker-besteffort", pod(Qos::BestEffort, Runtime::Docker)),
        ("v2-cgroupfs-containerd-burstable", pod(Qos::Burstable, Runtime::Unknown)),
        ("v2-cgroupfs-crio-besteffort", pod(Qos::BestEffort, Runtime::CriO)),
        ("v2-kind-nested-kubelet", pod(Qos::Burstable, Runtime::Containerd)),
        ("v2-kind-seen-from-host", pod(Qos::BestEffort, Runtime::Containerd)),
        ("v2-kind-cgroupfs", pod(Qos::Burstable, Runtime::Unknown)),
        ("v2-static-pod", pod_named(STATIC, Qos::Burstable, Runtime::Containerd)),
        ("v2-crio-nested-container-folder", pod(Qos::Burstable, Runtime::CriO)),
        ("v2-docker-in-pod", pod(Qos::Guaranteed, Runtime::Containerd)),
        ("v2-mixed-drivers", pod(Qos::Burstable, Runtime::Containerd)),
        ("v2-cgroup-namespace", pod(Qos::Burstable, Runtime::Containerd)),
        ("v2-cgroup-namespace-cgroupfs", pod(Qos::Unknown, Runtime::Unknown)),
        ("v1-cgroupfs-docker-guaranteed", pod(Qos::Guaranteed, Runtime::Unknown)),
        ("v1-systemd-crio-burstable", pod(Qos::Burstable, Runtime::CriO)),
        ("v1-cgroupfs-static-pod", pod_named(STATIC, Qos::Burstable, Runtime::Unknown)),
        ("hybrid-systemd-containerd", pod(Qos::Burstable, Runtime::Containerd)),
        ("hybrid-cgroupfs-v2-silent", pod(Qos::BestEffort, Runtime::Unknown)),
        ("v2-crio-conmon-in-pod", Place::Pod { uid: UID.into(), qos: Qos::Burstable, container: None }),
        ("v2-docker", container(ID, Runtime::Docker)),
        ("v1-docker-cgroupfs", container(ID, Runtime::Docker)),
        ("v2-podman", container(ID, Runtime::Podman)),
        ("hybrid-ctr", container("t2", Runtime::Containerd)),
        ("v2-host-service", Place::Host),
        ("v2-host-user-session", Place::Host),
        ("v2-crio-conmon-in-system-slice", Place::Host),
        ("v1-host-root", Place::Host),
        ("v2-kubelet-itself", Place::Host),
    ];
    for (name, expected) in &table {
        assert_eq!(&fixture(name), expected, "{name}");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cgroup");
    let files = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(files, table.len(), "every recorded tree has its line here");
}

#[test]
fn names_that_only_look_like_pods() {
    for path in [
        "0::/kubepods.slice/kubepods-burstable.slice",
        "0::/podman/x",
        "0::/system.slice/my-pod0f90f31c.slice",
        "0::/kubepods/burstable/podnotauid/x",
        "0::/user.slice/user-pod0f90f31c_ebd9_4f8c_9f2d_3a1d1b9c7e55.slice/x.scope",
        "0::/default/dbus.service",
        "nonsense",
        "",
    ] {
        assert_eq!(place(path.as_bytes()), Place::Host, "{path}");
    }
}

proptest! {
    #[test]
    fn any_bytes_have_a_place(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        place(&bytes);
    }

    #[test]
    fn any_path_of_known_parts_has_a_place(
        parts in proptest::collection::vec("(kubepods|kubelet|burstable|pod[0-9a-f-]{0,36}|crio-|docker|\\.slice|\\.scope|-pod|:|/|[a-f0-9]{64}|é){0,3}", 0..8),
    ) {
        place(format!("0::/{}", parts.join("/")).as_bytes());
    }
}
