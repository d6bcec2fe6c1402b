//! What all copies of a task share: where from, where to, how much at once, and what can go wrong with one.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use tokio::sync::Semaphore;

use crate::hex::Digest;
use crate::name::Name;
use crate::parts;
use crate::place::{Place, PlaceError, Reader};
use crate::plan::Item;
use crate::stop::Stop;

/// Memory for bytes on their way, in MiB, of all files together.
pub const MEMORY: u32 = 256;

#[derive(Clone, Debug)]
pub struct Ground {
    pub from: Place,
    pub to: Place,
    /// The journal's folder, where files lie that have no name yet.
    pub home: Name,
    /// No other worker's.
    pub process: u64,
    pub memory: Arc<Semaphore>,
    /// How often it is written down how far a large file is.
    pub interval: Duration,
    pub stop: Stop,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    #[error("it cannot be read: {0}")]
    Read(PlaceError),
    #[error("it cannot be written: {0}")]
    Write(PlaceError),
    #[error("it changed, or went, while it was copied; whoever writes there has to be done first")]
    Changed,
    #[error(
        "what the target gives back is not what was sent (checksums differ), twice; the copy was removed. The target's \
         disk or memory, or the way to it, alters data: do not trust it before that is found"
    )]
    Altered,
    #[error("the worker was told to stop")]
    Stopped,
}

impl CopyError {
    /// Whether the next file would fare no better.
    pub fn ends_all(&self) -> bool {
        matches!(self, Self::Stopped | Self::Write(PlaceError::Full))
    }
}

impl Ground {
    /// A name for a file of this process that has no other yet. `number` is nobody else's at the time.
    pub fn temporary(&self, number: usize) -> Result<Name, CopyError> {
        let name = Name::parse(format!("tmp/{:016x}-{number}", self.process).as_bytes());
        name.map(|name| self.home.below(&name)).map_err(|_| CopyError::Changed)
    }

    /// Where the document of a large file lies, or its bytes.
    pub fn partial(&self, item: &Item, end: &[u8]) -> Result<Name, CopyError> {
        let stem = parts::stem(&item.target, &item.entry.seen);
        parts::name(&self.home, &stem, end).ok_or(CopyError::Changed)
    }

    /// Whether the source still has what was listed.
    pub async fn unchanged(&self, item: &Item) -> Result<(), CopyError> {
        match self.from.look(&item.entry.name).await {
            Ok(Some(after)) if after == item.entry.seen => Ok(()),
            Ok(_) => Err(CopyError::Changed),
            Err(error) => Err(read_error(error)),
        }
    }
}

pub fn read_error(error: PlaceError) -> CopyError {
    match error {
        PlaceError::Stopped => CopyError::Stopped,
        PlaceError::Absent | PlaceError::Changed => CopyError::Changed,
        other => CopyError::Read(other),
    }
}

pub fn write_error(error: PlaceError) -> CopyError {
    if error == PlaceError::Stopped { CopyError::Stopped } else { CopyError::Write(error) }
}

/// The next bytes, or that it is time to stop.
pub async fn next(reader: &mut Reader, stop: &Stop) -> Result<Option<bytes::Bytes>, PlaceError> {
    tokio::select! {
        biased;
        () = stop.wait() => Err(PlaceError::Stopped),
        bytes = reader.more() => bytes,
    }
}

/// Size and digest of all that comes.
pub async fn digest(mut reader: Reader, stop: &Stop) -> Result<(u64, Digest), PlaceError> {
    let (mut context, mut size) = (Context::new(&SHA256), 0u64);
    while let Some(bytes) = next(&mut reader, stop).await? {
        context.update(&bytes);
        size = size.saturating_add(bytes.len() as u64);
    }
    Ok((size, finish(context)))
}

pub fn finish(context: Context) -> Digest {
    // SHA-256 has 32 bytes, so the default is never used.
    context.finish().as_ref().first_chunk().copied().unwrap_or_default()
}
