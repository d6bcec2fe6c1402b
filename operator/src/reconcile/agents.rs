//! What a DataLoad, or a pod that got its node, asks of agents, and what they answer.

use crate::inventory::{Chunks, Name, Version};

/// One thing for one node. The identity follows from what is asked: the same wish after a restart has the same
/// one, and is done once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub id: String,
    pub node: Name,
    pub dataset: Name,
    /// Below the Dataset's root, without slashes at either end; empty: all of it.
    pub path: String,
    /// Chunks of a version; none: all that `path` says.
    pub chunks: Option<(Version, Vec<Chunks>)>,
    /// Keep it.
    pub pin: bool,
    pub priority: u32,
    pub reason: String,
    /// The node will have the Dataset on a mount only later.
    pub awaits_mount: bool,
}

/// How far a wish is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not begun, or its agent is not there.
    Waiting,
    Going {
        bytes: u64,
        /// As far as known.
        total: u64,
    },
    Done {
        bytes: u64,
    },
    Failed {
        bytes: u64,
        why: String,
    },
}

/// The agents, as far as DataLoads go. Answers come from memory.
pub trait Agents: Send + Sync + 'static {
    /// Nodes whose agents have the Dataset on a mount, and may hold it.
    fn candidates(&self, dataset: &str) -> Vec<Name>;

    /// Of those the ones that are not to be told to bring it in, each with the Dataset that keeps it off: that has the
    /// node for itself, or is there where this one wants to be alone (`cache.placement` Exclusive).
    fn kept_off(&self, _dataset: &str, _candidates: &[Name]) -> Vec<(Name, Name)> {
        Vec::new()
    }

    /// Whether `kept_off` can be answered: placement has looked since this replica leads, and since a Dataset is Exclusive.
    /// Who has waited long enough (not `patient`) goes without the first.
    fn knows_sharing(&self, _patient: bool) -> bool {
        true
    }

    /// The version readers see, and its bytes.
    fn version(&self, dataset: &str) -> Option<(Version, Option<u64>)>;

    /// Asks, or finds that it was asked already.
    fn ask(&self, wish: &Wish) -> Result<Standing, String>;

    /// What nodes whose agents are there were asked to bring in and have not yet: (node, Dataset, bytes), as far as
    /// bytes are known.
    fn under_way(&self) -> Vec<(Name, Name, u64)>;

    /// It is not wanted any more, a pin ends.
    fn withdraw(&self, node: &str, id: &str);

    /// Nobody asks any more how it ended, where it has.
    fn forget(&self, _node: &str, _id: &str) {}

    /// What has not ended on a node is not wanted any more, of identities that begin so.
    fn call_off(&self, node: &str, prefix: &str);

    /// What agents have in hand, or hold, of identities that begin so, and nobody has asked for in this life:
    /// (node, identity).
    fn unasked(&self, prefix: &str) -> Vec<(Name, Box<str>)>;
}

/// No agents are listened to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Agents for Nobody {
    fn candidates(&self, _: &str) -> Vec<Name> {
        Vec::new()
    }
    fn version(&self, _: &str) -> Option<(Version, Option<u64>)> {
        None
    }
    fn ask(&self, _: &Wish) -> Result<Standing, String> {
        Err("no agents are listened to".into())
    }
    fn under_way(&self) -> Vec<(Name, Name, u64)> {
        Vec::new()
    }
    fn withdraw(&self, _: &str, _: &str) {}
    fn call_off(&self, _: &str, _: &str) {}
    fn unasked(&self, _: &str) -> Vec<(Name, Box<str>)> {
        Vec::new()
    }
}
