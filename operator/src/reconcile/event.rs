//! Events on objects: what a person must know, told once.

use std::fmt::Debug;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use super::sentence::bounded;
use super::write::Leading;

/// Bytes of a note: the apiserver takes 1,024.
const MAX_NOTE: usize = 1_000;

/// Publishes events while this replica leads.
#[derive(Clone)]
pub struct Events {
    client: Client,
    reporter: Reporter,
    leading: Leading,
}

impl Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    pub fn new(client: Client, instance: &str, leading: Leading) -> Self {
        let reporter = Reporter { controller: "headrace-operator".into(), instance: Some(instance.into()) };
        Self { client, reporter, leading }
    }

    /// A failure to tell is logged and otherwise no failure: the status says the same.
    pub async fn tell(&self, about: &ObjectReference, bad: bool, reason: &str, note: &str) {
        if !self.leading.get() {
            return;
        }
        let event = Event {
            type_: if bad { EventType::Warning } else { EventType::Normal },
            reason: reason.into(),
            note: Some(bounded(note, MAX_NOTE)),
            action: "Reconcile".into(),
            secondary: None,
        };
        // A recorder that remembers would count the second in the first one's object, whose note then is of another run.
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        if let Err(error) = recorder.publish(&event, about).await {
            tracing::debug!(%error, reason, "an event was not taken");
        }
    }
}
