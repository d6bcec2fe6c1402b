//! What the four kinds of operation have in common.

use std::fmt::Debug;

use kube::Resource;
use kube::core::NamespaceResourceScope;
use operator_api::crd::operation::{OperationKind, OperationStatus, Timing};
use operator_api::crd::{DataBackup, DataLoad, DataMigrate, DataProcess};
use operator_api::validate::{Known, Refusal, operation as judge};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A kind of operation.
pub trait Operation:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    const KIND: OperationKind;

    fn timing(&self) -> &Timing;

    fn status(&self) -> Option<&OperationStatus>;

    /// The Datasets it needs, as (namespace, name), the one that events are about first. `own` is its namespace.
    fn datasets(&self, own: &str) -> Vec<(String, String)>;

    /// What speaks against it. A webhook that was away, or is not there, has refused nothing.
    fn judge(&self, own: &str, known: &dyn Known) -> Result<(), Refusal>;
}

fn dataset(own: &str, namespace: Option<&str>, name: &str) -> (String, String) {
    (namespace.unwrap_or(own).into(), name.into())
}

impl Operation for DataLoad {
    const KIND: OperationKind = OperationKind::DataLoad;

    fn timing(&self) -> &Timing {
        &self.spec.timing
    }
    fn status(&self) -> Option<&OperationStatus> {
        self.status.as_ref()
    }
    fn datasets(&self, own: &str) -> Vec<(String, String)> {
        vec![dataset(own, self.spec.dataset.namespace.as_deref(), &self.spec.dataset.name)]
    }
    fn judge(&self, own: &str, known: &dyn Known) -> Result<(), Refusal> {
        judge::load(own, self, known)
    }
}

impl Operation for DataMigrate {
    const KIND: OperationKind = OperationKind::DataMigrate;

    fn timing(&self) -> &Timing {
        &self.spec.timing
    }
    fn status(&self) -> Option<&OperationStatus> {
        self.status.as_ref()
    }
    fn datasets(&self, own: &str) -> Vec<(String, String)> {
        let ends = [&self.spec.from, &self.spec.to].into_iter().filter_map(|end| end.dataset.as_ref());
        ends.map(|end| dataset(own, end.namespace.as_deref(), &end.name)).collect()
    }
    fn judge(&self, own: &str, known: &dyn Known) -> Result<(), Refusal> {
        judge::migrate(own, self, known)
    }
}

impl Operation for DataBackup {
    const KIND: OperationKind = OperationKind::DataBackup;

    fn timing(&self) -> &Timing {
        &self.spec.timing
    }
    fn status(&self) -> Option<&OperationStatus> {
        self.status.as_ref()
    }
    fn datasets(&self, own: &str) -> Vec<(String, String)> {
        vec![dataset(own, None, &self.spec.dataset)]
    }
    fn judge(&self, own: &str, known: &dyn Known) -> Result<(), Refusal> {
        judge::backup(own, self, known)
    }
}

impl Operation for DataProcess {
    const KIND: OperationKind = OperationKind::DataProcess;

    fn timing(&self) -> &Timing {
        &self.spec.timing
    }
    fn status(&self) -> Option<&OperationStatus> {
        self.status.as_ref()
    }
    fn datasets(&self, own: &str) -> Vec<(String, String)> {
        vec![dataset(own, self.spec.dataset.namespace.as_deref(), &self.spec.dataset.name)]
    }
    fn judge(&self, own: &str, known: &dyn Known) -> Result<(), Refusal> {
        judge::process(own, self, known)
    }
}
