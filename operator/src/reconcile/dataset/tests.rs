//! Tables of what was seen and what follows; and a world in which everything is acted out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use operator_api::crd::Dataset;
use operator_api::crd::dataset_status::{DatasetPhase, VolumePhase};
use proptest::prelude::*;
use serde_json::json;

use super::objects;
use super::status::{self, Worth};
use super::targets::{self, Target};
use super::volumes::{Act, Decision, Home, Obstacle, Seen, decide};
use crate::marks;
use crate::reconcile::measure::Measure;

mod edge;

mod foreign;

mod stores;

mod touched;

mod versions;

fn dataset() -> Dataset {
    serde_json::from_value(json!({
        "metadata": {"name": "d", "namespace": "a", "uid": "u1", "generation": 2,
                     "creationTimestamp": "2026-11-24T09:00:00Z", "finalizers": [marks::FINALIZER]},
        "spec": {"mounts": [{"mountPoint": "s3://b/x", "name": "x"}],
                 "sharing": {"grants": [{"namespace": "b", "claimName": "shared"}]}}
    }))
    .unwrap()
}

fn now() -> Timestamp {
    "2026-11-24T09:10:00Z".parse().unwrap()
}

/// What the cluster holds, and what each act does to it.
struct World {
    dataset: Dataset,
    claims: BTreeMap<(String, String), PersistentVolumeClaim>,
    volumes: BTreeMap<String, PersistentVolume>,
    homes: BTreeMap<String, Home>,
    /// Claims that are not ours.
    foreign: BTreeMap<(String, String), PersistentVolumeClaim>,
    invalid: Option<String>,
    uids: u32,
}

impl World {
    fn new() -> Self {
        let homes = [("a".to_owned(), Home::Active), ("b".to_owned(), Home::Active)];
        Self {
            dataset: dataset(),
            claims: BTreeMap::new(),
            volumes: BTreeMap::new(),
            homes: homes.into(),
            foreign: BTreeMap::new(),
            invalid: None,
            uids: 0,
        }
    }

    fn uid(&mut self) -> Option<String> {
        self.uids += 1;
        Some(format!("uid-{}", self.uids))
    }

    /// Looks and acts until nothing is to be done; gives the last decision and the number of acts.
    fn settle(&mut self) -> (Decision, usize) {
        let mut acts = 0;
        let mut obstacles = BTreeMap::new();
        for _ in 0..20 {
            let decision = decide(&Seen {
                dataset: &self.dataset,
                invalid: self.invalid.clone(),
                claims: self.claims.values().cloned().map(Arc::new).collect(),
                volumes: self.volumes.values().cloned().map(Arc::new).collect(),
                homes: self.homes.clone(),
                obstacles: obstacles.clone(),
            });
            if decision.acts.is_empty() {
                return (decision, acts);
            }
            for act in &decision.acts {
                acts += 1;
                self.perform(act, &mut obstacles);
            }
        }
        panic!("it never settles");
    }

    fn perform(&mut self, act: &Act, obstacles: &mut BTreeMap<Target, Obstacle>) {
        match act {
            Act::AddFinalizer => self.dataset.finalizers_mut().push(marks::FINALIZER.into()),
            Act::RemoveFinalizer => self.dataset.finalizers_mut().clear(),
            Act::CreateVolume(_, volume) => {
                let mut volume = (**volume).clone();
                let uid = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone()?.uid);
                let ours = uid.is_some() && self.claims.values().any(|claim| claim.metadata.uid == uid);
                assert!(ours, "whoever has its claim's name would have the volume");
                volume.metadata.uid = self.uid();
                assert!(self.volumes.insert(volume.name_any(), volume).is_none(), "made twice");
            }
            Act::CreateClaim(target, claim) => {
                let key = (target.namespace.clone(), target.claim.clone());
                if self.foreign.contains_key(&key) {
                    obstacles.insert(target.clone(), Obstacle::Foreign);
                    return;
                }
                let mut claim = (**claim).clone();
                claim.metadata.uid = self.uid();
                assert!(self.claims.insert(key, claim).is_none(), "made twice");
            }
            Act::DeleteClaim { namespace, name, uid } => {
                let key = (namespace.clone(), name.clone());
                let claim = self.claims.remove(&key).expect("only what is there is deleted");
                assert_eq!(claim.uid().as_ref(), Some(uid));
            }
            Act::DeleteVolume { name, uid } => {
                let volume = self.volumes.remove(name).expect("only what is there is deleted");
                assert_eq!(volume.uid().as_ref(), Some(uid));
            }
        }
    }

    /// What kube-controller-manager does: a volume that names a claim goes to whichever claim has that name, of any
    /// class, where its uid fits or is not said.
    fn bind(&mut self) {
        for ((namespace, name), claim) in self.claims.iter_mut().chain(&mut self.foreign) {
            let uid = claim.metadata.uid.clone();
            let spec = claim.spec.as_mut().unwrap();
            for (volume_name, volume) in &mut self.volumes {
                let reference = volume.spec.as_mut().unwrap().claim_ref.as_mut().unwrap();
                let named = (reference.namespace.as_ref(), reference.name.as_ref());
                let meant = named == (Some(namespace), Some(name))
                    && spec.volume_name.as_ref().is_none_or(|wanted| wanted == volume_name)
                    && (reference.uid.is_none() || reference.uid == uid);
                if meant {
                    reference.uid.clone_from(&uid);
                    spec.volume_name = Some(volume_name.clone());
                    let phase = Some("Bound".into());
                    claim.status = Some(PersistentVolumeClaimStatus { phase, ..Default::default() });
                }
            }
        }
        assert!(self.foreign.values().all(|claim| claim.status.is_none()), "a foreign claim is bound");
    }

    /// Somebody's own claim, which waits for a volume of a class; false where the name is taken.
    fn intrude(&mut self, namespace: &str, name: &str) -> bool {
        let key = (namespace.to_owned(), name.to_owned());
        if self.claims.contains_key(&key) || self.foreign.contains_key(&key) {
            return false;
        }
        let mut claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"accessModes": ["ReadOnlyMany"], "storageClassName": "fast"}
        }))
        .unwrap();
        claim.metadata.uid = self.uid();
        self.foreign.insert(key, claim);
        true
    }

    /// What an earlier release made: a volume that says no uid of a claim.
    fn volume_of_before(&mut self, target: &Target) {
        let mut volume = objects::volume(&self.dataset, target, String::new());
        volume.spec.as_mut().unwrap().claim_ref.as_mut().unwrap().uid = None;
        volume.metadata.uid = self.uid();
        self.volumes.insert(volume.name_any(), volume);
    }

    fn phases(&mut self) -> Vec<VolumePhase> {
        self.settle().0.volumes.iter().map(|volume| volume.phase).collect()
    }
}

#[test]
fn a_volume_and_a_claim_for_each_namespace_and_nothing_twice() {
    let mut world = World::new();
    let (decision, acts) = world.settle();
    assert_eq!(acts, 4, "a volume and a claim each");
    assert!(decision.volumes.iter().all(|volume| volume.phase == VolumePhase::Pending));
    world.bind();
    assert_eq!(world.phases(), [VolumePhase::Bound; 2]);
    assert!(world.claims.contains_key(&("a".into(), "d".into())));
    assert!(world.claims.contains_key(&("b".into(), "shared".into())));
    assert_eq!(world.settle().1, 0);
}

#[test]
fn a_volume_is_for_one_claim_and_a_claim_for_its_datasets_volumes() {
    let dataset = dataset();
    for target in targets::of(&dataset) {
        let claim = objects::claim(&dataset, &target).spec.unwrap();
        let volume = objects::volume(&dataset, &target, "claim-uid".into());
        let spec = volume.spec.clone().unwrap();
        let reference = spec.claim_ref.unwrap();
        let selected = claim.selector.unwrap().match_labels.unwrap();
        assert!(selected.iter().all(|label| volume.labels().get_key_value(label.0) == Some(label)));
        assert_eq!(selected[marks::DATASET_UID], "u1");
        assert_eq!((reference.namespace, reference.name), (Some(target.namespace), Some(target.claim)));
        assert_eq!(reference.uid.as_deref(), Some("claim-uid"));
        assert_eq!(
            (claim.storage_class_name, spec.storage_class_name),
            (Some(String::new()), Some(String::new()))
        );
        assert_eq!(claim.access_modes, spec.access_modes);
    }
}

#[test]
fn a_grant_taken_back_takes_its_claim_and_volume() {
    let mut world = World::new();
    world.settle();
    world.bind();
    world.dataset.spec.sharing = None;
    let (decision, acts) = world.settle();
    assert_eq!((acts, decision.volumes.len(), world.claims.len(), world.volumes.len()), (2, 1, 1, 1));
}

#[test]
fn namespaces_that_go_or_are_not_there_are_said() {
    for (home, words) in [(Home::Terminating, "is being deleted"), (Home::Missing, "does not exist")] {
        let mut world = World::new();
        world.homes.insert("b".into(), home);
        let (decision, acts) = world.settle();
        assert_eq!(acts, 2);
        assert!(decision.volumes[1].message.as_ref().unwrap().contains(words));
    }
}

#[test]
fn a_volume_goes_with_the_namespace_of_its_claim() {
    let mut world = World::new();
    world.settle();
    world.bind();
    world.homes.insert("b".into(), Home::Missing);
    world.claims.remove(&("b".into(), "shared".into())).unwrap();
    world.settle();
    assert_eq!(world.volumes.len(), 1, "the one of namespace a");
    world.homes.insert("b".into(), Home::Active);
    world.settle();
    world.bind();
    assert_eq!(world.phases(), [VolumePhase::Bound; 2]);
}

#[test]
fn what_others_deleted_is_made_anew() {
    let mut world = World::new();
    world.settle();
    world.bind();
    let name = world.volumes.keys().next().unwrap().clone();
    world.volumes.remove(&name);
    world.settle();
    world.bind();
    assert_eq!(world.phases(), [VolumePhase::Bound; 2], "a lost claim takes the new volume");

    world.claims.remove(&("a".into(), "d".into()));
    assert_eq!(world.phases()[0], VolumePhase::Pending);
    world.bind();
    assert_eq!(world.phases(), [VolumePhase::Bound; 2], "a released volume is made anew");
}

#[test]
fn deletion_waits_for_pods_and_for_nothing_else() {
    let mut world = World::new();
    world.settle();
    world.bind();
    world.dataset.metadata.deletion_timestamp = Some(Time(now()));
    let key = ("a".to_owned(), "d".to_owned());
    // In use: Kubernetes keeps it.
    world.claims.get_mut(&key).unwrap().metadata.deletion_timestamp = Some(Time(now()));
    let (decision, _) = world.settle();
    assert_eq!(decision.waits.len(), 1);
    assert!(decision.waits[0].contains("in use"));
    assert_eq!(world.dataset.finalizers(), [marks::FINALIZER]);
    world.claims.remove(&key);
    world.settle();
    assert!(world.dataset.finalizers().is_empty() && world.volumes.is_empty());
}

#[test]
fn deletion_ends_when_everything_else_is_gone() {
    let mut world = World::new();
    world.homes.clear();
    world.dataset.metadata.deletion_timestamp = Some(Time(now()));
    let (_, acts) = world.settle();
    assert_eq!(acts, 1);
    assert!(world.dataset.finalizers().is_empty());
}

#[test]
fn a_volume_that_hangs_in_deletion_keeps_no_dataset() {
    let mut world = World::new();
    world.settle();
    world.dataset.metadata.deletion_timestamp = Some(Time(now()));
    world.claims.clear();
    for volume in world.volumes.values_mut() {
        volume.metadata.deletion_timestamp = Some(Time(now()));
    }
    world.settle();
    assert!(world.dataset.finalizers().is_empty());
}

proptest! {
    /// Whatever is deleted by whomever in whatever order: it is whole again, or it ends.
    #[test]
    fn it_heals_or_ends(steps in proptest::collection::vec(0_u8..9, 0..12), end in any::<bool>()) {
        let mut world = World::new();
        for step in steps {
            match step {
                0 => { world.settle(); }
                1 => world.bind(),
                2 => { world.claims.pop_first(); }
                3 => { world.volumes.pop_first(); }
                4 => { world.claims.pop_last(); }
                5 => { world.volumes.pop_last(); }
                6 => { world.intrude("a", "d"); }
                7 => { world.intrude("b", "shared"); }
                _ => world.foreign.clear(),
            }
        }
        if end {
            world.dataset.metadata.deletion_timestamp = Some(Time(now()));
            world.settle();
            prop_assert!(world.dataset.finalizers().is_empty());
            prop_assert!(world.claims.is_empty() && world.volumes.is_empty());
        } else {
            world.foreign.clear();
            for _ in 0..4 {
                world.settle();
                world.bind();
            }
            prop_assert_eq!(world.phases(), [VolumePhase::Bound; 2]);
        }
    }
}

#[test]
fn what_cannot_work_is_not_begun_and_what_worked_stays() {
    let mut world = World::new();
    world.invalid = Some("the mountPoint is no URL".into());
    let (decision, acts) = world.settle();
    assert_eq!((acts, world.claims.len(), world.volumes.len()), (0, 0, 0));
    let said = status::status(&world.dataset, &decision, None, None, now());
    let ready = said.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!((said.phase, ready.reason.as_str()), (DatasetPhase::Failed, "Invalid"));
    assert_eq!(ready.message, "the mountPoint is no URL");
    world.invalid = None;
    world.settle();
    world.bind();
    world.invalid = Some("somebody has changed it".into());
    let (decision, acts) = world.settle();
    assert_eq!((acts, world.claims.len(), world.volumes.len()), (0, 2, 2));
    assert!(decision.volumes.iter().all(|volume| volume.phase == VolumePhase::Bound));
    world.dataset.metadata.deletion_timestamp = Some(Time(now()));
    world.settle();
    assert!(world.dataset.finalizers().is_empty(), "it goes as it came");
}

#[test]
fn unknown_is_said_and_never_taken_for_nothing() {
    let dataset = dataset();
    let status = status::status(&dataset, &Decision::default(), None, None, now());
    let states = status.cache_states.clone().unwrap();
    assert_eq!((states.cached.as_str(), status.ufs_total.as_deref()), ("Unknown", Some("Unknown")));
    assert_eq!((status.cached_bytes, status.node_count), (None, None));
    let observed = status.conditions.iter().find(|c| c.type_ == "Observed").unwrap();
    assert_eq!((observed.status.as_str(), observed.reason.as_str()), ("Unknown", "NotReported"));

    let measure =
        Measure { reporting: 2, total_bytes: Some(1000), cached_bytes: Some(999), ..Measure::default() };
    let status = status::status(&dataset, &Decision::default(), Some(&measure), None, now());
    assert_eq!(status.cache_states.unwrap().cached_percentage, "99%", "not whole");
    assert_eq!((status.node_count, status.reader_count), (Some(0), Some(0)));
    let silent = Measure { reporting: 0, ..measure };
    let status = status::status(&dataset, &Decision::default(), Some(&silent), None, now());
    assert_eq!((status.node_count, status.reader_count), (Some(0), None), "who reads now is not known");
    assert_eq!(status::percent(Some(0.0001)), "1%");
    assert_eq!(status::percent(Some(f64::NAN)), "Unknown");
}

#[test]
fn numbers_wait_and_states_do_not() {
    let mut dataset = dataset();
    let interval = Duration::from_secs(30);
    let first = status::status(&dataset, &Decision::default(), None, None, now());
    assert_eq!(first.phase, DatasetPhase::Bound);
    assert_eq!(status::worth(&dataset, &first, None, interval, now()), Worth::Now);
    dataset.status = Some(first.clone());
    let again = status::status(&dataset, &Decision::default(), None, None, now() + Duration::from_secs(60));
    assert_eq!(
        status::worth(&dataset, &again, None, interval, now()),
        Worth::Nothing,
        "time alone changes nothing"
    );

    let measured = |bytes| Measure { reporting: 1, cached_bytes: Some(bytes), ..Measure::default() };
    let one = status::status(&dataset, &Decision::default(), Some(&measured(1)), None, now());
    assert_eq!(
        status::worth(&dataset, &one, Some(Duration::ZERO), interval, now()),
        Worth::Now,
        "it is observed now"
    );
    dataset.status = Some(one);
    let two = status::status(&dataset, &Decision::default(), Some(&measured(2)), None, now());
    assert_eq!(
        status::worth(&dataset, &two, Some(Duration::from_secs(10)), interval, now()),
        Worth::After(Duration::from_secs(20))
    );
    assert_eq!(status::worth(&dataset, &two, Some(interval), interval, now()), Worth::Now);
    assert_eq!(status::interval(10_000), Duration::from_secs(500));
}

#[test]
fn a_new_leader_keeps_what_was_measured_until_agents_have_come() {
    let mut dataset = dataset();
    let measure = Measure { reporting: 3, cached_bytes: Some(7), reader_count: 2, ..Measure::default() };
    let told = status::status(&dataset, &Decision::default(), Some(&measure), None, now());
    dataset.status = Some(told.clone());
    let (second, interval) = (Duration::from_secs(1), Duration::from_secs(30));
    let moment = |age: u32, heard| status::Moment {
        term: Some(second * age),
        wrote: None,
        heard,
        interval,
        turn: 12_000,
    };
    // No agent has come yet.
    let silent = |dataset: &Dataset, decision: &Decision, moment| {
        let mut new = status::status(dataset, decision, None, None, now());
        let (since, keeps) = status::inherit(dataset, &mut new, moment);
        (new, since, keeps)
    };
    let (new, _, keeps) = silent(&dataset, &Decision::default(), moment(5, false));
    assert_eq!((new, keeps), (told.clone(), Some(second * 15)), "nothing to write");
    // What is not measured is said all the same, and what was kept in that is kept at the next look too.
    let invalid = Decision { invalid: Some("no such store".into()), ..Decision::default() };
    let wrote = |kept| status::Moment { wrote: Some((second, kept)), ..moment(6, false) };
    for moment in [moment(5, false), wrote(true)] {
        let (new, ..) = silent(&dataset, &invalid, moment);
        assert_eq!((new.phase, new.cached_bytes), (DatasetPhase::Failed, Some(7)));
    }
    let (new, since, keeps) = silent(&dataset, &Decision::default(), wrote(false));
    assert_eq!((new.cached_bytes, since, keeps), (None, Some(second), None), "its own numbers are not");
    // Agents of a leader whose node died come later; for ever is nothing kept.
    let kept_at = |age| silent(&dataset, &Decision::default(), moment(age, false)).0.cached_bytes;
    assert_eq!([20, 59, 60].map(kept_at), [Some(7), Some(7), None]);

    // Where some have come numbers are written after 15 s, each Dataset's in its turn, as often as otherwise.
    let since = |age| status::inherit(&dataset, &mut told.clone(), moment(age, true));
    assert_eq!(since(14).1, Some(second));
    assert_eq!((since(15), since(27)), ((Some(second * 18), None), (Some(interval), None)));

    // What somebody pins it to is said at once.
    let version = |n: u8| format!("{n:032x}");
    let policy = json!({"follow": "Pinned", "version": version(2)});
    dataset.spec.version_policy = Some(serde_json::from_value(policy).unwrap());
    dataset.status =
        Some(operator_api::crd::dataset_status::DatasetStatus { version: Some(version(1)), ..told });
    let (pinned, ..) = silent(&dataset, &Decision::default(), moment(5, false));
    assert_eq!((pinned.version, pinned.cached_bytes), (Some(version(2)), None));
}

#[test]
fn a_young_dataset_that_waits_says_nothing_yet() {
    let mut world = World::new();
    let (decision, _) = world.settle();
    let at = |seconds: i64| {
        Timestamp::from_second("2026-11-24T09:00:00Z".parse::<Timestamp>().unwrap().as_second() + seconds)
            .unwrap()
    };
    let new = status::status(&world.dataset, &decision, None, None, at(1));
    assert_eq!(new.phase, DatasetPhase::Pending);
    assert_eq!(
        status::worth(&world.dataset, &new, None, Duration::from_secs(30), at(1)),
        Worth::After(Duration::from_secs(4))
    );
    assert_eq!(status::worth(&world.dataset, &new, None, Duration::from_secs(30), at(9)), Worth::Now);
}
