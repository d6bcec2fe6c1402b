//! The two ends of a migration: whether they are one store, and how they lie there. Pure.

use super::known::Known;
use super::url::StoreUrl;
use crate::crd::Dataset;
use crate::crd::common::EncryptOption;
use crate::crd::data_migrate::{DataToMigrate, DatasetToMigrate};
use crate::crd::dataset::Mount;
use crate::crd::dataset_kind::DatasetSpec;
use crate::nested::{Nested, nested, parts};

/// What tells stores apart.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Store {
    /// A claim in the migration's namespace, be it a Dataset's.
    Claim(String),
    /// A Dataset of another namespace whose claim here is not known.
    Dataset(String, String),
    /// A store's URL without the folder.
    Url { scheme: String, authority: String, server: Vec<Server> },
}

/// A Secret that says where a store's server is, with its namespace.
type Server = (String, EncryptOption);

/// A folder of a store.
#[derive(Clone, Debug)]
struct Place {
    store: Store,
    path: String,
    /// The Dataset's mount that it is behind, in words.
    behind: Option<String>,
    /// The end is a folder above that mount: what comes from it, or goes to it, has the folders down to the mount in its name.
    above: bool,
}

/// What is wrong with how `to` lies to `from`, and what to change; none where neither holds the other, or nobody can tell yet.
pub fn relation(
    namespace: &str,
    from: &DataToMigrate,
    to: &DataToMigrate,
    known: &dyn Known,
) -> Option<String> {
    let (from, to) = (places(namespace, from, known), places(namespace, to, known));
    let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (from, to)));
    let mut same = pairs.filter(|(from, to)| from.store == to.store);
    let (nested, from, to) = same.find_map(|(from, to)| Some((nested(&from.path, &to.path)?, from, to)))?;
    let nested = match nested {
        Nested::Same if from.above => Nested::Inside,
        Nested::Same if to.above => Nested::Around,
        other => other,
    };
    let behind: Vec<&str> = [from, to].into_iter().filter_map(|place| place.behind.as_deref()).collect();
    let behind = if behind.is_empty() { String::new() } else { format!(" ({})", behind.join(", ")) };
    Some(format!("{}{behind}", nested.words()))
}

/// Where an end is: by its own name, and behind the mounts of the Dataset that it is of.
fn places(namespace: &str, end: &DataToMigrate, known: &dyn Known) -> Vec<Place> {
    if let Some(dataset) = &end.dataset {
        let path = dataset.path.clone().unwrap_or_default();
        let home = dataset.namespace.as_deref().unwrap_or(namespace);
        let behind = behind(namespace, (home, &dataset.name), &path, known);
        let store = of_dataset(namespace, dataset, known);
        return [Place { store, path, behind: None, above: false }].into_iter().chain(behind).collect();
    }
    let Some(storage) = &end.external_storage else { return Vec::new() };
    let Ok(url) = StoreUrl::parse(&storage.uri) else { return Vec::new() };
    let mut places = Vec::new();
    if url.scheme == "pvc"
        && let Some(claim) = known.claim(namespace, &url.authority)
    {
        let (home, name) = &claim.dataset;
        places = behind(namespace, (home, name), &url.path, known);
    }
    let path = url.path.clone();
    places.insert(
        0,
        Place { store: of_url(namespace, url, &storage.encrypt_options), path, behind: None, above: false },
    );
    places
}

fn of_dataset(namespace: &str, dataset: &DatasetToMigrate, known: &dyn Known) -> Store {
    let home = dataset.namespace.as_deref().unwrap_or(namespace);
    if home == namespace {
        return Store::Claim(dataset.name.clone());
    }
    let found = known.dataset(home, &dataset.name);
    let grants = found.iter().flat_map(|found| &found.spec.sharing).flat_map(|sharing| &sharing.grants);
    match grants.into_iter().find(|grant| grant.namespace == namespace) {
        Some(grant) => Store::Claim(grant.claim_name.clone().unwrap_or_else(|| dataset.name.clone())),
        None => Store::Dataset(home.to_owned(), dataset.name.clone()),
    }
}

/// Buckets of one name are on many servers. Whether two Secrets say the same is for the worker to see.
fn of_url(namespace: &str, url: StoreUrl, options: &[EncryptOption]) -> Store {
    let StoreUrl { scheme, authority, path: _ } = url;
    if scheme == "pvc" {
        return Store::Claim(authority);
    }
    let server = options.iter().filter(|option| names_server(&option.name));
    Store::Url {
        scheme,
        authority,
        server: server.map(|option| (namespace.to_owned(), option.clone())).collect(),
    }
}

fn names_server(option: &str) -> bool {
    let option = option.to_ascii_lowercase();
    option.contains("endpoint") || option.contains("region")
}

/// Where a folder of a Dataset is in the stores that it mounts. Of a Dataset that the namespace may not use nothing is said.
fn behind(namespace: &str, (home, name): (&str, &str), path: &str, known: &dyn Known) -> Vec<Place> {
    let Some(found) = known.dataset(home, name).filter(|found| found.spec.admits(home, namespace)) else {
        return Vec::new();
    };
    places_of(&found, namespace, home, name, path)
}

fn places_of(dataset: &Dataset, namespace: &str, home: &str, name: &str, path: &str) -> Vec<Place> {
    let DatasetSpec { mounts, shared_options, shared_encrypt_options, .. } = &dataset.spec;
    let places = mounts.iter().filter_map(|mount| {
        let url = StoreUrl::parse(&mount.mount_point).ok()?;
        // A server in plain words is not compared with one in a Secret, and a claim elsewhere is another.
        let mut plain = mount.options.keys().chain(shared_options.keys());
        if plain.any(|option| names_server(option)) || (url.scheme == "pvc" && home != namespace) {
            return None;
        }
        let is_own =
            |option: &&EncryptOption| mount.encrypt_options.iter().any(|own| own.name == option.name);
        let shared = shared_encrypt_options.iter().filter(|option| !is_own(option));
        let options: Vec<EncryptOption> = shared.chain(&mount.encrypt_options).cloned().collect();
        let seen_at = mount.seen_at();
        // Another mount lies over that folder.
        let is_over = |other: &Mount| {
            nested(&seen_at, &other.seen_at()) == Some(Nested::Inside)
                && matches!(nested(&other.seen_at(), path), Some(Nested::Same | Nested::Inside))
        };
        if mounts.iter().any(is_over) {
            return None;
        }
        let above = nested(&seen_at, path)? == Nested::Around;
        let below = parts(path).skip(parts(&seen_at).count()).collect::<Vec<_>>().join("/");
        // Who may use a Dataset of others need not know what it is made of.
        let behind = if home == namespace {
            format!("Dataset {home}/{name} has {} at {seen_at}", mount.mount_point)
        } else {
            format!("behind Dataset {home}/{name}")
        };
        let path = format!("{}/{below}", url.path);
        Some(Place { store: of_url(home, url, &options), path, behind: Some(behind), above })
    });
    places.collect()
}
