//! A watch as changes: what is there now, and what is not any more, also across a list that came anew.

use std::collections::BTreeSet;

use kube::Resource;
use kube::runtime::watcher::Event;

/// What became of one object.
#[derive(Debug)]
pub enum Change<K> {
    Is(K),
    Gone { namespace: String, name: String, uid: String },
}

/// Remembers which objects there were, so that a new list tells of those it does not hold.
#[derive(Debug, Default)]
pub struct Changes {
    known: BTreeSet<(String, String, String)>,
    fresh: BTreeSet<(String, String, String)>,
}

impl Changes {
    /// Folds an event in and gives the changes it makes.
    pub fn of<K: Resource>(&mut self, event: Event<K>) -> Vec<Change<K>> {
        match event {
            Event::Apply(object) => self.is(object),
            Event::Delete(object) => {
                let identity = identity(&object);
                self.known.remove(&identity);
                vec![gone(identity)]
            }
            Event::Init => {
                self.fresh.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                self.fresh.insert(identity(&object));
                // Known from now on: the list may break off here, and the next one lack it.
                self.is(object)
            }
            Event::InitDone => {
                let fresh = std::mem::take(&mut self.fresh);
                let lost: Vec<_> = self.known.difference(&fresh).cloned().collect();
                self.known = fresh;
                lost.into_iter().map(gone).collect()
            }
        }
    }

    /// An object is there. What had its name before goes first: who hears of it goes by names.
    fn is<K: Resource>(&mut self, object: K) -> Vec<Change<K>> {
        let identity = identity(&object);
        let mut changes = self.replaced(&identity);
        self.known.insert(identity);
        changes.push(Change::Is(object));
        changes
    }

    /// An object of the same name and another uid has gone unseen.
    fn replaced<K>(&mut self, (namespace, name, uid): &(String, String, String)) -> Vec<Change<K>> {
        let from = (namespace.clone(), name.clone(), String::new());
        let same = self.known.range(from..).take_while(|known| (&known.0, &known.1) == (namespace, name));
        let old: Vec<_> = same.filter(|known| known.2 != *uid).cloned().collect();
        for identity in &old {
            self.known.remove(identity);
        }
        old.into_iter().map(gone).collect()
    }
}

fn identity<K: Resource>(object: &K) -> (String, String, String) {
    let meta = object.meta();
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
        meta.uid.clone().unwrap_or_default(),
    )
}

fn gone<K>((namespace, name, uid): (String, String, String)) -> Change<K> {
    Change::Gone { namespace, name, uid }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn map(name: &str, uid: &str) -> ConfigMap {
        let metadata =
            kube::api::ObjectMeta { name: Some(name.into()), uid: Some(uid.into()), ..Default::default() };
        ConfigMap { metadata, ..Default::default() }
    }

    fn told(changes: &mut Changes, event: Event<ConfigMap>) -> Vec<String> {
        let word = |change: Change<ConfigMap>| match change {
            Change::Is(object) => format!("+{}", object.metadata.uid.unwrap_or_default()),
            Change::Gone { uid, .. } => format!("-{uid}"),
        };
        changes.of(event).into_iter().map(word).collect()
    }

    #[test]
    fn what_a_new_list_lacks_is_gone() {
        let mut changes = Changes::default();
        assert_eq!(told(&mut changes, Event::Apply(map("a", "1"))), ["+1"]);
        assert_eq!(told(&mut changes, Event::Apply(map("b", "2"))), ["+2"]);
        // Deleted and made again while nobody watched, seen as one change.
        assert_eq!(told(&mut changes, Event::Apply(map("a", "3"))), ["-1", "+3"]);
        assert_eq!(told(&mut changes, Event::Delete(map("b", "2"))), ["-2"]);
        assert!(told(&mut changes, Event::Init).is_empty());
        assert_eq!(told(&mut changes, Event::InitApply(map("c", "4"))), ["+4"]);
        assert_eq!(told(&mut changes, Event::InitDone), ["-3"]);
    }

    #[test]
    fn what_was_made_anew_between_two_lists_is_there_at_the_end() {
        let mut changes = Changes::default();
        assert_eq!(told(&mut changes, Event::Apply(map("a", "1"))), ["+1"]);
        assert!(told(&mut changes, Event::Init).is_empty());
        assert_eq!(told(&mut changes, Event::InitApply(map("a", "2"))), ["-1", "+2"]);
        assert!(told(&mut changes, Event::InitDone).is_empty());
        // A list that broke off has told of one that the next does not have.
        assert!(told(&mut changes, Event::Init).is_empty());
        assert_eq!(told(&mut changes, Event::InitApply(map("b", "3"))), ["+3"]);
        assert!(told(&mut changes, Event::Init).is_empty());
        assert_eq!(told(&mut changes, Event::InitApply(map("a", "2"))), ["+2"]);
        assert_eq!(told(&mut changes, Event::InitDone), ["-3"]);
    }
}
