//! What is measured of a Dataset, for its status. What nobody has measured is absent.

use operator_api::crd::dataset_status::{NodeStatus, ReaderStatus, VersionStatus};

/// What agents have told of one Dataset.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measure {
    /// Nodes whose agents tell of it now. None: nothing of what follows is current.
    pub reporting: usize,
    /// The newest version.
    pub version: Option<String>,
    /// Newest first.
    pub versions: Vec<VersionStatus>,
    pub total_bytes: Option<i64>,
    pub file_num: Option<i64>,
    /// Bytes of the newest version that at least one node holds.
    pub cached_bytes: Option<i64>,
    /// Bytes that nodes may hold of it.
    pub capacity_bytes: Option<i64>,
    /// Share of read bytes that were on the reader's node.
    pub hit_share: Option<f64>,
    /// The nodes that hold most, bounded.
    pub nodes: Vec<NodeStatus>,
    pub node_count: i32,
    /// Workloads with pods where it is read, those on most nodes first, bounded.
    pub readers: Vec<ReaderStatus>,
    /// Those workloads, or what one agent counts at most, where that is more: a workload on two nodes is one.
    pub reader_count: i32,
    /// Seconds since somebody was last seen reading; none: not known.
    pub idle_seconds: Option<i64>,
}

/// What has been measured. Answers come from memory.
pub trait Measured: Send + Sync + 'static {
    /// None: no agent has ever told of it.
    fn dataset(&self, namespace: &str, name: &str) -> Option<Measure>;

    /// A term begins: what was seen in an earlier one says nothing of the time between.
    fn begin_term(&self);
}

/// Knows nothing; while no agents are listened to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nothing;

impl Measured for Nothing {
    fn dataset(&self, _: &str, _: &str) -> Option<Measure> {
        None
    }

    fn begin_term(&self) {}
}
