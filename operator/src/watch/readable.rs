//! A watch on a kind that people write. An object that cannot be read (the apiserver let it in, by an older CRD or a
//! hole in its schema) is left out and named in the log: it must not keep all others of its kind from being seen.

use std::fmt::Debug;

use futures::{Stream, StreamExt};
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::pace::Pace;

/// What came of an event.
#[derive(Debug)]
pub enum Told<K> {
    Event(Event<K>),
    /// Of an object that cannot be read nothing is told. One that could be read before stays as it was until its kind is
    /// listed again.
    Nothing,
    /// It is gone, and may have been readable once: only a new list says what there is.
    ListAnew,
}

pub fn events<K>(
    client: &Client,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<Told<K>>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let api = Api::<DeserializeGuard<K>>::all(client.clone());
    let events = watch(api, config).backoff(Pace::default());
    events.modify(|object| object.meta_mut().managed_fields = None).map(|event| event.map(read))
}

fn read<K: Resource<DynamicType = ()>>(event: Event<DeserializeGuard<K>>) -> Told<K> {
    let (guard, event): (_, fn(K) -> Event<K>) = match event {
        Event::Apply(guard) => (guard, Event::Apply),
        Event::InitApply(guard) => (guard, Event::InitApply),
        Event::Delete(DeserializeGuard(Err(_))) => return Told::ListAnew,
        Event::Delete(guard) => (guard, Event::Delete),
        Event::Init => return Told::Event(Event::Init),
        Event::InitDone => return Told::Event(Event::InitDone),
    };
    match guard.0 {
        Ok(object) => Told::Event(event(object)),
        Err(invalid) => {
            tracing::warn!(
                kind = %K::kind(&()),
                namespace = invalid.metadata.namespace.as_deref().unwrap_or_default(),
                name = invalid.metadata.name.as_deref().unwrap_or_default(),
                error = invalid.error,
                "an object cannot be read and is left out; after the next list it counts as gone: correct it, or delete it"
            );
            Told::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use operator_api::crd::AccessProfile;
    use serde_json::{Value, json};

    use super::*;

    fn guard(learned_at: &Value) -> DeserializeGuard<AccessProfile> {
        let profile = json!({"apiVersion": "headrace.io/v1alpha1", "kind": "AccessProfile",
            "metadata": {"name": "p", "namespace": "a"},
            "spec": {"workload": {"kind": "Job", "name": "w"}, "dataset": {"name": "d"}, "data": "", "learnedAt": learned_at}});
        serde_json::from_value(profile).unwrap()
    }

    #[test]
    fn what_cannot_be_read_hides_nobody_else() {
        let (good, bad) = (|| guard(&json!("2026-11-30T00:00:00Z")), || guard(&json!(["no such word"])));
        for event in [Event::Apply(good()), Event::InitApply(good()), Event::Delete(good())] {
            assert!(matches!(read(event), Told::Event(_)));
        }
        assert!(matches!(read(Event::InitApply(bad())), Told::Nothing));
        assert!(matches!(read(Event::Apply(bad())), Told::Nothing));
        assert!(matches!(read(Event::Delete(bad())), Told::ListAnew));
        assert!(matches!(read::<AccessProfile>(Event::InitDone), Told::Event(Event::InitDone)));
    }
}
