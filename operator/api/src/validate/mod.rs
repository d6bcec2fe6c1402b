//! What an admission webhook refuses: objects that no schema can judge by themselves.
//!
//! Pure: what is known of the cluster comes in as [`Known`]. A refusal is a sentence that says what is wrong
//! and what to change. What is merely not there yet (a Dataset, an operation to run after) is admitted: people
//! apply files in any order.

pub mod bulk;

pub mod refusal;

pub mod quantity;

pub mod url;

pub mod nfs;

pub mod secret;

pub mod schedule;

pub mod graph;

pub mod known;

pub mod ends;

pub mod dataset;

pub mod pod;

pub mod operation;

use serde::de::DeserializeOwned;

use crate::crd::{DataBackup, DataLoad, DataMigrate, DataProcess, Dataset};

pub use known::{Claim, Known, Room};
pub use refusal::{Refusal, Refusals};

/// Judges an object of one of our kinds as the apiserver sends it. `namespace` is the request's. Kinds that
/// are not ours, and AccessProfiles, are admitted.
pub fn object(kind: &str, namespace: &str, object: &str, known: &dyn Known) -> Result<(), Refusal> {
    match kind {
        "Dataset" => dataset::judge(namespace, &read::<Dataset>(kind, object)?, known),
        "DataLoad" => operation::load(namespace, &read::<DataLoad>(kind, object)?, known),
        "DataMigrate" => operation::migrate(namespace, &read::<DataMigrate>(kind, object)?, known),
        "DataBackup" => operation::backup(namespace, &read::<DataBackup>(kind, object)?, known),
        "DataProcess" => operation::process(namespace, &read::<DataProcess>(kind, object)?, known),
        _ => Ok(()),
    }
}

/// What is too bulky to be read is refused, not let pass: stored, each replica's watches would take it apart.
fn read<T: DeserializeOwned>(kind: &str, object: &str) -> Result<T, Refusal> {
    let refused = |sentence: String| {
        let mut refusals = Refusals::default();
        refusals.add(sentence);
        refusals.into_refusal()
    };
    bulk::check(object).map_err(|error| refused(format!("this {kind} cannot be read: {error}")))?;
    // serde_json names the field, line and column; values only where their kind is wrong.
    serde_json::from_str(object)
        .map_err(|error| refused(format!("this {kind} cannot be read: {error}; correct that field")))
}

#[cfg(test)]
mod tests;
