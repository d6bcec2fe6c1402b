//! Who loads what, and what has become of it. Pure.
//!
//! A whole Dataset of a known version is cut into pieces of chunks that lie in a row, and the pieces go round the
//! nodes; a part of it that is given by path goes to as many nodes as it should be on. The order of the nodes
//! follows from the DataLoad's uid: the same nodes get the same pieces after a restart, different loads begin at
//! different nodes.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use operator_api::crd::DataLoad;
use operator_api::crd::operation::{OperationPhase, OperationStatus, Progress, condition};
use operator_api::validate::quantity;

use super::timing::Outcome;
use crate::inventory::{Chunks, Name, Version, chunks_in};
use crate::reconcile::agents::{Standing, Wish};
use crate::reconcile::dataset::status::SETTLE;
use crate::reconcile::sentence::{MOST, bounded};

/// Of the identities of all instructions that come from DataLoads.
pub const PREFIX: &str = "load/";

/// Pieces that one target is cut into: enough for every node of a large load to take part, and few enough for
/// each to be worth an instruction.
const MAX_PIECES: u32 = 256;

/// Wishes of one DataLoad.
const MAX_WISHES: usize = 4_096;

/// Priority of a load that names none.
const PRIORITY: i32 = 50;

/// What a load is planned from.
#[derive(Clone, Debug)]
pub struct Ground<'a> {
    /// `namespace/name`.
    pub dataset: Name,
    pub candidates: &'a [Name],
    /// Nodes that would be among them, each with the Dataset that keeps it off.
    pub kept_off: &'a [(Name, Name)],
    /// The version that readers see, and its bytes.
    pub version: Option<(Version, Option<u64>)>,
    /// Bytes of it that one node may hold.
    pub quota: Option<u64>,
}

/// What keeps a load from being planned; none when nothing does.
pub fn obstacle(load: &DataLoad, ground: &Ground<'_>) -> Option<String> {
    let wanted = replicas(load);
    if ground.candidates.len() < wanted {
        return Some(format!(
            "{wanted} nodes are to hold it, and the agents of {} have Dataset {} on a mount, of nodes that its \
             cache.nodeSelector and tolerations let in: mount it on more nodes, let more in, or ask for fewer replicas{}",
            ground.candidates.len(),
            ground.dataset,
            left_out(ground).map_or_else(String::new, |why| format!("; {why}"))
        ));
    }
    let targets = targets(load);
    if spare(&targets, ground).is_none() {
        let asked: usize = targets.iter().map(|target| copies(target, ground)).sum();
        return Some(format!(
            "its targets and their replicas are {asked} parts to load, and one DataLoad has {MAX_WISHES} at most: take \
             fewer targets or replicas, or make several DataLoads"
        ));
    }
    if let Some(text) = &load.spec.version {
        let Some(version) = Version::parse(text) else {
            return Some(format!(
                "version {text} is no version of a Dataset: take one from its status.versions"
            ));
        };
        if ground.version.is_some_and(|(current, _)| current != version) {
            return Some(format!(
                "the stores do not hold version {text} any more: take out version, or name the present one"
            ));
        }
        if ground.version.is_none() {
            return Some(format!("no agent has told yet which version Dataset {} is of", ground.dataset));
        }
    }
    beyond_quota(load, ground)
}

/// Why nodes are left out that it could otherwise use; none where none are.
pub fn left_out(ground: &Ground<'_>) -> Option<String> {
    let (node, other) = ground.kept_off.first()?;
    let more = match ground.kept_off.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "left out: node {node}, where Dataset {other} is placed or loaded{more}, because nodes are not shared where cache.placement \
         is Exclusive: take that out, or keep the two apart by their cache.nodeSelector"
    ))
}

/// Copies of the whole Dataset that its nodes may not hold: placement would have them dropped again. How large a part of it
/// is that is given by path only the agents know.
fn beyond_quota(load: &DataLoad, ground: &Ground<'_>) -> Option<String> {
    let (quota, bytes) = (ground.quota?, ground.version?.1?);
    let targets = targets(load);
    let spare = spare(&targets, ground)?;
    let each = |target: &(&str, i32)| {
        let copies = copies(target, ground);
        let pieces = pieces("", ground, finest(ground.candidates.len(), spare, targets.len(), copies)).len();
        // Pieces go round, so that a node's are of the copies of as many pieces in a row.
        u128::from(bytes) * copies.min(pieces) as u128 / pieces as u128
    };
    let whole = targets.iter().filter(|target| target.0.trim_matches('/').is_empty());
    let each = u64::try_from(whole.map(each).sum::<u128>()).unwrap_or(u64::MAX);
    (each > quota).then(|| {
        format!(
            "Dataset {} is {}, of which it would put up to {} on a node, and its cache lets a node hold {}: raise \
             cache.quota, let more nodes in, ask for fewer replicas, or name in target the paths that matter",
            ground.dataset,
            quantity::words(bytes),
            quantity::words(each),
            quantity::words(quota),
        )
    })
}

/// Wishes that are left when each target is cut into one piece; none where even these are too many.
fn spare(targets: &[(&str, i32)], ground: &Ground<'_>) -> Option<usize> {
    MAX_WISHES.checked_sub(targets.iter().map(|target| copies(target, ground)).sum())
}

/// Into how many pieces a target is cut at the most: what is cut finer than there is room for would not be asked for whole.
fn finest(nodes: usize, spare: usize, targets: usize, copies: usize) -> usize {
    nodes.min(1 + spare / (targets * copies).max(1))
}

fn replicas(load: &DataLoad) -> usize {
    let own = load.spec.replicas.unwrap_or(1);
    let most = load.spec.target.iter().filter_map(|target| target.replicas).chain([own]).max().unwrap_or(1);
    usize::try_from(most).unwrap_or(1).max(1)
}

/// Paths, and on how many nodes each should be.
fn targets(load: &DataLoad) -> Vec<(&str, i32)> {
    let own = load.spec.replicas.unwrap_or(1);
    if load.spec.target.is_empty() {
        return vec![("/", own)];
    }
    load.spec.target.iter().map(|target| (target.path.as_str(), target.replicas.unwrap_or(own))).collect()
}

/// On how many nodes a target can be.
fn copies((_, replicas): &(&str, i32), ground: &Ground<'_>) -> usize {
    usize::try_from(*replicas).unwrap_or(1).clamp(1, ground.candidates.len().max(1))
}

/// Whether planning waits for agents to come back: whoever leads since so short a `term` goes on with what was begun
/// before, and few nodes would be asked for what many have in hand.
pub fn settles(phase: OperationPhase, term: Option<Duration>) -> bool {
    phase == OperationPhase::Executing && term.is_some_and(|term| term < SETTLE)
}

/// What to ask of whom.
pub fn plan(load: &DataLoad, run: i64, attempt: i32, ground: &Ground<'_>) -> Vec<Wish> {
    let uid = load.uid().unwrap_or_default();
    let mut nodes: Vec<&Name> = ground.candidates.iter().collect();
    nodes.sort_by_cached_key(|node| (fnv(&[uid.as_bytes(), node.as_bytes()]), (*node).clone()));
    nodes.dedup();
    if nodes.is_empty() {
        return Vec::new();
    }
    let targets = targets(load);
    // Somebody has changed it since it began. A part of it would pass for all of it, so nothing is begun.
    let Some(spare) = spare(&targets, ground) else { return Vec::new() };
    let mut wishes = Vec::new();
    let mut turn = 0;
    for (index, target) in targets.iter().enumerate() {
        let path = target.0.trim_matches('/').to_owned();
        let copies = copies(target, ground);
        let most = finest(nodes.len(), spare, targets.len(), copies);
        // Earlier targets are more important.
        let base = load.spec.priority.unwrap_or(PRIORITY).unsigned_abs() * 1_000;
        let priority = base + 999_u32.saturating_sub(u32::try_from(index).unwrap_or(999));
        for piece in pieces(&path, ground, most) {
            for copy in 0..copies {
                let Some(node) = nodes.get((turn + copy) % nodes.len()) else { continue };
                wishes.push(Wish {
                    id: format!(
                        "{PREFIX}{uid}/{run}/{attempt}/{index}/{}/{copy}",
                        extent(piece.as_ref(), ground)
                    ),
                    node: (*node).clone(),
                    dataset: ground.dataset.clone(),
                    path: path.clone(),
                    chunks: piece.clone().and_then(|p| Some((ground.version?.0, vec![p]))),
                    pin: load.spec.pin,
                    priority,
                    reason: format!("DataLoad {}/{}", load.namespace().unwrap_or_default(), load.name_any()),
                    awaits_mount: false,
                });
            }
            turn += 1;
        }
    }
    wishes
}

/// A piece, in an identity. Whoever leads next may cut otherwise, or another version: an end of that is no end of this.
/// Half of a version says which it is, and identities are short.
fn extent(piece: Option<&Chunks>, ground: &Ground<'_>) -> String {
    match (piece, ground.version) {
        (Some(piece), Some((version, _))) => {
            format!("{}-{}-{:016x}", piece.start, piece.end, version.0 & u128::from(u64::MAX))
        }
        _ => "all".into(),
    }
}

/// The uid and the run that an identity is of.
pub fn owner(id: &str) -> Option<(&str, i64)> {
    let mut parts = id.strip_prefix(PREFIX)?.split('/');
    Some((parts.next()?, parts.next()?.parse().ok()?))
}

/// Whether a run's instructions may still be under way, or held: a failed one's are taken back.
pub fn wants(load: &DataLoad, run: i64) -> bool {
    load.metadata.deletion_timestamp.is_none()
        && load.status.as_ref().is_some_and(|status| {
            // What is written may be older than what was asked.
            run > status.run || run == status.run && !gave_up(status)
        })
}

/// Whether a run is over and has left nothing at its nodes that is held, so that nobody asks for its instructions again.
pub fn is_done_with(load: &DataLoad, run: i64) -> bool {
    let over = |status: &OperationStatus| {
        run == status.run && status.phase != OperationPhase::Executing && status.next_attempt_time.is_none()
    };
    !load.spec.pin && load.status.as_ref().is_some_and(over)
}

/// Whether its last run was given up. One that runs again and again then waits for its next.
fn gave_up(status: &OperationStatus) -> bool {
    let said = |c: &Condition| c.type_ == condition::FAILED && c.status == "True";
    let waits = status.phase == OperationPhase::Pending && status.next_attempt_time.is_none();
    status.phase == OperationPhase::Failed || waits && status.conditions.iter().any(said)
}

/// The pieces of a target, so many at most; one without chunks where it cannot be cut.
fn pieces(path: &str, ground: &Ground<'_>, most: usize) -> Vec<Option<Chunks>> {
    let chunks = ground.version.and_then(|(_, bytes)| bytes).map(chunks_in);
    let Some(chunks) = chunks.filter(|chunks| path.is_empty() && *chunks > 0) else { return vec![None] };
    let pieces = u32::try_from(most).unwrap_or(MAX_PIECES).clamp(1, MAX_PIECES).min(chunks);
    let cut = |i: u32| u32::try_from(u64::from(chunks) * u64::from(i) / u64::from(pieces)).unwrap_or(chunks);
    (0..pieces).map(|i| Some(cut(i)..cut(i + 1))).collect()
}

fn fnv(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter().copied().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What has become of a load, from what has become of its wishes. Done only when every one of them is.
pub fn outcome(standings: &[(Name, Standing)]) -> Outcome {
    // Its nodes went between the decision to start and the plan: nothing was begun, and nothing is done.
    if standings.is_empty() {
        return Outcome::Absent;
    }
    let (mut done, mut total, mut known) = (0_u64, 0_u64, true);
    let mut open = 0;
    let mut failures = Vec::new();
    for (node, standing) in standings {
        match standing {
            Standing::Waiting => {
                open += 1;
                known = false;
            }
            Standing::Going { bytes, total: of } => {
                open += 1;
                done = done.saturating_add(*bytes);
                total = total.saturating_add(*of);
                known &= *of > 0;
            }
            Standing::Done { bytes } => {
                done = done.saturating_add(*bytes);
                total = total.saturating_add(*bytes);
            }
            Standing::Failed { bytes, why } => {
                done = done.saturating_add(*bytes);
                failures.push(format!("node {node}: {why}"));
            }
        }
    }
    if open > 0 {
        return Outcome::Running(progress(done, known.then_some(total)));
    }
    match failures.as_slice() {
        [] => Outcome::Succeeded(Progress { percentage: "100%".into(), ..progress(done, Some(done)) }),
        [first] => Outcome::Failed(first.clone()),
        [first, rest @ ..] => Outcome::Failed(format!("{first}; and {} more", rest.len())),
    }
}

/// An outcome with what a person should know although it goes well.
pub fn noted(mut outcome: Outcome, note: Option<&String>) -> Outcome {
    if let Outcome::Running(progress) | Outcome::Succeeded(progress) = &mut outcome {
        progress.note = note.map(|note| bounded(note, MOST));
    }
    outcome
}

fn progress(done: u64, total: Option<u64>) -> Progress {
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let percentage = match total {
        // Under way is never 100 %.
        Some(total) if total > 0 => {
            format!("{}%", (u128::from(done.min(total)) * 100 / u128::from(total)).min(99))
        }
        _ => format!("{} of Unknown", quantity::words(done)),
    };
    Progress { percentage, bytes_done: Some(signed(done)), bytes_total: total.map(signed), note: None }
}
