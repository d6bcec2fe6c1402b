//! The agents as the rest of the operator knows them: DataLoads' wishes go onto their desk, what is watched of the
//! cluster into their directory.

use std::sync::PoisonError;

use crate::ingest::{self, DeskError, Extent, Folder, Hub, Standing as Stands, State, Work};
use crate::inventory::{Dataset, Fact, Name, Sharing, Tier, Version};
use crate::placement::allows;
use crate::reconcile::agents::{Agents, Standing, Wish};

/// What is watched of the cluster, for the agents.
pub fn hear(hub: &Hub, fact: &Fact) {
    match fact {
        Fact::Dataset { dataset, spec } => {
            let folder = |mount: &crate::inventory::Mount| Folder {
                dataset: dataset.clone(),
                source: mount.source.clone(),
                prefix: mount.path.clone(),
            };
            hub.directory().put(dataset, spec.mounts.iter().map(folder).collect());
        }
        Fact::DatasetGone { dataset } => {
            hub.directory().remove(dataset);
            hub.profiles(|profiles| profiles.forget(dataset));
        }
        Fact::NodeGone { node } => hub.lose(node),
        Fact::Node { .. }
        | Fact::NodeSilent { .. }
        | Fact::Mounted { .. }
        | Fact::Version { .. }
        | Fact::Report { .. }
        | Fact::PodBound { .. }
        | Fact::PodEnded { .. } => {}
    }
}

impl Agents for Hub {
    fn candidates(&self, dataset: &str) -> Vec<Name> {
        let mut nodes = self.mounted(dataset);
        let inventory = self.inventory().read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = inventory.dataset_id(dataset).and_then(|id| inventory.dataset(id)) {
            let may = |node: &Name| {
                let node = inventory.node_id(node).and_then(|id| inventory.node(id));
                // Of one that the cluster has not told of yet there is nothing to hold against it.
                node.is_none_or(|node| node.facts().is_none() || allows(known, node))
            };
            nodes.retain(may);
        }
        nodes
    }

    fn kept_off(&self, dataset: &str, candidates: &[Name]) -> Vec<(Name, Name)> {
        let occupancy = self.occupancy();
        let by = |node: &Name| Some((node.clone(), occupancy.keeps_off(node, dataset)?.clone()));
        candidates.iter().filter_map(by).collect()
    }

    fn knows_sharing(&self, patient: bool) -> bool {
        let occupancy = self.occupancy();
        let inventory = self.inventory().read().unwrap_or_else(PoisonError::into_inner);
        let alone = |dataset: &Dataset| dataset.spec().is_some_and(|spec| spec.sharing == Sharing::Exclusive);
        let mut exclusive = inventory.datasets().filter(|(_, dataset)| alone(dataset));
        exclusive.all(|(_, dataset)| occupancy.knows(dataset.name(), patient))
    }

    fn version(&self, dataset: &str) -> Option<(Version, Option<u64>)> {
        let inventory = self.inventory().read().unwrap_or_else(PoisonError::into_inner);
        let current = inventory.dataset(inventory.dataset_id(dataset)?)?.current()?;
        Some((current.version, current.bytes))
    }

    fn ask(&self, wish: &Wish) -> Result<Standing, String> {
        let Wish { id, node, dataset, path, chunks, pin, priority, reason, awaits_mount } = wish.clone();
        let extent = Extent { dataset, path: path.into_bytes().into(), chunks };
        let work = if pin { Work::Pin(extent, Tier::Ram) } else { Work::Fetch(extent, Tier::Ram) };
        let asked = ingest::Wish {
            id: id.as_str().into(),
            node: node.clone(),
            work,
            reason: reason.into(),
            useful_ms: 0,
            priority,
            awaits_mount,
        };
        match self.instruct(asked) {
            Ok(_) => Ok(self.standing(&node, &id).map_or(Standing::Waiting, standing)),
            // It is asked again at the next look: a desk empties, and who leads no more says nothing of the run.
            Err(DeskError::Full(_) | DeskError::NotLeading) => Ok(Standing::Waiting),
            Err(error @ DeskError::Identity(_)) => Err(error.to_string()),
        }
    }

    fn under_way(&self) -> Vec<(Name, Name, u64)> {
        Hub::under_way(self)
    }

    fn withdraw(&self, node: &str, id: &str) {
        Hub::withdraw(self, node, id);
    }

    fn forget(&self, node: &str, id: &str) {
        Hub::forget(self, node, id);
    }

    fn call_off(&self, node: &str, prefix: &str) {
        Hub::call_off(self, node, prefix);
    }

    fn unasked(&self, prefix: &str) -> Vec<(Name, Box<str>)> {
        Hub::unasked(self, prefix).into_iter().map(|(node, id, _)| (node, id)).collect()
    }
}

fn standing(stands: Stands) -> Standing {
    match stands {
        Stands::Waiting | Stands::Sent => Standing::Waiting,
        Stands::Going(progress) => Standing::Going { bytes: progress.bytes, total: progress.bytes_total },
        Stands::Ended(progress) => match progress.state {
            State::Done => Standing::Done { bytes: progress.bytes },
            State::Accepted | State::Running => {
                Standing::Going { bytes: progress.bytes, total: progress.bytes_total }
            }
            State::Partly | State::Failed | State::Changed | State::Refused | State::Dropped => {
                let why = if progress.detail.is_empty() {
                    format!("it ended as {:?}", progress.state)
                } else {
                    progress.detail.into()
                };
                Standing::Failed { bytes: progress.bytes, why }
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ingest::Limits;

    fn wish(number: usize) -> Wish {
        Wish {
            id: format!("load/u/{number}"),
            node: "n".into(),
            dataset: "a/d".into(),
            path: String::new(),
            chunks: None,
            pin: false,
            priority: 0,
            reason: String::new(),
            awaits_mount: false,
        }
    }

    #[test]
    fn what_finds_no_place_on_the_desk_waits() {
        let hub = Hub::new(Limits::default(), 1, Arc::default());
        for number in 0..5_000 {
            assert_eq!(Agents::ask(&*hub, &wish(number)), Ok(Standing::Waiting), "{number}");
        }
        assert!(hub.open() < 5_000, "the desk is full");
        hub.admit(false);
        assert_eq!(Agents::ask(&*hub, &wish(0)), Ok(Standing::Waiting));
        let nameless = Wish { id: String::new(), ..wish(0) };
        hub.admit(true);
        assert!(Agents::ask(&*hub, &nameless).unwrap_err().contains("fault of the program"));
    }
}
