//! Why a node should hold a piece, or no longer should, in words that a person can check.

use std::fmt;

use super::nearness::Near;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It is read, or about to be, on the node: so many tenths of a pass in the horizon.
    ReadHere { tenths: u32, nearest: Near },
    /// It is read near the node.
    ReadNear { tenths: u32, nearest: Near },
    /// The Dataset asks for this many copies.
    Declared { copy: u32, of: u32 },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passes = |tenths: &u32| f64::from(*tenths) / 10.0;
        match self {
            Self::ReadHere { tenths, nearest } => write!(
                f,
                "read here: {:.1} passes expected in ten minutes; the nearest other copy is {}",
                passes(tenths),
                nearest.words()
            ),
            Self::ReadNear { tenths, nearest } => write!(
                f,
                "read nearby: {:.1} passes expected in ten minutes by readers whose nearest copy is {}",
                passes(tenths),
                nearest.words()
            ),
            Self::Declared { copy, of } => write!(f, "the Dataset asks for {of} copies; this is copy {copy}"),
        }
    }
}

/// Why a copy is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Because {
    DatasetGone,
    /// Another version is current.
    NewVersion,
    NodeGone,
    /// Not ready, or quiet for longer than an agent's restart takes.
    NodeLost,
    /// A taint without toleration, a selector that does not choose the node, or no mount there.
    NotAllowed,
    /// The node has less room than before.
    LessRoom,
    /// The quota is smaller than before.
    Quota,
    /// Another Dataset has the node for itself.
    Exclusive,
    /// More copies than the Dataset asks for.
    Surplus,
    /// Its room is worth more to another Dataset.
    MadeRoom,
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DatasetGone => "the Dataset is gone",
            Self::NewVersion => "another version is current",
            Self::NodeGone => "the node is gone",
            Self::NodeLost => "the node is not ready, or its agent has been quiet for too long",
            Self::NotAllowed => {
                "a taint, the Dataset's node selector, or a mount that is not there keeps it from this node"
            }
            Self::LessRoom => "the node has less room than before",
            Self::Quota => "the Dataset's quota on a node is smaller than before",
            Self::Exclusive => "an exclusive Dataset's node holds no other",
            Self::Surplus => "there are more copies than the Dataset asks for",
            Self::MadeRoom => "its room saves more when another Dataset has it",
        })
    }
}
