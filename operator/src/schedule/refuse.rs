//! The validating webhook: a Dataset or operation that cannot work is refused with what to change.
//!
//! Only what a person changes is judged. An object on its way out, or one whose spec stays as it is (labels,
//! finalizers, what controllers write), passes: nothing that went in once may get stuck because the rules, or
//! the cluster around it, have changed since.

use operator_api::crd::GROUP;
use operator_api::validate::{self, Known};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::review::{Request, Verdict};

#[derive(Deserialize)]
struct Judged {
    #[serde(default)]
    metadata: Option<Metadata>,
    #[serde(default)]
    spec: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    deletion_timestamp: Option<Value>,
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
    match validate::object(&kind.kind, namespace, object.get(), known) {
        Ok(()) => Verdict::Allowed,
        Err(refusal) => Verdict::Refused(refusal.to_string()),
    }
}

fn passes(object: &RawValue, before: Option<&RawValue>) -> bool {
    let read = |object: &RawValue| serde_json::from_str::<Judged>(object.get()).ok();
    let Some(now) = read(object) else { return false };
    let leaving = now.metadata.as_ref().is_some_and(|own| own.deletion_timestamp.is_some());
    leaving || before.and_then(read).is_some_and(|before| before.spec == now.spec)
}
