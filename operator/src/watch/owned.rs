//! Objects that the operator made, by whom they were made for.
//!
//! A question costs what its answer holds, not what the cluster holds: a thousand Datasets ask a thousand
//! times.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use kube::Resource;
use kube::runtime::watcher::Event;

/// Namespace (empty for none) and name.
pub type Key = (String, String);

type Groups<K> = HashMap<String, BTreeMap<Key, Arc<K>>>;

#[derive(Debug)]
struct Inner<K> {
    groups: Groups<K>,
    owners: HashMap<Key, String>,
    /// Objects of a list that is still being received.
    fresh: Vec<Arc<K>>,
    ready: bool,
}

/// Objects of one kind, grouped by the value of a label.
#[derive(Debug)]
pub struct Owned<K> {
    label: &'static str,
    inner: Arc<RwLock<Inner<K>>>,
}

impl<K> Clone for Owned<K> {
    fn clone(&self) -> Self {
        Self { label: self.label, inner: Arc::clone(&self.inner) }
    }
}

impl<K: Resource + Clone> Owned<K> {
    /// Groups by `label`; what does not carry it is left out.
    pub fn by(label: &'static str) -> Self {
        let inner = Inner { groups: HashMap::new(), owners: HashMap::new(), fresh: Vec::new(), ready: false };
        Self { label, inner: Arc::new(RwLock::new(inner)) }
    }

    /// Whether a whole list has been received.
    pub fn ready(&self) -> bool {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).ready
    }

    /// All objects of an owner.
    pub fn of(&self, owner: &str) -> Vec<Arc<K>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.groups.get(owner).map(|group| group.values().cloned().collect()).unwrap_or_default()
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace.to_owned(), name.to_owned());
        inner.groups.get(inner.owners.get(&key)?)?.get(&key).cloned()
    }

    /// Owners that have anything.
    pub fn owners(&self) -> Vec<String> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.groups.keys().cloned().collect()
    }

    /// What a write answered, ahead of the watch.
    pub fn note(&self, object: K) {
        self.apply(&Event::Apply(object));
    }

    /// The apiserver has no object of that name and uid. A write's answer that came after the watch had told of its end
    /// would stay, and be deleted for ever.
    pub fn gone(&self, namespace: &str, name: &str, uid: &str) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace.to_owned(), name.to_owned());
        let known = inner.owners.get(&key).and_then(|owner| inner.groups.get(owner)?.get(&key));
        if known.is_some_and(|known| known.meta().uid.as_deref() == Some(uid)) {
            inner.remove(&key);
        }
    }

    /// Folds a watch event in.
    pub fn apply(&self, event: &Event<K>) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Apply(object) => inner.insert(self.label, Arc::new(object.clone())),
            Event::Delete(object) => inner.remove(&key(object)),
            Event::Init => inner.fresh.clear(),
            Event::InitApply(object) => inner.fresh.push(Arc::new(object.clone())),
            Event::InitDone => {
                inner.groups.clear();
                inner.owners.clear();
                inner.ready = true;
                for object in std::mem::take(&mut inner.fresh) {
                    inner.insert(self.label, object);
                }
            }
        }
    }
}

impl<K: Resource> Inner<K> {
    fn insert(&mut self, label: &str, object: Arc<K>) {
        let key = key(&*object);
        let owner = object.meta().labels.as_ref().and_then(|labels| labels.get(label)).cloned();
        // A write's answer may come after the watch has told of something later.
        if let Some(known) = self.owners.get(&key).and_then(|owner| self.groups.get(owner)?.get(&key))
            && known.meta().uid == object.meta().uid
            && version(&**known) > version(&*object)
        {
            return;
        }
        self.remove(&key);
        if let Some(owner) = owner {
            self.groups.entry(owner.clone()).or_default().insert(key.clone(), object);
            self.owners.insert(key, owner);
        }
    }

    fn remove(&mut self, key: &Key) {
        let Some(owner) = self.owners.remove(key) else { return };
        if let Some(group) = self.groups.get_mut(&owner) {
            group.remove(key);
            if group.is_empty() {
                self.groups.remove(&owner);
            }
        }
    }
}

fn key<K: Resource>(object: &K) -> Key {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// Since Kubernetes 1.35 resource versions of one kind may be compared; before, they were etcd's revisions
/// and could be too. What is no number compares as the oldest.
fn version<K: Resource>(object: &K) -> u128 {
    object.meta().resource_version.as_ref().and_then(|v| v.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn map(name: &str, owner: Option<&str>, version: u64) -> ConfigMap {
        let labels = owner.map(|owner| BTreeMap::from([("l".to_owned(), owner.to_owned())]));
        let metadata = kube::api::ObjectMeta {
            name: Some(name.into()),
            namespace: Some("n".into()),
            labels,
            resource_version: Some(version.to_string()),
            ..Default::default()
        };
        ConfigMap { metadata, ..Default::default() }
    }

    fn names(owned: &Owned<ConfigMap>, owner: &str) -> Vec<String> {
        owned.of(owner).iter().filter_map(|o| o.metadata.name.clone()).collect()
    }

    #[test]
    fn groups_follow_labels_and_lists() {
        let owned = Owned::by("l");
        assert!(!owned.ready());
        owned.apply(&Event::Apply(map("a", Some("x"), 1)));
        owned.apply(&Event::Apply(map("b", Some("x"), 2)));
        owned.apply(&Event::Apply(map("c", None, 3)));
        assert_eq!(names(&owned, "x"), ["a", "b"]);
        owned.apply(&Event::Apply(map("a", Some("y"), 4)));
        assert_eq!((names(&owned, "x"), names(&owned, "y")), (vec!["b".into()], vec!["a".into()]));
        owned.apply(&Event::Delete(map("b", Some("x"), 5)));
        assert_eq!(owned.owners(), ["y"]);
        owned.apply(&Event::Init);
        owned.apply(&Event::InitApply(map("d", Some("x"), 6)));
        assert_eq!(names(&owned, "y"), ["a"], "a list counts when it is whole");
        owned.apply(&Event::InitDone);
        assert_eq!((names(&owned, "x"), names(&owned, "y")), (vec!["d".to_owned()], vec![]));
        assert!(owned.ready());
    }

    #[test]
    fn a_late_answer_of_a_write_goes_when_the_apiserver_does_not_have_it() {
        let owned = Owned::by("l");
        let of = |uid: &str| {
            let mut map = map("a", Some("x"), 8);
            map.metadata.uid = Some(uid.into());
            map
        };
        owned.apply(&Event::Apply(of("1")));
        owned.apply(&Event::Delete(of("1")));
        owned.note(of("1"));
        assert_eq!(owned.owners(), ["x"]);
        let found = of("1").metadata;
        let (namespace, name) = (found.namespace.unwrap_or_default(), found.name.unwrap());
        owned.gone(&namespace, &name, "2");
        assert_eq!(owned.owners(), ["x"], "another of its name is meant");
        owned.gone(&namespace, &name, "1");
        assert!(owned.owners().is_empty());
    }

    #[test]
    fn a_late_answer_of_a_write_changes_nothing() {
        let owned = Owned::by("l");
        owned.apply(&Event::Apply(map("a", Some("y"), 9)));
        owned.note(map("a", Some("x"), 8));
        assert_eq!(owned.owners(), ["y"]);
    }
}
