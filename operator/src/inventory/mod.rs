//! Which bytes are where: a fold of facts (reports, nodes, Datasets), without I/O or clock.
//!
//! `Inventory::apply` takes a [`Fact`]; everything else asks. Names become small ids, residency becomes
//! spans of chunks, and a question costs what its answer is made of: holders of a Dataset, not nodes times
//! Datasets. The content does not depend on the order in which independent facts came (`digest`).

pub mod units;

pub mod chunk_set;

mod first;

pub mod hash;

pub mod fact;

pub mod matching;

mod table;

mod node;

mod dataset;

mod fold;

mod score;

mod digest;

pub use chunk_set::ChunkSet;
pub use dataset::{Dataset, Held, Presence, Summary};
pub use fact::{
    Applied, Capacity, Change, DatasetReport, DatasetSpec, Demand, Effect, Fact, Fate, Mount, NodeFacts,
    Pressure, Replicas, Report, Requirement, Sharing, Taint, Term, Test, Toleration, VersionFacts,
};
pub use first::First;
pub use fold::Inventory;
pub use node::{Node, Place, PodUse};
pub use score::{Scoring, Standing, Want};
pub use units::{
    CHUNK, Chunks, DatasetId, Labels, Millis, Name, NodeId, Tier, Version, WorkloadId, chunks_in,
};

#[cfg(test)]
mod tests;
