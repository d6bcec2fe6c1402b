//! The validating webhook: a Dataset or operation that cannot work is refused with what to change.
//!
//! Only what a person changes is judged. An object on its way out, or one whose spec stays as it is (labels,
//! finalizers, what controllers write), passes: nothing that went in once may get stuck because the rules, or
//! the cluster around it, have changed since. So is the room on nodes, where no more bytes are asked of them than before.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use operator_api::crd::dataset::CacheSpec;
use operator_api::crd::{Dataset, GROUP};
use operator_api::validate::graph::Graph;
use operator_api::validate::{self, Claim, Known, Room, bulk, dataset};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use super::review::{Request, Verdict};

#[derive(Deserialize)]
struct Judged<'a> {
    #[serde(default)]
    metadata: Option<Metadata>,
    #[serde(borrow, default)]
    spec: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Asking {
    spec: AskingSpec,
}

#[derive(Deserialize)]
struct AskingSpec {
    cache: Option<CacheSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    deletion_timestamp: Option<IgnoredAny>,
}

pub fn judge(known: &dyn Known, request: &Request<'_>) -> Verdict {
    let ours = request.kind.as_ref().filter(|kind| kind.group == GROUP);
    let (Some(kind), Some(object)) = (ours, request.object) else { return Verdict::Allowed };
    match request.operation.as_deref() {
        Some("CREATE") => {}
        Some("UPDATE") if !passes(object, request.old_object) => {}
        _ => return Verdict::Allowed,
    }
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let roomless = Roomless(known);
    let known = if asks_for_no_more(object, request.old_object) { &roomless as &dyn Known } else { known };
    match validate::object(&kind.kind, namespace, object.get(), known) {
        Ok(()) => Verdict::Allowed,
        Err(refusal) => Verdict::Refused(refusal.to_string()),
    }
}

fn passes(object: &RawValue, before: Option<&RawValue>) -> bool {
    let Some(now) = read::<Judged<'_>>(object) else { return false };
    let leaving = now.metadata.as_ref().is_some_and(|own| own.deletion_timestamp.is_some());
    leaving || before.and_then(read::<Judged<'_>>).is_some_and(|before| same(before.spec, now.spec))
}

/// Whether what a Dataset asks for of nodes was let in before: the roomy ones may have gone since.
fn asks_for_no_more(object: &RawValue, before: Option<&RawValue>) -> bool {
    let asked = |object: &RawValue| {
        bulk::check(object.get()).ok()?;
        Some(read::<Asking>(object)?.spec.cache.as_ref().map_or(0, dataset::asked))
    };
    let (now, before) = (asked(object), before.and_then(asked));
    now.zip(before).is_some_and(|(now, before)| now <= before)
}

/// What is known, but for the room on nodes.
struct Roomless<'a>(&'a dyn Known);

impl Known for Roomless<'_> {
    fn dataset(&self, namespace: &str, name: &str) -> Option<Arc<Dataset>> {
        self.0.dataset(namespace, name)
    }

    fn claim(&self, namespace: &str, name: &str) -> Option<Claim> {
        self.0.claim(namespace, name)
    }

    fn operations(&self, namespace: &str) -> Graph {
        self.0.operations(namespace)
    }

    fn roomiest_node(&self) -> Option<Room> {
        None
    }

    fn now(&self) -> Timestamp {
        self.0.now()
    }
}

fn read<'a, T: Deserialize<'a>>(object: &'a RawValue) -> Option<T> {
    serde_json::from_str(object.get()).ok()
}

/// The API server writes equal things in equal words, so they are taken apart only where those differ, and not where
/// they are too bulky.
fn same(one: Option<&RawValue>, other: Option<&RawValue>) -> bool {
    let (one, other) = (one.map_or("null", RawValue::get), other.map_or("null", RawValue::get));
    let value = |text: &str| {
        bulk::check(text).ok()?;
        serde_json::from_str::<Value>(text).ok()
    };
    one == other || value(one).is_some_and(|one| value(other) == Some(one))
}
