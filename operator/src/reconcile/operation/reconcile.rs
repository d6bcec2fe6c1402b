//! The edge: sees, has [`timing`](super::timing) decide, writes, and only then starts or stops.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ListParams;
use kube::runtime::controller::Action;
use operator_api::crd::operation::{Event, OperationKind, OperationPhase, OperationRef, OperationStatus};
use operator_api::crd::{AccessProfile, DataLoad, Dataset};

use super::asked::{self, Asked};
use super::events::{self, Happened, Known};
use super::job::{self, Needs, Refused, Work, Worker};
use super::load::{self, Ground};
use super::task::{self, Profiles, Said};
use super::timing::{self, Act, Before, Decision, Outcome, Seen};
use crate::clock;
use crate::inventory::Name;
use crate::marks;
use crate::reconcile::agents::{Agents, Standing, Wish};
use crate::reconcile::dataset;
use crate::reconcile::dataset::reconcile::Context as Datasets;
use crate::reconcile::write::{Created, WriteError};
use crate::watch::{Judged, facts};

/// Progress alone is written no more often than this.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// AccessProfiles of one answer: some 20 MiB at most.
const PAGE: u32 = 64;

/// What reconciling operations needs.
pub struct Context {
    pub datasets: Arc<Datasets>,
    pub agents: Arc<dyn Agents>,
    /// Image of movers and backups.
    pub image: Option<String>,
    /// What was asked of agents, by the operation's uid.
    pub asked: Mutex<HashMap<String, Asked>>,
    /// Tries whose Job was refused, by the operation's uid.
    pub refused: Mutex<HashMap<String, Refused>>,
    /// When a status was last written, and what, by the operation's uid: the watch comes later.
    pub written: Mutex<HashMap<String, (Instant, OperationStatus)>>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("image", &self.image).finish_non_exhaustive()
    }
}

/// One look at one operation.
pub async fn reconcile<K: Work>(operation: Arc<K>, context: Arc<Context>) -> Result<Action, WriteError> {
    context.datasets.writer.may_write()?;
    let uid = operation.uid().unwrap_or_default();
    if operation.meta().deletion_timestamp.is_some() {
        context.let_go(&uid);
        return Ok(Action::await_change());
    }
    let namespace = operation.namespace().unwrap_or_default();
    let old = context.freshest(&uid, operation.status());
    let needed = operation.datasets(&namespace);
    let datasets: Vec<_> =
        needed.iter().map(|(ns, name)| context.datasets.stores.dataset(ns, name)).collect();
    let claims = &context.datasets.stores.claims;
    let worker = operation.worker(Needs { image: context.image.as_deref(), datasets: &datasets, claims });
    let missing = job::missing(&namespace, &needed, &datasets);

    let ready = match (&missing, &worker) {
        (Some(why), _) => Err(why.clone()),
        (None, Worker::Pod(Err(why))) => Err(why.clone()),
        (None, Worker::Pod(Ok(_))) => Ok(()),
        // Nothing is begun yet, so there is nothing to say.
        (None, Worker::Agents(_)) if load::settles(old.phase, context.datasets.term()) => Ok(()),
        (None, Worker::Agents(load)) => {
            let asked = context.asked.lock().unwrap_or_else(PoisonError::into_inner);
            context.grounded(&asked, &namespace, load, |_| ())
        }
    };
    if matches!(worker, Worker::Pod(_)) && old.phase != OperationPhase::Executing {
        context.stop_strays(&*operation, &namespace, &old).await?;
    }
    let mut outcome = if old.phase == OperationPhase::Executing {
        context.outcome(&*operation, &namespace, &worker, &old)
    } else {
        Outcome::Absent
    };
    if operation.answers() && outcome.has_ended() {
        outcome = context.said(&*operation, &namespace, &old, outcome).await;
    }
    let seen = Seen {
        timing: operation.timing(),
        status: old.clone(),
        generation: operation.meta().generation,
        created: operation.meta().creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        before: operation
            .timing()
            .run_after
            .iter()
            .map(|before| context.before(&namespace, before))
            .collect(),
        events: context.events(&*operation, &needed),
        invalid: operation
            .judge(&namespace, &Judged(&context.datasets.stores))
            .err()
            .map(|why| why.to_string()),
        ready,
        lost: missing,
        outcome,
        now: clock::now(),
        awaited: old.phase.is_over()
            && operation.timing().ttl_seconds_after_finished.is_some()
            && context
                .datasets
                .stores
                .is_awaited(&namespace, &OperationRef { kind: K::KIND, name: operation.name_any() }),
    };
    let Decision { mut status, act, look_again, news } = timing::decide(&seen);
    if let (Worker::Pod(_), OperationPhase::Executing) = (&worker, status.phase) {
        status.job_name = Some(marks::job(&operation.name_any(), &uid, status.run, status.failures));
    }

    let api = context.datasets.writer.namespaced::<K>(&namespace);
    let mut wait = look_again;
    if status != old || operation.status().is_none() {
        if context.only_progress(&uid, &old, &status) {
            wait = Some(PROGRESS_INTERVAL.min(wait.unwrap_or(PROGRESS_INTERVAL)));
        } else {
            if !context.datasets.writer.status(&api, &*operation, &status).await? {
                context.let_go(&uid);
                return Ok(Action::await_change());
            }
            context.note(&uid, &status);
            context.tell_datasets::<K>(&operation, &namespace, &datasets, &status);
        }
    }
    // Only now: a run that is not written down might be started twice.
    let stands = match act {
        Some(Act::Start { .. })
            if matches!(worker, Worker::Agents(_)) && load::settles(old.phase, context.datasets.term()) =>
        {
            true
        }
        Some(Act::Start { run, attempt }) => {
            context.start(&*operation, &namespace, worker, run, attempt).await?
        }
        Some(Act::Stop { run, attempt }) => {
            context.stop(&*operation, &namespace, &worker, run, attempt).await?;
            true
        }
        Some(Act::Delete) => {
            context.let_go(&uid);
            context.datasets.writer.delete(&api, &operation.name_any(), &uid).await?;
            return Ok(Action::await_change());
        }
        None => true,
    };
    if !stands {
        wait = Some(Duration::ZERO);
    }
    if let Some(news) = news {
        let about = operation.object_ref(&());
        context.datasets.events.tell(&about, news.bad, news.reason, &news.note).await;
    }
    Ok(wait.map_or_else(Action::await_change, |wait| Action::requeue(wait.max(Duration::from_millis(100)))))
}

impl Context {
    /// The last status written, where the watch has not brought it yet.
    fn freshest(&self, uid: &str, seen: Option<&OperationStatus>) -> OperationStatus {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        match written.get(uid) {
            Some((at, status)) if at.elapsed() < PROGRESS_INTERVAL * 2 => status.clone(),
            _ => seen.cloned().unwrap_or_default(),
        }
    }

    fn note(&self, uid: &str, status: &OperationStatus) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.insert(uid.into(), (Instant::now(), status.clone()));
    }

    /// Whether only progress is new, and the last write is not long ago.
    fn only_progress(&self, uid: &str, old: &OperationStatus, new: &OperationStatus) -> bool {
        let mut same = new.clone();
        same.progress.clone_from(&old.progress);
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        same == *old && written.get(uid).is_some_and(|(at, _)| at.elapsed() < PROGRESS_INTERVAL)
    }

    pub(super) fn let_go(&self, uid: &str) {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        for wish in asked.into_iter().flat_map(|asked| asked.wishes) {
            self.agents.withdraw(&wish.node, &wish.id);
        }
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// What a load is planned from, where nothing keeps it from being planned.
    fn grounded<T>(
        &self,
        asked: &HashMap<String, Asked>,
        own: &str,
        load: &DataLoad,
        use_it: impl FnOnce(&Ground<'_>) -> T,
    ) -> Result<T, String> {
        if !self.agents.knows_sharing(self.datasets.term().is_some_and(|term| term < asked::PATIENCE)) {
            return Err(asked::UNKNOWN.into());
        }
        let named = &load.spec.dataset;
        let dataset: Name = facts::name(named.namespace_from(own), &named.name);
        let found = |name: &str| {
            let (namespace, name) = name.split_once('/')?;
            self.datasets.stores.dataset(namespace, name)
        };
        let exclusive = |name: &str| {
            found(name).is_some_and(|found| found.spec.cache.as_ref().is_some_and(facts::is_exclusive))
        };
        let all = self.agents.candidates(&dataset);
        let by_placement = self.agents.kept_off(&dataset, &all);
        let by_loads = asked::occupied(asked, &load.uid().unwrap_or_default(), &dataset, exclusive);
        let (candidates, kept_off) = asked::sift(all, by_placement, &by_loads);
        let version = self.agents.version(&dataset);
        let quota = found(&dataset).and_then(|found| facts::quota(found.spec.cache.as_ref()?));
        let ground = Ground { dataset, candidates: &candidates, kept_off: &kept_off, version, quota };
        load::obstacle(load, &ground).map_or_else(|| Ok(use_it(&ground)), Err)
    }

    fn outcome<K: Work>(
        &self,
        operation: &K,
        namespace: &str,
        worker: &Worker<'_>,
        status: &OperationStatus,
    ) -> Outcome {
        let uid = operation.uid().unwrap_or_default();
        match worker {
            Worker::Pod(_) => {
                let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                let of_this = |r: &&Refused| (r.run, r.attempt) == (status.run, status.failures);
                if let Some(Refused { why, .. }) = refused.get(&uid).filter(of_this) {
                    return Outcome::Failed(format!("the apiserver refused the Job: {why}"));
                }
                drop(refused);
                let name = marks::job(&operation.name_any(), &uid, status.run, status.failures);
                job::outcome(self.datasets.stores.jobs.get(namespace, &name).as_deref())
            }
            Worker::Agents(_) => {
                let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
                let of_this = |a: &&mut Asked| (a.run, a.attempt) == (status.run, status.failures);
                // Nothing is remembered after a restart: the same wishes are made again, and found.
                let Some(asked) = asked.get_mut(&uid).filter(of_this) else { return Outcome::Absent };
                let outcome = load::noted(self.standings(&asked.wishes), asked.left_out.as_ref());
                asked.over = outcome.has_ended();
                outcome
            }
        }
    }

    /// An outcome in the words of the pod that did the work, asked for once. Without an answer the Job's own stay.
    async fn said<K: Work>(
        &self,
        operation: &K,
        namespace: &str,
        status: &OperationStatus,
        outcome: Outcome,
    ) -> Outcome {
        let uid = operation.uid().unwrap_or_default();
        let name = marks::job(&operation.name_any(), &uid, status.run, status.failures);
        let which = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={name}")).limit(16);
        let writer = &self.datasets.writer;
        let pods = writer.list(&writer.namespaced::<Pod>(namespace), &which).await.unwrap_or_else(|error| {
            tracing::debug!(%error, job = name, "what its pod said is not known");
            Vec::new()
        });
        match (outcome, task::said(&pods)) {
            (Outcome::Succeeded(_), Said::Done(progress)) => Outcome::Succeeded(progress),
            (Outcome::Failed(_), Said::Failed(why)) => Outcome::Failed(format!("Job {name} failed: {why}")),
            (Outcome::Hopeless(_), Said::Failed(why)) => {
                Outcome::Hopeless(format!("Job {name} failed: {why}"))
            }
            (outcome, _) => outcome,
        }
    }

    /// Gives a backup's pod what was learned, page by page: it has no right to ask for it.
    async fn hand_over<K: Work>(
        &self,
        operation: &K,
        namespace: &str,
        dataset: &str,
        template: &mut PodTemplateSpec,
    ) -> Result<(), WriteError> {
        let mut profiles = Profiles::default();
        let writer = &self.datasets.writer;
        let api = writer.namespaced::<AccessProfile>(namespace);
        let mut which = ListParams::default().limit(PAGE);
        loop {
            let (page, next) = writer.page(&api, &which).await?;
            page.iter().for_each(|profile| profiles.add(dataset, namespace, profile));
            match next {
                Some(next) => which = which.continue_token(&next),
                None => break,
            }
        }
        if profiles.left_out > 0 {
            let note = format!(
                "{} AccessProfiles of Dataset {dataset} do not fit into the backup and are left out, the oldest first; \
                 they are learned anew after it is restored",
                profiles.left_out
            );
            self.datasets.events.tell(&operation.object_ref(&()), true, "LeftOut", &note).await;
        }
        profiles.give(template);
        Ok(())
    }

    fn standings(&self, wishes: &[Wish]) -> Outcome {
        let standings: Vec<_> = wishes
            .iter()
            .map(|wish| {
                let standing = self.agents.ask(wish).unwrap_or_else(|why| Standing::Failed { bytes: 0, why });
                (wish.node.clone(), standing)
            })
            .collect();
        load::outcome(&standings)
    }

    /// Begins a try. False: it cannot be, which the next look finds.
    async fn start<K: Work>(
        &self,
        operation: &K,
        namespace: &str,
        worker: Worker<'_>,
        run: i64,
        attempt: i32,
    ) -> Result<bool, WriteError> {
        let uid = operation.uid().unwrap_or_default();
        match worker {
            // The next look says so.
            Worker::Pod(Err(_)) => {}
            Worker::Pod(Ok(mut template)) => {
                let writer = &self.datasets.writer;
                if let Some(dataset) = operation.profiles() {
                    self.hand_over(operation, namespace, dataset, &mut template).await?;
                }
                let api = writer.namespaced::<Job>(namespace);
                let wanted = job::job(operation, *template, run, attempt);
                // Tries before this one are history: status and events tell of them.
                for old in self.datasets.stores.jobs.of(&uid) {
                    if old.name_any() != wanted.name_any() && old.metadata.deletion_timestamp.is_none() {
                        writer.delete(&api, &old.name_any(), &old.uid().unwrap_or_default()).await?;
                    }
                }
                match writer.create(&api, &wanted).await? {
                    Created::New(job) => self.datasets.stores.jobs.note(job),
                    // The name holds uid, run and try: it is ours, and the watch is late.
                    Created::Exists => {
                        return Err(WriteError::Unseen { kind: "Job", name: wanted.name_any() });
                    }
                    // A quota, a policy, a pod that cannot be: a try that has failed.
                    Created::Refused(why) => {
                        let refused = Refused { run, attempt, why };
                        self.refused.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, refused);
                        return Ok(false);
                    }
                }
            }
            Worker::Agents(load) => {
                // Two loads that are planned at once would each find the other's nodes free.
                let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
                // What an earlier try still had open is this one's now.
                for wish in asked.remove(&uid).into_iter().flat_map(|asked| asked.wishes) {
                    self.agents.withdraw(&wish.node, &wish.id);
                }
                let planned = self.grounded(&asked, namespace, load, |ground| {
                    let wishes = load::plan(load, run, attempt, ground);
                    Asked::new((run, attempt), ground.dataset.clone(), wishes, load::left_out(ground))
                });
                // Since it was decided something has come between, which the next look says.
                let Ok(planned) = planned else { return Ok(false) };
                let _ = self.standings(&planned.wishes);
                asked.insert(uid, planned);
            }
        }
        Ok(true)
    }

    async fn stop<K: Work>(
        &self,
        operation: &K,
        namespace: &str,
        worker: &Worker<'_>,
        run: i64,
        attempt: i32,
    ) -> Result<(), WriteError> {
        let uid = operation.uid().unwrap_or_default();
        match worker {
            Worker::Pod(_) => {
                let name = marks::job(&operation.name_any(), &uid, run, attempt);
                let Some(job) = self.datasets.stores.jobs.get(namespace, &name) else { return Ok(()) };
                let writer = &self.datasets.writer;
                writer
                    .delete(&writer.namespaced::<Job>(namespace), &name, &job.uid().unwrap_or_default())
                    .await?;
            }
            Worker::Agents(_) => {
                let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
                for wish in asked.into_iter().flat_map(|asked| asked.wishes) {
                    self.agents.withdraw(&wish.node, &wish.id);
                }
            }
        }
        Ok(())
    }

    /// Jobs that go on although no run does: who wrote down its end could not stop it any more.
    async fn stop_strays<K: Work>(
        &self,
        operation: &K,
        namespace: &str,
        status: &OperationStatus,
    ) -> Result<(), WriteError> {
        let writer = &self.datasets.writer;
        let uid = operation.uid().unwrap_or_default();
        let stray = |job: &Job| job::goes_on(job) && job::is_stray(operation, &job.name_any(), &uid, status);
        for stray in self.datasets.stores.jobs.of(&uid).iter().filter(|job| stray(job)) {
            let api = writer.namespaced::<Job>(namespace);
            writer.delete(&api, &stray.name_any(), &stray.uid().unwrap_or_default()).await?;
        }
        Ok(())
    }

    fn before(&self, namespace: &str, before: &OperationRef) -> Before {
        let found = self.datasets.stores.operation(before.kind, namespace, &before.name);
        let (policy, status) = found.map(|(policy, status)| (policy, Some(status))).unwrap_or_default();
        Before { operation: before.clone(), policy, status }
    }

    /// What has happened that the operation waits for; of what it does not wait for nothing is asked.
    fn events<K: Work>(&self, operation: &K, needed: &[(String, String)]) -> Happened {
        let wanted = &operation.timing().on;
        let Some((namespace, name)) = needed.first().filter(|_| !wanted.is_empty()) else {
            return Happened::default();
        };
        let nodes = wanted.contains(&Event::NodeAdded).then(|| self.datasets.stores.nodes.state());
        // For a load a node counts once its agent has the Dataset on a mount: before that it would be passed over.
        let loads = nodes.is_some() && K::KIND == OperationKind::DataLoad;
        let may_hold = loads.then(|| self.agents.candidates(&format!("{namespace}/{name}")));
        let came = nodes.iter().flatten().filter_map(|node| {
            let metadata = &node.metadata;
            Some((metadata.name.as_deref()?, metadata.creation_timestamp.as_ref()?.0))
        });
        let dataset = self.datasets.stores.dataset(namespace, name);
        let told = dataset.as_ref().and_then(|found| found.status.as_ref());
        events::happened(&Known {
            measure: self.datasets.measured.dataset(namespace, name),
            // Not `version`, which may be one that somebody has pinned it to.
            remembered: told.and_then(|status| Some(status.versions.first()?.version.clone())),
            idle_limit: dataset.as_ref().map(|found| found.spec.idle_seconds()),
            created: operation.meta().creation_timestamp.as_ref().map(|time| time.0),
            newest_node: events::newest(came, may_hold.as_deref()),
        })
    }

    /// What the Datasets' status will say of the operation.
    fn tell_datasets<K: Work>(
        &self,
        operation: &K,
        namespace: &str,
        datasets: &[Option<Arc<Dataset>>],
        status: &OperationStatus,
    ) {
        if status.run == 0 {
            return;
        }
        let last = dataset::status::last(K::KIND, namespace, &operation.name_any(), status);
        for dataset in datasets.iter().flatten() {
            self.datasets.touched(dataset.uid().unwrap_or_default(), last.clone());
            self.datasets.stores.wakes.dataset(&dataset.namespace().unwrap_or_default(), &dataset.name_any());
        }
    }
}
