//! The one edge to the apiserver: every write the operator makes about Datasets and operations.
//!
//! What the operator makes is created, so that nothing foreign of that name is ever taken over; what others made
//! is applied to with one field manager, and with the uid, so that an object that has gone is not made again.
//! While another replica leads nothing is written ([`WriteError::NotLeading`]).

use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use operator_api::crd::AccessProfile;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::time::Instant;
use tokio::sync::watch;

use crate::marks;

/// Whether this replica may write, and since when. Set by the election, asked before every write.
#[derive(Clone, Debug, Default)]
pub struct Leading(watch::Sender<Option<Instant>>);

impl Leading {
    pub fn set(&self, leading: bool) {
        self.0.send_replace(leading.then(Instant::now));
    }

    pub fn get(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// For whoever waits for it to change.
    pub fn changes(&self) -> watch::Receiver<Option<Instant>> {
        self.0.subscribe()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("another replica leads now; nothing was written")]
    NotLeading,
    #[error(
        "{kind} {name} is there already, and the watch has not told of it: if this stays, somebody took its label {} \
         out; put it back, or delete the object",
        marks::SELECTOR
    )]
    Unseen { kind: &'static str, name: String },
    #[error("{what} was refused or not answered: {source}")]
    Api {
        what: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
}

impl WriteError {
    fn api(what: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Api { what, source: Box::new(source) }
    }

    /// The apiserver's answer, where there was one.
    pub fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Api { source, .. } => match &**source {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            Self::NotLeading | Self::Unseen { .. } => None,
        }
    }

    pub fn code(&self) -> Option<u16> {
        self.status().map(|status| status.code)
    }

    /// The apiserver's words, where it refused what was asked: trying again at once is of no use.
    pub fn refusal(&self) -> Option<&str> {
        self.status().filter(|status| refuses(status.code)).map(|status| status.message.as_str())
    }
}

/// What became of a creation.
#[derive(Debug)]
pub enum Created<K> {
    New(K),
    /// An object of that name is there; whose it is, is not known yet.
    Exists,
    /// The apiserver does not let it be; trying again at once is of no use.
    Refused(String),
}

#[derive(Clone)]
pub struct Writer {
    client: Client,
    leading: Leading,
}

impl Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("leading", &self.leading).finish_non_exhaustive()
    }
}

impl Writer {
    pub fn new(client: Client, leading: Leading) -> Self {
        Self { client, leading }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn may_write(&self) -> Result<(), WriteError> {
        if self.leading.get() { Ok(()) } else { Err(WriteError::NotLeading) }
    }

    pub fn namespaced<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub fn all<K: Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    /// Creates an object, and says so if one of that name is there.
    pub async fn create<K>(&self, api: &Api<K>, object: &K) -> Result<Created<K>, WriteError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    {
        self.may_write()?;
        let params = PostParams { field_manager: Some(marks::FIELD_MANAGER.into()), ..PostParams::default() };
        match api.create(&params, object).await {
            Ok(created) => Ok(Created::New(created)),
            Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => {
                Ok(Created::Exists)
            }
            Err(kube::Error::Api(status)) if refuses(status.code) => {
                Ok(Created::Refused(status.message.clone()))
            }
            Err(error) => Err(WriteError::api("a creation")(error)),
        }
    }

    /// An object as it is now, where a watch may not have told of it: what others made is not watched.
    pub async fn read<K>(&self, api: &Api<K>, name: &str) -> Result<Option<K>, WriteError>
    where
        K: Clone + Debug + DeserializeOwned,
    {
        api.get_opt(name).await.map_err(WriteError::api("a read"))
    }

    /// Objects as they are now, whatever the watch has told.
    pub async fn list<K>(&self, api: &Api<K>, which: &ListParams) -> Result<Vec<K>, WriteError>
    where
        K: Clone + Debug + DeserializeOwned,
    {
        Ok(api.list(which).await.map_err(WriteError::api("a list"))?.items)
    }

    /// A page of objects, and how to ask for the next.
    pub async fn page<K>(
        &self,
        api: &Api<K>,
        which: &ListParams,
    ) -> Result<(Vec<K>, Option<String>), WriteError>
    where
        K: Clone + Debug + DeserializeOwned,
    {
        let page = api.list(which).await.map_err(WriteError::api("a list"))?;
        let next = page.metadata.continue_.filter(|token| !token.is_empty());
        Ok((page.items, next))
    }

    /// Deletes exactly that object. False: it has gone; another of that name is left alone.
    pub async fn delete<K>(&self, api: &Api<K>, name: &str, uid: &str) -> Result<bool, WriteError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        self.may_write()?;
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(uid.into()), resource_version: None }),
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        match api.delete(name, &params).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(WriteError::api("a deletion")(error)),
        }
    }

    /// Adds a finalizer. False: the object has gone.
    pub async fn add_finalizer<K>(
        &self,
        api: &Api<K>,
        object: &K,
        finalizer: &str,
    ) -> Result<bool, WriteError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let mut patch = identity(object);
        patch["metadata"]["finalizers"] = json!([finalizer]);
        self.apply(api, object, &patch, false).await
    }

    /// Removes a finalizer, whoever put it there: a manifest that was exported and created again brings it along, and
    /// what another manager owns no apply takes away. Others stay. False: the object has gone, or had none of it. What
    /// has changed since it was read is left as it is, and an error.
    pub async fn remove_finalizer<K>(
        &self,
        api: &Api<K>,
        object: &K,
        finalizer: &str,
    ) -> Result<bool, WriteError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        const WHAT: &str = "a finalizer's removal";
        self.may_write()?;
        let Some(patch) = without(object, finalizer) else { return Ok(false) };
        let patch = serde_json::from_value(patch)
            .map_err(|error| WriteError::api(WHAT)(kube::Error::SerdeError(error)))?;
        let params =
            PatchParams { field_manager: Some(marks::FIELD_MANAGER.into()), ..PatchParams::default() };
        match api.patch(&object.name_any(), &params, &Patch::Json::<()>(patch)).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(WriteError::api(WHAT)(error)),
        }
    }

    /// Makes what was learned of a workload known, or says it anew.
    pub async fn profile(&self, namespace: &str, profile: &AccessProfile) -> Result<(), WriteError> {
        self.may_write()?;
        let params = PatchParams::apply(marks::FIELD_MANAGER).force();
        let api: Api<AccessProfile> = self.namespaced(namespace);
        let written = api.patch(&profile.name_any(), &params, &Patch::Apply(profile)).await;
        written.map(drop).map_err(WriteError::api("an AccessProfile"))
    }

    /// Says the object's status. False: it has gone.
    pub async fn status<K, S>(&self, api: &Api<K>, object: &K, status: &S) -> Result<bool, WriteError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
        S: Serialize + Sync,
    {
        let mut patch = identity(object);
        patch["status"] = json!(status);
        self.apply(api, object, &patch, true).await
    }

    async fn apply<K>(
        &self,
        api: &Api<K>,
        object: &K,
        patch: &Value,
        status: bool,
    ) -> Result<bool, WriteError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        self.may_write()?;
        let params = PatchParams::apply(marks::FIELD_MANAGER).force();
        let name = object.name_any();
        let patch = Patch::Apply(patch);
        let (what, answer) = if status {
            ("a status", api.patch_status(&name, &params, &patch).await)
        } else {
            ("a finalizer", api.patch(&name, &params, &patch).await)
        };
        match answer {
            Ok(_) => Ok(true),
            // 404: gone. 409: gone, and perhaps another has its name; the uid did not fit.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(WriteError::api(what)(error)),
        }
    }
}

/// Whether an answer refuses what was asked: the same is refused again until somebody changes something. 400: a webhook
/// that said no and gave no code. 403: quota, policy, a terminating namespace. 404: the namespace is gone. 413: it is too
/// large. 422: it cannot be. Others are a webhook's own. What is left out speaks of the moment, not of what was asked: who
/// asks is not known just now (401), not in time (408), another write came between (409), too early or too much (425, 429).
fn refuses(code: u16) -> bool {
    (400..500).contains(&code) && !matches!(code, 401 | 408 | 409 | 425 | 429)
}

fn identity<K: Resource<DynamicType = ()>>(object: &K) -> Value {
    json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": object.meta().name, "uid": object.meta().uid},
    })
}

/// The JSON patch that takes a finalizer out of exactly this object; none where it has none of it.
fn without<K: Resource<DynamicType = ()>>(object: &K, finalizer: &str) -> Option<Value> {
    let index = object.finalizers().iter().position(|one| one == finalizer)?;
    let at = format!("/metadata/finalizers/{index}");
    Some(json!([
        {"op": "test", "path": "/metadata/uid", "value": object.meta().uid},
        {"op": "test", "path": at, "value": finalizer},
        {"op": "remove", "path": at},
    ]))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::batch::v1::Job;
    use operator_api::crd::Dataset;

    use super::*;
    use crate::reconcile::standin;

    /// A writer that leads, before an apiserver that answers everything with one code.
    fn writer(code: u16, reason: &'static str) -> Writer {
        let leading = Leading::default();
        leading.set(true);
        let message = "admission webhook \"policy\" denied the request: no";
        Writer::new(standin::client(move |_| standin::status(code, reason, message)).0, leading)
    }

    #[tokio::test]
    async fn what_a_policy_denies_is_refused_and_what_the_moment_forbids_is_not() {
        let job: Job = serde_json::from_value(json!({"metadata": {"name": "j"}})).unwrap();
        let made = async |code, reason| {
            let writer = writer(code, reason);
            writer.create(&writer.namespaced::<Job>("a"), &job).await
        };
        for code in [400, 403, 404, 406, 413, 422] {
            let refused = made(code, "").await;
            assert!(
                matches!(&refused, Ok(Created::Refused(why)) if why.ends_with("no")),
                "{code}: {refused:?}"
            );
        }
        assert!(matches!(made(409, "AlreadyExists").await, Ok(Created::Exists)));
        for code in [401, 408, 409, 425, 429, 500, 503, 504] {
            let failed = made(code, "Conflict").await;
            assert!(matches!(&failed, Err(WriteError::Api { .. })), "{code}: {failed:?}");
        }
    }

    fn dataset(uid: &str, finalizers: &[&str]) -> Value {
        json!({"apiVersion": "headrace.io/v1alpha1", "kind": "Dataset",
            "metadata": {"name": "d", "uid": uid, "finalizers": finalizers}, "spec": {"mounts": []}})
    }

    #[test]
    fn one_finalizer_goes_from_this_object_and_no_other_does() {
        let seen: Dataset = serde_json::from_value(dataset("u1", &["a/b", marks::FINALIZER, "c/d"])).unwrap();
        let patch = without(&seen, marks::FINALIZER).unwrap();
        let patched = |mut object: Value| {
            json_patch::patch(
                &mut object,
                &serde_json::from_value::<json_patch::Patch>(patch.clone()).unwrap(),
            )
            .ok()?;
            Some(object)
        };
        let is = patched(dataset("u1", &["a/b", marks::FINALIZER, "c/d"]));
        assert_eq!(is, Some(dataset("u1", &["a/b", "c/d"])));
        // Changed since: nothing else may go in its place, nor from another object of that name.
        for (uid, finalizers) in [
            ("u1", vec![marks::FINALIZER, "c/d"]),
            ("u1", vec!["a/b", "c/d"]),
            ("u1", vec![]),
            ("u2", vec!["a/b", marks::FINALIZER]),
        ] {
            assert_eq!(patched(dataset(uid, &finalizers)), None, "{uid} {finalizers:?}");
        }
        assert_eq!(without(&seen, "e/f"), None);
    }
}
