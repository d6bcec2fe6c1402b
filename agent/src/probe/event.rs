//! What the probe tells: the kernel's part of `agent_core::Observation`. Mount numbers and who a process
//! is are added by others.

use agent_core::observation::{Actor, Via};
use agent_core::units::{FileKey, Nanos, Pages, Reader};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadEvent {
    /// First sight of an inode, or of one that was renamed, changed or made anew since; always before
    /// its first access and its first page. The path is relative to the root of the file system.
    Sight {
        file: FileKey,
        /// Empty where no name leads to the inode (opened by handle, the file system's own). One that is unlinked and
        /// still open has the path that it had, which a newer file may have too.
        path: Box<[u8]>,
        size: u64,
        /// Seconds since the epoch.
        mtime: i64,
        /// Leading folders are missing: deeper than 32 names, or longer than 4096 bytes, each name rounded up to eight.
        truncated: bool,
        /// Who touched it first.
        reader: Reader,
        at: Nanos,
    },
    /// Pages were read. Merged: `count` accesses that touched `touched` pages altogether.
    Access {
        file: FileKey,
        reader: Reader,
        pages: Pages,
        via: Via,
        count: u32,
        touched: u64,
        size: u64,
        /// `pages` is only the span within which the accesses lay.
        sampled: bool,
        at: Nanos,
    },
    Added {
        file: FileKey,
        pages: Pages,
        by: Actor,
        at: Nanos,
    },
    Removed {
        file: FileKey,
        pages: Pages,
        by: Actor,
        at: Nanos,
    },
    /// A read had to wait for its first page, from the moment when the page was added.
    Miss {
        file: FileKey,
        reader: Reader,
        latency: Nanos,
        bytes: u64,
        at: Nanos,
    },
    /// A read that added no page itself, of those that are timed: its pages were in memory, or somebody else
    /// was bringing them in.
    Hit {
        file: FileKey,
        reader: Reader,
        latency: Nanos,
        bytes: u64,
        at: Nanos,
    },
    /// The last thread of a process that read has ended.
    Exit {
        tgid: u32,
        at: Nanos,
    },
    /// So many records found no room in the ring since the last time.
    Lost {
        records: u64,
    },
}

impl ReadEvent {
    pub fn file(&self) -> Option<FileKey> {
        match self {
            Self::Sight { file, .. }
            | Self::Access { file, .. }
            | Self::Added { file, .. }
            | Self::Removed { file, .. }
            | Self::Miss { file, .. }
            | Self::Hit { file, .. } => Some(*file),
            Self::Exit { .. } | Self::Lost { .. } => None,
        }
    }
}
