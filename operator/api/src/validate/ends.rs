//! The two ends of a migration: whether they are one store, and how they lie there. Pure.

use super::known::Known;
use super::url::StoreUrl;
use crate::crd::common::EncryptOption;
use crate::crd::data_migrate::{DataToMigrate, DatasetToMigrate};
use crate::nested::{Nested, nested};

/// What tells stores apart.
#[derive(Debug, PartialEq, Eq)]
enum Store<'a> {
    /// A claim in the migration's namespace, be it a Dataset's.
    Claim(String),
    /// A Dataset of another namespace whose claim here is not known.
    Dataset(&'a str, &'a str),
    /// A store's URL without the folder, and the Secrets that say where its server is.
    Url(String, String, Vec<&'a EncryptOption>),
}

/// How `to` lies to `from`; none where neither holds the other, or nobody can tell yet.
pub fn relation(
    namespace: &str,
    from: &DataToMigrate,
    to: &DataToMigrate,
    known: &dyn Known,
) -> Option<Nested> {
    let (from_store, from_path) = place(namespace, from, known)?;
    let (to_store, to_path) = place(namespace, to, known)?;
    if from_store == to_store { nested(&from_path, &to_path) } else { None }
}

fn place<'a>(namespace: &'a str, end: &'a DataToMigrate, known: &dyn Known) -> Option<(Store<'a>, String)> {
    if let Some(dataset) = &end.dataset {
        let path = dataset.path.clone().unwrap_or_default();
        return Some((of_dataset(namespace, dataset, known), path));
    }
    let storage = end.external_storage.as_ref()?;
    let StoreUrl { scheme, authority, path } = StoreUrl::parse(&storage.uri).ok()?;
    if scheme == "pvc" {
        return Some((Store::Claim(authority), path));
    }
    // Buckets of one name are on many servers. Whether two Secrets say the same is for the worker to see.
    let server = storage.encrypt_options.iter().filter(|option| {
        let name = option.name.to_ascii_lowercase();
        name.contains("endpoint") || name.contains("region")
    });
    Some((Store::Url(scheme, authority, server.collect()), path))
}

fn of_dataset<'a>(namespace: &'a str, dataset: &'a DatasetToMigrate, known: &dyn Known) -> Store<'a> {
    let home = dataset.namespace.as_deref().unwrap_or(namespace);
    if home == namespace {
        return Store::Claim(dataset.name.clone());
    }
    let found = known.dataset(home, &dataset.name);
    let grants = found.iter().flat_map(|found| &found.spec.sharing).flat_map(|sharing| &sharing.grants);
    match grants.into_iter().find(|grant| grant.namespace == namespace) {
        Some(grant) => Store::Claim(grant.claim_name.clone().unwrap_or_else(|| dataset.name.clone())),
        None => Store::Dataset(home, &dataset.name),
    }
}
