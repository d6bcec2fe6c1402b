//! What to do about a Dataset's volumes and claims. Pure.
//!
//! A claim is only ever taken for the Dataset's own when it carries its uid. Whatever else has a claim's name is
//! left alone and said so. So the claim comes first, and its volume names its uid: kube-controller-manager binds a
//! volume that names a claim to whatever claim has that name, of whatever class, unless a uid says which one.
//! Volumes go when their claim is gone; the finalizer goes when no claim is left that is wanted or has a volume,
//! whatever has become of everything else.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;
use operator_api::crd::Dataset;
use operator_api::crd::dataset_status::{VolumePhase, VolumeStatus};

use super::objects;
use super::shown::{self, Shows};
use super::targets::{self, Target};
use crate::marks;
use crate::reconcile::sentence::{MOST, bounded};

/// A namespace, as far as making things in it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    Active,
    Terminating,
    Missing,
}

/// Why a claim or its volume could not be made, or a claim deleted, as found out by trying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Somebody else's claim has the name.
    Foreign,
    /// Another Dataset's claim has the name.
    Taken { dataset: String },
    /// The apiserver refused; `what` is "claim" or "the volume of claim".
    Refused { what: &'static str, message: String },
    /// The apiserver refused the finalizer, without which nothing is made.
    Unguarded { message: String },
    /// The claim is to go, and could not be deleted.
    Kept { message: String },
}

/// What was seen.
#[derive(Debug)]
pub struct Seen<'a> {
    pub dataset: &'a Dataset,
    /// What speaks against it: a webhook that was away, or is not there, has refused nothing.
    pub invalid: Option<String>,
    /// Claims that carry the Dataset's uid.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
    pub volumes: Vec<Arc<PersistentVolume>>,
    /// Of each target's namespace.
    pub homes: BTreeMap<String, Home>,
    pub obstacles: BTreeMap<Target, Obstacle>,
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    AddFinalizer,
    CreateClaim(Target, Box<PersistentVolumeClaim>),
    CreateVolume(Target, Box<PersistentVolume>),
    /// By namespace, name, uid.
    DeleteClaim {
        namespace: String,
        name: String,
        uid: String,
    },
    /// By name, uid.
    DeleteVolume {
        name: String,
        uid: String,
    },
    RemoveFinalizer,
}

/// What to do, and how the claims are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    pub acts: Vec<Act>,
    pub volumes: Vec<VolumeStatus>,
    /// What speaks against the Dataset as it is written.
    pub invalid: Option<String>,
    /// What deletion waits for; empty when it waits for nothing, or there is none.
    pub waits: Vec<String>,
}

pub fn decide(seen: &Seen<'_>) -> Decision {
    let ends = seen.dataset.metadata.deletion_timestamp.is_some();
    let mut decision = if ends { ending(seen) } else { living(seen) };
    // What was refused at this look already is not asked for again.
    decision.acts.retain(|act| match act {
        Act::AddFinalizer => !seen.obstacles.values().any(|o| matches!(o, Obstacle::Unguarded { .. })),
        Act::DeleteClaim { namespace, name, .. } => kept(seen, namespace, name).is_none(),
        _ => true,
    });
    decision
}

/// Why a claim that was to go is still there.
fn kept(seen: &Seen<'_>, namespace: &str, name: &str) -> Option<String> {
    let target = Target { namespace: namespace.into(), claim: name.into() };
    let obstacle = seen.obstacles.get(&target)?;
    matches!(obstacle, Obstacle::Kept { .. }).then(|| obstacle.words(&target))
}

fn living(seen: &Seen<'_>) -> Decision {
    let mut decision = Decision { invalid: seen.invalid.clone(), ..Decision::default() };
    // What cannot work is not begun; what worked before somebody changed it is not taken away.
    if decision.invalid.is_some() && seen.claims.is_empty() && seen.volumes.is_empty() {
        return decision;
    }
    if !seen.dataset.finalizers().iter().any(|finalizer| finalizer == marks::FINALIZER) {
        decision.acts.push(Act::AddFinalizer);
    }
    let targets = targets::of(seen.dataset);
    for target in &targets {
        let status = one(seen, target, &mut decision.acts);
        decision.volumes.push(status);
    }
    // What an earlier grant or name left behind.
    let wanted =
        |namespace: &str, claim: &str| targets.iter().any(|t| t.namespace == namespace && t.claim == claim);
    for claim in &seen.claims {
        if !wanted(&claim.namespace().unwrap_or_default(), &claim.name_any()) {
            decision.acts.extend(delete_claim(claim));
        }
    }
    for volume in &seen.volumes {
        let (namespace, claim) = claim_of(volume);
        let held = seen
            .claims
            .iter()
            .any(|c| c.namespace().unwrap_or_default() == namespace && c.name_any() == claim);
        if !wanted(&namespace, &claim) && !held {
            decision.acts.extend(delete_volume(volume));
        }
    }
    decision
}

impl Obstacle {
    /// For a person.
    fn words(&self, target: &Target) -> String {
        let Target { namespace, claim: name } = target;
        match self {
            Self::Foreign => format!(
                "claim {namespace}/{name} exists and is not Headrace's; it is left alone: delete or rename it, or set claimName in the grant"
            ),
            Self::Taken { dataset } => format!(
                "claim {namespace}/{name} belongs to Dataset {dataset}: rename one of the Datasets, or set claimName in the grant"
            ),
            Self::Refused { what, message } => {
                format!("the apiserver refused {what} {namespace}/{name}: {message}")
            }
            Self::Unguarded { message } => format!(
                "claim {namespace}/{name} is not made, because the apiserver refused the Dataset's finalizer {}, and without that \
                 a deletion would forget the claim: {message}",
                marks::FINALIZER
            ),
            Self::Kept { message } => format!(
                "claim {namespace}/{name} could not be deleted, and it is tried again: have whoever refuses that let the operator \
                 do it, or delete the claim yourself: {message}"
            ),
        }
    }
}

/// One target: what to do about it, and how it is.
fn one(seen: &Seen<'_>, target: &Target, acts: &mut Vec<Act>) -> VolumeStatus {
    let status = |phase, message: Option<String>| VolumeStatus {
        namespace: target.namespace.clone(),
        claim_name: target.claim.clone(),
        phase,
        message: message.map(|message| bounded(&message, MOST)),
    };
    let blocked = |message: String| status(VolumePhase::Blocked, Some(message));
    let Target { namespace, claim: name } = target;
    let volume_name = marks::volume(&seen.dataset.uid().unwrap_or_default(), namespace, name);
    let volume = seen.volumes.iter().find(|volume| volume.name_any() == volume_name);
    let claim =
        seen.claims.iter().find(|c| c.namespace().as_ref() == Some(namespace) && c.name_any() == *name);

    let Some(claim) = claim else {
        let nowhere = match seen.homes.get(namespace).copied().unwrap_or(Home::Missing) {
            Home::Active => None,
            Home::Missing => {
                Some(format!("namespace {namespace} does not exist: create it, or take the grant out"))
            }
            Home::Terminating => Some(format!("namespace {namespace} is being deleted")),
        };
        if let Some(message) = nowhere {
            // No claim can be made there that would have the volume.
            acts.extend(volume.and_then(|volume| delete_volume(volume)));
            return blocked(message);
        }
        // Its claim was deleted, or is another's: it binds to no claim that could be made.
        acts.extend(volume.and_then(|volume| delete_volume(volume)));
        if volume.is_some_and(|volume| claim_uid(volume).is_none()) {
            // Made by an operator that named no uid: it would take whatever claim comes first, so it goes first.
            let message = "a volume that an earlier release made is removed before the claim is made";
            return status(VolumePhase::Pending, Some(message.into()));
        }
        if let Some(obstacle) = seen.obstacles.get(target) {
            return blocked(obstacle.words(target));
        }
        acts.push(Act::CreateClaim(target.clone(), Box::new(objects::claim(seen.dataset, target))));
        return status(VolumePhase::Pending, None);
    };

    if claim.metadata.deletion_timestamp.is_some() {
        let of_no_use = volume.is_some_and(|volume| shown::shows(volume, seen.dataset) == Shows::Nothing);
        let message = if of_no_use {
            "its volume is of a driver that no node has, and pods that wait for that hold the claim: delete those pods, then it \
             is made anew as NFS"
        } else {
            "somebody deleted the claim; it is made anew when the pods that use it have ended"
        };
        return status(VolumePhase::Pending, Some(message.into()));
    }
    let bound_to = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_ref());
    if bound_to.is_some_and(|bound_to| *bound_to != volume_name) {
        return blocked(format!(
            "claim {namespace}/{name} is bound to another volume: delete it, it is made anew"
        ));
    }
    let mut remark = None;
    match volume {
        None => {
            if let Some(obstacle) = seen.obstacles.get(target) {
                return blocked(obstacle.words(target));
            }
            let volume = claim.uid().map(|uid| objects::volume(seen.dataset, target, uid));
            acts.extend(volume.map(|volume| Act::CreateVolume(target.clone(), Box::new(volume))));
            // A claim names a volume once it was bound to it.
            let message = bound_to.map(|_| "its volume was deleted and is made anew".to_owned());
            return status(VolumePhase::Pending, message);
        }
        Some(volume) if is_going(volume) => {
            let message = "its volume is being deleted and is made anew when that has ended";
            return status(VolumePhase::Pending, Some(message.into()));
        }
        Some(volume) => {
            // Bound to a claim of this name that is no more.
            if claim_uid(volume).is_some_and(|uid| Some(uid) != claim.uid()) {
                acts.extend(delete_volume(volume));
                return status(
                    VolumePhase::Pending,
                    Some("its volume belonged to an earlier claim and is made anew".into()),
                );
            }
            match shown::shows(volume, seen.dataset) {
                Shows::This => {}
                Shows::Nothing => {
                    acts.extend(delete_claim(claim));
                    if let Some(why) = kept(seen, namespace, name) {
                        return blocked(why);
                    }
                    let message =
                        "its volume is of a driver that no node has; claim and volume are made anew as NFS";
                    return status(VolumePhase::Pending, Some(message.into()));
                }
                Shows::OtherOptions => {
                    remark = Some(
                        "its volume was made with other options than the Dataset has now: to have these, delete the claim once \
                         no pod uses it",
                    );
                }
                Shows::Other => {
                    return blocked(format!(
                        "the volume of claim {namespace}/{name} was made before the Dataset's mounts were changed, and pods that \
                         use it still see the former store: end those pods and delete the claim, it is made anew; or change the \
                         mounts back"
                    ));
                }
            }
        }
    }
    match claim.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Bound") => status(VolumePhase::Bound, remark.map(str::to_owned)),
        _ => status(VolumePhase::Pending, None),
    }
}

fn ending(seen: &Seen<'_>) -> Decision {
    let mut decision = Decision { acts: leave(&seen.claims, &seen.volumes), ..Decision::default() };
    let targets = targets::of(seen.dataset);
    for claim in &seen.claims {
        let (namespace, name) = (claim.namespace().unwrap_or_default(), claim.name_any());
        // Labels are free to write: what has no volume of ours in no place of ours is used by nobody, and would be kept
        // by whoever made it for as long as they like.
        let wanted = targets.iter().any(|target| target.namespace == namespace && target.claim == name);
        if !wanted && !seen.volumes.iter().any(|volume| claim_of(volume) == (namespace.clone(), name.clone()))
        {
            continue;
        }
        if claim.metadata.deletion_timestamp.is_some() {
            decision.waits.push(format!(
                "claim {namespace}/{name} is in use: it goes when the pods that use it have ended"
            ));
        } else {
            let why = kept(seen, &namespace, &name);
            decision.waits.push(why.unwrap_or_else(|| format!("claim {namespace}/{name} is being deleted")));
        }
        decision.volumes.push(VolumeStatus {
            namespace,
            claim_name: name,
            phase: VolumePhase::Blocked,
            message: Some("the Dataset is being deleted".into()),
        });
    }
    // A volume whose deletion was asked for goes by itself; nobody needs the Dataset for that.
    let finalized = seen.dataset.finalizers().iter().any(|finalizer| finalizer == marks::FINALIZER);
    if decision.waits.is_empty() && finalized {
        // Claims that are left bear our labels alone, and somebody may forbid their deletion: they come last.
        decision.acts.sort_by_key(|act| matches!(act, Act::DeleteClaim { .. }));
        let volumes = decision.acts.partition_point(|act| !matches!(act, Act::DeleteClaim { .. }));
        decision.acts.insert(volumes, Act::RemoveFinalizer);
    }
    decision
}

/// What a Dataset that is no more leaves behind, removed: claims, and volumes whose claim is gone.
pub fn leave(claims: &[Arc<PersistentVolumeClaim>], volumes: &[Arc<PersistentVolume>]) -> Vec<Act> {
    let mut acts: Vec<_> = claims.iter().filter_map(|claim| delete_claim(claim)).collect();
    for volume in volumes {
        let (namespace, name) = claim_of(volume);
        let held = |claim: &Arc<PersistentVolumeClaim>| {
            claim.namespace().unwrap_or_default() == namespace && claim.name_any() == name
        };
        if !claims.iter().any(held) {
            acts.extend(delete_volume(volume));
        }
    }
    acts
}

fn is_going(volume: &PersistentVolume) -> bool {
    volume.metadata.deletion_timestamp.is_some()
}

fn claim_of(volume: &PersistentVolume) -> (String, String) {
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    (text(reference.and_then(|r| r.namespace.as_ref())), text(reference.and_then(|r| r.name.as_ref())))
}

/// The claim that the volume is for, and no other of its name.
fn claim_uid(volume: &PersistentVolume) -> Option<String> {
    volume.spec.as_ref()?.claim_ref.as_ref()?.uid.clone()
}

fn delete_claim(claim: &PersistentVolumeClaim) -> Option<Act> {
    if claim.metadata.deletion_timestamp.is_some() {
        return None;
    }
    Some(Act::DeleteClaim { namespace: claim.namespace()?, name: claim.name_any(), uid: claim.uid()? })
}

fn delete_volume(volume: &PersistentVolume) -> Option<Act> {
    if is_going(volume) {
        return None;
    }
    Some(Act::DeleteVolume { name: volume.name_any(), uid: volume.uid()? })
}
