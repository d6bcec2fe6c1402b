//! The schema of a pod's spec inside of one of our kinds.
//!
//! Without its descriptions: with them the CRD is past the 256 KiB that `kubectl apply` can keep in an
//! annotation, and `kubectl explain pod.spec` has them anyway.

use k8s_openapi::api::core::v1::PodSpec;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

/// The schema of `core/v1` PodSpec.
pub fn pod_spec(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = PodSpec::json_schema(generator);
    if let Some(object) = schema.as_object_mut() {
        for value in object.values_mut() {
            undescribe(value);
        }
    }
    schema
}

/// Takes descriptions out. A property that is itself named `description` holds an object, and stays.
fn undescribe(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if object.get("description").is_some_and(Value::is_string) {
                object.remove("description");
            }
            object.values_mut().for_each(undescribe);
        }
        Value::Array(items) => items.iter_mut().for_each(undescribe),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
