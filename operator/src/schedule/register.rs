//! Tells the cluster whom to trust: the operator's authority goes into the webhook configurations and into a
//! ConfigMap that schedulers mount. Server-side apply of these fields alone; all else is the installer's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::watch;

/// Both configurations, as deploy/webhook names them.
const CONFIGURATION: &str = "headrace";
const MUTATING: &str = "pods.headrace.io";
const VALIDATING: &str = "objects.headrace.io";

/// The ConfigMap and its key, as deploy/scheduler mounts them.
const AUTHORITY: &str = "headrace-authority";
const KEY: &str = "ca.crt";

/// Somebody may install the webhooks later than the operator, or again.
const PERIOD: Duration = Duration::from_secs(30);

#[derive(Debug, Error)]
pub enum RegisterError {
    #[error("cannot read {what}: {error}; the operator needs get on it (deploy/ has the role)")]
    Read { what: &'static str, error: kube::Error },
    #[error(
        "cannot write the authority into {what}: {error}; the operator needs patch on it (deploy/ has the role)"
    )]
    Write { what: &'static str, error: kube::Error },
}

/// What was found in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    All,
    /// The webhook configurations are not installed: pods are not steered at creation.
    WithoutWebhooks,
}

/// Keeps it so, for whatever `authority` (PEM) is, until `stop` is true. `leads` says whether this replica writes.
pub async fn keep(
    client: Client,
    namespace: String,
    manager: &'static str,
    authority: watch::Receiver<Vec<u8>>,
    leads: watch::Receiver<Option<Instant>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut changed, mut elected) = (authority.clone(), leads.clone());
    // What a person may have left as it is on purpose is said when it becomes so, not every half minute.
    let mut before = None;
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = tick.tick() => {}
            Ok(()) = changed.changed() => {}
            Ok(()) = elected.changed() => {}
        }
        if leads.borrow().is_none() {
            continue;
        }
        let pem = authority.borrow().clone();
        match once(&client, &namespace, manager, &pem).await {
            Ok(found) => {
                if found == Registered::WithoutWebhooks && before != Some(found) {
                    tracing::info!("deploy/webhook is not installed: new pods are not given a preference");
                }
                before = Some(found);
            }
            Err(error) => tracing::warn!(%error, "trying again in {} s", PERIOD.as_secs()),
        }
    }
}

/// Writes what differs, once.
pub async fn once(
    client: &Client,
    namespace: &str,
    manager: &str,
    pem: &[u8],
) -> Result<Registered, RegisterError> {
    let params = PatchParams::apply(manager).force();
    let mut found = Registered::All;

    let what = "MutatingWebhookConfiguration headrace";
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    match api.get_opt(CONFIGURATION).await.map_err(|error| RegisterError::Read { what, error })? {
        None => found = Registered::WithoutWebhooks,
        Some(mutating) => {
            let hook = mutating.webhooks.iter().flatten().find(|hook| hook.name == MUTATING);
            match hook.map(|hook| hook.client_config.ca_bundle.as_ref()) {
                None => found = Registered::WithoutWebhooks,
                Some(current) if differs(current, pem) => {
                    let patch = Patch::Apply(configuration("MutatingWebhookConfiguration", MUTATING, pem));
                    let written = api.patch(CONFIGURATION, &params, &patch).await;
                    written.map_err(|error| RegisterError::Write { what, error })?;
                }
                Some(_) => {}
            }
        }
    }

    let what = "ValidatingWebhookConfiguration headrace";
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    match api.get_opt(CONFIGURATION).await.map_err(|error| RegisterError::Read { what, error })? {
        None => found = Registered::WithoutWebhooks,
        Some(validating) => {
            let hook = validating.webhooks.iter().flatten().find(|hook| hook.name == VALIDATING);
            match hook.map(|hook| hook.client_config.ca_bundle.as_ref()) {
                None => found = Registered::WithoutWebhooks,
                Some(current) if differs(current, pem) => {
                    let patch =
                        Patch::Apply(configuration("ValidatingWebhookConfiguration", VALIDATING, pem));
                    let written = api.patch(CONFIGURATION, &params, &patch).await;
                    written.map_err(|error| RegisterError::Write { what, error })?;
                }
                Some(_) => {}
            }
        }
    }

    let what = "ConfigMap headrace-authority";
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let current = api.get_opt(AUTHORITY).await.map_err(|error| RegisterError::Read { what, error })?;
    let held = |map: &BTreeMap<String, String>| map.get(KEY).is_some_and(|held| held.as_bytes() == pem);
    if !current.and_then(|map| map.data).as_ref().is_some_and(held) {
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": AUTHORITY},
            "data": { KEY: String::from_utf8_lossy(pem) },
        });
        api.patch(AUTHORITY, &params, &Patch::Apply(map))
            .await
            .map_err(|error| RegisterError::Write { what, error })?;
    }
    Ok(found)
}

fn differs(current: Option<&ByteString>, pem: &[u8]) -> bool {
    current.is_none_or(|current| current.0 != pem)
}

/// Webhooks are a map by name to server-side apply: the others, and this one's other fields, stay.
fn configuration(kind: &str, webhook: &str, pem: &[u8]) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": CONFIGURATION},
        "webhooks": [{"name": webhook, "clientConfig": {"caBundle": ByteString(pem.to_vec())}}],
    })
}
