//! The kinds a person writes and reads: group `headrace.io`, version `v1alpha1`.
//!
//! A **Dataset** names data in stores and says how it is cached and who may use it; four kinds of
//! **operation** do something with a Dataset (load, migrate, back up, process); an **AccessProfile** is what
//! the operator has learned of a workload. Field names follow Fluid's where the meaning is the same
//! (docs/from-fluid.md maps them).
//!
//! The doc comments of fields are what `kubectl explain` shows. What one object can say about itself is
//! checked by the schema and its CEL rules; what needs other objects by [`crate::validate`]. Bounds on lists
//! and strings are there for two reasons: an object fits into etcd, and the apiserver can estimate what a
//! rule costs.

#![allow(clippy::duplicated_attributes, reason = "every printcolumn has a type_")]

pub mod common;

pub mod dataset;

pub mod dataset_status;

pub mod dataset_kind;

pub mod operation;

pub mod data_load;

pub mod data_migrate;

pub mod data_backup;

pub mod pod_schema;

pub mod data_process;

pub mod access_profile;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use access_profile::AccessProfile;
pub use data_backup::DataBackup;
pub use data_load::DataLoad;
pub use data_migrate::DataMigrate;
pub use data_process::DataProcess;
pub use dataset_kind::Dataset;

/// API group of every kind here, and prefix of our labels, annotations and finalizers.
pub const GROUP: &str = "headrace.io";

/// Every kind, in the order in which `deploy/crd` lists them.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![
        Dataset::crd(),
        DataLoad::crd(),
        DataMigrate::crd(),
        DataBackup::crd(),
        DataProcess::crd(),
        AccessProfile::crd(),
    ]
}
