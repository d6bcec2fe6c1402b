//! What came over the wire and what was turned away, counted for metrics and tests.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! tallies {
    ($($(#[$doc:meta])* $variant:ident,)*) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Tally {
            $($(#[$doc])* $variant,)*
        }

        impl Tally {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name as it is written here.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)*
                }
            }
        }

        const TALLIES: usize = Tally::ALL.len();
    };
}

tallies! {
    /// Connections whose handshake succeeded.
    Connections,
    /// Of these, those made from a ticket of an earlier one.
    ConnectionsResumed,
    /// Handshakes that failed or took too long.
    HandshakesFailed,
    /// Connections turned away because there were too many.
    ConnectionsRefused,
    /// Streams that got a Welcome.
    Sessions,
    /// Of these, those that went on where they had been.
    Resumed,
    /// Reports folded in, and the ranges in them.
    Reports,
    Ranges,
    /// Snapshots begun.
    Snapshots,
    /// Reports that did not follow the one before: a snapshot was asked for.
    Resyncs,
    /// Parts about Datasets that are not bound to the agent: left out.
    UnknownDatasets,
    /// Profiles of file systems that the node has not got, or of Datasets that no pod there uses: left out.
    ProfilesRefused,
    /// Versions of a Dataset larger than an exbibyte: left out.
    VersionsRefused,
    /// Ranges the inventory had no room for, or that lie outside of their version.
    RangesRefused,
    /// Streams ended because a message made no sense.
    Nonsense,
    /// Streams ended because of another node's name.
    Impostors,
    /// Streams refused because no version of the protocol is common to both.
    Versions,
    /// Streams ended because the agent sent more than it may.
    Floods,
    /// Streams that broke off, among them those that stopped half-way in a message.
    Broken,
    /// Streams ended after a long silence.
    Silent,
    /// Streams ended because the node came again on another one.
    Replaced,
    /// Streams ended because the node was deleted from the cluster.
    Lost,
    /// Instructions sent.
    Instructions,
    /// Instructions that an agent had in hand already and was not sent again.
    InstructionsKnown,
}

/// Counters; clones are not made, they are shared behind the hub.
#[derive(Debug)]
pub struct Counts([AtomicU64; TALLIES]);

impl Default for Counts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Counts {
    pub fn add(&self, tally: Tally, by: u64) {
        if let Some(count) = self.0.get(tally as usize) {
            count.fetch_add(by, Ordering::Relaxed);
        }
    }

    pub fn get(&self, tally: Tally) -> u64 {
        self.0.get(tally as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}
