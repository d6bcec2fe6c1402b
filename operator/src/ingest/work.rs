//! What an agent can be asked to do, in the operator's words.

use operator_api::report::v1 as wire;

use crate::inventory::{Chunks, Name, Tier, Version};

use super::directory::Directory;

/// The wire's bounds.
pub const LONGEST_ID: usize = 128;
/// Instructions that an agent may name when it comes.
pub const MOST_IN_HAND: usize = 1_024;
const LONGEST_REASON: usize = 512;

/// How the identities begin of what is begun for a pod that has got its node. Nobody asks how it ended.
pub const FOR_PODS: &str = "bound/";

/// One thing for one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Must follow from what is asked and why (an operation's uid, a plan's step): whoever comes to the same wish
    /// after a restart gives it the same identity, and so it is done once. At most 128 bytes.
    pub id: Box<str>,
    pub node: Name,
    pub work: Work,
    /// For people.
    pub reason: Box<str>,
    /// Of no use any more after so many milliseconds; 0: never.
    pub useful_ms: u32,
    /// Greater goes first.
    pub priority: u32,
    /// It is sent once the agent has the Dataset on a mount; what is asked without this an agent that has not refuses.
    pub awaits_mount: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    Fetch(Extent, Tier),
    Pin(Extent, Tier),
    Drop(Extent, Tier),
}

/// What of a Dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    pub dataset: Name,
    /// A file or folder below the Dataset's root; empty: all of it.
    pub path: Box<[u8]>,
    /// Chunks of a version; `None`: all that `path` says, of whatever version.
    pub chunks: Option<(Version, Vec<Chunks>)>,
}

/// How far a wish is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub state: State,
    pub bytes: u64,
    pub files: u64,
    pub failed_files: u64,
    /// As far as they are known yet.
    pub bytes_total: u64,
    pub files_total: u64,
    /// The agent's sentence, where something is missing.
    pub detail: Box<str>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Accepted,
    Running,
    Done,
    /// Some of it; the detail says what is missing.
    Partly,
    Failed,
    /// The Dataset is of another version.
    Changed,
    /// The agent cannot do this.
    Refused,
    /// Withdrawn, or too late to be of use.
    Dropped,
}

impl State {
    pub const fn is_end(self) -> bool {
        match self {
            Self::Accepted | Self::Running => false,
            Self::Done | Self::Partly | Self::Failed | Self::Changed | Self::Refused | Self::Dropped => true,
        }
    }
}

impl Progress {
    /// What an agent says of an instruction; `None` where it says nothing that this version understands.
    pub(super) fn read(told: wire::Progress) -> Option<(Box<str>, Self)> {
        use wire::progress::State as Told;
        let state = match told.state() {
            Told::Unspecified => return None,
            Told::Accepted => State::Accepted,
            Told::Running => State::Running,
            Told::Done => State::Done,
            Told::Partly => State::Partly,
            Told::Failed => State::Failed,
            Told::Changed => State::Changed,
            Told::Refused => State::Refused,
            Told::Dropped => State::Dropped,
        };
        let wire::Progress { id, state: _, bytes, files, failed_files, bytes_total, files_total, mut detail } =
            told;
        if id.is_empty() || id.len() > LONGEST_ID {
            return None;
        }
        // Somebody will print it.
        detail.truncate(detail.floor_char_boundary(LONGEST_REASON));
        let detail = detail.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().into();
        Some((id.into(), Self { state, bytes, files, failed_files, bytes_total, files_total, detail }))
    }
}

impl Work {
    pub fn extent(&self) -> &Extent {
        match self {
            Self::Fetch(extent, _) | Self::Pin(extent, _) | Self::Drop(extent, _) => extent,
        }
    }
}

impl Wish {
    /// In the words of the wire; `None` while the Dataset has no number.
    pub(super) fn instruction(&self, directory: &Directory) -> Option<wire::Instruction> {
        let number = directory.number(&self.work.extent().dataset)?;
        let tier = |tier: &Tier| match tier {
            Tier::Ram => wire::Tier::PageCache.into(),
            Tier::Cache => wire::Tier::Cache.into(),
        };
        let work = match &self.work {
            Work::Fetch(extent, t) => wire::instruction::Work::Fetch(wire::Fetch {
                extent: Some(extent.told(number)),
                tier: tier(t),
            }),
            Work::Pin(extent, t) => {
                wire::instruction::Work::Pin(wire::Pin { extent: Some(extent.told(number)), tier: tier(t) })
            }
            Work::Drop(extent, t) => {
                wire::instruction::Work::Drop(wire::Drop { extent: Some(extent.told(number)), tier: tier(t) })
            }
        };
        let mut reason = self.reason.to_string();
        reason.truncate(reason.floor_char_boundary(LONGEST_REASON));
        Some(wire::Instruction {
            id: self.id.to_string(),
            work: Some(work),
            reason,
            useful_ms: self.useful_ms,
            priority: self.priority,
        })
    }
}

impl Extent {
    fn told(&self, dataset: u32) -> wire::Extent {
        let Self { dataset: _, path, chunks } = self;
        let (version, runs) = chunks.as_ref().map_or((0, &[][..]), |(version, runs)| (version.0, runs));
        wire::Extent {
            dataset,
            path: path.to_vec(),
            version_high: (version >> 64) as u64,
            version_low: version as u64,
            chunks: runs.iter().flat_map(|run| [run.start, run.end.saturating_sub(run.start)]).collect(),
        }
    }
}
