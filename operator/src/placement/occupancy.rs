//! Who has been given room on which nodes, as far as a Dataset that wants its nodes for itself cares: by that, a load
//! that somebody planned keeps to the same rule as placement ([`Given::keeps_off`](super::room::Given::keeps_off)).

use rustc_hash::{FxHashMap, FxHashSet};

use crate::inventory::{DatasetId, Inventory, Name, Sharing};

use super::book::Book;

/// As it was at placement's last look. Empty where no Dataset wants to be alone.
#[derive(Clone, Debug, Default)]
pub struct Occupancy {
    /// Those that want their nodes for themselves.
    exclusive: FxHashSet<Name>,
    nodes: FxHashMap<Name, Occupied>,
    /// Placement has come round every Dataset.
    whole: bool,
}

/// Two of a node's Datasets are enough to name one that is not one's own: the first by name, so that what is said of it
/// stays the same.
#[derive(Clone, Debug)]
struct Occupied {
    alone: Option<Name>,
    first: Name,
    second: Option<Name>,
}

impl Occupancy {
    /// The inventory waits meanwhile, so nothing is sorted and no name is copied that is not kept.
    pub(super) fn of(book: &Book, inventory: &Inventory, whole: bool) -> Self {
        let wants = inventory
            .datasets()
            .filter(|(_, dataset)| dataset.spec().is_some_and(|spec| spec.sharing == Sharing::Exclusive));
        let exclusive: FxHashSet<Name> = wants.map(|(_, dataset)| dataset.name().clone()).collect();
        // The book is a step behind: one that wanted its nodes until now may still have them.
        let had = |node| book.given(node).is_some_and(|given| given.exclusive.is_some());
        if exclusive.is_empty() && !book.nodes().any(had) {
            return Self { whole, ..Self::default() };
        }
        let name = |id: DatasetId| inventory.dataset(id).map(|dataset| dataset.name());
        let occupied = book.nodes().filter_map(|id| {
            let given = book.given(id)?;
            let names = || given.datasets.keys().filter_map(|dataset| name(*dataset));
            let first = names().min()?;
            let second = names().filter(|name| *name != first).min().cloned();
            let alone = given.exclusive.and_then(name).cloned();
            Some((inventory.node(id)?.name().clone(), Occupied { alone, first: first.clone(), second }))
        });
        Self { nodes: occupied.collect(), exclusive, whole }
    }

    /// Whether placement has looked since one that wants its nodes for itself does; of who has not waited for that
    /// (`patient`), whether it has if it has looked at all.
    pub fn knows(&self, exclusive: &str, patient: bool) -> bool {
        if self.whole { self.exclusive.contains(exclusive) } else { !patient }
    }

    /// The other Dataset by which one is kept off a node: that has it for itself, or that is there where this one wants
    /// to be alone.
    pub fn keeps_off(&self, node: &str, dataset: &str) -> Option<&Name> {
        let occupied = self.nodes.get(node)?;
        if let Some(alone) = occupied.alone.as_ref().filter(|alone| &***alone != dataset) {
            return Some(alone);
        }
        if !self.exclusive.contains(dataset) {
            return None;
        }
        [Some(&occupied.first), occupied.second.as_ref()]
            .into_iter()
            .flatten()
            .find(|name| &***name != dataset)
    }
}
