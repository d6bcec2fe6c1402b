//! What the operator says about a Dataset, and when it is worth a write. Pure.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use operator_api::crd::Dataset;
use operator_api::crd::common::set_condition;
use operator_api::crd::dataset::{Follow, Mount};
use operator_api::crd::dataset_status::{
    CacheStates, DatasetPhase, DatasetStatus, LastOperation, MAX_NODES, MAX_READERS, MAX_VERSIONS,
    MAX_VOLUMES, VersionStatus, VolumePhase, condition,
};
use operator_api::crd::operation::{OperationKind, OperationPhase, OperationStatus};
use operator_api::validate::quantity;
use operator_api::validate::url::StoreUrl;

use super::shown;
use super::volumes::Decision;
use crate::reconcile::measure::Measure;
use crate::reconcile::sentence::{MOST, bounded};

/// Shown where nobody has measured.
const UNKNOWN: &str = "Unknown";

/// Status writes that changed numbers may cost the apiserver, of all Datasets together.
const WRITES_A_SECOND: u64 = 20;

/// Numbers of one Dataset are written no more often than this.
const LEAST_INTERVAL: Duration = Duration::from_secs(30);

/// Whoever leads since so short a time has not been told all that its forerunner knew: agents come within seconds. Until
/// then a status keeps the numbers it has.
pub const SETTLE: Duration = Duration::from_secs(15);

/// And where no agent has told of the Dataset yet: of a leader whose node has died agents learn by their own pings, and
/// try its address once more, which takes 40 s together.
const SILENT: Duration = Duration::from_secs(60);

/// How long a claim may take to bind before its Dataset's status says that it waits: binding takes a second or
/// two, and a status that says so is a write for nothing.
pub const GRACE: Duration = Duration::from_secs(5);

/// The status that is true now.
pub fn status(
    dataset: &Dataset,
    decision: &Decision,
    measure: Option<&Measure>,
    last_operation: Option<LastOperation>,
    now: Timestamp,
) -> DatasetStatus {
    let old = dataset.status.clone().unwrap_or_default();
    let generation = dataset.metadata.generation;
    let mut conditions = old.conditions.clone();
    let mut say = |type_: &str, status: &str, reason: &str, message: String| {
        let condition = Condition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.into(),
            message,
            observed_generation: generation,
            last_transition_time: Time(now),
        };
        set_condition(&mut conditions, condition);
    };

    let deleting = dataset.metadata.deletion_timestamp.is_some();
    let blocked: Vec<_> = decision.volumes.iter().filter(|v| v.phase == VolumePhase::Blocked).collect();
    let waiting = decision.volumes.iter().filter(|v| v.phase == VolumePhase::Pending).count();
    let phase = if deleting {
        let (reason, message) = match decision.waits.as_slice() {
            [] => ("Finishing", "nothing is left to wait for".into()),
            waits => ("ClaimsInUse", bounded(&waits.join("; "), MOST)),
        };
        say(condition::TERMINATING, "True", reason, message);
        say(condition::READY, "False", "Terminating", "the Dataset is being deleted".into());
        DatasetPhase::Terminating
    } else if let Some(why) = &decision.invalid {
        say(condition::READY, "False", "Invalid", bounded(why, MOST));
        DatasetPhase::Failed
    } else if let Some(first) = blocked.first() {
        let message = first.message.clone().unwrap_or_default();
        let more = blocked.len() - 1;
        let message =
            if more == 0 { message } else { format!("{message}; and {more} more, see status.volumes") };
        say(condition::READY, "False", "ClaimBlocked", bounded(&message, MOST));
        DatasetPhase::Failed
    } else if waiting > 0 {
        let all = decision.volumes.len();
        let why = decision.volumes.iter().filter(|volume| volume.phase == VolumePhase::Pending);
        let why = why.filter_map(|volume| volume.message.as_deref()).next();
        let why = why.unwrap_or("kube-controller-manager binds them");
        let message = format!("{waiting} of {all} claims are not bound yet; {why}");
        say(condition::READY, "False", "Binding", bounded(&message, MOST));
        DatasetPhase::Pending
    } else {
        say(condition::READY, "True", "Bound", bound(dataset).into());
        DatasetPhase::Bound
    };

    match measure {
        Some(measure) if measure.reporting > 0 => {
            let (is, reason, message) = match other_than_pinned(dataset, measure) {
                Some((seen, message)) => (if seen { "True" } else { "Unknown" }, "OtherVersion", message),
                None => ("True", "AgentsReport", format!("reported by {}", agents(measure.reporting))),
            };
            say(condition::OBSERVED, is, reason, message);
        }
        Some(_) => say(
            condition::OBSERVED,
            "Unknown",
            "AgentsSilent",
            "agents told of it and do not any more; numbers are the last that were told".into(),
        ),
        None => say(condition::OBSERVED, "Unknown", "NotReported", not_reported(dataset)),
    }

    let mut status = DatasetStatus {
        observed_generation: generation,
        phase,
        conditions,
        volumes: decision.volumes.iter().take(MAX_VOLUMES).cloned().collect(),
        last_operation,
        ..DatasetStatus::default()
    };
    numbers(&mut status, dataset, measure, now);
    status
}

/// A claim that is bound is of no use to pods while nothing mounts its volume.
fn bound(dataset: &Dataset) -> &'static str {
    match shown::folder(dataset) {
        Some(_) => "every claim is bound",
        None => {
            "every claim is bound; pods that use one wait for the driver csi.headrace.io, which this release has not: it needs \
             none for a Dataset of one nfs:// mount whose path is /"
        }
    }
}

/// A store that no node mounts is seen by no agent, whoever waits.
fn not_reported(dataset: &Dataset) -> String {
    let unseen =
        |mount: &&Mount| StoreUrl::parse(&mount.mount_point).is_ok_and(|url| url.mounted().is_none());
    match dataset.spec.mounts.iter().find(unseen) {
        Some(mount) => format!(
            "no agent can tell of {}: agents see what nodes mount as nfs://, juicefs:// or mounted://, and other stores only \
             when the data path exists; where a driver mounts it, name it mounted:// and its source in mountinfo",
            mount.mount_point
        ),
        None => {
            "no agent has told of it: nothing is known of its bytes until a node with an agent has it mounted"
                .into()
        }
    }
}

/// The version that somebody has chosen.
fn pinned(dataset: &Dataset) -> Option<&String> {
    let policy = dataset.spec.version_policy.as_ref().filter(|policy| policy.follow == Follow::Pinned);
    policy.and_then(|policy| policy.version.as_ref())
}

/// Where the stores hold another version than the one that was chosen: whether anybody has ever seen that one, and a
/// sentence. Pods read what the stores hold.
fn other_than_pinned(dataset: &Dataset, measure: &Measure) -> Option<(bool, String)> {
    let chosen = pinned(dataset).filter(|chosen| measure.version.as_ref() != Some(chosen))?;
    let former = dataset.status.iter().flat_map(|old| &old.versions);
    let seen = measure.versions.iter().chain(former).any(|version| version.version == *chosen);
    let held = measure.version.as_deref().unwrap_or("none that agents know yet");
    Some((
        seen,
        format!(
            "pinned to version {chosen}, which {}; the stores hold {held}, and pods read what the stores hold",
            if seen {
                "the stores held before"
            } else {
                "no agent has ever seen there: look at status.versions"
            },
        ),
    ))
}

fn numbers(status: &mut DatasetStatus, dataset: &Dataset, measure: Option<&Measure>, now: Timestamp) {
    let unknown = Measure::default();
    let measure = measure.unwrap_or(&unknown);
    let told = *measure != unknown;
    status.version = pinned(dataset).cloned().or_else(|| measure.version.clone());
    // Agents tell of the present version. What others were, and since when, is no less true for whoever leads since then;
    // how much of them is held may be.
    let known = |old: &&VersionStatus| measure.versions.iter().any(|now| now.version == old.version);
    let former = dataset.status.iter().flat_map(|old| &old.versions).filter(|old| !known(old));
    let former = former.map(|old| VersionStatus { cached_bytes: None, ..old.clone() });
    status.versions = measure.versions.iter().cloned().chain(former).take(MAX_VERSIONS).collect();
    for version in &mut status.versions {
        version.current = Some(&version.version) == status.version.as_ref();
    }
    // When it was first seen is remembered here: agents come and go.
    for version in &mut status.versions {
        let known =
            dataset.status.iter().flat_map(|old| &old.versions).find(|old| old.version == version.version);
        version.first_seen = known.and_then(|old| old.first_seen.clone()).or(Some(Time(now)));
    }
    let mut measure = measure.clone();
    if status.version != measure.version {
        // Measured was the newest version. Of the one that it is pinned to only what its entry says is known.
        let current = status.versions.iter().find(|version| version.current);
        measure.total_bytes = current.and_then(|version| version.total_bytes);
        measure.file_num = current.and_then(|version| version.file_num);
        measure.cached_bytes = current.and_then(|version| version.cached_bytes);
        measure.nodes.clear();
    }
    let of_this = status.version == measure.version;
    status.total_bytes = measure.total_bytes;
    status.file_num = measure.file_num;
    status.cached_bytes = measure.cached_bytes;
    status.nodes = measure.nodes.iter().take(MAX_NODES).cloned().collect();
    status.readers = measure.readers.iter().take(MAX_READERS).cloned().collect();
    status.node_count = (told && of_this).then_some(measure.node_count);
    // What was held may well be there still; who read last says nothing of who reads now.
    status.reader_count = (measure.reporting > 0).then_some(measure.reader_count);

    let amount = |bytes: Option<i64>| {
        bytes.and_then(|bytes| u64::try_from(bytes).ok()).map_or_else(|| UNKNOWN.into(), quantity::words)
    };
    status.ufs_total = Some(amount(measure.total_bytes));
    let share = match (measure.cached_bytes, measure.total_bytes) {
        (Some(cached), Some(total)) if total > 0 => Some(cached as f64 / total as f64),
        _ => None,
    };
    status.cache_states = Some(CacheStates {
        cached: amount(measure.cached_bytes),
        cache_capacity: amount(measure.capacity_bytes),
        cached_percentage: percent(share),
        cache_hit_ratio: percent(measure.hit_share),
    });
}

/// What became of an operation that was deleted before its end.
const DELETED: &str = "Deleted";

pub fn has_ended(last: &LastOperation) -> bool {
    let over = [OperationPhase::Complete.name(), OperationPhase::Failed.name(), DELETED];
    over.contains(&last.phase.as_str())
}

/// The later one of what an operation says now and what is known; of one operation what it says now.
pub fn later(new: LastOperation, known: Option<LastOperation>) -> LastOperation {
    let Some(known) = known else { return new };
    let name = |last: &LastOperation| (last.kind.clone(), last.namespace.clone(), last.name.clone());
    let at = |last: &LastOperation| last.since.as_ref().map(|since| since.0);
    if name(&new) == name(&known) || at(&new) >= at(&known) { new } else { known }
}

/// What an operation's own status says of it.
pub fn last(kind: OperationKind, namespace: &str, name: &str, status: &OperationStatus) -> LastOperation {
    let ended = status.completion_time.as_ref().map(|time| time.0);
    let since = ended.or_else(|| Some(status.start_time.as_ref()?.0));
    LastOperation {
        kind: kind.name().into(),
        name: name.into(),
        namespace: namespace.into(),
        phase: status.phase.name().into(),
        // As it is kept: the same time twice is no change.
        since: since.and_then(|since| Timestamp::from_second(since.as_second()).ok()).map(Time),
    }
}

/// What is so of one that is said to be under way, by what it says itself: whoever ended it may not have come to say it
/// here. One that is not there any more was deleted.
pub fn as_it_is(last: LastOperation, own: Option<LastOperation>) -> LastOperation {
    match own {
        _ if has_ended(&last) => last,
        None => LastOperation { phase: DELETED.into(), ..last },
        Some(own) => LastOperation { since: own.since.or(last.since), ..own },
    }
}

/// Where in its leader's term a Dataset is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// How long this replica leads; none: nothing is an earlier term's.
    pub term: Option<Duration>,
    /// How long ago this term wrote the status, and whether what is measured in it is an earlier one's.
    pub wrote: Option<(Duration, bool)>,
    /// An agent has told of the Dataset.
    pub heard: bool,
    /// Between writes of numbers, and whose turn it is within that.
    pub interval: Duration,
    pub turn: u64,
}

/// Has the status keep what an earlier term has measured, for as long as it should: how long ago it counts as written,
/// and, where it keeps that, when to look again. What this term has not written is an earlier one's, and what it has
/// kept still is.
pub fn inherit(
    dataset: &Dataset,
    status: &mut DatasetStatus,
    moment: Moment,
) -> (Option<Duration>, Option<Duration>) {
    let Moment { term, wrote, heard, interval, turn } = moment;
    let since = wrote.map(|(since, _)| since);
    let own = wrote.is_some_and(|(_, kept)| !kept);
    let Some((old, term)) = dataset.status.as_ref().zip(term).filter(|_| !own) else { return (since, None) };
    let (keeps, inherited) = inherited(term, heard, interval, turn);
    if keeps.is_some() {
        keep_measured(dataset, status, old);
    }
    (since.or(Some(inherited)), keeps)
}

/// Leaves what is measured as an earlier term has written it. Another version that somebody has pinned the Dataset to is
/// not measured: what is said of it stands.
fn keep_measured(dataset: &Dataset, status: &mut DatasetStatus, old: &DatasetStatus) {
    if pinned(dataset).is_some() && status.version != old.version {
        return;
    }
    let observed = |condition: &&Condition| condition.type_ == condition::OBSERVED;
    if let Some(told) = old.conditions.iter().find(observed)
        && let Some(now) = status.conditions.iter_mut().find(|condition| observed(&&**condition))
    {
        now.clone_from(told);
    }
    let DatasetStatus {
        observed_generation: _,
        phase: _,
        conditions: _,
        volumes: _,
        last_operation: _,
        version,
        versions,
        total_bytes,
        file_num,
        cached_bytes,
        nodes,
        node_count,
        readers,
        reader_count,
        ufs_total,
        cache_states,
    } = old.clone();
    status.version = version;
    status.versions = versions;
    (status.total_bytes, status.file_num, status.cached_bytes) = (total_bytes, file_num, cached_bytes);
    (status.nodes, status.node_count) = (nodes, node_count);
    (status.readers, status.reader_count) = (readers, reader_count);
    (status.ufs_total, status.cache_states) = (ufs_total, cache_states);
}

/// Never 100 % while something is missing, never 0 % while something is there.
pub fn percent(share: Option<f64>) -> String {
    match share {
        None => UNKNOWN.into(),
        Some(share) if !share.is_finite() => UNKNOWN.into(),
        Some(share) => {
            let rounded = (share.clamp(0.0, 1.0) * 100.0).round() as i64;
            let honest = match rounded {
                100 if share < 1.0 => 99,
                0 if share > 0.0 => 1,
                other => other,
            };
            format!("{honest}%")
        }
    }
}

fn agents(nodes: usize) -> String {
    if nodes == 1 { "one agent".into() } else { format!("{nodes} agents") }
}

/// Whether a status is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    Nothing,
    Now,
    After(Duration),
}

/// What is new in `new`, and whether that is worth a write now. What a person or controller acts on is written
/// at once; numbers wait until the last write is `interval` ago.
pub fn worth(
    dataset: &Dataset,
    new: &DatasetStatus,
    since_write: Option<Duration>,
    interval: Duration,
    now: Timestamp,
) -> Worth {
    let Some(old) = &dataset.status else {
        return if new.phase == DatasetPhase::Pending { young(dataset, now) } else { Worth::Now };
    };
    if old == new {
        return Worth::Nothing;
    }
    if acted_on(old) != acted_on(new) {
        return if new.phase == DatasetPhase::Pending { young(dataset, now) } else { Worth::Now };
    }
    match since_write {
        Some(since) if since < interval => Worth::After(interval.saturating_sub(since)),
        _ => Worth::Now,
    }
}

/// A young Dataset that waits for binding: it will have something better to say in a moment.
fn young(dataset: &Dataset, now: Timestamp) -> Worth {
    let created = dataset.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let age = created.map(|created| now.duration_since(created));
    match age.and_then(|age| Duration::try_from(age).ok()) {
        Some(age) if age < GRACE => Worth::After(GRACE.saturating_sub(age)),
        _ => Worth::Now,
    }
}

/// Without the numbers.
fn acted_on(status: &DatasetStatus) -> DatasetStatus {
    let mut kept = DatasetStatus {
        observed_generation: status.observed_generation,
        phase: status.phase,
        conditions: status.conditions.clone(),
        version: status.version.clone(),
        volumes: status.volumes.clone(),
        last_operation: status.last_operation.clone(),
        ..DatasetStatus::default()
    };
    for condition in &mut kept.conditions {
        // How many agents report is a number.
        if condition.type_ == condition::OBSERVED {
            condition.message.clear();
        }
    }
    kept
}

/// Of a status that this term has not written: after what time to look again whether its numbers still stay as they are
/// (none: they do not), and how long ago it counts as written. `heard`: an agent has told of the Dataset. `turn` spreads
/// the first writes of a term over the interval.
fn inherited(term: Duration, heard: bool, interval: Duration, turn: u64) -> (Option<Duration>, Duration) {
    let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
    let turn = Duration::from_millis(turn % millis);
    let ends = if heard { SETTLE } else { SILENT };
    // What is silent now may be heard in a moment.
    let left = ends.checked_sub(term).filter(|left| !left.is_zero()).map(|left| left.min(SETTLE));
    (left, (term + interval).saturating_sub(SETTLE + turn))
}

/// The interval between writes of numbers: all Datasets together stay below [`WRITES_A_SECOND`].
pub fn interval(datasets: usize) -> Duration {
    LEAST_INTERVAL.max(Duration::from_secs(datasets as u64 / WRITES_A_SECOND))
}

/// For log and events: who it is.
pub fn who(dataset: &Dataset) -> String {
    format!("{}/{}", dataset.namespace().unwrap_or_default(), dataset.name_any())
}
