//! A simulated agent that comes by its certificate as a real one does: with its pod's token.

use std::path::{Path, PathBuf};

use agent::report::connect::Address;
use agent::report::credential::{Credentials, Means};
use agent::report::speaker::{Facts, Version};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use operator_api::report::v1 as wire;
use serde_json::json;
use tests::agents::obedient::{Obedient, Spec};
use tests::cluster::wait::{Seen, until};

use super::stage::{AGENTS, LIMIT, NAMESPACE, api, make, object};

/// Its Dataset's bytes: 16 chunks.
pub const BYTES: u64 = 64 << 20;

/// What the agent's pod would have on disk.
pub struct Home {
    pub authority: PathBuf,
    pub token: PathBuf,
    pub node: String,
}

impl Home {
    /// Runs the agent's pod on a node, and asks for its token.
    pub async fn make(client: &Client, folder: &Path, node: &str) -> Self {
        let accounts: Api<ServiceAccount> = api(client, NAMESPACE);
        if accounts.get_opt(AGENTS).await.unwrap().is_none() {
            make(&accounts, json!({"metadata": {"name": AGENTS}})).await;
        }
        let pod = json!({"metadata": {"name": format!("agent-{node}")}, "spec": {
            "serviceAccountName": AGENTS, "nodeName": node,
            "containers": [{"name": "agent", "image": "registry.invalid/none"}]}});
        let pod = make(&api::<Pod>(client, NAMESPACE), pod).await;
        let request: TokenRequest = object(json!({"spec": {
            "audiences": ["headrace.io/operator"],
            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": pod.name_any(), "uid": pod.uid()}}}));
        let answer = accounts.create_token_request(AGENTS, &PostParams::default(), &request).await.unwrap();
        let home = Self {
            authority: folder.join(format!("{node}.ca")),
            token: folder.join(format!("{node}.token")),
            node: node.into(),
        };
        std::fs::write(&home.token, answer.status.unwrap().token).unwrap();
        let secrets: Api<Secret> = api(client, NAMESPACE);
        let authority = until("the operator has an authority", LIMIT, async || {
            let secret = secrets.get_opt("headrace-authority").await?;
            let der = secret.and_then(|secret| secret.data?.remove("authority.der"));
            Ok(der.map_or(Seen::NotYet("no Secret".into()), Seen::Done))
        })
        .await
        .unwrap();
        std::fs::write(&home.authority, tests::agents::pem("CERTIFICATE", &authority.0)).unwrap();
        home
    }
}

/// Enrols, attaches again and again until it is dropped, and has one Dataset on a mount and a GiB of room; it does
/// what it is told unless it is `stuck`.
pub async fn start(home: Home, url: &str, source: &str, dataset: &str, stuck: bool) -> Obedient {
    let address = Address::parse(url).unwrap();
    let mut credentials = Credentials::new(home.authority, Means::Token(home.token));
    let tls = until("the agent has a certificate", LIMIT, async || {
        let tls = credentials.tls(&address).await;
        Ok(tls.map_or_else(|error| Seen::NotYet(error.to_string()), Seen::Done))
    })
    .await
    .unwrap();
    Obedient::start(Spec {
        name: home.node,
        address,
        tls,
        sources: vec![source.into()],
        facts: facts(dataset, 0xabc),
        whole: Vec::new(),
        stuck,
    })
}

/// Of a node with a GiB of room that has seen this version of a Dataset, later than any of a lower number.
pub fn facts(dataset: &str, version: u32) -> Facts {
    let capacity = Some(wire::Capacity { ram_bytes: 1 << 30, cache_bytes: 0 });
    let seen_ms = 1_700_000_000_000 + u64::from(version);
    let version = Version { version: version.into(), bytes: BYTES, files: 3, seen_ms };
    Facts { capacity, versions: [(dataset.into(), version)].into(), ..Facts::default() }
}
