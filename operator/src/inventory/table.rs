//! Names and the ids that stand for them, with what is known of each.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::units::Name;

/// Rows by id, in the order in which their names came. An id is never given twice, so that one kept too
/// long finds nothing rather than somebody else.
#[derive(Clone, Debug)]
pub struct Table<T> {
    ids: FxHashMap<Name, u32>,
    rows: BTreeMap<u32, T>,
    next: u32,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { ids: FxHashMap::default(), rows: BTreeMap::new(), next: 0 }
    }
}

impl<T> Table<T> {
    pub fn id(&self, name: &str) -> Option<u32> {
        self.ids.get(name).copied()
    }

    pub fn get(&self, id: u32) -> Option<&T> {
        self.rows.get(&id)
    }

    pub fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.rows.get_mut(&id)
    }

    pub fn count(&self) -> usize {
        self.rows.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.rows.iter().map(|(id, row)| (*id, row))
    }

    /// The row of a name, made by `new` where there is none.
    pub fn entry(&mut self, name: &Name, new: impl FnOnce(Name) -> T) -> (u32, &mut T) {
        let id = *self.ids.entry(name.clone()).or_insert_with(|| {
            self.next += 1;
            self.next
        });
        (id, self.rows.entry(id).or_insert_with(|| new(name.clone())))
    }

    pub fn remove(&mut self, id: u32, name: &str) {
        self.ids.remove(name);
        self.rows.remove(&id);
    }
}
