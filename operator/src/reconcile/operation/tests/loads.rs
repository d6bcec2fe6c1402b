//! Loads before agents that are told of: who begins beside whom, and what is said of who waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::Namespace;
use kube::Resource;
use kube::runtime::reflector::{Store, store as reflected};
use kube::runtime::watcher::Event as Watched;
use operator_api::crd::{DataLoad, Dataset};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::inventory::{Name, Version};
use crate::marks;
use crate::reconcile::agents::{Agents, Standing, Wish};
use crate::reconcile::dataset::reconcile::Context as Datasets;
use crate::reconcile::event::Events;
use crate::reconcile::measure::Nothing;
use crate::reconcile::operation::reconcile::{Context, reconcile};
use crate::reconcile::standin;
use crate::reconcile::write::{Leading, Writer};
use crate::watch::{Listings, Owned, Stores, Wakes};

/// Two nodes, on which everything is mounted.
#[derive(Debug, Default)]
struct Nodes {
    knows: AtomicBool,
    done: AtomicBool,
    /// They are there for so many questions more; 0: for ever.
    stays: AtomicUsize,
}

impl Agents for Nodes {
    fn candidates(&self, _: &str) -> Vec<Name> {
        let left = self.stays.load(SeqCst);
        match left {
            0 => {}
            1 => return Vec::new(),
            _ => self.stays.store(left - 1, SeqCst),
        }
        ["m", "n"].map(Name::from).into()
    }
    fn knows_sharing(&self, patient: bool) -> bool {
        !patient || self.knows.load(SeqCst)
    }
    fn version(&self, _: &str) -> Option<(Version, Option<u64>)> {
        None
    }
    fn ask(&self, _: &Wish) -> Result<Standing, String> {
        let done = self.done.load(SeqCst);
        Ok(if done { Standing::Done { bytes: 1 } } else { Standing::Waiting })
    }
    fn under_way(&self) -> Vec<(Name, Name, u64)> {
        Vec::new()
    }
    fn withdraw(&self, _: &str, _: &str) {}
    fn call_off(&self, _: &str, _: &str) {}
    fn unasked(&self, _: &str) -> Vec<(Name, Box<str>)> {
        Vec::new()
    }
}

fn store<K>(objects: &[Value]) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + 'static,
{
    let (store, mut writer) = reflected();
    for object in objects {
        writer.apply_watcher_event(&Watched::Apply(serde_json::from_value(object.clone()).unwrap()));
    }
    store
}

fn dataset(name: &str, placement: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "a", "uid": name},
        "spec": {"mounts": [{"mountPoint": "s3://b", "name": "m"}], "cache": {"placement": placement}}})
}

fn load(name: &str, dataset: &str) -> Arc<DataLoad> {
    let load = json!({"metadata": {"name": name, "namespace": "a", "uid": name},
        "spec": {"dataset": {"name": dataset}, "replicas": 2}});
    Arc::new(serde_json::from_value(load).unwrap())
}

fn context(agents: &Arc<Nodes>) -> Arc<Context> {
    let (client, _) = standin::client(|asked| {
        let mut object = asked.2.clone();
        if asked.1.contains("/dataloads/") {
            object = serde_json::to_value(&*load("l", "d")).unwrap();
        }
        (200, object)
    });
    let leading = Leading::default();
    leading.set(true);
    let stores = Stores {
        datasets: store::<Dataset>(&[dataset("alone", "Exclusive"), dataset("other", "Shared")]),
        loads: reflected().0,
        migrates: reflected().0,
        backups: reflected().0,
        processes: reflected().0,
        namespaces: store::<Namespace>(&[json!({"metadata": {"name": "a"}})]),
        nodes: reflected().0,
        claims: Owned::by(marks::DATASET_UID),
        volumes: Owned::by(marks::DATASET_UID),
        jobs: Owned::by(marks::OPERATION_UID),
        profiles: Owned::by(marks::DATASET_UID),
        wakes: Wakes::default(),
        listings: Listings::default(),
    };
    let datasets = Datasets {
        stores,
        writer: Writer::new(client.clone(), leading.clone()),
        events: Events::new(client, "test", leading),
        measured: Arc::new(Nothing),
        last_operations: Mutex::default(),
        written: Mutex::default(),
        leads_since: Mutex::default(),
    };
    datasets.begin_term();
    Arc::new(Context {
        datasets: Arc::new(datasets),
        agents: agents.clone(),
        image: None,
        asked: Mutex::new(HashMap::new()),
        refused: Mutex::default(),
        written: Mutex::default(),
    })
}

/// One look; why it waits.
async fn look(load: &Arc<DataLoad>, context: &Arc<Context>) -> String {
    reconcile(load.clone(), context.clone()).await.unwrap();
    let written = context.written.lock().unwrap();
    let conditions = &written[load.metadata.uid.as_ref().unwrap()].1.conditions;
    let waits = conditions.iter().find(|c| c.type_ == "Waiting" && c.status == "True");
    waits.map(|c| c.message.clone()).unwrap_or_default()
}

fn has_begun(context: &Context, uid: &str) -> bool {
    context.asked.lock().unwrap().contains_key(uid)
}

#[tokio::test]
async fn loads_of_which_one_wants_to_be_alone_go_one_after_the_other() {
    let agents = Arc::new(Nodes { knows: true.into(), ..Nodes::default() });
    let context = context(&agents);
    let (alone, other) = (load("1", "alone"), load("2", "other"));
    assert_eq!(look(&alone, &context).await, "");
    let why = look(&other, &context).await;
    assert!(why.contains("node m, where Dataset a/alone is placed or loaded and 1 more"), "{why}");
    assert!(has_begun(&context, "1") && !has_begun(&context, "2"));
    agents.done.store(true, SeqCst);
    look(&alone, &context).await;
    agents.done.store(false, SeqCst);
    assert_eq!(look(&other, &context).await, "");
    assert!(has_begun(&context, "2"));
    // The other way round, and beside one of the same Dataset.
    let (again, same) = (load("3", "alone"), load("4", "other"));
    assert!(look(&again, &context).await.contains("where Dataset a/other is placed or loaded"));
    assert_eq!(look(&same, &context).await, "");
}

#[tokio::test]
async fn a_load_waits_for_placement_and_says_so() {
    let agents = Arc::<Nodes>::default();
    let context = context(&agents);
    let load = load("1", "other");
    assert!(look(&load, &context).await.contains("placement has not looked yet"));
    assert!(!has_begun(&context, "1"));
    agents.knows.store(true, SeqCst);
    assert_eq!(look(&load, &context).await, "");
    assert!(has_begun(&context, "1"));
}

#[tokio::test]
async fn nodes_that_go_between_the_decision_and_the_plan_are_missed() {
    let agents = Arc::new(Nodes { knows: true.into(), stays: 2.into(), ..Nodes::default() });
    let context = context(&agents);
    let load = load("1", "other");
    look(&load, &context).await;
    assert!(!has_begun(&context, "1"), "a part of it would pass for all of it");
    agents.stays.store(0, SeqCst);
    // In a term that is so young agents would still come back.
    *context.datasets.leads_since.lock().unwrap() =
        std::time::Instant::now().checked_sub(super::Duration::from_secs(60));
    assert_eq!(look(&load, &context).await, "");
    assert!(has_begun(&context, "1"));
}
