//! `bench operator --case datasets`: how long 1,000 Datasets created at once take until each one's claim is
//! bound, and how many requests the operator makes for it, as the apiserver counts them.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, DynamicObject, ObjectMeta, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::figure::{Figure, Spread};
use crate::cluster::audit;
use crate::cluster::control_plane::ControlPlane;
use crate::cluster::operator::{self, Operator, USER};
use crate::cluster::options::{Audit, Options as ClusterOptions};
use crate::cluster::wait::{Seen, until};

/// Created side by side, as `kubectl apply` of a folder would not: the load is the operator's to order.
const AT_ONCE: usize = 32;

/// Ten times what must be reached.
const LIMIT: Duration = Duration::from_secs(600);

/// What the operator writes after the last claim is bound (statuses) counts too.
const SETTLE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct Options {
    /// The binary headrace-operator.
    pub operator: PathBuf,
    pub datasets: usize,
    pub repeats: usize,
}

/// One run.
#[derive(Clone, Copy, Debug)]
struct Run {
    seconds: f64,
    requests_per: f64,
}

pub fn run(options: &Options) -> Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let runs = runtime.block_on(runs(options))?;
    let figure = |metric: &str, unit: &str, value: fn(&Run) -> f64| {
        Spread::of(runs.iter().map(value)).map(|spread| spread.figure("datasets", metric, unit))
    };
    let figures = [
        figure("seconds", "s", |run| run.seconds),
        figure("requests_per", "requests", |run| run.requests_per),
    ];
    Ok(figures.into_iter().flatten().collect())
}

async fn runs(options: &Options) -> Result<Vec<Run>> {
    let cluster = ClusterOptions { audit: Audit::Users(vec![USER.to_owned()]), ..ClusterOptions::default() };
    let plane = ControlPlane::start(&cluster).await?;
    let admin = plane.access().client().await?;
    operator::install(&admin).await?;
    let access = plane.access_of(USER, None)?;
    let operator = Operator::start(&options.operator, &access, plane.folder(), &[]).await?;
    let mut runs = Vec::new();
    for number in 0..options.repeats {
        let run =
            one(options, &plane, &admin, number).await.with_context(|| format!("run {}", number + 1))?;
        eprintln!("    {:.1} s, {:.2} requests per Dataset", run.seconds, run.requests_per);
        runs.push(run);
    }
    operator.stop();
    Ok(runs)
}

async fn one(options: &Options, plane: &ControlPlane, admin: &Client, number: usize) -> Result<Run> {
    let namespace = format!("bench-{number}");
    let namespaces: Api<Namespace> = Api::all(admin.clone());
    let metadata = ObjectMeta { name: Some(namespace.clone()), ..ObjectMeta::default() };
    namespaces.create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() }).await?;

    // Watching before the first is made: nothing is asked for again and again.
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(admin.clone(), &namespace);
    let bound = tokio::spawn(all_bound(claims, options.datasets));
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("headrace.io", "v1alpha1", "Dataset"));
    let datasets: Api<DynamicObject> = Api::namespaced_with(admin.clone(), &namespace, &kind);
    let (since, begun) = (Timestamp::now().to_string(), Instant::now());
    futures::stream::iter(0..options.datasets)
        .map(|number| create(&datasets, &kind, number))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    let created = begun.elapsed();
    let ended = tokio::time::timeout(LIMIT, bound)
        .await
        .with_context(|| format!("not all claims are bound after {} s", LIMIT.as_secs()))???;
    eprintln!("    created within {:.1} s", created.as_secs_f64());
    tokio::time::sleep(SETTLE).await;
    let requests = audit::requests(&plane.audit_log(), USER, &since).context("the audit log")?;
    for ((verb, resource), count) in &requests {
        eprintln!("    {count:>6} {verb} {resource}");
    }
    namespaces.delete(&namespace, &DeleteParams::default()).await?;
    // The next run's Datasets must not wait for what takes these away, nor be charged for it.
    until(&format!("namespace {namespace} is gone"), LIMIT, async || {
        Ok(match namespaces.get_opt(&namespace).await? {
            None => Seen::Done(()),
            Some(left) => Seen::NotYet(format!("{:?}", left.status)),
        })
    })
    .await?;
    Ok(Run {
        seconds: ended.duration_since(begun).as_secs_f64(),
        requests_per: audit::total(&requests) as f64 / options.datasets as f64,
    })
}

async fn create(datasets: &Api<DynamicObject>, kind: &ApiResource, number: usize) -> Result<()> {
    let name = format!("data-{number}");
    let mut dataset = DynamicObject::new(&name, kind);
    dataset.data = json!({ "spec": {
        "mounts": [{ "mountPoint": format!("s3://bucket/{name}"), "name": "main" }],
    }});
    datasets
        .create(&PostParams::default(), &dataset)
        .await
        .with_context(|| format!("cannot create {name}"))?;
    Ok(())
}

/// The moment at which the last of so many claims is bound.
async fn all_bound(claims: Api<PersistentVolumeClaim>, expected: usize) -> Result<Instant> {
    let mut bound = HashSet::new();
    let mut events =
        std::pin::pin!(watcher(claims, watcher::Config::default()).default_backoff().applied_objects());
    while let Some(claim) = events.try_next().await? {
        let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
        if phase == Some("Bound") {
            bound.insert(claim.name_any());
        }
        if bound.len() >= expected {
            return Ok(Instant::now());
        }
    }
    anyhow::bail!("the watch of claims ended with {} of {expected} bound", bound.len())
}
