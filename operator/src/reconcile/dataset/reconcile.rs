//! The edge: sees, has [`volumes`](super::volumes) and [`status`](super::status) decide, writes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use operator_api::crd::Dataset;
use operator_api::crd::dataset_status::{DatasetPhase, DatasetStatus, LastOperation, condition};
use operator_api::crd::operation::OperationKind;
use operator_api::validate::dataset::judge;

use super::status::{self, Worth};
use super::targets::{self, Target};
use super::volumes::{self, Act, Home, Obstacle, Seen};
use crate::clock;
use crate::inventory::hash::hash64;
use crate::marks;
use crate::reconcile::event::Events;
use crate::reconcile::measure::Measured;
use crate::reconcile::write::{Created, WriteError, Writer};
use crate::watch::{Judged, Stores};

/// How long something stays that only a person can put right before it is tried again.
const RETRY_BLOCKED: Duration = Duration::from_secs(60);

/// The watch brings what was written within this time, or the write is looked at as unknown.
const LAG: Duration = Duration::from_secs(10);

/// Looks in a row that each learned something: claims are made, then their volumes, then what was refused is said. The
/// rest is for what others do meanwhile.
const MAX_LOOKS: usize = 6;

/// What reconciling Datasets needs.
pub struct Context {
    pub stores: Stores,
    pub writer: Writer,
    pub events: Events,
    pub measured: Arc<dyn Measured>,
    /// What operations last did to a Dataset, by its uid, and when that was heard.
    pub last_operations: Mutex<HashMap<String, (Instant, LastOperation)>>,
    /// The status of a Dataset that was last written, by its uid: the watch comes later.
    pub written: Mutex<HashMap<String, Written>>,
    /// Since when this replica leads.
    pub leads_since: Mutex<Option<Instant>>,
}

/// A status that this term has written.
#[derive(Clone, Debug)]
pub struct Written {
    at: Instant,
    status: DatasetStatus,
    /// What is measured in it is an earlier term's.
    kept: bool,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("writer", &self.writer).finish_non_exhaustive()
    }
}

/// One look at one Dataset.
pub async fn reconcile(mut dataset: Arc<Dataset>, context: Arc<Context>) -> Result<Action, WriteError> {
    context.writer.may_write()?;
    let uid = dataset.uid().unwrap_or_default();
    let mut obstacles = BTreeMap::new();
    let mut decision = volumes::Decision::default();
    let (mut put_off, mut failed) = (false, None);
    let mut held = None;
    'looks: for _ in 0..MAX_LOOKS {
        let seen = look(&context, &dataset, &uid, obstacles);
        decision = volumes::decide(&seen);
        obstacles = seen.obstacles;
        let mut learned = false;
        for act in &decision.acts {
            match perform(&context, &dataset, act, &mut obstacles).await {
                Ok(more) => learned |= more,
                Err(error) => match undone(&dataset, act, error, &mut obstacles)? {
                    Undone::PutOff => put_off = true,
                    Undone::Kept(error) => {
                        learned = true;
                        failed = error.or(failed);
                    }
                    Undone::Unguarded => continue 'looks,
                    Undone::Held(why) => held = Some(why),
                },
            }
        }
        if decision.acts.contains(&Act::AddFinalizer) {
            // Not once more at the next look: the watch is later than that.
            Arc::make_mut(&mut dataset).finalizers_mut().push(marks::FINALIZER.into());
        }
        // A finalizer that was taken out is still in what was seen, and cannot be taken out twice.
        if !learned || decision.acts.contains(&Act::RemoveFinalizer) {
            break;
        }
    }
    decision.waits.extend(held);
    if dataset.metadata.deletion_timestamp.is_some() && decision.waits.is_empty() {
        // The last finalizer of ours is gone, and perhaps the object: nothing more to say.
        context.forget(&uid);
        return Ok(Action::await_change());
    }
    let told = tell(&context, &dataset, &uid, &decision, put_off || !obstacles.is_empty()).await?;
    failed.map_or(Ok(told), Err)
}

/// What is done about an act that was not done.
enum Undone {
    /// The rest is done, and this is tried again later.
    PutOff,
    /// A claim is still there, which status says. An error: the apiserver did not refuse it, so it is tried again soon.
    Kept(Option<WriteError>),
    /// The finalizer is not there, and nothing is made before it is.
    Unguarded,
    /// The finalizer stays, for this reason.
    Held(String),
}

/// An error: nothing else is done at this look.
fn undone(
    dataset: &Dataset,
    act: &Act,
    error: WriteError,
    obstacles: &mut BTreeMap<Target, Obstacle>,
) -> Result<Undone, WriteError> {
    if !matches!(error, WriteError::Api { .. }) {
        return Err(error);
    }
    let who = status::who(dataset);
    let ends = dataset.metadata.deletion_timestamp.is_some();
    let refused = error.refusal().is_some();
    let message = error.refusal().map_or_else(|| error.to_string(), str::to_owned);
    match act {
        Act::AddFinalizer if refused => {
            tracing::warn!(dataset = who, message, "the finalizer was refused: no claim is made without it");
            for target in targets::of(dataset) {
                obstacles.insert(target, Obstacle::Unguarded { message: message.clone() });
            }
            Ok(Undone::Unguarded)
        }
        // 422: what was read is not what is there any more, and the next look is at that.
        Act::RemoveFinalizer if refused && error.code() != Some(422) => {
            let finalizer = marks::FINALIZER;
            Ok(Undone::Held(format!(
                "the apiserver refused to take the finalizer {finalizer} out: {message}"
            )))
        }
        // Nobody needs the Dataset for that: what it leaves behind is swept once it is gone.
        Act::DeleteVolume { name, .. } if ends || refused => {
            tracing::warn!(dataset = who, message, "volume {name} could not be deleted; it is tried again");
            Ok(Undone::PutOff)
        }
        Act::DeleteClaim { namespace, name, .. } if ends || refused => {
            tracing::warn!(
                dataset = who,
                message,
                "claim {namespace}/{name} could not be deleted; it is tried again"
            );
            let target = Target { namespace: namespace.clone(), claim: name.clone() };
            obstacles.insert(target, Obstacle::Kept { message });
            Ok(Undone::Kept((!refused).then_some(error)))
        }
        _ => Err(error),
    }
}

fn look<'a>(
    context: &Context,
    dataset: &'a Dataset,
    uid: &str,
    obstacles: BTreeMap<Target, Obstacle>,
) -> Seen<'a> {
    let home = |name: &str| match context.stores.namespace(name) {
        None => Home::Missing,
        Some(namespace) if namespace.metadata.deletion_timestamp.is_some() => Home::Terminating,
        Some(_) => Home::Active,
    };
    let targets = targets::of(dataset);
    let own = dataset.namespace().unwrap_or_default();
    let invalid = judge(&own, dataset, &Judged(&context.stores)).err();
    Seen {
        dataset,
        invalid: invalid.map(|why| why.to_string()),
        claims: context.stores.claims.of(uid),
        volumes: context.stores.volumes.of(uid),
        homes: targets.iter().map(|target| (target.namespace.clone(), home(&target.namespace))).collect(),
        obstacles,
    }
}

/// True: something was learned that the decision did not know: a claim, an obstacle, or that something has gone.
async fn perform(
    context: &Context,
    dataset: &Dataset,
    act: &Act,
    obstacles: &mut BTreeMap<Target, Obstacle>,
) -> Result<bool, WriteError> {
    let writer = &context.writer;
    let own = dataset.namespace().unwrap_or_default();
    match act {
        Act::AddFinalizer => {
            writer.add_finalizer(&writer.namespaced::<Dataset>(&own), dataset, marks::FINALIZER).await?;
        }
        Act::RemoveFinalizer => {
            writer.remove_finalizer(&writer.namespaced::<Dataset>(&own), dataset, marks::FINALIZER).await?;
        }
        Act::CreateVolume(target, volume) => {
            if obstacles.contains_key(target) {
                return Ok(false);
            }
            match writer.create(&writer.all::<PersistentVolume>(), &**volume).await? {
                Created::New(volume) => context.stores.volumes.note(volume),
                // The name holds the uid: it is ours, and the watch is late.
                Created::Exists => {
                    return Err(WriteError::Unseen { kind: "PersistentVolume", name: volume.name_any() });
                }
                Created::Refused(message) => {
                    tracing::warn!(dataset = status::who(dataset), message, "a volume was refused");
                    // What refuses one volume of a Dataset refuses all: they differ in names.
                    for target in targets::of(dataset) {
                        let what = "the volume of claim";
                        obstacles.insert(target, Obstacle::Refused { what, message: message.clone() });
                    }
                    return Ok(true);
                }
            }
        }
        Act::CreateClaim(target, claim) => {
            let api = writer.namespaced::<PersistentVolumeClaim>(&target.namespace);
            match writer.create(&api, &**claim).await? {
                // Its volume can be made now.
                Created::New(claim) => context.stores.claims.note(claim),
                Created::Exists => {
                    // None: it has gone in between, and the next look makes it.
                    if let Some(claim) = writer.read(&api, &target.claim).await? {
                        met(context, dataset, target, claim, obstacles);
                    }
                }
                Created::Refused(message) => {
                    obstacles.insert(target.clone(), Obstacle::Refused { what: "claim", message });
                }
            }
            return Ok(true);
        }
        Act::DeleteClaim { namespace, name, uid } => {
            let api = writer.namespaced::<PersistentVolumeClaim>(namespace);
            if !writer.delete(&api, name, uid).await? {
                context.stores.claims.gone(namespace, name, uid);
                return Ok(true);
            }
        }
        Act::DeleteVolume { name, uid } => {
            if !writer.delete(&writer.all::<PersistentVolume>(), name, uid).await? {
                context.stores.volumes.gone("", name, uid);
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// A claim of the wanted name is there.
fn met(
    context: &Context,
    dataset: &Dataset,
    target: &Target,
    claim: PersistentVolumeClaim,
    obstacles: &mut BTreeMap<Target, Obstacle>,
) {
    let label = |key| claim.labels().get(key).cloned().unwrap_or_default();
    match claim.labels().get(marks::DATASET_UID) {
        Some(uid) if Some(uid) == dataset.uid().as_ref() => context.stores.claims.note(claim),
        Some(_) => {
            let other = format!("{}/{}", label(marks::DATASET_NAMESPACE), label(marks::DATASET_NAME));
            obstacles.insert(target.clone(), Obstacle::Taken { dataset: other });
        }
        None => {
            obstacles.insert(target.clone(), Obstacle::Foreign);
        }
    }
}

/// Writes the status where that is worth it, and says when to look again.
async fn tell(
    context: &Context,
    dataset: &Dataset,
    uid: &str,
    decision: &volumes::Decision,
    blocked: bool,
) -> Result<Action, WriteError> {
    let now = clock::now();
    let own = dataset.namespace().unwrap_or_default();
    let dataset = &Dataset { status: context.freshest(uid, dataset.status.as_ref()), ..dataset.clone() };
    let measure = context.measured.dataset(&own, &dataset.name_any());
    let last = context.last_operation(uid, dataset.status.as_ref());
    let mut new = status::status(dataset, decision, measure.as_ref(), last, now);
    let interval = status::interval(context.stores.datasets.len());
    let moment = status::Moment {
        term: context.term(),
        wrote: context.last_write(uid),
        heard: measure.as_ref().is_some_and(|measure| measure.reporting > 0),
        interval,
        turn: hash64(uid),
    };
    let (since, keeps) = status::inherit(dataset, &mut new, moment);
    let look_again = keeps.unwrap_or(if blocked { RETRY_BLOCKED } else { interval });
    let worth = status::worth(dataset, &new, since, interval, now);
    match worth {
        Worth::Nothing => {}
        Worth::After(wait) => return Ok(Action::requeue(wait.min(look_again))),
        Worth::Now => {
            if !context.writer.status(&context.writer.namespaced::<Dataset>(&own), dataset, &new).await? {
                context.forget(uid);
                return Ok(Action::await_change());
            }
            context.note_write(uid, &new, keeps.is_some());
            announce(context, dataset, &new).await;
        }
    }
    Ok(Action::requeue(look_again))
}

/// An event when the Dataset's state becomes another.
async fn announce(context: &Context, dataset: &Dataset, new: &DatasetStatus) {
    let old = dataset.status.as_ref().map(|status| status.phase);
    let of = |type_: &str| new.conditions.iter().find(|condition| condition.type_ == type_);
    let (bad, condition) = match new.phase {
        phase if Some(phase) == old => return,
        DatasetPhase::Failed => (true, of(condition::READY)),
        DatasetPhase::Terminating => (false, of(condition::TERMINATING)),
        // Good again after it was not; that it was made is no news to whoever made it.
        DatasetPhase::Bound if old == Some(DatasetPhase::Failed) => (false, of(condition::READY)),
        DatasetPhase::Bound | DatasetPhase::Pending => return,
    };
    if let Some(condition) = condition {
        context.events.tell(&dataset.object_ref(&()), bad, &condition.reason, &condition.message).await;
    }
}

impl Context {
    /// A term begins: what an earlier one remembered may be another's by now.
    pub fn begin_term(&self) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.last_operations.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.measured.begin_term();
        *self.leads_since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// For how long this replica has led.
    pub fn term(&self) -> Option<Duration> {
        let since = *self.leads_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.map(|since| since.elapsed())
    }

    /// How long ago it was written in this term, and whether what is measured in it is an earlier one's.
    fn last_write(&self, uid: &str) -> Option<(Duration, bool)> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.get(uid).map(|written| (written.at.elapsed(), written.kept))
    }

    /// The last status written, where the watch has not brought it yet.
    fn freshest(&self, uid: &str, seen: Option<&DatasetStatus>) -> Option<DatasetStatus> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let recent =
            written.get(uid).filter(|written| written.at.elapsed() < LAG).map(|written| &written.status);
        recent.or(seen).cloned()
    }

    fn note_write(&self, uid: &str, status: &DatasetStatus, kept: bool) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.insert(uid.into(), Written { at: Instant::now(), status: status.clone(), kept });
    }

    /// An operation has done something to the Dataset.
    pub fn touched(&self, uid: String, by: LastOperation) {
        let mut all = self.last_operations.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.remove(&uid).map(|(_, known)| known);
        all.insert(uid, (Instant::now(), status::later(by, known)));
    }

    /// What was last done to the Dataset: by this term's memory where the watch may not have brought it yet, and else by the
    /// operation itself, which this or an earlier term may have written without coming to say it here.
    fn last_operation(&self, uid: &str, old: Option<&DatasetStatus>) -> Option<LastOperation> {
        let known = old.and_then(|old| old.last_operation.clone());
        let mut all = self.last_operations.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((at, told)) = all.get_mut(uid) else {
            return known.map(|known| status::as_it_is(known.clone(), own(&self.stores, &known)));
        };
        let last = status::later(told.clone(), known);
        let mut own = own(&self.stores, &last);
        if at.elapsed() < LAG && last == *told {
            own = own.map(|_| last.clone());
        }
        *told = status::as_it_is(last, own);
        Some(told.clone())
    }

    /// Wakes the Datasets whose status names an operation as under way that is not, or is not there: nobody else tells of it.
    pub fn wake_for_operations(&self) {
        for dataset in self.stores.datasets.state() {
            let named = dataset.status.as_ref().and_then(|status| status.last_operation.as_ref());
            if named.is_some_and(|last| status::as_it_is(last.clone(), own(&self.stores, last)) != *last) {
                self.stores.wakes.dataset(&dataset.namespace().unwrap_or_default(), &dataset.name_any());
            }
        }
    }

    fn forget(&self, uid: &str) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        self.last_operations.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// What the operation itself says; none: it is not there.
fn own(stores: &Stores, last: &LastOperation) -> Option<LastOperation> {
    let kind = OperationKind::ALL.into_iter().find(|kind| kind.name() == last.kind)?;
    let (_, status) = stores.operation(kind, &last.namespace, &last.name)?;
    Some(status::last(kind, &last.namespace, &last.name, &status))
}
