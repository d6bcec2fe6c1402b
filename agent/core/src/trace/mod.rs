//! The recording codec: `(Nanos, Observation)` streams as bytes, and back.
//!
//! A recording is a file header (magic, version, checksum) and blocks of at most 64 KiB, each with a
//! mark, a length and checksums of its own. A block starts with an empty dictionary, so that it can be
//! read without the ones before it: what lies behind a flipped bit or a torn write is found again by its
//! mark. Within a block times are differences, files, readers and strings are numbers after their first
//! mention, and paths share the beginning of the path before; an access takes 6 to 10 bytes.
//!
//! Nothing here allocates by a number that was merely read: what is built from a record is charged
//! against a fixed budget first.

mod varint;

mod frame;

mod dictionary;

mod encode;

mod decode;

#[cfg(test)]
mod tests;

pub use decode::Decoder;
pub use encode::Encoder;
pub use frame::{MAX_BLOCK, VERSION};

/// Bytes of one encoded observation at most; a listing of 300,000 names is about 5 MiB.
pub const MAX_RECORD: usize = 16 << 20;

/// Bytes that one observation may take in memory: a crafted recording cannot make the reader allocate more.
pub const MAX_EXPANDED: usize = 64 << 20;

/// Why a recording, or a part of it, cannot be read. After `Damaged` and `Torn` the decoder goes on with
/// what it can still read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    #[error(
        "this is no headrace recording (its first bytes are not a recording's); pass a file that \
         `headrace record` wrote"
    )]
    Foreign,
    #[error(
        "the recording has format {found}, and this headrace reads format {VERSION}; replay it with the \
         headrace that recorded it, or record again"
    )]
    Version { found: u16 },
    #[error(
        "the recording's file header is damaged; its blocks are read as format {VERSION}, and what \
         follows is as good as their checksums say"
    )]
    Header,
    #[error(
        "block {block} at byte {offset} is damaged ({cause}); the {good} observations before it are good \
         and are used, and reading goes on at the next whole block"
    )]
    Damaged {
        block: u64,
        offset: usize,
        good: u64,
        /// Observations that the block held, where its header still tells.
        lost: Option<u32>,
        cause: &'static str,
    },
    #[error(
        "the recording ends within block {block} at byte {offset} (the disk was full, or the copy is cut \
         short); the {good} observations before it are good and are used"
    )]
    Torn { block: u64, offset: usize, good: u64 },
    #[error(
        "the recording was not finished (the recorder was killed); its {good} observations are good and \
         are used, the last second may be missing"
    )]
    Unfinished { good: u64 },
}

impl TraceError {
    /// Observations known to be missing because of this, for an `Observation::Lost`.
    pub fn lost(&self) -> u64 {
        match self {
            Self::Damaged { lost, .. } => lost.map_or(1, u64::from),
            Self::Torn { .. }
            | Self::Foreign
            | Self::Version { .. }
            | Self::Header
            | Self::Unfinished { .. } => 0,
        }
    }
}

/// An observation too large to be recorded; it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an observation of {bytes} bytes is larger than a recording holds ({MAX_EXPANDED}); it is left out of \
     the recording and counted as lost"
)]
pub struct TooLarge {
    pub bytes: usize,
}
