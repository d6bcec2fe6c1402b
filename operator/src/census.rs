//! SIGUSR1: what this replica holds, as one line of its log, so that it can be compared from before a restart and after.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::signal::unix::Signal;

use crate::inventory::Inventory;

/// Says it each time the signal comes; signals that come while it is worked out are one.
pub async fn keep(mut asked: Signal, inventory: Arc<RwLock<Inventory>>) {
    while asked.recv().await.is_some() {
        let inventory = inventory.clone();
        // Reads everything, a quarter of a second at 5,000 nodes with 200,000 Datasets on them.
        let told = tokio::task::spawn_blocking(move || {
            let inventory = inventory.read().unwrap_or_else(PoisonError::into_inner);
            (inventory.counts(), inventory.digest())
        });
        let Ok(((nodes, datasets, pods), digest)) = told.await else { continue };
        tracing::info!(nodes, datasets, pods, digest = format!("{digest:032x}"), "SIGUSR1: the inventory");
    }
}
