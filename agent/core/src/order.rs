//! What the core asks of the prefetch edge. Every `List` and `Fetch` is answered by exactly one
//! `Listing` or `Fetched` observation, whatever becomes of it.

use crate::observation::OrderId;
use crate::units::{FileKey, MountId, Nanos, Pages};

/// Which part of a file to bring in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// From the start to the end of the file, no more than `limit` bytes.
    Whole { limit: u64 },
    /// These page ranges. None at all: only the name is looked up, nothing is opened or read.
    Ranges(Vec<Pages>),
    /// A learned shape, resolved against the size found when the file is opened.
    Shape(Vec<Anchored>),
}

/// A byte range relative to one end of a file whose size is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Anchored {
    /// `offset` bytes after the start, `len` bytes long.
    Start { offset: u64, len: u64 },
    /// Ends `before_end` bytes before the end, `len` bytes long.
    End { before_end: u64, len: u64 },
    /// In millionths of the file's size.
    Fraction { start: u32, end: u32 },
}

/// By which way the file is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// The agent opens the path itself, below the mount's root.
    Open,
    /// A copy of the reader's own descriptor (pidfd_getfd): where an open drops the file's pages, or root
    /// is refused. Never opens the file.
    Descriptor { tgid: u32 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// List a directory, at most `limit` entries. `via` is a process through whose root the mount can be
    /// reached (the reader may live in another mount namespace).
    List { id: OrderId, mount: MountId, dir: Box<[u8]>, limit: usize, via: u32 },
    Fetch {
        id: OrderId,
        mount: MountId,
        path: Box<[u8]>,
        /// Known when the file has been seen; the edge drops the order when the path has become another file.
        file: Option<FileKey>,
        door: Door,
        via: u32,
        extent: Extent,
        /// When the reader is expected to want it; earlier deadlines go first.
        deadline: Nanos,
    },
    /// Not needed any more. An order that has not been started ends as `Outcome::Dropped`.
    Cancel { id: OrderId },
    /// How many fetches may be under way at this mount from now on.
    Depth { mount: MountId, fetches: u32 },
    /// The catalog was full and has been emptied: the probe should send the names of this file system again.
    Resight { mount: MountId },
    /// Tell the probe that counters are enough for this file (its pattern is predicted), or that details
    /// are wanted again.
    Detail { file: FileKey, wanted: bool },
}
