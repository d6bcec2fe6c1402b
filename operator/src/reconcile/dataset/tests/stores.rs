//! What a volume shows, and what becomes of it when a Dataset's mounts are changed.

use serde_json::Value;

use super::*;

fn mounts(world: &mut World, mounts: Value) {
    world.dataset.spec.mounts = serde_json::from_value(mounts).unwrap();
}

fn nfs(path: &str) -> Value {
    json!([{"mountPoint": format!("nfs://nas{path}"), "path": "/"}])
}

/// A bound world whose volumes show this folder.
fn bound(path: &str) -> World {
    let mut world = World::new();
    mounts(&mut world, nfs(path));
    world.settle();
    world.bind();
    assert_eq!(world.phases(), [VolumePhase::Bound; 2]);
    world
}

fn shown(world: &World) -> Vec<String> {
    let spec = |volume: &PersistentVolume| volume.spec.clone().unwrap();
    let path = |volume| spec(volume).nfs.map_or_else(|| "driver".into(), |nfs| nfs.path);
    world.volumes.values().map(path).collect()
}

#[test]
fn a_volume_has_one_source_and_the_datasets() {
    let world = bound("/export/train");
    for volume in world.volumes.values() {
        let spec = volume.spec.clone().unwrap();
        assert!(spec.csi.is_none());
        assert_eq!(spec.nfs.unwrap().path, "/export/train");
        assert_eq!(spec.mount_options.unwrap(), ["nodev", "nosuid"]);
    }
    let mut world = World::new();
    world.settle();
    for volume in world.volumes.values() {
        let spec = volume.spec.clone().unwrap();
        assert!(spec.nfs.is_none() && spec.mount_options.is_none());
        assert_eq!(spec.csi.unwrap().driver, marks::DRIVER);
    }
}

#[test]
fn pods_that_see_a_former_store_are_never_hidden() {
    for changed in [nfs("/export/other"), json!([{"mountPoint": "s3://b/x", "path": "/"}])] {
        let mut world = bound("/export/train");
        mounts(&mut world, changed);
        let (decision, acts) = world.settle();
        assert_eq!(acts, 0, "pods may be using it");
        assert!(decision.volumes.iter().all(|volume| volume.phase == VolumePhase::Blocked));
        let said = status::status(&world.dataset, &decision, None, None, now());
        let ready = said.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
        assert!(ready.status == "False" && ready.message.contains("former store"), "{ready:?}");
        assert!(!ready.message.contains("  "), "{ready:?}");

        // As the message says.
        world.claims.clear();
        world.settle();
        world.bind();
        assert_eq!(world.phases(), [VolumePhase::Bound; 2]);
        assert!(!shown(&world).contains(&"/export/train".to_owned()));

        mounts(&mut world, nfs("/export/train"));
        world.claims.clear();
        world.settle();
        world.bind();
        assert_eq!(
            (world.phases(), shown(&world)),
            (vec![VolumePhase::Bound; 2], vec!["/export/train".into(); 2])
        );
    }
    // Back again, and nothing was lost.
    let mut world = bound("/export/train");
    mounts(&mut world, nfs("/export/other"));
    world.settle();
    mounts(&mut world, nfs("/export/train"));
    assert_eq!(world.phases(), [VolumePhase::Bound; 2]);
}

#[test]
fn a_volume_that_no_kubelet_could_mount_is_made_anew() {
    let mut world = World::new();
    world.settle();
    world.bind();
    mounts(&mut world, nfs("/export"));
    world.settle();
    world.bind();
    assert_eq!((world.phases(), shown(&world)), (vec![VolumePhase::Bound; 2], vec!["/export".into(); 2]));
}

#[test]
fn pods_that_wait_for_the_driver_are_named_as_what_holds_the_claim() {
    let mut world = World::new();
    world.dataset.spec.sharing = None;
    world.settle();
    world.bind();
    mounts(&mut world, nfs("/export"));
    // Kubernetes keeps a claim that a pod with a node uses, though that pod cannot start.
    for claim in world.claims.values_mut() {
        claim.metadata.deletion_timestamp = Some(Time(now()));
    }
    let (decision, _) = world.settle();
    let said = status::status(&world.dataset, &decision, None, None, now());
    let ready = said.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    assert!(ready.message.contains("delete those pods"), "{ready:?}");
    world.claims.clear();
    world.settle();
    world.bind();
    assert_eq!((world.phases(), shown(&world)), (vec![VolumePhase::Bound], vec!["/export".into()]));
}

#[test]
fn other_options_are_said_and_change_nothing() {
    let mut world = bound("/export");
    let changed = json!([{"mountPoint": "nfs://nas/export", "path": "/", "options": {"vers": "4.1"}}]);
    mounts(&mut world, changed);
    let (decision, acts) = world.settle();
    assert_eq!(acts, 0);
    for volume in &decision.volumes {
        assert_eq!(volume.phase, VolumePhase::Bound);
        assert!(
            volume.message.as_ref().is_some_and(|message| message.contains("other options")),
            "{volume:?}"
        );
    }
}

#[test]
fn that_no_pod_can_start_with_a_claim_is_said() {
    let ready = |world: &mut World| {
        let (decision, _) = world.settle();
        let said = status::status(&world.dataset, &decision, None, None, now());
        said.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap().message.clone()
    };
    assert_eq!(ready(&mut bound("/export")), "every claim is bound");
    let mut world = World::new();
    world.settle();
    world.bind();
    assert!(ready(&mut world).contains("csi.headrace.io"));
}
