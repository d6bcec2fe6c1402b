//! `deploy/crd` is what the types say. `cargo xtask codegen` writes it again.

#![allow(clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crd")
}

fn yaml(crd: &CustomResourceDefinition) -> String {
    format!(
        "# Written by operator/api/src/crd; `cargo xtask codegen` writes it again.\n{}",
        serde_saphyr::to_string(crd).expect("a CRD is plain data")
    )
}

#[test]
fn deploy_crd_is_what_the_types_say() {
    let folder = folder();
    let bless = std::env::var_os("HEADRACE_BLESS").is_some();
    let mut expected = Vec::new();
    for crd in operator_api::crd::all() {
        let name = format!("{}.yaml", crd.metadata.name.clone().expect("every CRD has a name"));
        let text = yaml(&crd);
        assert!(text.len() < 256 << 10, "{name} is too large for kubectl apply: {} bytes", text.len());
        let path = folder.join(&name);
        if bless {
            std::fs::write(&path, &text).expect("deploy/crd can be written");
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == text, "{name} is stale: run cargo xtask codegen");
        expected.push(name);
    }
    let mut found: Vec<_> = std::fs::read_dir(&folder)
        .expect("deploy/crd is there")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "deploy/crd holds the CRDs and nothing else");
}

/// What a structural schema asks for, and what keeps lists and strings from growing without end.
#[test]
fn schemas_are_structural_bounded_and_described() {
    for crd in operator_api::crd::all() {
        let name = crd.metadata.name.clone().expect("a name");
        let crd = serde_json::to_value(&crd).expect("plain data");
        let version = &crd["spec"]["versions"][0];
        let schema = &version["schema"]["openAPIV3Schema"];
        for part in ["spec", "status"] {
            if let Some(schema) = schema["properties"].get(part) {
                walk(&format!("{name}: {part}"), schema);
            }
        }
        assert!(version["additionalPrinterColumns"].as_array().is_some_and(|c| c.len() >= 3));
        assert!(crd["spec"]["names"]["shortNames"].as_array().is_some_and(|s| !s.is_empty()));
    }
}

fn walk(path: &str, schema: &Value) {
    let object = schema.as_object().unwrap_or_else(|| panic!("{path} is no schema"));
    for banned in ["$ref", "oneOf", "definitions", "nullable_any"] {
        assert!(!object.contains_key(banned), "{path} has {banned}");
    }
    if object.get("x-kubernetes-int-or-string").is_none()
        && object.get("x-kubernetes-preserve-unknown-fields").is_none()
    {
        assert!(object.contains_key("type"), "{path} has no type: {schema}");
    }
    // The insides of Kubernetes' own types are Kubernetes' own.
    if path.ends_with(".podSpec") || path.contains("resources") {
        return;
    }
    if let Some(properties) = object.get("properties").and_then(Value::as_object) {
        for (name, schema) in properties {
            let inside = format!("{path}.{name}");
            if !["tolerations", "env", "conditions"].iter().any(|foreign| path.contains(foreign)) {
                assert!(schema.get("description").is_some(), "{inside} has no description");
                if schema["type"] == "array" {
                    assert!(schema.get("maxItems").is_some(), "{inside} has no bound");
                }
                if schema["type"] == "string" && schema.get("enum").is_none() && schema["format"].is_null() {
                    assert!(schema.get("maxLength").is_some(), "{inside} has no bound");
                }
                if schema.get("additionalProperties").is_some() {
                    assert!(schema.get("maxProperties").is_some(), "{inside} has no bound");
                }
            }
            walk(&inside, schema);
        }
    }
    if let Some(items) = object.get("items") {
        walk(&format!("{path}[]"), items);
    }
}
