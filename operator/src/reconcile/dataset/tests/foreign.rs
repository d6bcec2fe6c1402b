//! Claims that are not ours, volumes that could take one, and what the apiserver does not let be.

use super::*;

#[test]
fn what_is_not_ours_is_left_alone_and_said() {
    for (index, (namespace, name)) in [("a", "d"), ("b", "shared")].into_iter().enumerate() {
        let mut world = World::new();
        assert!(world.intrude(namespace, name));
        for _ in 0..3 {
            let (decision, _) = world.settle();
            let taken = &decision.volumes[index];
            assert_eq!(taken.phase, VolumePhase::Blocked);
            assert!(taken.message.as_ref().unwrap().contains("is left alone"), "{taken:?}");
            assert_eq!(world.volumes.len(), 1, "the other target's");
            world.bind();
        }
        world.foreign.clear();
        world.settle();
        world.bind();
        assert_eq!(world.phases(), [VolumePhase::Bound; 2]);
    }
}

#[test]
fn a_volume_that_says_no_uid_goes_before_a_claim_is_made() {
    let mut world = World::new();
    let target = targets::of(&world.dataset).remove(1);
    world.volume_of_before(&target);
    world.intrude("b", "shared");
    assert_eq!(world.phases()[1], VolumePhase::Blocked);
    world.bind();

    // One that has a foreign claim already goes too, and what is said of it stays.
    world.volume_of_before(&target);
    for volume in world.volumes.values_mut() {
        let reference = volume.spec.as_mut().unwrap().claim_ref.as_mut().unwrap();
        reference.uid.get_or_insert_with(|| "foreign".into());
    }
    let claimed = |world: &World| {
        let references = world.volumes.values().map(|volume| volume.spec.as_ref()?.claim_ref.clone()?.uid);
        references.flatten().any(|uid| uid == "foreign")
    };
    assert!(claimed(&world));
    assert_eq!(world.phases()[1], VolumePhase::Blocked);
    assert!(!claimed(&world));
}

#[test]
fn what_the_apiserver_refuses_is_said() {
    let mut world = World::new();
    let target = targets::of(&world.dataset).remove(0);
    let said = |world: &World, what| {
        let decision = decide(&Seen {
            dataset: &world.dataset,
            invalid: None,
            claims: world.claims.values().cloned().map(Arc::new).collect(),
            volumes: Vec::new(),
            homes: world.homes.clone(),
            obstacles: [(target.clone(), Obstacle::Refused { what, message: "no".into() })].into(),
        });
        assert_eq!(decision.volumes[0].phase, VolumePhase::Blocked);
        decision.volumes[0].message.clone()
    };
    assert_eq!(said(&world, "claim").as_deref(), Some("the apiserver refused claim a/d: no"));
    let claim = Act::CreateClaim(target.clone(), Box::new(objects::claim(&world.dataset, &target)));
    world.perform(&claim, &mut BTreeMap::new());
    let words = "the apiserver refused the volume of claim a/d: no";
    assert_eq!(said(&world, "the volume of claim").as_deref(), Some(words));
}

#[test]
fn what_is_said_of_a_refusal_is_never_too_long_to_be_written() {
    let world = World::new();
    let targets = targets::of(&world.dataset);
    let message = "ö".repeat(5_000);
    let refused = Obstacle::Refused { what: "claim", message };
    let decision = decide(&Seen {
        dataset: &world.dataset,
        invalid: None,
        claims: Vec::new(),
        volumes: Vec::new(),
        homes: world.homes.clone(),
        obstacles: targets.into_iter().map(|target| (target, refused.clone())).collect(),
    });
    let said = status::status(&world.dataset, &decision, None, None, now());
    assert_eq!(said.volumes.len(), 2);
    for message in said.volumes.iter().map(|volume| volume.message.as_ref().unwrap()) {
        assert!(message.len() <= 1_024 && message.starts_with("the apiserver refused claim"), "{message}");
    }
    let ready = said.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    assert!(ready.message.len() <= 1_024);
}

#[test]
fn deletion_waits_for_no_claim_that_only_bears_our_marks() {
    let mut world = World::new();
    world.settle();
    world.bind();
    // Of a grant that was taken back, and still in use.
    world.dataset.spec.sharing = None;
    let former = ("b".to_owned(), "shared".to_owned());
    let mut marked = world.claims[&former].clone();
    (marked.metadata.namespace, marked.metadata.uid) = (Some("c".into()), world.uid());
    world.claims.insert(("c".into(), "shared".into()), marked);
    world.dataset.metadata.deletion_timestamp = Some(Time(now()));
    for claim in world.claims.values_mut().filter(|claim| claim.metadata.namespace.as_deref() != Some("a")) {
        claim.metadata.deletion_timestamp = Some(Time(now()));
    }
    let (decision, _) = world.settle();
    assert_eq!(decision.waits.len(), 1);
    assert!(decision.waits[0].contains("b/shared"), "{:?}", decision.waits);
    assert_eq!(world.dataset.finalizers(), [marks::FINALIZER]);
    world.claims.remove(&former);
    let left = world.claims.get_mut(&("c".to_owned(), "shared".to_owned())).unwrap();
    left.metadata.deletion_timestamp = None;
    let acts = decide(&Seen {
        dataset: &world.dataset,
        invalid: None,
        claims: world.claims.values().cloned().map(Arc::new).collect(),
        volumes: world.volumes.values().cloned().map(Arc::new).collect(),
        homes: world.homes.clone(),
        obstacles: BTreeMap::new(),
    })
    .acts;
    let place = |wanted: fn(&Act) -> bool| acts.iter().position(wanted);
    let (ends, deletes) = (
        place(|act| matches!(act, Act::RemoveFinalizer)),
        place(|act| matches!(act, Act::DeleteClaim { .. })),
    );
    assert!(ends.is_some() && ends < deletes, "somebody may forbid its deletion: {acts:?}");
    world.settle();
    assert!(world.dataset.finalizers().is_empty());
}
