//! What speaks against an operation.

use super::ends;
use super::graph;
use super::known::Known;
use super::pod;
use super::refusal::{Refusal, Refusals};
use super::schedule;
use super::url::StoreUrl;
use crate::crd::dataset::AccessMode;
use crate::crd::operation::{OperationKind, OperationRef, Timing};
use crate::crd::{DataBackup, DataLoad, DataMigrate, DataProcess, Dataset};

pub fn load(namespace: &str, load: &DataLoad, known: &dyn Known) -> Result<(), Refusal> {
    let mut refusals = Refusals::default();
    let name = load.metadata.name.as_deref();
    timing(namespace, OperationKind::DataLoad, name, &load.spec.timing, known, &mut refusals);
    let dataset = &load.spec.dataset;
    granted(namespace, dataset.namespace_from(namespace), &dataset.name, known, &mut refusals);
    refusals.into_result()
}

pub fn migrate(namespace: &str, migrate: &DataMigrate, known: &dyn Known) -> Result<(), Refusal> {
    let mut refusals = Refusals::default();
    let name = migrate.metadata.name.as_deref();
    timing(namespace, OperationKind::DataMigrate, name, &migrate.spec.timing, known, &mut refusals);
    // CEL compares no two objects of different schemas, so this is no rule of the CRD.
    if let Some(wrong) = ends::relation(namespace, &migrate.spec.from, &migrate.spec.to, known) {
        refusals.add(wrong);
    }
    for (end, field, written) in [(&migrate.spec.from, "from", false), (&migrate.spec.to, "to", true)] {
        if let Some(dataset) = &end.dataset {
            let home = dataset.namespace.as_deref().unwrap_or(namespace);
            granted(namespace, home, &dataset.name, known, &mut refusals);
            if written
                && let Some(found) = known.dataset(home, &dataset.name)
                && found.spec.admits(home, namespace)
                && !writable(&found)
            {
                refusals.add(format!(
                    "Dataset {home}/{} cannot be written: add ReadWriteMany to its accessModes and a mount \
                     that is not readOnly, or choose another destination",
                    dataset.name
                ));
            }
        }
        if let Some(storage) = &end.external_storage
            && let Err(error) = StoreUrl::parse(&storage.uri)
        {
            refusals.add(format!("{field}.externalStorage.uri cannot be used: {error}"));
        }
    }
    refusals.into_result()
}

pub fn backup(namespace: &str, backup: &DataBackup, known: &dyn Known) -> Result<(), Refusal> {
    let mut refusals = Refusals::default();
    let name = backup.metadata.name.as_deref();
    timing(namespace, OperationKind::DataBackup, name, &backup.spec.timing, known, &mut refusals);
    match StoreUrl::parse(&backup.spec.backup_path) {
        Err(error) => refusals.add(format!("backupPath cannot be used: {error}")),
        Ok(url) if url.scheme == "local" => refusals.add(
            "backupPath names a folder of whatever node the Job runs on: use pvc://claim/folder or a store",
        ),
        Ok(_) => {}
    }
    refusals.into_result()
}

pub fn process(namespace: &str, process: &DataProcess, known: &dyn Known) -> Result<(), Refusal> {
    let mut refusals = Refusals::default();
    let name = process.metadata.name.as_deref();
    timing(namespace, OperationKind::DataProcess, name, &process.spec.timing, known, &mut refusals);
    let dataset = &process.spec.dataset;
    let home = dataset.namespace.as_deref().unwrap_or(namespace);
    granted(namespace, home, &dataset.name, known, &mut refusals);
    if let Some(job) = &process.spec.processor.job {
        pod::judge(&job.pod_spec, &dataset.mount_path, &mut refusals);
    }
    refusals.into_result()
}

fn writable(dataset: &Dataset) -> bool {
    let modes = dataset.spec.access_modes.iter();
    modes.clone().any(|mode| !matches!(mode, AccessMode::ReadOnlyMany))
        && dataset.spec.mounts.iter().any(|mount| !mount.read_only)
}

/// A Dataset of another namespace that is not there and one that grants nothing get one answer: what is in
/// a foreign namespace is not for everybody to find out.
fn granted(namespace: &str, home: &str, name: &str, known: &dyn Known, refusals: &mut Refusals) {
    if home == namespace {
        return;
    }
    if !known.dataset(home, name).is_some_and(|dataset| dataset.spec.admits(home, namespace)) {
        refusals.add(format!(
            "namespace {namespace} may not use Dataset {home}/{name}: its owner has to add a grant for \
             {namespace} to spec.sharing.grants"
        ));
    }
}

fn timing(
    namespace: &str,
    kind: OperationKind,
    name: Option<&str>,
    timing: &Timing,
    known: &dyn Known,
    refusals: &mut Refusals,
) {
    if let Some(text) = &timing.schedule
        && let Err(error) = schedule::check(text, timing.time_zone.as_deref(), known.now())
    {
        refusals.add(error.to_string());
    }
    // With generateName nobody can wait for it yet.
    let Some(name) = name.filter(|_| !timing.run_after.is_empty()) else { return };
    let this = OperationRef { kind, name: name.into() };
    let mut graph = known.operations(namespace);
    graph.insert(this.clone(), timing.run_after.clone());
    if let Some(circle) = graph::circle(&graph, &this) {
        let way: Vec<_> = circle.iter().map(|o| format!("{} {}", o.kind.name(), o.name)).collect();
        refusals.add(format!(
            "runAfter makes a circle in which each waits for the next: {}; take one of them out",
            way.join(" → ")
        ));
    }
}
