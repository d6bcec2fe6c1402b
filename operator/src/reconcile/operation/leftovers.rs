//! What is left of an operation that is gone. It carries no finalizer, so nobody is told of its end; what is remembered
//! of it here is let go, and what agents were asked for it is taken back, pins above all.
//!
//! After a restart nothing is remembered, but agents tell what they have in hand, and an instruction's identity says
//! whose it is: so whatever no DataLoad wants any more ends, whoever asked for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use kube::ResourceExt;
use operator_api::crd::DataLoad;

use super::load;
use super::reconcile::Context;
use crate::inventory::Name;
use crate::reconcile::orphans::{LOOK, Missing};

/// Runs until dropped. Only the leader calls it, when everything has been listed.
pub async fn run(context: Arc<Context>) {
    let (mut gone, mut over) = (Missing::default(), Missing::default());
    loop {
        let stores = &context.datasets.stores;
        let loads = stores.loads.state();
        let uids = loads.iter().filter_map(|one| one.uid());
        let uids = uids.chain(stores.migrates.state().into_iter().filter_map(|one| one.uid()));
        let uids = uids.chain(stores.backups.state().into_iter().filter_map(|one| one.uid()));
        let there = uids.chain(stores.processes.state().into_iter().filter_map(|one| one.uid())).collect();
        gone.look(context.remembered(), &there).iter().for_each(|uid| context.let_go(uid));
        given_up(&context.asked_runs(), &loads).into_iter().for_each(|uid| context.let_go(uid));
        context.datasets.wake_for_operations();
        let in_hand = context.agents.unasked(load::PREFIX);
        for (node, id) in unwanted(&in_hand, &loads, &mut over) {
            tracing::info!(%node, id, "no DataLoad wants this any more; its agent is told to let go of it");
            context.agents.withdraw(node, id);
        }
        for (node, id) in done_with(&in_hand, &loads) {
            context.agents.forget(node, id);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Of what was asked for in this life: whose run its DataLoad does not want any more, as one that has failed.
fn given_up<'a>(asked: &'a [(String, i64)], loads: &[Arc<DataLoad>]) -> Vec<&'a str> {
    let loads = by_uid(loads);
    // One that is not there may only be late, or gone: that takes two looks.
    let over = |(uid, run): &&(String, i64)| loads.get(uid).is_some_and(|load| !load::wants(load, *run));
    asked.iter().filter(over).map(|(uid, _)| uid.as_str()).collect()
}

fn by_uid(loads: &[Arc<DataLoad>]) -> BTreeMap<String, &DataLoad> {
    loads.iter().filter_map(|load| Some((load.uid()?, &**load))).collect()
}

/// Of what nobody has asked for in this life: what no DataLoad wants, at two looks in a row.
fn unwanted<'a>(
    in_hand: &'a [(Name, Box<str>)],
    loads: &[Arc<DataLoad>],
    over: &mut Missing,
) -> Vec<(&'a Name, &'a str)> {
    let loads = by_uid(loads);
    let runs = in_hand.iter().filter_map(|(_, id)| load::owner(id)).collect::<BTreeSet<_>>();
    let name = |uid: &str, run: i64| format!("{uid}/{run}");
    let wanted = |(uid, run): &&(&str, i64)| loads.get(*uid).is_some_and(|load| load::wants(load, *run));
    let wanted = runs.iter().filter(wanted).map(|(uid, run)| name(uid, *run)).collect();
    let over: BTreeSet<String> =
        over.look(runs.iter().map(|(uid, run)| name(uid, *run)), &wanted).into_iter().collect();
    let of_these = |(node, id): &'a (Name, Box<str>)| {
        let (uid, run) = load::owner(id)?;
        over.contains(&name(uid, run)).then_some((node, &**id))
    };
    in_hand.iter().filter_map(of_these).collect()
}

/// Of what nobody has asked for in this life: the ends of runs that are over and have pinned nothing. Each agent brings a
/// thousand of them after a restart, and nobody will ask how they were.
fn done_with<'a>(in_hand: &'a [(Name, Box<str>)], loads: &[Arc<DataLoad>]) -> Vec<(&'a Name, &'a str)> {
    let loads = by_uid(loads);
    let of_these = |(node, id): &'a (Name, Box<str>)| {
        let (uid, run) = load::owner(id)?;
        loads.get(uid).is_some_and(|load| load::is_done_with(load, run)).then_some((node, &**id))
    };
    in_hand.iter().filter_map(of_these).collect()
}

impl Context {
    /// What was asked of agents, by uid and run.
    fn asked_runs(&self) -> Vec<(String, i64)> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().map(|(uid, asked)| (uid.clone(), asked.run)).collect()
    }

    /// Operations of which something is remembered, by uid.
    fn remembered(&self) -> Vec<String> {
        let keys = self.asked.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        let mut all: Vec<String> = keys;
        all.extend(self.refused.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned());
        all.extend(self.written.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned());
        all
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn load(uid: &str, status: &serde_json::Value) -> Arc<DataLoad> {
        let load = json!({"apiVersion": "headrace.io/v1alpha1", "kind": "DataLoad",
            "metadata": {"name": uid, "namespace": "a", "uid": uid},
            "spec": {"dataset": {"name": "d"}, "pin": true}, "status": status});
        Arc::new(serde_json::from_value(load).unwrap())
    }

    #[test]
    fn what_a_failed_load_asked_for_is_let_go() {
        let asked =
            ["failed", "kept", "tried", "new", "late", "waits", "again"].map(|uid| (uid.to_owned(), 1));
        let given_up = json!([{"type": "Failed", "status": "True", "reason": "GivenUp", "message": "",
            "lastTransitionTime": "2026-11-24T09:00:00Z"}]);
        let loads = [
            load("failed", &json!({"phase": "Failed", "run": 1})),
            load("kept", &json!({"phase": "Complete", "run": 1})),
            load("tried", &json!({"phase": "Pending", "run": 1, "failures": 1})),
            // Begun again, and the watch has not brought that yet.
            load("new", &json!({"phase": "Pending", "run": 0})),
            // Of those that run again and again one waits for its next time, one for its next try.
            load("waits", &json!({"phase": "Pending", "run": 1, "conditions": given_up})),
            load(
                "again",
                &json!({"phase": "Pending", "run": 1, "failures": 1, "conditions": given_up,
                "nextAttemptTime": "2026-11-24T09:00:00Z"}),
            ),
        ];
        assert_eq!(super::given_up(&asked, &loads), ["failed", "waits"]);
    }

    #[test]
    fn ends_of_runs_that_are_over_are_forgotten_but_of_pins() {
        let without_pin = |uid, status| {
            let mut load = (*load(uid, &status)).clone();
            load.spec.pin = false;
            Arc::new(load)
        };
        let loads = [
            load("pinned", &json!({"phase": "Complete", "run": 1})),
            without_pin("done", json!({"phase": "Complete", "run": 1})),
            without_pin("nightly", json!({"phase": "Pending", "run": 2})),
            without_pin("runs", json!({"phase": "Executing", "run": 1})),
            // It waits for its next try, which may find that parts of this one are there.
            without_pin(
                "tried",
                json!({"phase": "Pending", "run": 1, "nextAttemptTime": "2026-11-24T09:00:00Z"}),
            ),
        ];
        let ids = ["pinned/1", "done/1", "done/2", "nightly/2", "runs/1", "tried/1", "gone/1"];
        let in_hand = ids.map(|id| ("n".into(), format!("load/{id}/0/0/0/0").into()));
        let ids: Vec<&str> = done_with(&in_hand, &loads).into_iter().map(|(_, id)| id).collect();
        assert_eq!(ids, ["load/done/1/0/0/0/0", "load/nightly/2/0/0/0/0"]);
    }

    #[test]
    fn what_no_load_wants_is_let_go() {
        let hand = |ids: &[&str]| ids.iter().map(|id| ("n".into(), (*id).into())).collect::<Vec<_>>();
        let in_hand = hand(&[
            "load/gone/1/0/0/0/0",
            "load/kept/2/0/0/0/0",
            "load/kept/2/3/1/0/0",
            "load/kept/1/0/0/0/0",
            "load/failed/1/0/0/0/0",
            "load/new/1/0/0/0/0",
            "load/nonsense",
        ]);
        let loads = [
            load("kept", &json!({"phase": "Complete", "run": 2})),
            load("failed", &json!({"phase": "Failed", "run": 1})),
            // Begun by who led before, and not seen here yet.
            load("new", &json!({"phase": "Pending", "run": 0})),
        ];
        let mut over = Missing::default();
        assert!(unwanted(&in_hand, &loads, &mut over).is_empty(), "two watches are never at the same moment");
        let ids: Vec<&str> = unwanted(&in_hand, &loads, &mut over).into_iter().map(|(_, id)| id).collect();
        assert_eq!(ids, ["load/gone/1/0/0/0/0", "load/kept/1/0/0/0/0", "load/failed/1/0/0/0/0"]);
    }
}
